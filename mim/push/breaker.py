"""A circuit breaker: after some failures in a row nothing is tried for a while, then one probe at a time.

It keeps an outage from costing a timeout per notification, and the provider from being hammered when it comes back.
"""

import random
from collections.abc import Callable
from typing import Final

THRESHOLD: Final = 5
FIRST_S: Final = 1.0
LONGEST_S: Final = 15.0  # so long at most it goes on after the provider is back


class Breaker:
    """Closed, open until a moment, or half open: a probe is on its way. `now` tells monotonic seconds."""

    def __init__(
        self, now: Callable[[], float], *, first_s: float = FIRST_S, longest_s: float = LONGEST_S,
        jitter: Callable[[], float] = random.random,
    ) -> None:  # fmt: skip
        self._now = now
        self._first_s = first_s
        self._longest_s = longest_s
        self._jitter = jitter
        self._failures = 0
        self._pause_s = 0.0  # of the last opening; 0: closed
        self._until = 0.0
        self._probing = False

    @property
    def is_open(self) -> bool:
        """Whether the last word was a failure that opened it."""
        return self._pause_s > 0

    def wait_s(self) -> float:
        """How long until something may be tried; 0: now."""
        return max(0.0, self._until - self._now()) if self.is_open else 0.0

    def allow(self) -> bool:
        """Whether something may be tried now. While it is half open, the one that is told so is the probe."""
        if not self.is_open:
            return True
        if self._probing or self.wait_s() > 0:
            return False
        self._probing = True
        return True

    def succeeded(self) -> None:
        """An answer came that is no failure of the provider."""
        self._failures = 0
        self._pause_s = 0.0
        self._probing = False

    def failed(self, retry_after_s: float = 0.0) -> None:
        """The provider failed; it may have said when to come back. Failures while it is open already tell nothing
        new.
        """
        self._failures += 1
        was_probe, self._probing = self._probing, False
        if self.is_open and not was_probe:
            return
        if self.is_open or self._failures >= THRESHOLD or retry_after_s:
            longer = self._pause_s * 2 if self.is_open else self._first_s
            self._pause_s = min(longer, self._longest_s)
            pause = max(self._pause_s * (0.5 + self._jitter() / 2), retry_after_s)
            self._until = self._now() + pause

    def abandoned(self) -> None:
        """What was allowed was not tried after all."""
        self._probing = False
