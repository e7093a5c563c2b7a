"""What a client says it has received (RECV), against what was sent to it (proto/session.md#recv).

The kernel's opinion of a connection is worth little behind a proxy: bytes are taken and go nowhere. A client that
counts tells how far it came; one that makes no progress for a while although something is outstanding is not there.
"""

from typing import Final

HALF_OPEN_S: Final = 15.0


class Receipts:
    """Counts of one connection. Without I/O; times are monotonic seconds."""

    __slots__ = ("outstanding_since", "received", "sent")

    def __init__(self) -> None:
        self.sent = 0  # MSG and CHANGE frames
        self.received = 0
        self.outstanding_since: float | None = None  # or since the last progress

    def send(self, now: float) -> bool:
        """One more goes out; True when nothing else was outstanding, so that there is a new deadline."""
        self.sent += 1
        if self.outstanding_since is not None:
            return False
        self.outstanding_since = now
        return True

    def receive(self, count: int, now: float) -> None:
        """The client has `count` in all. Counts that go back, or beyond what was sent, say nothing."""
        if not self.received < count <= self.sent:
            return
        self.received = count
        self.outstanding_since = now if count < self.sent else None

    @property
    def deadline(self) -> float:
        """When the connection counts as half open, unless the client says something before."""
        return float("inf") if self.outstanding_since is None else self.outstanding_since + HALF_OPEN_S
