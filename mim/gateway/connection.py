"""One client: frames to the session's rules, what they ask for to where it is done, and answers back.

Carries out what :class:`mim.wire.session.Session` says about each message. Nothing per message awaits or makes a task:
a SEND goes into the committer's list, what must wait (FETCH, CALL, CHANGES) goes through one queue per connection.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Final

from websockets.http11 import Request

from mim.chat.freshness import Horizon
from mim.errors import CLOSE_CODE, CloseReason, Code, PeerError
from mim.gateway import handshake
from mim.gateway.farewell import last_word
from mim.gateway.host import Host
from mim.gateway.receipts import Receipts
from mim.gateway.requests import answer
from mim.gateway.websocket import WebSocket
from mim.model import Caller
from mim.wire.codec import MSGPACK, Codec
from mim.wire.frames import (
    Ack,
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
    Recv,
    Send,
    ServerFrame,
    Synced,
    Typing,
)
from mim.wire.session import PONG, Refuse, Reply, Session, State

UNREADABLE: Final = "the message cannot be read or is larger than 64 KiB"
CLOSING_S: Final = 3.0  # how long a peer may take to finish the closing handshake
COUNTED: Final = (Msg, MsgWithMeta, Change)  # what RECV counts


class Connection(WebSocket):
    """A client's socket. Implements the hub's Listener, the committer's Sender and the wheel's Timed."""

    __slots__ = (
        "_held_bytes", "_held_in", "_held_out", "_host", "_leaving", "_receipts", "_requests", "_session", "_worker",
        "address", "caller", "claimed", "device", "expires", "horizon", "id", "is_lost", "opened", "stale",
        "unheard_since", "user", "wheel_slot",
    )  # fmt: skip

    def __init__(self, host: Host, connection_id: int) -> None:
        super().__init__(host.outbox)
        self._host = host
        self._session = Session(MSGPACK, host.limits, host.clock)
        self._requests: deque[Any] | None = None
        self._worker: asyncio.Task[Any] | None = None
        self._held_in: list[tuple[bool, bytes]] | None = None  # frames between HELLO and READY
        self._held_out: list[tuple[bytes, bool]] | None = []  # live frames until READY is out
        self._held_bytes = 0
        self._leaving: CloseReason | None = None
        self.is_lost = False
        self.id = connection_id
        self.address = ""
        self.caller = Caller(0, 0, connection_id)
        self.user = 0  # whose socket it is; 0 until it is known
        self.device = 0
        self.expires = 0  # second since 1970 at which the token ends
        self._receipts: Receipts | None = None  # of a client that sends RECV
        self.unheard_since: float | None = None  # once closed: monotonic second from which it may not have heard
        self.stale = False  # something was delivered since the cursor that the client has
        self.horizon: Horizon | None = None  # of that cursor; None before the first sync is complete
        self.opened = int(host.clock.now() * 1000)  # millisecond since 1970
        self.claimed = False  # the bus has its claim on the device
        self.wheel_slot = 0

    @property
    def codec(self) -> Codec:
        """The subprotocol's codec."""
        return self._session.codec

    # -- WebSocket ----------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._host.made(self)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.is_lost = True
        if self._receipts is not None:
            self.unheard_since = self._receipts.outstanding_since
        self._session.closed()
        self._host.lost(self)
        if self._worker is not None:
            self._worker.cancel()

    def shutdown(self) -> None:
        """uvicorn is going down."""
        self.leave(CloseReason.SHUTTING_DOWN)

    def leave(self, reason: CloseReason) -> None:
        """Finish what was taken, say BYE, close."""
        self._leaving = reason
        if self._session.state is not State.READY or self._session.inflight == 0:
            self.evict(reason)
        else:
            self._transport.pause_reading()

    def upgrade(self, request: Request) -> None:
        peer = self._transport.get_extra_info("peername")
        try:
            upgrade = handshake.read_upgrade(request)
            self.address = handshake.client_address(
                peer[0] if isinstance(peer, tuple) else "", request.headers, self._host.trusted_proxies
            )
            self._host.admit(self, upgrade)
        except PeerError as exc:
            self.respond(handshake.refusal(exc))
            return
        answer = handshake.accept(request)
        if answer.status == 101:
            self._session.codec = handshake.codec_of(answer.subprotocol)
            self.text = self._session.codec.text
        if answer.status != 101 or upgrade.hello is None:
            self.respond(answer)
        else:
            self._session.state = State.OPENING
            self._host.open(self, upgrade.hello, answer)

    def take(self, text: bool, data: bytes) -> None:
        """Judge a message and act on it. Must not block."""
        if self._leaving or self._closing:
            return
        session = self._session
        if session.state is State.OPENING:
            self._hold(text, data)
            return
        effect = session.receive(data) if text is session.codec.text else session.wrong_kind()
        self._host.count_in(session.heard)
        if effect is not None:
            HANDLERS[type(effect)](self, effect)

    def unreadable(self) -> None:
        """Say why before the WebSocket layer closes."""
        self._write_frame(self._last_word(CloseReason.PROTOCOL, code=Code.BAD_FRAME, detail=UNREADABLE))

    def hung_up(self) -> None:
        """The peer has a moment to take the rest."""
        self._session.closed()
        self._host.watch(self, CLOSING_S)

    def sent_more(self) -> None:
        """A reader that is too slow is closed; what it missed it gets when it resumes."""
        if not self._closing and self.unsent_bytes > self._host.slow_bytes:
            self.evict(CloseReason.SLOW)

    # -- what the frames ask for -----------------------------------------------------------

    def _hold(self, text: bool, data: bytes) -> None:
        if self._held_in is None:
            self._held_in = []
            self._transport.pause_reading()
        self._held_in.append((text, data))

    def _hello(self, frame: Hello) -> None:
        self._host.open(self, frame, None)

    def _send(self, frame: Send) -> None:
        self._host.submit(self, frame)

    def _read(self, frame: Read) -> None:
        if not self._host.context.reading.mark(self.caller, frame.chat, frame.seq):
            self.write(Error(0, Code.UNAVAILABLE, "too many READs wait for storage; send it again later", 1000))

    def _typing(self, frame: Typing) -> None:
        self._host.context.typing.pass_on(self.caller, frame.chat)

    def _queue(self, frame: Any) -> None:
        if self._requests is None:
            self._requests = deque()
        self._requests.append(frame)
        if self._worker is None:
            self._worker = self._host.tasks.spawn(self._work(), name="requests of a connection")

    async def _work(self) -> None:
        """Answer the queue in order, each reply paced by the reader's speed; ends when the queue is empty."""
        try:
            while self._requests:
                frame = self._requests.popleft()
                replies = await answer(self._host.context, self, frame)
                await self.write_paced(replies)
                self._session.waiting -= 1
        finally:
            self._requests = None
            self._worker = None

    def _recv(self, frame: Recv) -> None:
        if self._receipts is not None:
            self._receipts.receive(frame.count, self._host.clock.monotonic())

    def _reply(self, effect: Reply) -> None:
        self.write(effect.frame)
        if effect is PONG:
            self._host.pinged(self)

    # -- frames out ------------------------------------------------------------------------

    def offer(self, message: bytes, *, counted: bool) -> None:
        """Queue a live message. Must not block, must not reorder; closes the connection as slow above the limit."""
        if self._closing:
            return
        if self._held_out is not None:
            self._held_out.append((message, counted))
            self._held_bytes += len(message)
            if self._held_bytes > self._host.slow_bytes:
                self.evict(CloseReason.SLOW)
            return
        self.put(message)
        self.stale = True
        if counted and self._receipts is not None:
            self._count(self._receipts)

    def _count(self, receipts: Receipts) -> None:
        if receipts.send(self._host.clock.monotonic()):
            self._host.watch(self)

    def write(self, frame: ServerFrame) -> None:
        """Write a reply at once. Must not block; closes the connection as slow above the limit."""
        if self._closing:
            return
        self._write_frame(frame)

    async def write_paced(self, frames: Iterable[ServerFrame]) -> None:
        """Write frames no faster than the reader takes them."""
        for frame in frames:
            await self.drained()
            if self._closing:
                return
            self._write_frame(frame)
            if self._receipts is not None and isinstance(frame, COUNTED):
                self._count(self._receipts)

    def _write_frame(self, frame: ServerFrame) -> None:
        self._host.count_out(frame)
        self.write_payload(self._session.codec.encode(frame))

    def acknowledge(self, cid: int, seq: int, at: int) -> None:
        """The message is durable."""
        self._session.answered()
        self.write(Ack(cid, seq, at))
        self._finish_leaving()

    def refuse(self, cid: int, code: Code, detail: str, retry_after_ms: int | None = None) -> None:
        """The message was not stored."""
        self._session.answered()
        self.write(Nack(cid, code, detail, retry_after_ms))
        self._finish_leaving()

    def _finish_leaving(self) -> None:
        if self._leaving is not None and self._session.inflight == 0:
            self.evict(self._leaving)

    # -- opening and closing ---------------------------------------------------------------

    def become(self, caller: Caller, expires: int, *, recv: bool) -> None:
        """The client is known; `recv`: it says how much it received."""
        self._receipts = Receipts() if recv else None
        self.caller = caller
        self.user = caller.user
        self.device = caller.device
        self.expires = expires

    def renewed(self, expires: int) -> None:
        """The client has a token that is good until another second."""
        self.expires = expires
        self._host.watch(self)

    def forget_held(self) -> None:
        """Drop the live frames that wait for READY: what they tell is about to be read."""
        if self._held_out is not None:
            self._held_out.clear()
            self._held_bytes = 0

    def begin(self, ready: ServerFrame) -> None:
        """Send READY, then what was held back, and take what the client sent meanwhile."""
        if self._closing:
            return
        self._session.opened()
        self._host.watch(self)
        self._write_frame(ready)
        held_out, self._held_out = self._held_out, None
        for data, counted in held_out or ():
            self.offer(data, counted=counted)
        held_in, self._held_in = self._held_in, None
        for text, data in held_in or ():
            self.take(text, data)
        if held_in is not None and not self._closing:
            self._transport.resume_reading()
        if self._leaving:
            self._finish_leaving()

    def synced(self, horizon: Horizon) -> None:
        """The client has everything up to this horizon."""
        self.write(Synced(horizon.cursor()))
        self.stale = False
        self.horizon = horizon

    def evict(self, reason: str, detail: str = "") -> None:
        """Say BYE, or before READY ERROR, and close."""
        why = CloseReason(reason)
        if why is CloseReason.NO_PING and self._receipts is None and self.stale:
            self.unheard_since = self._session.last_heard
        self._end(self._last_word(why, detail=detail), why)

    def refuse_session(self, effect: Refuse) -> None:
        """The session cannot go on."""
        last = self._last_word(effect.reason, code=effect.code, detail=effect.detail, ref=effect.ref)
        self._end(last, effect.reason)

    def _last_word(
        self, reason: CloseReason, *, code: Code | None = None, detail: str = "", ref: int = 0
    ) -> ServerFrame:
        ready, retry_after = self._session.state is State.READY, self._host.retry_after(reason)
        return last_word(reason, ready=ready, retry_after_ms=retry_after, code=code, detail=detail, ref=ref)

    def _end(self, last: ServerFrame, reason: CloseReason) -> None:
        if self._closing or not self.is_open:
            self.hang_up()
            return
        self._write_frame(last)
        self._session.closed()
        self._host.closing(reason)
        self._host.watch(self, CLOSING_S)
        self.say_close(CLOSE_CODE[reason], reason)

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
        left = self.expires - self._host.clock.now()
        if left <= 0:
            self.evict(CloseReason.EXPIRED)
            return None
        if self._session.deadline() <= now:
            self.evict(CloseReason.NO_PING)
            return None
        if self._receipts is not None and self._receipts.deadline <= now:
            self.evict(CloseReason.HALF_OPEN)
            return None
        return self.deadline()

    def _give_up_opening(self) -> None:
        """Storage does not answer, which says nothing about the token: the client is to come back."""
        reason, words = CloseReason.SHUTTING_DOWN, "the session could not be opened in time; connect again"
        if self.is_open:
            self.evict(reason, words)
        else:
            late = PeerError(Code.UNAVAILABLE, words, self._host.retry_after(reason))
            self.respond(handshake.refusal(late))

    def deadline(self) -> float:
        """When the wheel should ask next, as a monotonic second."""
        left = self.expires - self._host.clock.now()
        heard = (
            self._session.deadline()
            if self._receipts is None
            else min(self._session.deadline(), self._receipts.deadline)
        )
        return min(heard, self._host.clock.monotonic() + left)


HANDLERS: Final[dict[type[Any], Callable[[Connection, Any], None]]] = {
    Hello: Connection._hello,
    Send: Connection._send,
    Read: Connection._read,
    Recv: Connection._recv,
    Typing: Connection._typing,
    Fetch: Connection._queue,
    Call: Connection._queue,
    Changes: Connection._queue,
    Reply: Connection._reply,
    Refuse: Connection.refuse_session,
}
