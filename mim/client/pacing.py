"""When to come back and how often to say that we are alive; no clock and no socket here."""

import random
from collections.abc import Callable
from typing import Final

START_S: Final = 60.0


class Backoff:
    """Delays between attempts to connect: exponential with full jitter, so that a fleet comes back spread."""

    def __init__(
        self,
        base_s: float = 0.5,
        cap_s: float = 30.0,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._base_s = base_s
        self._cap_s = cap_s
        self._uniform = uniform
        self._failures = 0

    def next_s(self, retry_after_ms: int | None = None) -> float:
        """Return the next delay in seconds; a time the server gave is kept, it spreads its clients."""
        bound = min(self._cap_s, self._base_s * 2 ** min(self._failures, 16))
        self._failures += 1
        if retry_after_ms is not None:
            return retry_after_ms / 1000 + self._uniform(0, min(bound, 1.0))
        return self._uniform(0, bound)

    def reset(self) -> None:
        """A session was opened: begin again with the shortest delay."""
        self._failures = 0


class KeepAlive:
    """The interval between PINGs in seconds, for the network at hand.

    It stretches while pings are answered, since every ping wakes the radio, and is halved when one was not;
    the interval that failed is not tried again by this object.
    """

    def __init__(self) -> None:
        self._low = 1.0
        self._high = START_S
        self._ceiling = float("inf")
        self._interval = START_S

    def bounds(self, low_s: float, high_s: float) -> None:
        """Take READY's `keepalive`."""
        self._low = max(1.0, low_s)
        self._high = max(self._low, high_s)

    @property
    def interval_s(self) -> int:
        """The interval to promise, in whole seconds within the bounds."""
        return int(self._within_bounds())

    def held(self) -> None:
        """A ping after a whole interval was answered."""
        self._interval = self._within_bounds() * 1.5

    def failed(self) -> None:
        """The connection was found dead at a ping."""
        interval = self._within_bounds()
        self._ceiling = interval * 0.75
        self._interval = interval / 2

    def _within_bounds(self) -> float:
        return max(self._low, min(self._interval, self._ceiling, self._high))
