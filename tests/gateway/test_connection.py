"""How bytes are cut on their way must not matter: TCP segments and fragments of any size have the same effects."""

import asyncio
import itertools
from types import SimpleNamespace
from typing import Any

import msgpack
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from msgspec import structs
from websockets.datastructures import Headers
from websockets.http11 import Request

from mim.clock import ManualClock
from mim.gateway.connection import Connection
from mim.gateway.outbox import Gathering, Outbox
from mim.model import Caller
from mim.wire.frames import Hello, Limits, Ready, ReadySession, Send
from mim.wire.session import SessionLimits
from tests.conversations.raw import BINARY, CLOSE, CONT, TEXT, WS_PING, WS_PONG, wrap

UPGRADE = Request(
    "/v1/ws",
    Headers({
        "Host": "mim", "Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Protocol": "mim.msgpack",
    }),
)  # fmt: skip
LIMITS = SessionLimits(
    keepalive_min_s=10, keepalive_max_s=600, inflight=8, send_rate=10, send_burst=8, request_rate=10, request_burst=20
)
READY = Ready(1, ReadySession(1, 1, 0, False, (10, 600), Limits(100, 200, 8)))


class Wire:
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        self.written = bytearray()
        self.closed = False

    def write(self, data: bytes) -> None:
        self.written += data

    def close(self) -> None:
        self.closed = True

    def get_write_buffer_size(self) -> int:
        return 0

    def get_extra_info(self, _: str) -> tuple[str, int]:
        return ("192.0.2.1", 5)

    def set_write_buffer_limits(self, high: int) -> None: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...


class AtOnce(Outbox):
    """Sends what a socket is told at once."""

    def add(self, socket: Gathering) -> None:
        socket.flush()


class Heard:
    """Stands where a gateway is: opens every session at once and notes what a connection asks for."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.limits = LIMITS
        self.clock = ManualClock()
        self.loop = asyncio.get_running_loop()
        self.trusted_proxies: frozenset[str] = frozenset()
        self.outbox = AtOnce()
        self.slow_bytes = 1 << 20
        self.tasks = SimpleNamespace(spawn=lambda coro, name: coro.close())
        self.context = SimpleNamespace(
            reading=SimpleNamespace(mark=lambda _, chat, seq: self.note("read", chat, seq)),
            typing=SimpleNamespace(pass_on=lambda _, chat: self.note("typing", chat)),
        )

    def note(self, *what: Any) -> bool:
        self.asked.append(what)
        return True

    def open(self, connection: Connection, hello: Hello, _: object) -> None:
        self.asked.append(hello)
        connection.become(Caller(1, 1, connection.id), 2**40, recv=False)
        connection.begin(READY)

    def submit(self, connection: Connection, frame: Send) -> None:
        self.asked.append(frame)
        connection.acknowledge(frame.cid, len(self.asked), 0)

    def closing(self, reason: str) -> None:
        self.asked.append(("closing", reason))

    def retry_after(self, _: str) -> int:
        return 100

    def __getattr__(self, name: str) -> Any:
        return lambda *_: None


async def effects(segments: list[bytes], **limits: int) -> tuple[list[Any], bytes, bool, list[Any]]:
    """What a connection does about a stream that comes in these segments."""
    gateway, wire = Heard(), Wire()
    gateway.limits = structs.replace(LIMITS, **limits)
    connection = Connection(gateway, 1)  # type: ignore[arg-type]
    connection.connection_made(wire)  # type: ignore[arg-type]
    connection.upgrade(UPGRADE)
    wire.written.clear()
    for segment in segments:
        connection.data_received(segment)
    return gateway.asked, bytes(wire.written), wire.closed, list(connection._requests or ())


def cut(data: bytes, at: list[int]) -> list[bytes]:
    """`data` in pieces, some of them empty."""
    marks = sorted({0, len(data), *(mark % (len(data) + 1) for mark in at)})
    return [data[a:b] for a, b in itertools.pairwise(marks)] or [data]


def fragmented(payload: bytes, at: list[int], opcode: int, between: bytes) -> bytes:
    """A message as fragments with `between` amid them."""
    pieces = cut(payload, at)
    last = len(pieces) - 1
    return between.join(wrap(piece, CONT if n else opcode, fin=n == last) for n, piece in enumerate(pieces))


payloads = st.one_of(
    st.sampled_from([[1, 1, "token"], [2, 1, 5, "안녕"], [2, 2, 5, {"t": "x"}], [3, 5, 1], [4, 5], [5, 9], [8, 60],
                     [99, 1], [6, 1, 5, 0, 10], [7, 2, "chat.list", {}], [9, 3, 5, 0, 10], [2, "wrong"],
                     []]).map(msgpack.packb),
    st.binary(max_size=200),
)  # fmt: skip
cuts = st.lists(st.integers(0, 5000), max_size=12)
messages = st.lists(st.tuples(payloads, st.sampled_from([BINARY, BINARY, BINARY, TEXT])), max_size=12)
HELLO_FIRST = (bytes(msgpack.packb([1, 1, "token"])), BINARY)


@settings(max_examples=150, deadline=None)
@given(said=messages, hello=st.booleans(), at=cuts, tail=st.sampled_from([b"", wrap(b"\x03\xe8", CLOSE), b"\xff" * 9]))
async def test_segments_of_any_size(said: list[tuple[bytes, int]], hello: bool, at: list[int], tail: bytes) -> None:
    stream = b"".join(wrap(payload, opcode) for payload, opcode in ([HELLO_FIRST] if hello else []) + said) + tail
    whole = await effects([bytes([byte]) for byte in stream])
    # After a mistake that ends the session, a close or broken frame of the peer's in the same segment may come first.
    assume(not tail or not any(asked[0] == "closing" for asked in whole[0] if isinstance(asked, tuple)))
    assert await effects(cut(stream, at)) == whole
    assert await effects([stream]) == whole


@settings(max_examples=150, deadline=None)
@given(said=messages, at=cuts)
async def test_fragments_of_any_size(said: list[tuple[bytes, int]], at: list[int]) -> None:
    said = [HELLO_FIRST, *said]
    whole = await effects([wrap(payload, opcode) for payload, opcode in said])
    pong = wrap(b"", WS_PONG)
    assert await effects([fragmented(payload, at, opcode, pong) for payload, opcode in said]) == whole


@settings(max_examples=200, deadline=None)
@given(data=st.lists(st.binary(max_size=300), max_size=8), hello=st.booleans())
async def test_any_bytes_after_the_upgrade_never_raise(data: list[bytes], hello: bool) -> None:
    await effects([wrap(*HELLO_FIRST), *data] if hello else data)


async def test_a_connection_that_is_closing_sends_no_more_pongs() -> None:
    bad, ping = wrap(b"\xc1"), wrap(b"x", WS_PING)
    _, quiet, _, _ = await effects([wrap(*HELLO_FIRST), bad])
    _, flooded, _, _ = await effects([wrap(*HELLO_FIRST), bad, ping * 1000])
    assert flooded == quiet
