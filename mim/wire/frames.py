"""Every frame of protocol version 1, declared once.

A frame is an array `[op, field, ...]`; the struct's tag is the op and its fields are the array's in order.
msgspec turns bytes straight into these structs and checks types and ranges on the way, so a frame that
exists is a frame whose fields are sound. The AsyncAPI description is generated from this module.
"""

from typing import Annotated, Any, ClassVar, Final

from msgspec import Meta, Raw, Struct

UInt = Annotated[int, Meta(ge=0, lt=2**53)]
"""A counter, id or amount: what a double holds exactly, so that JavaScript clients need no big integers."""

Ref = Annotated[int, Meta(ge=1, lt=2**53)]
"""The client's number for matching an answer to its request."""

Id = Annotated[int, Meta(ge=1, lt=2**53)]
"""A user, chat or device: a small counter given by the server."""

PageLimit = Annotated[int, Meta(gt=-(2**53), lt=2**53)]
"""How many rows a page may hold; FETCH counts backwards with a negative one."""

Body = str | dict[str, Any]
"""Plain text, or a map of section proto/messages.md#body."""


class HelloOptions(Struct, frozen=True, omit_defaults=True):
    """What a client says of itself when it opens a session. Unknown keys are ignored."""

    app: Annotated[str, Meta(max_length=64)] | None = None
    os: Annotated[str, Meta(max_length=32)] | None = None
    locale: Annotated[str, Meta(max_length=35)] | None = None
    recv: bool = False


# -- client to server ------------------------------------------------------------- proto/frames.md#client


class Hello(Struct, tag=1, array_like=True, frozen=True):
    """Open a session: answered by READY and the sync, or by ERROR and a close."""

    ref: Ref
    token: Annotated[str, Meta(max_length=8192)]
    options: HelloOptions = HelloOptions()
    cursor: Annotated[str, Meta(max_length=1024)] | None = None


class Send(Struct, tag=2, array_like=True, frozen=True, gc=False):
    """Send a message: answered by ACK or NACK with the same cid."""

    cid: UInt
    chat: UInt
    body: Body


class Read(Struct, tag=3, array_like=True, frozen=True, gc=False):
    """I have read this chat up to `seq`. Never goes back; above the head it counts as the head."""

    chat: UInt
    seq: UInt


class Typing(Struct, tag=4, array_like=True, frozen=True, gc=False):
    """I am typing in this chat."""

    chat: UInt


class Recv(Struct, tag=5, array_like=True, frozen=True, gc=False):
    """How many MSG and CHANGE frames I have received on this connection so far."""

    count: UInt


class Fetch(Struct, tag=6, array_like=True, frozen=True, gc=False):
    """A page of messages: limit > 0 those after `from_seq`, oldest first; limit < 0 those before, newest first."""

    ref: Ref
    chat: UInt
    from_seq: UInt
    limit: PageLimit


class Call(Struct, tag=7, array_like=True, frozen=True):
    """A method that is not hot (proto/calls.md): answered by RESULT or ERROR."""

    ref: Ref
    method: Annotated[str, Meta(max_length=64)]
    params: Raw = Raw(b"")


class Ping(Struct, tag=8, array_like=True, frozen=True, gc=False):
    """Alive; the next ping comes within `next_s` seconds."""

    next_s: UInt


class Changes(Struct, tag=9, array_like=True, frozen=True, gc=False):
    """A page of changes with rev > from_rev, oldest first."""

    ref: Ref
    chat: UInt
    from_rev: UInt
    limit: PageLimit


ClientFrame = Hello | Send | Read | Typing | Recv | Fetch | Call | Ping | Changes


# -- server to client ------------------------------------------------------------- proto/frames.md#server


class Limits(Struct, frozen=True):
    """What READY says of bounds: `text` in code points, `fetch` messages a page, `inflight` unanswered SENDs."""

    text: int
    fetch: int
    inflight: int


class ReadySession(Struct, frozen=True):
    """The opened session. `time` is the server's in seconds; `keepalive` bounds PING's `next` in seconds."""

    user: int
    device: int
    time: int
    resumed: bool
    keepalive: tuple[int, int]
    limits: Limits


class Ready(Struct, tag=16, array_like=True, frozen=True):
    """The session is open; the sync follows."""

    ref: int
    session: ReadySession


class Ack(Struct, tag=17, array_like=True, frozen=True, gc=False):
    """The message is durable and has this place in its chat."""

    cid: int
    seq: int
    at: int


class Msg(Struct, tag=18, array_like=True, frozen=True, gc=False):
    """A message. Sender 0 is the system."""

    chat: int
    seq: int
    sender: int
    at: int
    body: Body


class MsgWithMeta(Struct, tag=18, array_like=True, frozen=True):
    """A MSG that carries its present state; live frames have none, so :class:`Msg` leaves the field out."""

    chat: int
    seq: int
    sender: int
    at: int
    body: Body
    meta: dict[str, Any]


class Change(Struct, tag=19, array_like=True, frozen=True):
    """Whatever alters a chat without being a new message."""

    chat: int
    rev: int
    kind: str
    user: int
    at: int
    data: dict[str, Any]


class ReadBy(Struct, tag=20, array_like=True, frozen=True):
    """Watermarks that moved: user, seq, user, seq, ... Keep the maximum."""

    chat: int
    watermarks: list[int]


class Result(Struct, tag=21, array_like=True, frozen=True):
    """The value that answers request `ref`."""

    ref: int
    value: Any


class Error(Struct, tag=22, array_like=True, frozen=True):
    """Request `ref` failed (0: no request in particular)."""

    optional_tail: ClassVar[bool] = True
    ref: int
    code: str
    detail: str
    retry_after: int | None = None


class UserTyping(Struct, tag=23, array_like=True, frozen=True, gc=False):
    """This user is typing in this chat."""

    chat: int
    user: int


class ChatFrame(Struct, tag=24, array_like=True, frozen=True):
    """A chat as this user sees it."""

    chat: int
    state: Any


class Synced(Struct, tag=25, array_like=True, frozen=True):
    """The sync is complete; keep the newest cursor for the next HELLO."""

    cursor: str


class Bye(Struct, tag=26, array_like=True, frozen=True):
    """The server is about to close."""

    optional_tail: ClassVar[bool] = True
    code: str
    detail: str
    retry_after: int | None = None


class Pong(Struct, tag=27, array_like=True, frozen=True):
    """Answer to PING."""


class Note(Struct, tag=28, array_like=True, frozen=True):
    """Something about this user outside any chat."""

    kind: str
    data: dict[str, Any]


class Nack(Struct, tag=29, array_like=True, frozen=True):
    """The message was not stored."""

    optional_tail: ClassVar[bool] = True
    cid: int
    code: str
    detail: str
    retry_after: int | None = None


ServerFrame = (
    Ready | Ack | Msg | MsgWithMeta | Change | ReadBy | Result | Error | UserTyping | ChatFrame
    | Synced | Bye | Pong | Note | Nack
)  # fmt: skip

MESSAGE_NAMES: Final = {"ReadBy": "READBY", "UserTyping": "TYPING", "ChatFrame": "CHAT", "MsgWithMeta": "MSG"}


def wire_name(frame: type[Any]) -> str:
    """The frame's name in proto/frames.md."""
    return MESSAGE_NAMES.get(frame.__name__, frame.__name__.upper())
