"""Below the frames: handshakes, fragments, broken WebSocket, broken HTTP, and a storm of all of it."""

import json
import os
import random
import time
from pathlib import Path
from typing import Any

import httpx
import msgpack
import pytest

from tests.conversations.raw import (
    BINARY,
    CLOSE,
    CONT,
    TEXT,
    WS_PING,
    WS_PONG,
    Raw,
    until_gone,
    wrap,
)
from tests.harness import BYE, ERROR, HELLO, PING, PONG, READY, SYNCED, RunningServer, token_for

pytestmark = [pytest.mark.usefixtures("calm"), pytest.mark.unlimited]

PING_60 = msgpack.packb([PING, 60])
VECTORS = Path(__file__).parents[2] / "proto" / "vectors"
STORM_S = 6.0
STORM_FRAMES = 4000


async def opened(server: RunningServer) -> Raw:
    """A socket of eve's after SYNCED."""
    raw = await Raw.to(server)
    await raw.signs_in(token_for("eve"))
    return raw


# -- WebSocket ---------------------------------------------------------------------------------


async def test_fragments_are_one_message_with_control_frames_between(server: RunningServer) -> None:
    raw = await opened(server)
    parts = [PING_60[i : i + 1] for i in range(len(PING_60))]
    await raw.writes(wrap(b"", BINARY, fin=False))
    for part in parts:
        await raw.writes(wrap(part, CONT, fin=False) + wrap(b"between", WS_PING) + wrap(b"", CONT, fin=False))
        assert await raw.hears() == (WS_PONG, b"between")
    await raw.writes(wrap(b"", CONT))
    assert msgpack.unpackb((await raw.hears())[1]) == [PONG]
    raw.hangs_up()


async def test_fragments_count_together(server: RunningServer) -> None:
    """64 KiB in pieces is taken, and answered as the CALL it is; a byte more is 1009."""
    for size in (64 * 1024, 64 * 1024 + 1):
        raw = await opened(server)
        filler = size - len(b"\x94\x07\x05\xa6x.call\xc6....")
        frame = b"\x94\x07\x05\xa6x.call\xc6" + filler.to_bytes(4) + bytes(filler)
        assert len(frame) == size
        await raw.writes(wrap(frame[:1000], BINARY, fin=False))
        await raw.writes(b"".join(wrap(frame[i : i + 9000], CONT, fin=False) for i in range(1000, size, 9000)))
        await raw.writes(wrap(b"", CONT))
        if size == 64 * 1024:
            assert msgpack.unpackb((await raw.hears())[1])[:3] == [ERROR, 5, "unsupported"]
            raw.hangs_up()
        else:
            ending = await raw.ends()
            assert (ending.code, ending.last[:2]) == (1009, [BYE, "protocol"])


async def test_empty_fragments_without_end_take_no_memory(server: RunningServer) -> None:
    raw = await opened(server)
    await raw.writes(wrap(b"", BINARY, fin=False))
    await raw.writes(wrap(b"", CONT, fin=False) * 50_000)
    await raw.writes(wrap(b"", WS_PING))
    assert await raw.hears() == (WS_PONG, b"")
    (held,) = [c._parts for c in server.node.gateway.connections if c._parts is not None]
    assert len(held) == 0
    assert held.__sizeof__() < 1000
    raw.hangs_up()


BROKEN: dict[str, tuple[bytes, int]] = {
    "unmasked": (wrap(PING_60, masked=False), 1002),
    "reserved bit 1": (wrap(PING_60, rsv=4), 1002),
    "reserved bits": (wrap(PING_60, rsv=7), 1002),
    "unknown opcode": (wrap(PING_60, 3), 1002),
    "unknown control opcode": (wrap(PING_60, 11), 1002),
    "continuation of nothing": (wrap(PING_60, CONT), 1002),
    "message within a message": (wrap(PING_60, fin=False) + wrap(PING_60), 1002),
    "fragmented control frame": (wrap(b"x", WS_PING, fin=False), 1002),
    "long control frame": (wrap(b"x" * 126, WS_PING), 1002),
    "close with half a code": (wrap(b"\x03", CLOSE), 1002),
    "close with a forbidden code": (wrap(b"\x03\xed", CLOSE), 1002),
    "close with broken UTF-8": (wrap(b"\x03\xe8\xff", CLOSE), 1007),
    "a length of 2^63": (b"\x82\xff" + (2**63).to_bytes(8) + bytes(4), 1009),
    "a length of 2^40": (b"\x82\xff" + (2**40).to_bytes(8) + bytes(4), 1009),
    "HTTP": (b"GET / HTTP/1.1\r\nHost: mim\r\n\r\n", 1002),
}


@pytest.mark.parametrize("ready", [False, True], ids=["first", "ready"])
async def test_what_is_no_websocket_closes(server: RunningServer, ready: bool) -> None:
    for name, (data, code) in BROKEN.items():
        if ready:
            raw = await opened(server)
        else:
            raw = await Raw.to(server)
            await raw.upgrades()
        await raw.writes(data + wrap(PING_60))
        ending = await raw.ends()
        assert ending.code == code, (name, ending)
        assert [frame[:3] for frame in ending.frames if frame[0] == ERROR] == (
            [] if ready else [[ERROR, 0, "bad_frame"]]
        )
        assert [frame[:2] for frame in ending.frames if frame[0] == BYE] == ([[BYE, "protocol"]] if ready else [])


async def test_half_a_frame_and_gone(server: RunningServer) -> None:
    message = wrap(msgpack.packb([2, 1, 1, "half"]))
    for cut in range(1, len(message)):
        raw = await Raw.to(server)
        await raw.upgrades()
        await raw.writes(wrap(msgpack.packb([HELLO, 1, token_for("eve", f"d{cut % 5}")])) + message[:cut])
        if cut % 2:
            raw.writer.transport.abort()
        else:
            raw.hangs_up()


async def test_who_closes_first_is_answered_in_kind(server: RunningServer) -> None:
    for payload in (b"", b"\x03\xe8", b"\x0f\xa0why"):
        raw = await opened(server)
        await raw.writes(wrap(payload, CLOSE) + wrap(PING_60))
        assert await raw.hears() == (CLOSE, payload)
        assert (await raw.ends()).frames == []


async def test_a_bad_token_and_frames_behind_it_end_at_once(server: RunningServer) -> None:
    """The peer's own close is heard although reading paused while the token was looked at."""
    raw = await Raw.to(server)
    await raw.upgrades()
    started = time.monotonic()
    await raw.writes(wrap(msgpack.packb([HELLO, 4, "rubbish"])) + wrap(PING_60) * 3)
    ending = await raw.ends()
    assert (ending.code, [frame[:3] for frame in ending.frames]) == (4500, [[ERROR, 4, "unauthorized"]])
    assert time.monotonic() - started < 2.5  # the patience with a peer that does not finish the closing is 3 s


async def test_frames_before_the_upgrade_is_answered(server: RunningServer) -> None:
    """With the token in the upgrade the answer takes a query; a hasty client's frames wait for it."""
    for data, _ in (*BROKEN.values(), (wrap(b"", CLOSE), 0), (wrap(b"now", WS_PING), 0), (wrap(b"\xc1"), 0)):
        raw = await Raw.to(server)
        await raw.asks(f"Authorization: Bearer {token_for('eve')}")
        await raw.writes(data)
        raw.writer.write_eof()
        await raw.reader.read()
        raw.hangs_up()
    await until_gone(server, *{c.user for c in server.node.gateway.connections if c.user})


# -- the handshake -----------------------------------------------------------------------------


async def test_upgrades_that_are_refused(server: RunningServer) -> None:
    token = token_for("eve")
    cases: list[tuple[tuple[str, ...], dict[str, Any], int]] = [
        ((), {"path": "/"}, 404),
        ((), {"path": "/v1/ws/"}, 404),
        ((), {"path": "/v2/ws?x=1"}, 404),
        ((), {"path": "//["}, 400),
        ((), {"subprotocol": "chat"}, 400),
        ((), {"subprotocol": "chat, soap"}, 400),
        ((), {"subprotocol": "mim.MSGPACK"}, 400),
        ((), {"subprotocol": ",,"}, 400),
        (("Authorization: Bearer rubbish",), {}, 401),
        (("Authorization: Bearer \xff\xfe",), {}, 401),
        ((f"Authorization: Bearer {token}\xff",), {}, 401),
        ((f"Authorization: Bearer {token}", f"Authorization: Bearer {token}"), {}, 400),
        (("Sec-WebSocket-Key: x",), {}, 400),
    ]
    for headers, options, status in cases:
        raw = await Raw.to(server)
        await raw.asks(*headers, **options)
        assert await raw.status() == status, (headers, options)
        assert (await raw.reader.read()) is not None  # until the server hangs up
        raw.hangs_up()


async def test_a_refused_upgrade_says_why_in_json(server: RunningServer) -> None:
    async with httpx.AsyncClient(base_url=server.http) as http:
        headers = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13",
                   "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Authorization": "Bearer rubbish"}  # fmt: skip
        answer = await http.get("/v1/ws", headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
        answer = await http.get("/v1/nowhere", headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


async def test_options_of_the_upgrade_that_make_no_sense_are_ignored(server: RunningServer) -> None:
    query = (
        "app=%ff%fe&os=" + "x" * 99 + "&recv=maybe&cursor=%00%ff&cursor=" + "c" * 2000 + "&&&=;%%%&locale=" + "l" * 36
    )
    raw = await Raw.to(server)
    await raw.upgrades(f"authorization: bearer  {token_for('eve')} ", path=f"/v1/ws?{query}")
    assert msgpack.unpackb((await raw.hears())[1])[0] == READY
    assert msgpack.unpackb((await raw.hears())[1])[0] == SYNCED
    raw.hangs_up()


async def test_garbage_instead_of_a_handshake(server: RunningServer) -> None:
    rnd = random.Random(5)
    for data in (
        b"\x00" * 100, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"\r\n" * 1000, b"GET",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /v1/ws HTTP/1.1\r\n" + b"a: b\r\n" * 500 + b"Upgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        b"GET /v1/ws?" + b"x" * 20_000 + b" HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        b"GET /v1/ws HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\xff\xfe: \xff\r\n\r\n",
        b"GET \xff\xfe HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        b"POST /v1/ws HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nContent-Length: 5\r\n\r\nhello",
        b"GET /v1/ws HTTP/1.0\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        b"GET /v1/ws HTTP/1.1\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
        *(rnd.randbytes(rnd.randrange(1, 400)) for _ in range(20)),
    ):  # fmt: skip
        raw = await Raw.to(server)
        await raw.writes(data)
        raw.writer.write_eof()
        await raw.reader.read()
        raw.hangs_up()


# -- HTTP --------------------------------------------------------------------------------------


async def test_http_calls_with_wrong_content(server: RunningServer) -> None:
    good = {"Authorization": f"Bearer {token_for('eve')}"}
    wide = b'{"chat": 1, "x": "' + b"x" * (64 * 1024 - 20) + b'"}'
    cases: list[tuple[str, dict[str, str], bytes, int, str]] = [
        ("chat.get", {}, b'{"chat": 1}', 401, "unauthorized"),
        ("chat.get", {"Authorization": "Basic eDp5"}, b'{"chat": 1}', 401, "unauthorized"),
        ("chat.get", {"Authorization": "Bearer rubbish"}, b'{"chat": 1}', 401, "unauthorized"),
        ("no.such", good, b"{}", 404, "unsupported"),
        ("n" * 5000, good, b"{}", 404, "unsupported"),
        ("%00%ff", good, b"{}", 404, "unsupported"),
        ("auth.renew", good, json.dumps({"token": token_for("eve")}).encode(), 404, "unsupported"),
        ("chat.get", good, b"", 400, "bad_frame"),
        ("chat.get", good, b"{", 400, "bad_frame"),
        ("chat.get", good, b"[]", 400, "bad_frame"),
        ("chat.get", good, b"\xff\xfe{}", 400, "bad_frame"),
        ("chat.get", good, b'{"chat": "1"}', 400, "bad_frame"),
        ("chat.get", good, b'{"chat": 0}', 400, "bad_frame"),
        ("chat.get", good, b'{"chat": -1}', 400, "bad_frame"),
        ("chat.get", good, b'{"chat": 1e99}', 400, "bad_frame"),
        ("chat.get", good, b'{"chat": NaN}', 400, "bad_frame"),
        ("chat.get", good, b'{"chat": 99999999999999999999999}', 400, "bad_frame"),
        ("chat.get", good, b"[" * 60_000, 400, "bad_frame"),
        ("chat.get", good, wide, 403, "not_member"),
        ("chat.get", good, wide + b" ", 413, "too_large"),
        ("chat.send", good, b'{"chat": 1, "cid": -1, "body": "x"}', 400, "bad_frame"),
        ("chat.send", good, b'{"chat": 1, "cid": 1, "body": "a\\u0000b"}', 400, "bad_frame"),
        ("chat.send", good, b'{"chat": 1, "cid": 1, "body": "\\ud800"}', 400, "bad_frame"),
        ("message.search", good, b'{"query": "a\\u0000b"}', 400, "bad_frame"),
        ("profile.update", good, b'{"name": "a\\u0000b"}', 400, "bad_frame"),
    ]
    assert len(wide) == 64 * 1024
    async with httpx.AsyncClient(base_url=server.http) as http:
        for method, headers, body, status, code in cases:
            answer = await http.post(f"/v1/call/{method}", content=body, headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (status, code), (method[:20], body[:40])
        answer = await http.get("/v1/call/chat.get", headers=good)
        assert (answer.status_code, answer.json()["code"]) == (405, "bad_frame")


async def test_http_bodies_that_break_off(server: RunningServer) -> None:
    head = f"POST /v1/call/chat.get HTTP/1.1\r\nHost: mim\r\nAuthorization: Bearer {token_for('eve')}\r\n".encode()
    for data in (
        b"Content-Length: 500\r\n\r\n{", b"Transfer-Encoding: chunked\r\n\r\n5\r\n{\"c", b"Content-Length: -5\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"Content-Length: 99999999999999999999999\r\n\r\n{}",
    ):  # fmt: skip
        raw = await Raw.to(server)
        await raw.writes(head + data)
        raw.writer.write_eof()
        raw.hangs_up()


# -- all of it ---------------------------------------------------------------------------------


def samples() -> list[bytes]:
    """Client frames in msgpack and JSON, those of the golden vectors among them, good and bad."""
    arrays: list[Any] = [[1, 1, "t", {}], [2, 1, 1, "hi"], [2, 1, 1, {"t": "x", "m": [[0, 1, 1]]}], [3, 1, 1], [4, 1],
                         [5, 1], [6, 1, 1, 0, 10], [7, 1, "chat.list", {}], [8, 60], [9, 1, 1, 0, 10]]  # fmt: skip
    found = [encoded for array in arrays for encoded in (msgpack.packb(array), json.dumps(array).encode())]
    vectors = [vector for path in sorted(VECTORS.glob("*.json")) for vector in json.loads(path.read_text("utf-8"))]
    return found + [bytes.fromhex(vector["hex"])[:2000] for vector in vectors]


def mutated(rnd: random.Random, frame: bytes, other: bytes) -> bytes:
    """`frame` with something wrong, most of the time."""
    data = bytearray(frame)
    for _ in range(rnd.randrange(4)):
        at = rnd.randrange(len(data) + 1)
        match rnd.randrange(5):
            case 0 if data:
                data[at % len(data)] ^= 1 << rnd.randrange(8)
            case 1:
                data[at:at] = rnd.randbytes(rnd.randrange(1, 9))
            case 2:
                del data[at : at + rnd.randrange(1, 5)]
            case 3:
                data[at:] = other[at:]
            case _:
                data[at:at] = data[: rnd.randrange(20)] * rnd.randrange(3)
    return bytes(data)


def damaged(rnd: random.Random, data: bytes) -> bytes:
    """A WebSocket frame around `data`: now and then in pieces, of the wrong kind, or itself broken."""
    chance = rnd.random()
    if chance < 0.1 and data:
        cut = rnd.randrange(len(data))
        return wrap(data[:cut], fin=False) + wrap(data[cut:], CONT)
    if chance < 0.12:
        return mutated(rnd, wrap(data), data)
    return wrap(data, TEXT if chance > 0.98 else rnd.choice((WS_PING, WS_PONG)) if chance > 0.95 else BINARY)[:65_000]


async def test_a_storm_of_mutated_frames(server: RunningServer) -> None:
    seed = int(os.environ.get("MIM_TEST_SEED", "0")) or random.randrange(1, 1 << 32)
    print(f"repeat with MIM_TEST_SEED={seed}")
    rnd = random.Random(seed)
    pool = samples()
    sent = 0
    ends_at = time.monotonic() + STORM_S
    while sent < STORM_FRAMES and time.monotonic() < ends_at:
        raw = await Raw.to(server)
        if rnd.random() < 0.8:
            await raw.signs_in(token_for("eve", f"d{rnd.randrange(4)}"))
        else:
            await raw.upgrades()
        for _ in range(rnd.randrange(1, 120)):
            await raw.writes(damaged(rnd, mutated(rnd, rnd.choice(pool), rnd.choice(pool))))
            sent += 1
            if raw.reader.at_eof():
                break
        if rnd.random() < 0.5:
            await raw.writes(wrap(b"", CLOSE))
            await raw.ends()
        raw.hangs_up()
    assert sent > 100, f"seed {seed}"
