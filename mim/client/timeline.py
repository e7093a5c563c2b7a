"""One chat's two sequences put back in order, without I/O.

Live delivery is a hint and the sequence is the truth (proto/messages.md#ack): frames may come twice, swapped,
from the sync, from a FETCH, or not at all. A :class:`Timeline` takes them as they come and releases every
message once, by rising `seq` without holes, and every change once, by rising `rev` without holes and never
before the messages that it follows (`after`). What does not come by itself is named by
:meth:`Timeline.missing`, for somebody with a socket to ask for.
"""

from dataclasses import dataclass
from typing import Final, Generic, Literal, TypeVar

from mim.client.models import Change, Chat, Message

T = TypeVar("T")

HELD_LIMIT: Final = 1000
"""How many early arrivals a sequence keeps; what comes above it is asked for again when its turn comes."""


class Track(Generic[T]):
    """A sequence 1, 2, 3, ...: `position` is the last released, `target` the highest known to exist."""

    __slots__ = ("_held", "_limit", "position", "target")

    def __init__(self, position: int = 0, *, limit: int = HELD_LIMIT) -> None:
        self.position = position
        self.target = position
        self._held: dict[int, T] = {}
        self._limit = limit

    def start_at(self, position: int) -> None:
        """Never go back: what is at or below `position` counts as released."""
        if position > self.position:
            self.position = position
            self.target = max(self.target, position)
            for early in [n for n in self._held if n <= position]:
                del self._held[early]

    def expect(self, number: int) -> None:
        """`number` exists, wherever it is."""
        self.target = max(self.target, number)

    def offer(self, number: int, item: T) -> None:
        """Keep `item` until its turn; drop it if it was released, is held already, or the hold is full."""
        if number <= self.position:
            return
        self.expect(number)
        if number == self.position + 1 or len(self._held) < self._limit:
            self._held.setdefault(number, item)

    def peek(self) -> T | None:
        """Return the next item if it is here."""
        return self._held.get(self.position + 1)

    def pop(self) -> T:
        """Release the next item; KeyError if it is not here."""
        item = self._held.pop(self.position + 1)
        self.position += 1
        return item

    def clear(self) -> None:
        """Forget what is held and what was expected."""
        self._held.clear()
        self.target = self.position

    def skip(self) -> None:
        """Give up on the missing number: go on with the next that is held, or stop expecting any."""
        self.start_at(min(self._held) - 1 if self._held else self.target)

    def __len__(self) -> int:
        return len(self._held)


@dataclass(frozen=True, slots=True)
class Missing:
    """What to ask for: the chat's `state`, or the `messages` or `changes` after `after`."""

    what: Literal["state", "messages", "changes"]
    after: int = 0


class Timeline:
    """The order of one chat.

    A chat seen for the first time starts at the user's own watermark, at most `backlog` messages before the
    head: what is unread is released, what was read before is history. With `saved` (seq, rev) it goes on
    where it stood.
    """

    __slots__ = ("_backlog", "_fresh", "changes", "known", "messages")

    def __init__(self, *, saved: tuple[int, int] | None = None, backlog: int = 50, limit: int = HELD_LIMIT) -> None:
        seq, rev = saved or (0, 0)
        self.messages: Track[Message] = Track(seq, limit=limit)
        self.changes: Track[Change] = Track(rev, limit=limit)
        self.known = saved is not None
        self._fresh = saved is None
        self._backlog = backlog

    def position(self) -> tuple[int, int]:
        """Return the last seq and the last rev released."""
        return self.messages.position, self.changes.position

    def open(self, state: Chat) -> None:
        """Take a chat's state: where it starts for this user and how far it goes."""
        if state.left:
            self.close()
            return
        self.messages.start_at(state.first - 1)
        if self._fresh:
            self.messages.start_at(max(state.read, state.head - self._backlog))
        if not self.known:  # a first sight or a return: changes made while away are in the state already
            self.changes.start_at(state.rev)
        self._fresh = False
        self.known = True
        self.expect(head=state.head, rev=state.rev)

    def close(self) -> None:
        """The user is out: release nothing more until the chat is opened again."""
        self.known = False
        self.messages.clear()
        self.changes.clear()

    def expect(self, *, head: int = 0, rev: int = 0) -> None:
        """Messages up to `head` and changes up to `rev` are known to exist."""
        self.messages.expect(head)
        self.changes.expect(rev)

    def offer(self, item: Message | Change) -> None:
        """Take a message or change, from wherever it came."""
        if isinstance(item, Message):
            self.messages.offer(item.seq, item)
        else:
            self.messages.expect(item.after)
            self.changes.offer(item.rev, item)

    def take(self) -> list[Message | Change]:
        """Return what is released now, in order."""
        released: list[Message | Change] = []
        while self.known:
            change = self.changes.peek()
            if change is not None and change.after <= self.messages.position:
                released.append(self.changes.pop())
            elif self.messages.peek() is not None:
                released.append(self.messages.pop())
            else:
                break
        return released

    def missing(self) -> Missing | None:
        """Return what keeps the timeline from its targets, to be called after :meth:`take`."""
        behind = self.messages.position < self.messages.target
        if not self.known:
            return Missing("state") if behind or self.changes.position < self.changes.target else None
        if behind:
            return Missing("messages", self.messages.position)
        if self.changes.position < self.changes.target:
            return Missing("changes", self.changes.position)
        return None

    def skip(self) -> None:
        """Give up on what :meth:`missing` names, after asking in vain."""
        match self.missing():
            case Missing(what="messages"):
                self.messages.skip()
            case Missing(what="changes"):
                self.changes.skip()
            case Missing():
                self.close()
