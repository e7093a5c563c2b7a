"""WebSocket over a transport: bytes, the handshake, fragments, the closing handshake, and how much is unsent.

What a message means is the subclass's. The rules of WebSocket are those of `websockets`' sans-I/O protocol, but a
connection holds one only while it needs it, for it takes more memory than all the rest of the connection, and eight
times the CPU for a message:

    upgrade ──101──▶ plain frames alone ──anything else, or a close of ours──▶ the library, to the end
"""

import asyncio
from typing import Final

from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import Protocol, Side, State

from mim.gateway import plain
from mim.gateway.handshake import WS_LOGGER, Answer
from mim.gateway.outbox import Outbox
from mim.gateway.plain import PING, PONG
from mim.hub.prepared import BINARY, TEXT, message
from mim.wire.codec import MAX_FRAME_BYTES

PACE_BYTES: Final = 64 * 1024  # unsent bytes above which replies and sync wait for the reader


class WebSocket(asyncio.Protocol):
    """The lower half of a connection. The door hands it the transport and the upgrade request."""

    __slots__ = (
        "_answered", "_closing", "_drained", "_gathered", "_gathered_bytes", "_outbox", "_parts", "_parts_text",
        "_transport", "_unread", "_ws", "text",
    )  # fmt: skip

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._gathered: list[bytes] | None = None  # to be sent when this turn of the event loop is over
        self._gathered_bytes = 0
        self._answered = False  # the upgrade, with 101
        self._ws: Protocol | None = None  # once something came that is no plain frame, or we close
        self._unread: bytearray | None = None  # a plain frame so far, or what came before the upgrade was answered
        self._transport: asyncio.Transport = None  # type: ignore[assignment]  # set before anything else is called
        self._parts: bytearray | None = None  # a fragmented message so far
        self._parts_text = False
        self._drained: asyncio.Future[None] | None = None
        self._closing = False
        self.text = False

    # -- for the subclass to say -----------------------------------------------------------

    def upgrade(self, request: Request) -> None:
        """A client asks for the upgrade: answer it, now or later, by `respond`."""
        raise NotImplementedError

    def take(self, text: bool, data: bytes) -> None:
        """A whole message came."""
        raise NotImplementedError

    def unreadable(self) -> None:
        """The stream cannot be read any more and is about to be closed: the moment for a last word."""
        raise NotImplementedError

    def hung_up(self) -> None:
        """Nothing is sent any more; the peer has a while to take what was."""
        raise NotImplementedError

    def sent_more(self) -> None:
        """Something was written: the moment to look at how much is unsent."""
        raise NotImplementedError

    # -- asyncio.Protocol ------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        self._transport.set_write_buffer_limits(high=PACE_BYTES)

    def connection_lost(self, exc: Exception | None) -> None:
        self._closing = True
        self._gathered = None
        self.resume_writing()

    def pause_writing(self) -> None:
        if self._drained is None:
            self._drained = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        if self._drained is not None:
            if not self._drained.done():
                self._drained.set_result(None)
            self._drained = None

    def eof_received(self) -> bool:
        return False

    def data_received(self, data: bytes) -> None:
        if self._ws is not None:
            self._receive(self._ws, data)
        elif self._answered:
            self._receive_plain(data)
        else:
            self._receive_early(data)

    # -- what the subclass uses ------------------------------------------------------------

    @property
    def is_closing(self) -> bool:
        """Whether nothing more is to be sent."""
        return self._closing

    @property
    def is_open(self) -> bool:
        """Whether the upgrade was answered and the socket speaks WebSocket."""
        return self._answered and (self._ws is None or self._ws.state is State.OPEN)

    @property
    def unsent_bytes(self) -> int:
        """What the peer has not taken yet, beyond what the kernel holds."""
        return self._transport.get_write_buffer_size() + self._gathered_bytes

    def respond(self, answer: Answer) -> None:
        """Answer the upgrade: with 101 the socket is open, with anything else it closes."""
        if self._closing or self._answered:
            return
        self.put(answer.data)
        if answer.status != 101:
            self.hang_up()
            return
        self._answered = True
        early, self._unread = self._unread, None
        if early:
            self._transport.resume_reading()
            self._receive_plain(early)

    def write_payload(self, payload: bytes) -> None:
        """Queue one message of the socket's kind."""
        self.put(message(TEXT if self.text else BINARY, payload))

    def put(self, data: bytes) -> None:
        """Queue bytes; they are sent together with what else comes in this turn of the event loop."""
        self._gathered_bytes += len(data)
        if self._gathered is None:
            self._gathered = [data]
            self._outbox.add(self)
        else:
            self._gathered.append(data)
            if self._gathered_bytes > PACE_BYTES:
                self.flush()

    def flush(self) -> None:
        """Send what was gathered."""
        self._send_gathered()
        self.sent_more()

    def _send_gathered(self) -> None:
        gathered, self._gathered = self._gathered, None
        self._gathered_bytes = 0
        if gathered is not None:
            self._transport.write(gathered[0] if len(gathered) == 1 else b"".join(gathered))

    async def drained(self) -> None:
        """Wait until the reader has taken most of what was written."""
        if self._drained is not None:
            await self._drained

    def say_close(self, code: int, reason: str) -> None:
        """Begin the closing handshake; nothing may be written after it."""
        self._closing = True
        ws = self._library()
        ws.send_close(code, reason)
        self._flush(ws)
        self._transport.resume_reading()  # the peer's own close must be heard

    def hang_up(self) -> None:
        """Close when the rest is sent. Nothing is added to it, and a peer that does not read it is dropped."""
        if not self._closing:
            self._closing = True
            self.hung_up()
        self._send_gathered()
        self._transport.close()

    def abort(self) -> None:
        """Drop the socket without a word."""
        self._transport.abort()

    # -- within ----------------------------------------------------------------------------

    def _receive_early(self, data: bytes) -> None:
        """What a hasty client sends before the answer waits for it."""
        self._unread = (self._unread or bytearray()) + data
        self._transport.pause_reading()

    def _receive_plain(self, data: bytes | bytearray) -> None:
        if self._unread is not None:
            self._unread += data
            data, self._unread = self._unread, None
        frames, end = plain.split(data)
        for head, payload in frames:
            if head != PING:
                self.take(head == TEXT, payload)
            elif not self._closing:
                self.put(message(PONG, payload))
        if end == len(data):
            return
        if self._ws is None and plain.may_be_plain(*data[end : end + 2]):
            # Kept as it is while it grows: a frame that comes byte by byte is not copied at every byte.
            self._unread = data if end == 0 and isinstance(data, bytearray) else bytearray(data[end:])
        else:
            self._receive(self._library(), data[end:])

    def _library(self) -> Protocol:
        """The protocol object, which from now on reads everything, what is unread first."""
        if self._ws is None:
            self._ws = Protocol(Side.SERVER, max_size=MAX_FRAME_BYTES, logger=WS_LOGGER)
            if self._unread is not None:
                self._ws.receive_data(self._unread)  # less than a frame, and nothing wrong with it so far
                self._unread = None
        return self._ws

    def _receive(self, ws: Protocol, data: bytes | bytearray) -> None:
        ws.receive_data(data)
        for event in ws.events_received():
            assert isinstance(event, Frame)
            self._receive_frame(event)
        if ws.writes:
            self._flush(ws)

    def _flush(self, ws: Protocol) -> None:
        """Write what the WebSocket layer has to say: handshake, pongs, close frames."""
        if ws.parser_exc is not None and not self._closing and ws.state is State.CLOSING:
            self.unreadable()
        self._send_gathered()
        for data in ws.data_to_send():
            if not data:
                self.hang_up()
            elif not (self._closing and data[0] == PONG):  # what may be a flood of pings gets no more of them
                self._transport.write(data)
        self.sent_more()

    def _receive_frame(self, frame: Frame) -> None:
        opcode = frame.opcode
        if opcode is Opcode.BINARY or opcode is Opcode.TEXT:
            if frame.fin:
                self.take(opcode is Opcode.TEXT, bytes(frame.data))
            else:
                self._parts = bytearray(frame.data)
                self._parts_text = opcode is Opcode.TEXT
        elif opcode is Opcode.CONT and self._parts is not None:
            self._parts += frame.data
            if frame.fin:
                parts, self._parts = self._parts, None
                self.take(self._parts_text, bytes(parts))
