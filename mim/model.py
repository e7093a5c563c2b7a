"""Records that more than one part speaks of. Frozen; they hold values, never behaviour with I/O."""

from enum import IntEnum
from typing import Any

from msgspec import UNSET, Struct, UnsetType


class Kind(IntEnum):
    """What sort of chat it is, as stored."""

    DIRECT = 1
    GROUP = 2


class Role(IntEnum):
    """A member's rights, rising: compare with `>=`."""

    MEMBER = 1
    MANAGER = 2
    OWNER = 3


class Caller(Struct, frozen=True):
    """Who asks: a signed-in device. `connection` is 0 for HTTP, else the id of the socket it came by."""

    user: int
    device: int
    connection: int = 0


class ChatState(Struct, frozen=True):
    """A chat as one user sees it (proto/frames.md#chat). `kind` is direct, group or left.

    Of a group that the user is out of nothing but the kind is told; a direct chat may come back, so its numbers are.
    """

    kind: str
    title: str | None
    count: int
    head: int
    rev: int
    first: int
    read: int
    role: str
    muted: bool
    pinned: bool
    peer: int | UnsetType = UNSET
    notice: str | UnsetType = UNSET

    @property
    def is_left(self) -> bool:
        """Whether the user is out of the chat."""
        return self.kind == "left"


class ChatInfo(ChatState, frozen=True, kw_only=True):
    """What `chat.get` and its like answer: the state with the chat's id."""

    chat: int


class Stored(Struct, frozen=True):
    """A message's body as the table keeps it: the text, and the rest of a map body."""

    text: str
    extra: dict[str, Any] | None = None


def body_of(text: str, extra: dict[str, Any] | None) -> str | dict[str, Any]:
    """The wire body of a stored message."""
    if extra is None:
        return text
    return {"t": text, **extra} if text else extra
