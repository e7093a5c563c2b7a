"""The rules of one session, without I/O (proto/session.md).

    NEW ──HELLO──▶ OPENING ──opened()──▶ READY ──▶ CLOSED

`receive(data)` takes one WebSocket message and returns what is to be done about it: the decoded frame
itself where the connection has to act (a Send to submit, a Fetch to answer), :class:`Reply` where
one frame answers it at once, :class:`Refuse` where the session ends, None where nothing is left to do. It never
awaits and never raises for a peer's mistake.
"""

from collections.abc import Callable
from enum import IntEnum
from typing import Any, Final

from msgspec import Struct

from mim.clock import Clock
from mim.errors import CloseReason, Code
from mim.wire.codec import BadFrame, Codec, NotAFrame
from mim.wire.frames import (
    Call,
    Changes,
    Error,
    Fetch,
    Hello,
    Nack,
    Ping,
    Pong,
    Read,
    Recv,
    Send,
    ServerFrame,
    Typing,
)
from mim.wire.rate import TokenBucket

MAX_WAITING_REQUESTS: Final = 64


class State(IntEnum):
    """Where a session stands."""

    NEW = 0
    OPENING = 1
    READY = 2
    CLOSED = 3


class SessionLimits(Struct, frozen=True):
    """The bounds that a session keeps by itself. Seconds, SENDs, and frames a second."""

    keepalive_min_s: int
    keepalive_max_s: int
    inflight: int
    send_rate: float
    send_burst: int
    request_rate: float
    request_burst: int


class Reply(Struct, frozen=True):
    """Answer with this frame."""

    frame: ServerFrame


class Refuse(Struct, frozen=True):
    """End the session: the error first when it is not open yet, else BYE; then close."""

    reason: CloseReason
    code: Code
    detail: str
    ref: int = 0


Request = Fetch | Call | Changes
Effect = Hello | Send | Read | Recv | Typing | Request | Reply | Refuse | None

PONG: Final = Reply(Pong())


class Session:
    """One client's conversation with the server, from the first frame to the close."""

    __slots__ = (
        "_clock",
        "_limits",
        "_requests",
        "_sends",
        "codec",
        "heard",
        "inflight",
        "last_heard",
        "promise_s",
        "state",
        "waiting",
    )

    def __init__(self, codec: Codec, limits: SessionLimits, clock: Clock) -> None:
        self.codec = codec
        self.state = State.NEW
        self.inflight = 0  # SENDs not answered yet
        self.waiting = 0  # requests not answered yet
        self.heard: type[Any] = NotAFrame  # what the last message was, for counting
        self.promise_s = limits.keepalive_max_s  # the next ping comes within this time
        self.last_heard = clock.monotonic()
        self._clock = clock
        self._limits = limits
        self._sends = TokenBucket(limits.send_rate, limits.send_burst, self.last_heard)
        self._requests = TokenBucket(limits.request_rate, limits.request_burst, self.last_heard)

    # -- what the connection tells ---------------------------------------------------------

    def opened(self) -> None:
        """The client is authenticated and READY is about to be sent."""
        self.state = State.READY

    def answered(self) -> None:
        """A SEND got its ACK or NACK."""
        self.inflight -= 1

    def closed(self) -> None:
        """Nothing more is read from this client."""
        self.state = State.CLOSED

    def deadline(self) -> float:
        """The monotonic second at which silence counts as death: twice the promise after the last frame."""
        return self.last_heard + 2 * self.promise_s

    # -- what the client says --------------------------------------------------------------

    def receive(self, data: bytes) -> Effect:
        """Judge one message of the client and return what to do about it."""
        if self.state is State.CLOSED:
            return None
        self.last_heard = self._clock.monotonic()
        try:
            frame = self.codec.decode(data)
        except BadFrame as exc:
            self.heard = BadFrame
            return self._bad_frame(exc)
        except NotAFrame:
            self.heard = NotAFrame
            return not_a_frame()
        self.heard = type(frame)
        if self.state is not State.READY and type(frame) is not Hello:
            return self._before_hello()
        return RULES[type(frame)](self, frame)

    def wrong_kind(self) -> Effect:
        """A text message on a binary subprotocol, or the other way round."""
        self.heard = NotAFrame
        kind = "text" if self.codec.text else "binary"
        return Refuse(CloseReason.PROTOCOL, Code.BAD_FRAME, f"{self.codec.name} takes {kind} messages only")

    def _before_hello(self) -> Effect:
        return Refuse(CloseReason.PROTOCOL, Code.BAD_FRAME, "the first frame must be HELLO")

    def _bad_frame(self, exc: BadFrame) -> Effect:
        if self.state is not State.READY and exc.op != 1:
            return self._before_hello()
        if exc.op == 2:
            return Reply(Nack(exc.number, exc.code, exc.detail))
        return Reply(Error(exc.number, exc.code, exc.detail))

    def _hello(self, frame: Hello) -> Effect:
        if self.state is State.NEW:
            self.state = State.OPENING
            return frame
        return Reply(Error(frame.ref, Code.CONFLICT, "this session is open already"))

    def _send(self, frame: Send) -> Effect:
        if self.inflight >= self._limits.inflight:
            return Reply(Nack(frame.cid, Code.RATE_LIMITED, "too many SENDs wait for their answer; wait for some", 100))
        if wait_ms := self._sends.take(self.last_heard):
            return Reply(Nack(frame.cid, Code.RATE_LIMITED, "sending too fast; slow down", wait_ms))
        self.inflight += 1
        return frame

    def _request(self, frame: Request) -> Effect:
        if self.waiting >= MAX_WAITING_REQUESTS:
            return Reply(
                Error(
                    frame.ref,
                    Code.RATE_LIMITED,
                    "too many requests wait for their answer; wait for some",
                    100,
                )
            )
        if wait_ms := self._requests.take(self.last_heard):
            return Reply(Error(frame.ref, Code.RATE_LIMITED, "asking too fast; slow down", wait_ms))
        self.waiting += 1
        return frame

    def _read(self, frame: Read) -> Effect:
        if wait_ms := self._requests.take(self.last_heard):
            return Reply(Error(0, Code.RATE_LIMITED, "reading too fast; send only the newest READ", wait_ms))
        return frame

    def _typing(self, frame: Typing) -> Effect:
        return None if self._requests.take(self.last_heard) else frame

    def _recv(self, frame: Recv) -> Effect:
        return frame

    def _ping(self, frame: Ping) -> Effect:
        low, high = self._limits.keepalive_min_s, self._limits.keepalive_max_s
        self.promise_s = min(max(frame.next_s, low), high)
        return PONG


def not_a_frame() -> Refuse:
    """What ends a session whose bytes cannot be understood."""
    return Refuse(CloseReason.PROTOCOL, Code.BAD_FRAME, "not a frame: an array that begins with an integer")


RULES: Final[dict[type[Any], Callable[[Session, Any], Effect]]] = {
    Hello: Session._hello,
    Send: Session._send,
    Read: Session._read,
    Typing: Session._typing,
    Recv: Session._recv,
    Fetch: Session._request,
    Call: Session._request,
    Ping: Session._ping,
    Changes: Session._request,
}
