"""What a client knows of one chat, by the rules of proto/messages.md and proto/changes.md."""

from typing import Any


class ChatView:
    """The messages up to `have` are all there; of those above it, some may be."""

    __slots__ = ("_ahead", "_revs_ahead", "applied", "first", "have", "head", "read", "rev")

    def __init__(self) -> None:
        self.first = 1
        self.have = 0
        self.head = 0  # newest seq known to exist
        self.read = 0  # the user's own watermark, whichever device moved it
        self.applied: int | None = None  # changes up to this rev are applied; None before the first CHAT
        self.rev = 0  # newest rev known to exist
        self._ahead: set[int] = set()
        self._revs_ahead: set[int] = set()

    @property
    def unread(self) -> int:
        """The number beside the chat."""
        return self.head - self.read

    @property
    def is_missing(self) -> bool:
        """Whether messages exist that are not here."""
        return self.head > self.have

    @property
    def lacks_changes(self) -> bool:
        """Whether changes exist that are not applied."""
        return self.rev > (self.applied or 0)

    def told(self, state: dict[str, Any]) -> None:
        """CHAT came, or the state in an answer."""
        self.first = state["first"]
        self.have = max(self.have, self.first - 1)
        self.head = max(self.head, state["head"])
        self.read = max(self.read, state["read"])
        self.rev = max(self.rev, state["rev"])
        if self.applied is None:
            self.applied = state["rev"]
        self._advance()

    def has(self, seq: int) -> None:
        """A message is here, received or one's own."""
        self.head = max(self.head, seq)
        if seq > self.have:
            self._ahead.add(seq)
            self._advance()

    def _advance(self) -> None:
        while self.have + 1 in self._ahead:
            self.have += 1
            self._ahead.discard(self.have)

    def changed(self, rev: int) -> None:
        """A change is here."""
        self.rev = max(self.rev, rev)
        if self.applied is None or rev <= self.applied:
            return
        self._revs_ahead.add(rev)
        while self.applied + 1 in self._revs_ahead:
            self.applied += 1
            self._revs_ahead.discard(self.applied)

    def is_read(self, seq: int) -> None:
        """The user's own watermark moved."""
        self.read = max(self.read, seq)
