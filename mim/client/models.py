"""What the SDK hands out: frozen records read from frames.

Frames are plain lists. A frame that is shorter than it should be, or has another type where it matters,
raises one of `MALFORMED`; extra trailing fields are ignored (proto/transport.md).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

MALFORMED: Final = (AttributeError, IndexError, KeyError, TypeError, ValueError)

Body = str | dict[str, Any]
Frame = Sequence[Any]


@dataclass(frozen=True, slots=True)
class Sent:
    """The durable place of a message: `seq` in its chat, `at` in seconds since 1970."""

    seq: int
    at: int


@dataclass(frozen=True, slots=True)
class Message:
    """A message. `sender` 0 is the system; `meta` has `edited`, `deleted`, `reactions`, `mine` if any."""

    chat: int
    seq: int
    sender: int
    at: int
    body: Body
    meta: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, frame: Frame) -> "Message":
        """Read a MSG frame."""
        _, chat, seq, sender, at, body = frame[:6]
        meta = frame[6] if len(frame) > 6 and frame[6] else {}
        return cls(number(chat), number(seq), number(sender), number(at), body, meta)

    @property
    def text(self) -> str:
        """The words of the message, whatever its kind."""
        return self.body if isinstance(self.body, str) else str(self.body.get("t", ""))


@dataclass(frozen=True, slots=True)
class Change:
    """Whatever altered a chat without being a message; `kind` and `data` as proto/changes.md lists them."""

    chat: int
    rev: int
    kind: str
    user: int
    at: int
    data: Mapping[str, Any]

    @classmethod
    def of(cls, frame: Frame) -> "Change":
        """Read a CHANGE frame."""
        _, chat, rev, kind, user, at, data = frame[:7]
        return cls(number(chat), number(rev), kind, number(user), number(at), dict(data))

    @property
    def after(self) -> int:
        """The head of the chat when this happened."""
        return number(self.data.get("after", 0))


@dataclass(frozen=True, slots=True)
class Chat:
    """A chat as this user sees it; `kind` is direct, group or left."""

    id: int
    kind: str
    title: str | None = None
    count: int = 0
    peer: int | None = None
    head: int = 0
    rev: int = 0
    first: int = 1
    read: int = 0
    role: str = "member"
    muted: bool = False
    pinned: bool = False
    notice: Any = None

    @classmethod
    def of(cls, chat: int, state: Mapping[str, Any]) -> "Chat":
        """Read the state of a CHAT frame or of a `chat.*` answer; unknown keys are ignored."""
        known = {key: state[key] for key in CHAT_FIELDS if state.get(key) is not None}
        return cls(number(chat), **{**known, "kind": str(state["kind"])})

    @property
    def left(self) -> bool:
        """The user is out of this chat."""
        return self.kind == "left"


CHAT_FIELDS: Final = tuple(name for name in Chat.__slots__ if name != "id")


@dataclass(frozen=True, slots=True)
class ReadBy:
    """Watermarks that moved: user → seq."""

    chat: int
    marks: Mapping[int, int]

    @classmethod
    def of(cls, frame: Frame) -> "ReadBy":
        """Read a READBY frame: user, seq, user, seq, ..."""
        marks: dict[int, int] = {}
        flat = frame[2]
        for user, seq in zip(flat[::2], flat[1::2], strict=True):  # a batch may hold a user more than once
            marks[number(user)] = max(number(seq), marks.get(user, 0))
        return cls(number(frame[1]), marks)


@dataclass(frozen=True, slots=True)
class Typing:
    """This user is typing in this chat."""

    chat: int
    user: int


@dataclass(frozen=True, slots=True)
class Note:
    """Something about this user outside any chat."""

    kind: str
    data: Mapping[str, Any]


Event = Message | Change | ReadBy | Typing | Chat | Note


def number(value: Any) -> int:
    """Return `value` if it is an integer; raise TypeError otherwise."""
    if type(value) is not int:
        raise TypeError(f"an integer was expected, not {type(value).__name__}")
    return value
