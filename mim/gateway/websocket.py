"""WebSocket over a transport: `websockets`' sans-I/O protocol driven by an asyncio.Protocol.

Knows bytes, the handshake, fragments, the closing handshake and how much is unsent; what a message
means is the subclass's.
"""

import asyncio
import logging
from typing import Final

from websockets.frames import Frame, Opcode
from websockets.http11 import Request, Response
from websockets.protocol import State
from websockets.server import ServerProtocol

from mim.gateway import handshake
from mim.hub.prepared import BINARY, TEXT, message
from mim.wire.codec import MAX_FRAME_BYTES

PACE_BYTES: Final = 64 * 1024  # unsent bytes above which replies and sync wait for the reader
PONG_HEAD: Final = 0x8A  # a WebSocket pong; a closing connection, which may be a flood of pings, gets no more of them


class WebSocket(asyncio.Protocol):
    """The lower half of a connection. uvicorn hands it the transport and the upgrade request."""

    __slots__ = ("_closing", "_drained", "_parts", "_parts_text", "_transport", "_ws", "text")

    def __init__(self, ws_logger: logging.Logger) -> None:
        self._ws = ServerProtocol(
            select_subprotocol=handshake.select_subprotocol, max_size=MAX_FRAME_BYTES, logger=ws_logger
        )
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
        """The WebSocket layer wrote by itself: the moment to look at how much is unsent."""
        raise NotImplementedError

    # -- asyncio.Protocol ------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        self._transport.set_write_buffer_limits(high=PACE_BYTES)

    def connection_lost(self, exc: Exception | None) -> None:
        self._closing = True
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
        ws = self._ws
        ws.receive_data(data)
        for event in ws.events_received():
            if type(event) is Frame:
                self._receive(event)
            elif isinstance(event, Request):
                self.upgrade(event)
        if ws.writes:
            self._flush()

    # -- what the subclass uses ------------------------------------------------------------

    @property
    def is_closing(self) -> bool:
        """Whether nothing more is to be sent."""
        return self._closing

    @property
    def is_open(self) -> bool:
        """Whether the upgrade was answered and the socket speaks WebSocket."""
        return self._ws.state is State.OPEN

    @property
    def unsent_bytes(self) -> int:
        """What the peer has not taken yet, beyond what the kernel holds."""
        return self._transport.get_write_buffer_size()

    def respond(self, response: Response) -> None:
        """Answer the upgrade: with 101 the socket is open, with anything else it closes."""
        if self._closing:
            return
        self._ws.send_response(response)
        self._flush()

    def write_payload(self, payload: bytes) -> None:
        """Queue one message of the socket's kind."""
        self._transport.write(message(TEXT if self.text else BINARY, payload))

    async def drained(self) -> None:
        """Wait until the reader has taken most of what was written."""
        if self._drained is not None:
            await self._drained

    def say_close(self, code: int, reason: str) -> None:
        """Begin the closing handshake; nothing may be written after it."""
        self._closing = True
        self._ws.send_close(code, reason)
        self._flush()
        self._transport.resume_reading()  # the peer's own close must be heard

    def hang_up(self) -> None:
        """Close when the rest is sent. Nothing is added to it, and a peer that does not read it is dropped."""
        if not self._closing:
            self._closing = True
            self.hung_up()
        self._transport.close()

    def abort(self) -> None:
        """Drop the socket without a word."""
        self._transport.abort()

    # -- within ----------------------------------------------------------------------------

    def _flush(self) -> None:
        """Write what the WebSocket layer has to say: handshake, pongs, close frames."""
        if self._ws.parser_exc is not None and not self._closing and self._ws.state is State.CLOSING:
            self.unreadable()
        for data in self._ws.data_to_send():
            if not data:
                self.hang_up()
            elif not (self._closing and data[0] == PONG_HEAD):
                self._transport.write(data)
        self.sent_more()

    def _receive(self, frame: Frame) -> None:
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
