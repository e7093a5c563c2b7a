"""One socket: bytes to frames to the session's rules, and frames back to bytes.

The protocol class that uvicorn hands an upgraded connection to. It drives `websockets`' sans-I/O protocol, asks the
:class:`mim.wire.session.Session` what to do about each frame, and carries that out. Nothing per message awaits or
makes a task:
a SEND goes into the committer's list, what must wait (FETCH, CALL, CHANGES) goes through one queue per connection.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

from websockets.frames import Frame, Opcode
from websockets.http11 import Request, Response
from websockets.protocol import State as WsState
from websockets.server import ServerProtocol

from mim.errors import CLOSE_CODE, CloseReason, Code, PeerError
from mim.gateway import handshake
from mim.gateway.requests import answer
from mim.hub.prepared import BINARY, TEXT, message
from mim.model import Caller
from mim.wire.codec import MAX_FRAME_BYTES, MSGPACK, Codec
from mim.wire.frames import (
    Ack,
    Bye,
    Call,
    Change,
    Changes,
    Error,
    Fetch,
    Hello,
    Msg,
    MsgWithMeta,
    Nack,
    Read,
    Send,
    ServerFrame,
    Synced,
    Typing,
)
from mim.wire.session import MAX_WAITING_REQUESTS, PONG, Refuse, Reply, Session, State

if TYPE_CHECKING:
    from mim.gateway.gateway import Gateway

PACE_BYTES: Final = 64 * 1024  # unsent bytes above which replies and sync wait for the reader
UNREADABLE: Final = "the message cannot be read or is larger than 64 KiB"
PONG_HEAD: Final = 0x8A  # a WebSocket pong; a closing connection, which may be a flood of pings, gets no more of them
CLOSING_S: Final = 3.0  # how long a peer may take to finish the closing handshake
MAX_HELD: Final = 5000  # live frames that wait for READY
COUNTED: Final = (Msg, MsgWithMeta, Change)  # what RECV counts


class Connection(asyncio.Protocol):
    """A client's socket. Implements the hub's Listener, the committer's Sender and the wheel's Timed."""

    __slots__ = (
        "_closing", "_drained", "_gateway", "_held_in", "_held_out", "_leaving", "_parts", "_parts_text",
        "_requests", "_session", "_transport", "_worker", "_ws", "address", "caller", "device", "expires",
        "fresh_at", "id", "sent", "stale", "text", "user", "wheel_slot",
    )  # fmt: skip

    def __init__(self, gateway: "Gateway", connection_id: int) -> None:
        self._gateway = gateway
        self._session = Session(MSGPACK, gateway.limits, gateway.clock)
        self._ws = ServerProtocol(
            select_subprotocol=handshake.select_subprotocol,
            max_size=MAX_FRAME_BYTES,
            logger=gateway.ws_logger,
        )
        self._transport: asyncio.Transport = None  # type: ignore[assignment]  # set before anything else is called
        self._parts: bytearray | None = None  # a fragmented message so far
        self._parts_text = False
        self._requests: deque[Any] | None = None
        self._worker: asyncio.Task[Any] | None = None
        self._drained: asyncio.Future[None] | None = None
        self._held_in: list[tuple[bool, bytes]] | None = None  # frames between HELLO and READY
        self._held_out: list[tuple[bytes, bool]] | None = []  # live frames until READY is out
        self._closing = False
        self._leaving = False
        self.id = connection_id
        self.address = ""
        self.caller = Caller(0, 0, connection_id)
        self.user = 0  # whose socket it is; 0 until it is known
        self.device = 0
        self.text = False
        self.expires = 0  # second since 1970 at which the token ends
        self.sent = 0  # MSG and CHANGE frames, for RECV
        self.stale = False  # something was delivered since the cursor that the client has
        self.fresh_at = 0  # the second of that cursor
        self.wheel_slot = 0

    @property
    def is_closing(self) -> bool:
        """Whether nothing more is to be sent."""
        return self._closing

    @property
    def is_open(self) -> bool:
        """Whether the upgrade was answered and the socket speaks WebSocket."""
        return self._ws.state is WsState.OPEN

    @property
    def codec(self) -> Codec:
        """The subprotocol's codec."""
        return self._session.codec

    # -- asyncio.Protocol ------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        self._transport.set_write_buffer_limits(high=PACE_BYTES)
        self._gateway.made(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._closing = True
        self._session.closed()
        self._gateway.lost(self)
        if self._worker is not None:
            self._worker.cancel()
        self.resume_writing()

    def pause_writing(self) -> None:
        if self._drained is None:
            self._drained = self._gateway.loop.create_future()

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
                self._upgrade(event)
        if ws.writes:
            self._flush()

    def shutdown(self) -> None:
        """uvicorn is going down: finish what was taken, say BYE, close."""
        self._leaving = True
        if self._session.state is not State.READY:
            self.refuse_session(
                Refuse(CloseReason.SHUTTING_DOWN, Code.UNAVAILABLE, "the server is going down; connect again")
            )
        elif self._session.inflight == 0:
            self.evict(CloseReason.SHUTTING_DOWN)
        else:
            self._transport.pause_reading()

    # -- the handshake ---------------------------------------------------------------------

    def _upgrade(self, request: Request) -> None:
        peer = self._transport.get_extra_info("peername")
        try:
            upgrade = handshake.read_upgrade(request)
            self.address = handshake.client_address(
                peer[0] if isinstance(peer, tuple) else "", request.headers, self._gateway.trusted_proxies
            )
            self._gateway.admit(self, upgrade)
        except PeerError as exc:
            self.respond(handshake.refusal(exc))
            return
        response = self._ws.accept(request)
        if response.status_code != 101:
            self.respond(response)
            return
        codec = handshake.codec_of(self._ws.subprotocol)
        self._session.codec = codec
        self.text = codec.text
        if upgrade.hello is None:
            self.respond(response)
        else:
            self._session.state = State.OPENING
            self._gateway.open(self, upgrade.hello, response)

    def respond(self, response: Response) -> None:
        """Answer the upgrade: with 101 the socket is open, with anything else it closes."""
        if self._closing:
            return
        self._ws.send_response(response)
        self._flush()

    def _flush(self) -> None:
        """Write what the WebSocket layer has to say: handshake, pongs, close frames."""
        if self._ws.parser_exc is not None and not self._closing and self._ws.state is WsState.CLOSING:
            self._write_message(self._last_word(Code.BAD_FRAME, CloseReason.PROTOCOL, UNREADABLE))
        for data in self._ws.data_to_send():
            if not data:
                self._hang_up()
            elif not (self._closing and data[0] == PONG_HEAD):
                self._transport.write(data)
        self._check_speed()

    def _hang_up(self) -> None:
        """Close when the rest is sent. Nothing is added to it, and a peer that does not read it is dropped."""
        if not self._closing:
            self._closing = True
            self._session.closed()
            self._gateway.linger(self, CLOSING_S)
        self._transport.close()

    def _check_speed(self) -> None:
        if not self._closing and self._transport.get_write_buffer_size() > self._gateway.slow_bytes:
            self.evict(CloseReason.SLOW)

    # -- frames in -------------------------------------------------------------------------

    def _receive(self, frame: Frame) -> None:
        opcode = frame.opcode
        if opcode is Opcode.BINARY or opcode is Opcode.TEXT:
            if frame.fin:
                self._take(opcode is Opcode.TEXT, bytes(frame.data))
            else:
                self._parts = bytearray(frame.data)
                self._parts_text = opcode is Opcode.TEXT
        elif opcode is Opcode.CONT and self._parts is not None:
            self._parts += frame.data
            if frame.fin:
                parts, self._parts = self._parts, None
                self._take(self._parts_text, bytes(parts))

    def _take(self, text: bool, data: bytes) -> None:
        """One whole message of the client."""
        if self._leaving or self._closing:
            return
        session = self._session
        if session.state is State.OPENING:
            self._hold(text, data)
            return
        effect = session.receive(data) if text is session.codec.text else session.wrong_kind()
        self._gateway.count_in(effect)
        if effect is not None:
            HANDLERS[type(effect)](self, effect)

    def _hold(self, text: bool, data: bytes) -> None:
        if self._held_in is None:
            self._held_in = []
            self._transport.pause_reading()
        self._held_in.append((text, data))

    def _hello(self, frame: Hello) -> None:
        self._gateway.open(self, frame, None)

    def _send(self, frame: Send) -> None:
        self._gateway.submit(self, frame)

    def _read(self, frame: Read) -> None:
        if not self._gateway.context.reading.mark(self.caller, frame.chat, frame.seq):
            self.write(Error(0, Code.UNAVAILABLE, "too many READs wait for storage; send it again later", 1000))

    def _typing(self, frame: Typing) -> None:
        waiting = 0 if self._requests is None else len(self._requests)
        if waiting < MAX_WAITING_REQUESTS and self._gateway.context.typing.is_new(self.caller, frame.chat):
            self._queue(frame)

    def _queue(self, frame: Any) -> None:
        if self._requests is None:
            self._requests = deque()
        self._requests.append(frame)
        if self._worker is None:
            self._worker = self._gateway.tasks.spawn(self._work(), name="requests of a connection")

    async def _work(self) -> None:
        """Answer the queue in order, each reply paced by the reader's speed; ends when the queue is empty."""
        try:
            while self._requests:
                frame = self._requests.popleft()
                replies = await answer(self._gateway.context, self, frame)
                await self.write_paced(replies)
                if not isinstance(frame, Typing):
                    self._session.waiting -= 1
        finally:
            self._requests = None
            self._worker = None

    def _reply(self, effect: Reply) -> None:
        self.write(effect.frame)
        if effect is PONG:
            self._gateway.pinged(self)

    # -- frames out ------------------------------------------------------------------------

    def offer(self, message: bytes, *, counted: bool) -> None:
        """Queue a live message. Must not block, must not reorder; closes the connection as slow above the limit."""
        if self._closing:
            return
        if self._held_out is not None:
            self._held_out.append((message, counted))
            if len(self._held_out) > MAX_HELD:
                self.evict(CloseReason.SLOW)
            return
        self._transport.write(message)
        self.stale = True
        self.sent += counted
        self._check_speed()

    def write(self, frame: ServerFrame) -> None:
        """Write a reply at once. Must not block; closes the connection as slow above the limit."""
        if self._closing:
            return
        self._write_message(frame)
        self._check_speed()

    async def write_paced(self, frames: Iterable[ServerFrame]) -> None:
        """Write frames no faster than the reader takes them."""
        for frame in frames:
            if self._drained is not None:
                await self._drained
            if self._closing:
                return
            self._write_message(frame)
            self.sent += isinstance(frame, COUNTED)

    def _write_message(self, frame: ServerFrame) -> None:
        self._gateway.count_out(frame)
        payload = self._session.codec.encode(frame)
        self._transport.write(message(TEXT if self.text else BINARY, payload))

    def acknowledge(self, cid: int, seq: int, at: int) -> None:
        """The message is durable."""
        self._session.inflight -= 1
        self.write(Ack(cid, seq, at))
        self._finish_leaving()

    def refuse(self, cid: int, code: Code, detail: str, retry_after_ms: int | None = None) -> None:
        """The message was not stored."""
        self._session.inflight -= 1
        self.write(Nack(cid, code, detail, retry_after_ms))
        self._finish_leaving()

    def _finish_leaving(self) -> None:
        if self._leaving and self._session.inflight == 0:
            self.evict(CloseReason.SHUTTING_DOWN)

    # -- opening and closing ---------------------------------------------------------------

    def become(self, caller: Caller, expires: int) -> None:
        """The client is known."""
        self.caller = caller
        self.user = caller.user
        self.device = caller.device
        self.expires = expires

    def opened(self, ready: ServerFrame) -> None:
        """Send READY, then what was held back, and take what the client sent meanwhile."""
        if self._closing:
            return
        self._session.opened()
        self._gateway.watch(self)
        self._write_message(ready)
        held_out, self._held_out = self._held_out, None
        for data, counted in held_out or ():
            self.offer(data, counted=counted)
        held_in, self._held_in = self._held_in, None
        for text, data in held_in or ():
            self._take(text, data)
        if held_in is not None and not self._closing:
            self._transport.resume_reading()
        if self._leaving:
            self._finish_leaving()

    def synced(self, synced: Synced, at: int) -> None:
        """The client has everything up to this cursor."""
        self.write(synced)
        self.stale = False
        self.fresh_at = at

    def evict(self, reason: str, detail: str = "") -> None:
        """Say BYE, or before READY ERROR, and close."""
        retry_after = self._gateway.retry_after(reason)
        words = detail or EXPLAINED.get(CloseReason(reason), "")
        code = Code.UNAUTHORIZED if CLOSE_CODE[CloseReason(reason)] in (4500, 4501, 4502) else Code.UNAVAILABLE
        self._end(self._last_word(code, reason, words, retry_after), CLOSE_CODE[CloseReason(reason)], reason)

    def refuse_session(self, effect: Refuse) -> None:
        """The session cannot go on."""
        last = self._last_word(effect.code, effect.reason, effect.detail, ref=effect.ref)
        self._end(last, CLOSE_CODE[effect.reason], effect.reason)

    def _last_word(
        self, code: Code, reason: str, detail: str, retry_after: int | None = None, ref: int = 0
    ) -> ServerFrame:
        """What is said before a close: BYE, or before READY ERROR."""
        if self._session.state is State.READY:
            return Bye(reason, detail, retry_after)
        return Error(ref, code, detail, retry_after)

    def _end(self, last: ServerFrame, close_code: int, reason: str) -> None:
        if self._closing or self._ws.state is not WsState.OPEN:
            self._hang_up()
            return
        self._write_message(last)
        self._closing = True
        self._session.closed()
        self._gateway.closing(self, reason, CLOSING_S)
        self._ws.send_close(close_code, reason)
        self._flush()
        self._transport.resume_reading()  # the peer's own close must be heard

    def due(self, now: float) -> float | None:
        """The wheel asks: is the time of this connection over?"""
        if self._closing:
            self._transport.abort()
            return None
        if self._session.state is State.NEW:
            self.evict(CloseReason.UNAUTHORIZED, "no HELLO with a token came in time")
            return None
        if self._session.state is State.OPENING:
            self._give_up_opening()
            return None
        left = self.expires - self._gateway.clock.now()
        if left <= 0:
            self.evict(CloseReason.EXPIRED)
            return None
        deadline = self._session.deadline()
        if deadline <= now:
            self.evict(CloseReason.NO_PING)
            return None
        return min(deadline, now + left)

    def _give_up_opening(self) -> None:
        """Storage does not answer, which says nothing about the token: the client is to come back."""
        reason, words = CloseReason.SHUTTING_DOWN, "the session could not be opened in time; connect again"
        if self.is_open:
            self.evict(reason, words)
        else:
            late = PeerError(Code.UNAVAILABLE, words, self._gateway.retry_after(reason))
            self.respond(handshake.refusal(late))

    def deadline(self) -> float:
        """When the wheel should ask next, as a monotonic second."""
        left = self.expires - self._gateway.clock.now()
        return min(self._session.deadline(), self._gateway.clock.monotonic() + left)

    def abort(self) -> None:
        """Drop the socket without a word."""
        self._transport.abort()


EXPLAINED: Final[dict[CloseReason, str]] = {
    CloseReason.SHUTTING_DOWN: "the server is going down; connect again after retry_after",
    CloseReason.SLOW: "too much is unread; connect again and resume with your cursor",
    CloseReason.NO_PING: "no frame came within twice the promised time",
    CloseReason.EXPIRED: "the token has ended; get a new one, and next time call auth.renew before",
    CloseReason.REPLACED: "this device opened another connection",
    CloseReason.SIGNED_OUT: "this device was signed out; sign in again",
}

HANDLERS: Final[dict[type[Any], Callable[[Connection, Any], None]]] = {
    Hello: Connection._hello,
    Send: Connection._send,
    Read: Connection._read,
    Typing: Connection._typing,
    Fetch: Connection._queue,
    Call: Connection._queue,
    Changes: Connection._queue,
    Reply: Connection._reply,
    Refuse: Connection.refuse_session,
}
