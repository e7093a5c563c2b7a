"""Time as a parameter: whatever decides by time takes a :class:`Clock`, so that tests turn it by hand."""

import time
from typing import Protocol


class Clock(Protocol):
    """Two readings of time, both in seconds."""

    def now(self) -> float:
        """Wall-clock seconds since 1970, UTC. May jump; use for stamps that leave the process."""

    def monotonic(self) -> float:
        """Seconds from an arbitrary start that never go back. Use for deadlines and durations."""


class SystemClock:
    """The machine's own clocks."""

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()


class ManualClock:
    """A clock that moves only when told to."""

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self._now = now
        self._monotonic = 1_000.0

    def now(self) -> float:
        return self._now

    def monotonic(self) -> float:
        return self._monotonic

    def advance(self, seconds: float) -> None:
        """Move both readings forward by `seconds`."""
        self._now += seconds
        self._monotonic += seconds
