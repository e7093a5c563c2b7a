"""Whatever bytes come: an answer or a close with its code, and neither a traceback nor a neighbour's trouble."""

import json
from typing import Any

import msgpack
import msgspec
import pytest

from mim.chat.calls import METHODS
from tests.conversations.raw import Ending, Raw, wrap
from tests.harness import (
    ACK,
    BYE,
    CALL,
    CHANGES,
    ERROR,
    FETCH,
    HELLO,
    MSG,
    NACK,
    PING,
    READ,
    READY,
    RECV,
    RESULT,
    SEND,
    TYPING,
    Phone,
    RunningServer,
    direct,
    token_for,
)

pytestmark = [pytest.mark.usefixtures("calm"), pytest.mark.unlimited]

NO_FRAMES = {
    "nothing": b"",
    "no msgpack": b"\xc1\xc1\xc1",
    "half an array": b"\x94\x02\x01",
    "a map": b"\x81\x01\x02",
    "a number": b"\x07",
    "an empty array": b"\x90",
    "a float op": msgpack.packb([2.0, 1, 1, "x"]),
    "a true op": msgpack.packb([True, 1, 1, "x"]),
    "a string op": msgpack.packb(["2", 1, 1, "x"]),
    "two frames": msgpack.packb([PING, 60]) * 2,
    "a promise of gigabytes": b"\xdd\xff\xff\xff\xff",
    "an array without end": b"\x91" * 60_000,
}
NO_JSON_FRAMES = {
    "nothing": "", "words": "hello", "an object": '{"op": 2}', "a number": "7", "an empty array": "[]",
    "a float op": "[2.0, 1, 1, \"x\"]", "a true op": "[true]", "half an array": "[2, 1", "NaN": "[NaN]",
    "two frames": "[8,60][8,60]", "depth": "[" * 60_000,
}  # fmt: skip


async def ends_of(server: RunningServer, message: bytes | str, codec: str = "msgpack", *, ready: bool) -> Ending:
    """What the server says to `message`, as the first frame or after READY, until it hangs up."""
    raw = await Raw.to(server)
    await raw.upgrades(subprotocol=f"mim.{codec}")
    text = isinstance(message, str)
    if ready:
        hello = [HELLO, 1, token_for("eve")]
        await raw.writes(wrap(msgpack.packb(hello)) if codec == "msgpack" else wrap(json.dumps(hello).encode(), 1))
    await raw.writes(wrap(message.encode() if isinstance(message, str) else message, 1 if text else 2))
    ending = await raw.ends()
    ending.frames = [json.loads(frame) if isinstance(frame, bytes) else frame for frame in ending.frames]
    return ending


@pytest.mark.parametrize("ready", [False, True], ids=["first", "ready"])
async def test_what_is_no_frame_closes_4503(server: RunningServer, ready: bool) -> None:
    cases: list[tuple[str, bytes | str]] = [("msgpack", message) for message in NO_FRAMES.values()]
    cases += [("json", message) for message in NO_JSON_FRAMES.values()]
    for codec, message in cases:
        ending = await ends_of(server, message, codec, ready=ready)
        assert ending.code == 4503, (codec, message[:20])
        assert ending.last[:2] == ([BYE, "protocol"] if ready else [ERROR, 0])
        if not ready:
            assert ending.frames == [[ERROR, 0, "bad_frame", ending.last[3]]]


@pytest.mark.parametrize("ready", [False, True], ids=["first", "ready"])
async def test_the_wrong_kind_of_message_closes_4503(server: RunningServer, ready: bool) -> None:
    for codec, message in (("msgpack", json.dumps([PING, 60])), ("json", msgpack.packb([PING, 60]))):
        ending = await ends_of(server, message, codec, ready=ready)
        assert ending.code == 4503
        assert ending.last[0] == (BYE if ready else ERROR)
        assert ending.last[1 if ready else 2] == ("protocol" if ready else "bad_frame")


async def test_any_frame_before_hello_closes_4503(server: RunningServer) -> None:
    frames: list[list[Any]] = [
        [SEND, 1, 1, "hi"], [READ, 1, 1], [TYPING, 1], [RECV, 1], [FETCH, 1, 1, 0, 10], [CALL, 1, "chat.list", {}],
        [PING, 60], [CHANGES, 1, 1, 0, 10], [99, 1], [16, 1, {}], [SEND, "x"],
    ]  # fmt: skip
    for frame in frames:
        ending = await ends_of(server, msgpack.packb(frame), ready=False)
        assert (ending.code, [f[0] for f in ending.frames], ending.last[2]) == (4503, [ERROR], "bad_frame"), frame


async def test_a_malformed_hello_is_answered_and_another_may_follow(server: RunningServer) -> None:
    eve = server.phone("eve")
    await eve.connect()
    for fields, ref in (
        ([7], 7),
        ([7, 5], 7),
        ([7, "t", 3], 7),
        ([7, "t", {"recv": "yes"}], 7),
        ([7, "t", {"app": "1" * 65}], 7),
        ([7, "t" * 8193], 7),
        ([7, "t", {}, 5], 7),
        ([0, "t"], 0),
        ([-1, "t"], 0),
        ([2**53, "t"], 0),
        (["x", "t"], 0),
        ([], 0),
    ):
        await eve.says(HELLO, *fields)
        assert (await eve.gets(ERROR))[1:3] == [ref, "bad_frame"], fields
    await eve.signs_in()
    await eve.leaves()


async def test_a_second_hello_is_a_conflict(server: RunningServer) -> None:
    async with server.phone("eve") as eve:
        await eve.says(HELLO, 9, token_for("eve"))
        assert (await eve.gets(ERROR))[1:3] == [9, "conflict"]
        await eve.says(HELLO, 10)
        assert (await eve.gets(ERROR))[1:3] == [10, "bad_frame"]
        await eve.settles()
    raw = await Raw.to(server)
    await raw.upgrades()
    await raw.writes(b"".join(wrap(msgpack.packb([HELLO, ref, token_for("eve")])) for ref in (1, 2)))
    frames = [msgpack.unpackb((await raw.hears())[1]) for _ in range(3)]
    assert {(frame[0], frame[1]) for frame in frames} >= {(READY, 1), (ERROR, 2)}
    raw.hangs_up()


async def test_unknown_ops_are_unsupported(server: RunningServer) -> None:
    async with server.phone("eve") as eve:
        for op in (0, 10, 15, 16, 29, 99, 2**53, 2**64 - 1, -1, -(2**63)):
            await eve.says(op, 5, "x")
            assert (await eve.gets(ERROR))[1:3] == [5, "unsupported"], op
        await eve.says(99)
        assert (await eve.gets(ERROR))[1:3] == [0, "unsupported"]


BAD_FIELDS: list[tuple[list[Any], int]] = [
    ([SEND, 5], 5), ([SEND, 5, 1], 5), ([SEND, 5, 1, 7], 5), ([SEND, 5, 1, None], 5), ([SEND, 5, -1, "x"], 5),
    ([SEND, 5, 2**53, "x"], 5), ([SEND, 5, 1.5, "x"], 5), ([SEND, 5, 1, ["x"]], 5), ([SEND, 5, 1, b"x"], 5),
    ([SEND], 0), ([SEND, "5", 1, "x"], 0), ([SEND, -5, 1, "x"], 0), ([SEND, 2**64 - 1, 1, "x"], 0),
    ([SEND, True, 1, "x"], 0), ([SEND, 5.0, 1, "x"], 0), ([SEND, 5, 1, msgpack.ExtType(5, b"x")], 5),
    ([SEND, msgpack.ExtType(5, b"x"), 1, "x"], 0), ([SEND, 5, 1, {1: "x"}], 5),
    ([FETCH, 6, 1, 0], 6), ([FETCH, 6, 1, 0, "x"], 6), ([FETCH, 0, 1, 0, 5], 0), ([FETCH, 6, 1, 0, 2**53], 6),
    ([FETCH, 6, 1, 0, -(2**63)], 6), ([FETCH, 6, 1, -1, 5], 6), ([FETCH, 6, 1, 0, 0], 6), ([FETCH, 6, 1, 0, None], 6),
    ([CHANGES, 7, 1, 0, "x"], 7), ([CHANGES, 7, 1, 0, 0], 7), ([CHANGES, 7, 1, 0, -5], 7), ([CHANGES], 0),
    ([CALL, 8], 8), ([CALL, 8, 5], 8), ([CALL, 8, "chat.get", []], 8), ([CALL, 8, "chat.get"], 8),
    ([CALL, 8, "chat.get", {"chat": "x"}], 8), ([CALL, 8, "chat.get", {"chat": 0}], 8), ([CALL, 0, "chat.list"], 0),
    ([CALL, 8, "m" * 65, {}], 8), ([CALL, 8, "chat.get", {"chat": 2**63}], 8),
    ([READ, 1], 0), ([READ, "x", 1], 0), ([READ, 1, -1], 0), ([TYPING], 0), ([TYPING, None], 0), ([RECV, -1], 0),
    ([RECV], 0), ([PING], 0), ([PING, -1], 0), ([PING, 1.5], 0), ([PING, 2**53], 0),
]  # fmt: skip


async def test_wrong_fields_are_answered_and_the_connection_stays(server: RunningServer) -> None:
    async with server.phone("eve") as eve:
        for frame, number in BAD_FIELDS:
            await eve.says(*frame)
            answer = await eve.gets(NACK if frame[0] == SEND else ERROR)
            assert answer[1:3] == [number, "bad_frame"], (frame, answer)
        assert [f for f in await eve.settles() if f[0] in (NACK, ERROR, ACK)] == []


async def test_bodies_that_cannot_be_a_message(server: RunningServer) -> None:
    deep: Any = "x"
    for _ in range(200):
        deep = [deep]
    async with server.phone("eve") as eve, server.phone("kay") as kay:
        chat = await direct(eve, kay)
        for body in (
            "", {}, {"t": ""}, "a\0b", {"t": "a\0b"}, {"t": "x", "x": "a\0b"}, {"t": "x", "x": {"a\0": 1}},
            {"t": "x", "x": deep}, {"t": "x", "x": 2**60},
            {"t": "x", "x": -(2**60)}, {"t": "x", "x": float("nan")}, {"t": "x", "x": float("inf")},
            {"t": "x", "x": b"bytes"}, {"t": "x", "x": {1: 2}}, {"t": 5},
            {"t": "x", "re": -1}, {"t": "x", "re": "1"}, {"t": "x", "m": [[0, 5, 1]]}, {"t": "x", "m": [[0, 0, 1]]},
            {"t": "x", "m": [[0, 1]]}, {"t": "x", "m": [[2**52, 2**52, 1]]}, {"t": "x", "k": ""},
            {"t": "x", "k": "k" * 33}, {"t": "x", "f": ["a"]}, {"t": "x", "f": [{}] * 31}, {"t": "x", "m": "abc"},
            {"t": "x", "x": msgpack.Timestamp(1, 1)}, {"t": "x", "x": msgpack.ExtType(1, b"")},
        ):  # fmt: skip
            await eve.says(SEND, 5, chat, body)
            assert (await eve.gets(NACK))[1:3] == [5, "bad_frame"], body
        await eve.says(SEND, 5, chat, "x" * 10_001)
        assert (await eve.gets(NACK))[1:3] == [5, "too_large"]
        for text in (b"\xff", b"\xed\xa0\x80", b"\xc0\x80"):  # no UTF-8, half a surrogate pair, an overlong NUL
            await eve.says_raw(b"\x94\x02\x05" + msgpack.packb(chat) + bytes([0xA0 | len(text)]) + text)
            assert (await eve.gets(NACK))[1:3] == [5, "bad_frame"], text
        assert (await eve.sends(chat, "sound", cid=6))[0] == 1
        assert (await kay.gets(MSG))[2:6:3] == [1, "sound"]
        assert await kay.heard(MSG) == []


async def test_half_a_surrogate_pair_reaches_no_one(server: RunningServer) -> None:
    async with server.phone("eve", codec="json") as eve, server.phone("kay") as kay:
        chat = await direct(eve, kay)
        for body in ('"\\ud800"', '{"t":"\\udc00"}', '{"x":{"\\ud800":1}}', '{"t":"\\ud800a","m":[[0,1,1]]}'):
            await eve.says_raw(f"[2,49,{chat},{body}]")
            assert (await eve.gets(NACK))[1:3] == [49, "bad_frame"], body
        await eve.says_raw(f'[2,50,{chat},"\\ud83d\\ude00"]')
        assert (await eve.gets(ACK))[1] == 50
        assert (await kay.gets(MSG))[5] == "😀"


async def test_a_frame_of_64_kib_is_taken_and_a_byte_more_closes_1009(server: RunningServer) -> None:
    for size, code in ((64 * 1024, None), (64 * 1024 + 1, 1009)):
        raw = await Raw.to(server)
        await raw.signs_in(token_for("eve"))
        filler = size - len(b"\x94\x07\x05\xa6x.call\xc6....")
        frame = b"\x94\x07\x05\xa6x.call\xc6" + filler.to_bytes(4) + bytes(filler)
        assert len(frame) == size
        await raw.writes(wrap(frame))
        if code is None:
            answer = msgpack.unpackb((await raw.hears())[1])
            assert answer[:3] == [ERROR, 5, "unsupported"]
            raw.hangs_up()
        else:
            ending = await raw.ends()
            assert (ending.code, ending.last[:2]) == (code, [BYE, "protocol"])
    raw = await Raw.to(server)
    await raw.upgrades()
    await raw.writes(wrap(bytes(64 * 1024 + 1)))
    ending = await raw.ends()
    assert (ending.code, [frame[:3] for frame in ending.frames]) == (1009, [[ERROR, 0, "bad_frame"]])


async def test_tokens_of_any_bytes_are_unauthorized(server: RunningServer) -> None:
    sound = token_for("eve")
    for token in ("", ".", "..", "a.b.c", "é" * 10, "\x00", "m1.", sound[:-3], sound + "x", "." + sound, "🙂.🙂.🙂",
                  "eyJhbGciOiJub25lIn0.eyJzdWIiOiJldmUifQ.", "x" * 8192, sound.replace(".", "\n")):  # fmt: skip
        eve = Phone(server.ws, token)
        await eve.connect()
        await eve.says(HELLO, 3, token)
        assert await eve.is_closed() == 4500, token
        assert eve.inbox[0][:3] == [ERROR, 3, "unauthorized"], token


async def test_calls_of_every_method_with_values_of_every_type(server: RunningServer) -> None:
    values: list[Any] = [
        0, 1, -1, 2**53 - 1, 2**63, 1.5, True, None, "", "x\0", "x" * 5000, "everyone", [], [[]], [0], [2**53 - 1] * 9,
        {}, {"a": 1}, {"t": "a\0"},
    ]  # fmt: skip
    async with server.phone("eve") as eve:
        codes = set()
        for method, declared in METHODS.items():
            names = [field.encode_name for field in msgspec.structs.fields(declared.params)]
            for value in values if method != "device.revoke" else values[3:]:  # eve's own device is the first
                await eve.says(CALL, 1, method, dict.fromkeys(names, value))
                codes.add(await answer_to(eve, 1))
    assert codes - {"ok"} <= {"bad_frame", "not_member", "not_found", "forbidden", "too_large", "conflict", "full",
                              "unauthorized"}, codes  # fmt: skip


async def answer_to(phone: Phone, ref: int) -> str:
    """The code of the ERROR that answers `ref`, or "ok"."""
    while True:
        frame = await phone._hears()
        if frame[0] in (RESULT, ERROR):
            assert frame[1] == ref
            return "ok" if frame[0] == RESULT else str(frame[2])
