"""What a socket is told within one turn of the event loop goes out at once, in order, and bounded."""

import asyncio

from websockets.http11 import Request

from mim.gateway.handshake import accept
from mim.gateway.outbox import Outbox
from mim.gateway.websocket import PACE_BYTES, WebSocket
from tests.gateway.test_connection import UPGRADE, AtOnce, Wire


class Wires(Wire):
    """Keeps each write apart."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []

    def write(self, data: bytes) -> None:
        super().write(data)
        self.writes.append(data)


class Socket(WebSocket):
    """A socket that is open."""

    def __init__(self, outbox: Outbox) -> None:
        super().__init__(AtOnce())
        self.wire = Wires()
        self.looks = 0
        self.connection_made(self.wire)  # type: ignore[arg-type]
        self.upgrade(UPGRADE)
        self._outbox = outbox
        self.wire.writes.clear()
        self.looks = 0

    def upgrade(self, request: Request) -> None:
        self.respond(accept(request))

    def take(self, text: bool, data: bytes) -> None: ...
    def unreadable(self) -> None: ...
    def hung_up(self) -> None: ...

    def sent_more(self) -> None:
        self.looks += 1


async def turn() -> None:
    """Let the event loop go on."""
    await asyncio.sleep(0)
    await asyncio.sleep(0)


async def test_frames_of_one_turn_are_one_write() -> None:
    outbox = Outbox()
    one, other = Socket(outbox), Socket(outbox)
    for payload in (b"a", b"bc", b"d"):
        one.write_payload(payload)
    other.write_payload(b"e")
    assert one.wire.writes == []
    assert one.unsent_bytes == len(b"..a..bc..d")
    await turn()
    assert one.wire.writes == [b"\x82\x01a\x82\x02bc\x82\x01d"]
    assert other.wire.writes == [b"\x82\x01e"]
    assert (one.unsent_bytes, one.looks) == (0, 1)
    one.write_payload(b"f")
    await turn()
    assert one.wire.writes[1:] == [b"\x82\x01f"]


async def test_what_is_gathered_is_bounded() -> None:
    socket = Socket(Outbox())
    part = b"x" * (PACE_BYTES // 4)
    for _ in range(40):
        socket.write_payload(part)
        assert socket.unsent_bytes <= PACE_BYTES + len(part)
    assert len(socket.wire.writes) >= 8
    await turn()
    assert b"".join(socket.wire.writes).count(part) == 40


async def test_a_closing_socket_says_first_what_it_was_told_first() -> None:
    socket = Socket(Outbox())
    socket.write_payload(b"last")
    socket.say_close(4000, "end")
    assert b"".join(socket.wire.writes).startswith(b"\x82\x04last\x88\x05")
    hanging = Socket(Outbox())
    hanging.write_payload(b"last")
    hanging.hang_up()
    assert hanging.wire.writes == [b"\x82\x04last"]
    assert hanging.wire.closed


async def test_a_pong_of_the_library_does_not_overtake() -> None:
    socket = Socket(Outbox())
    socket.write_payload(b"first")
    socket.data_received(b"\x89\x80\x00\x00\x00\x00")  # a WebSocket ping
    await turn()
    assert b"".join(socket.wire.writes) == b"\x82\x05first\x8a\x00"


async def test_a_socket_that_is_lost_is_written_nothing() -> None:
    socket = Socket(Outbox())
    socket.write_payload(b"gone")
    socket.connection_lost(None)
    await turn()
    assert socket.wire.writes == []
