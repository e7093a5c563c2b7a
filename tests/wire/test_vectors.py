"""Golden vectors (proto/vectors): two implementations agree on the bytes, and sizes keep the budget.

Without a database or a socket: what is checked here is what a client written from proto/ relies on.
"""

import json
import re
from pathlib import Path
from typing import Any

import msgpack
import msgspec
import pytest

from mim.clock import ManualClock
from mim.errors import CloseReason, Code, PeerError
from mim.wire.body import check_body
from mim.wire.codec import (
    CLIENT_FRAMES,
    CODECS,
    JSON,
    MSGPACK,
    SERVER_FRAMES,
    BadFrame,
    NotAFrame,
    transcode_to_json,
)
from mim.wire.frames import Error, Hello, Msg, MsgWithMeta, Nack, Send
from mim.wire.session import Refuse, Reply, Session, SessionLimits

FOLDER = Path(__file__).parents[2] / "proto" / "vectors"
BUDGET = {"SEND": 23, "ACK": 15, "MSG": 29, "READ": 16, "READBY": 18, "PING": 10, "PONG": 4}


def load(pattern: str) -> list[Any]:
    return [
        pytest.param(vector, id=f"{path.stem}: {vector['name']}")
        for path in sorted(FOLDER.glob(pattern))
        for vector in json.loads(path.read_text("utf-8"))
    ]


GOOD = load("[0-9]*.json")
CLIENT = [p for p in GOOD if p.values[0]["direction"] == "client"]
SERVER = [p for p in GOOD if p.values[0]["direction"] == "server"]
LIMITS = SessionLimits(
    keepalive_min_s=10, keepalive_max_s=600, inflight=256, send_rate=50, send_burst=300, request_rate=50,
    request_burst=300,
)  # fmt: skip


def assert_same(frame: Any, array: list[Any], *, raw_is_json: bool) -> None:
    """`frame` has the values of `array`; fields left out there have their defaults."""
    assert type(frame).__struct_config__.tag == array[0]
    for name, value in zip(type(frame).__struct_fields__, array[1:], strict=False):
        held = getattr(frame, name)
        if isinstance(held, msgspec.Raw):
            held = (msgspec.json if raw_is_json else msgspec.msgpack).decode(bytes(held))
        if isinstance(held, msgspec.Struct):
            assert value.items() >= msgspec.to_builtins(held).items(), name
        else:
            assert held == value, name


def server_frame(array: list[Any]) -> Any:
    """The server's struct that should encode to `array`."""
    shape = SERVER_FRAMES[array[0]]
    if array[0] == Msg.__struct_config__.tag:
        shape = MsgWithMeta if len(array) == 7 else Msg
    return msgspec.convert(array, shape)


@pytest.mark.parametrize("vector", GOOD)
def test_hex_is_what_msgpack_reads_and_writes(vector: dict[str, Any]) -> None:
    data = bytes.fromhex(vector["hex"])
    assert msgpack.unpackb(data, strict_map_key=True) == vector["json"]
    assert msgpack.packb(vector["json"]) == data
    assert vector["json"][0] == vector["op"]


@pytest.mark.parametrize("vector", GOOD)
def test_websocket_size(vector: dict[str, Any]) -> None:
    payload = len(vector["hex"]) // 2
    header = 2 if payload <= 125 else 4
    mask = 4 if vector["direction"] == "client" else 0
    assert vector["websocket_bytes"] == header + mask + payload
    assert vector["websocket_bytes"] <= vector.get("budget", 1 << 16)


def test_every_budget_of_the_protocol_is_held_by_a_vector() -> None:
    held = {}
    for param in GOOD:
        vector = param.values[0]
        if "budget" in vector:
            frames = CLIENT_FRAMES if vector["direction"] == "client" else SERVER_FRAMES
            held[frames[vector["op"]].__name__.upper()] = vector["budget"]
            assert vector["websocket_bytes"] == vector["budget"]  # the vectors are the worst case the budget allows
    assert {k.replace("WITHMETA", ""): v for k, v in held.items()} == BUDGET


def test_every_frame_has_vectors() -> None:
    assert {p.values[0]["op"] for p in CLIENT} == set(CLIENT_FRAMES)
    assert {p.values[0]["op"] for p in SERVER} == set(SERVER_FRAMES)


@pytest.mark.parametrize("vector", CLIENT)
def test_client_frame_decodes_in_both_subprotocols(vector: dict[str, Any]) -> None:
    assert_same(MSGPACK.decode(bytes.fromhex(vector["hex"])), vector["json"], raw_is_json=False)
    assert_same(JSON.decode(json.dumps(vector["json"]).encode()), vector["json"], raw_is_json=True)


@pytest.mark.parametrize("vector", CLIENT)
def test_extra_trailing_fields_are_ignored(vector: dict[str, Any]) -> None:
    full: list[Any] = list(vector["json"])
    if vector["op"] == Hello.__struct_config__.tag and len(full) == 4:
        full.append("cursor")
    if vector["op"] == 7 and len(full) == 3:
        full.append({})
    longer = [*full, {"later": [1]}, 7]
    assert type(MSGPACK.decode(msgpack.packb(longer))) is CLIENT_FRAMES[vector["op"]]
    assert type(JSON.decode(json.dumps(longer).encode())) is CLIENT_FRAMES[vector["op"]]


@pytest.mark.parametrize("vector", SERVER)
def test_server_frame_encodes_to_the_vector(vector: dict[str, Any]) -> None:
    frame = server_frame(vector["json"])
    assert MSGPACK.encode(frame).hex() == vector["hex"]
    assert json.loads(JSON.encode(frame)) == vector["json"]
    assert json.loads(transcode_to_json(bytes.fromhex(vector["hex"]))) == vector["json"]


@pytest.mark.parametrize("vector", [*load("bad-no-frame.json"), *load("bad-fields.json")])
def test_bad_frame_is_told_apart_by_the_codec(vector: dict[str, Any]) -> None:
    codec = CODECS[vector["subprotocol"]]
    data = bytes.fromhex(vector["hex"])
    if vector["expect"] == "close 4503":
        with pytest.raises(NotAFrame):
            codec.decode(data)
        return
    with pytest.raises(BadFrame) as caught:
        codec.decode(data)
    assert (caught.value.code, caught.value.number) == (vector["expect"], vector["number"])
    assert (caught.value.op == 2) == (vector["answers"] == "NACK")
    assert caught.value.detail


@pytest.mark.parametrize("vector", [*load("bad-no-frame.json"), *load("bad-fields.json")])
def test_bad_frame_is_answered_by_an_open_session(vector: dict[str, Any]) -> None:
    session = Session(CODECS[vector["subprotocol"]], LIMITS, ManualClock())
    session.opened()
    effect = session.receive(bytes.fromhex(vector["hex"]))
    if vector["expect"] == "close 4503":
        assert isinstance(effect, Refuse)
        assert effect.reason is CloseReason.PROTOCOL
        return
    assert isinstance(effect, Reply)
    match effect.frame:
        case Nack(number, code, _):
            assert ("NACK", number, code) == (vector["answers"], vector["number"], vector["expect"])
        case Error(number, code, _):
            assert ("ERROR", number, code) == (vector["answers"], vector["number"], vector["expect"])
        case other:
            raise AssertionError(other)


@pytest.mark.parametrize("vector", [p for p in load("bad-values.json") if p.values[0]["answers"] == "NACK"])
def test_bad_body_is_refused(vector: dict[str, Any]) -> None:
    """The decoder refuses what it can see, the rules of a body the rest; none is ever stored."""

    def accept() -> None:
        frame = MSGPACK.decode(bytes.fromhex(vector["hex"]))
        check_body(msgspec.structs.astuple(frame)[2], 10_000)

    with pytest.raises(PeerError) as caught:
        accept()
    assert caught.value.code is Code.BAD_FRAME


@pytest.mark.parametrize("vector", [p for p in CLIENT if p.values[0]["op"] == 2])
def test_good_body_is_accepted(vector: dict[str, Any]) -> None:
    frame = MSGPACK.decode(bytes.fromhex(vector["hex"]))
    assert isinstance(frame, Send)
    check_body(frame.body, 10_000)


def test_bytes_of_the_walkthrough() -> None:
    text = (FOLDER.parent / "walkthrough.md").read_text("utf-8")
    rows = re.findall(r"^\| \w+ \| `([0-9a-f ]+)` \| `(.+)` \|$", text, re.MULTILINE)
    assert len(rows) > 8
    for data, array in rows:
        assert msgpack.packb(json.loads(array)).hex(" ") == data
