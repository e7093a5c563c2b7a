"""Who is let in: which app versions, and how many at a time.

When everybody comes back at once, sessions are opened a few at a time, as many as storage answers side by side; the
others wait their turn. Whoever would wait too long is turned away at the door with a time to come back, spread over the
time that those before him will take. So the work that is begun is finished, and nobody does it twice.
"""

import asyncio
import re
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from prometheus_client import Counter

from mim.clock import Clock
from mim.config import Settings
from mim.errors import Code, PeerError
from mim.wire.frames import HelloOptions

TURNED_AWAY = Counter("mim_turned_away_total", "Upgrades refused because too many sessions wait to be opened.")

WEIGHT: Final = 0.05  # of the newest opening in the mean


class Turns:
    """Sessions are opened `at_once` at a time; nobody shall wait longer than `patience_s`."""

    def __init__(self, clock: Clock, *, at_once: int, patience_s: float) -> None:
        self._clock = clock
        self._at_once = at_once
        self._patience_s = patience_s
        self._free = asyncio.Semaphore(at_once)
        self._mean_s = 0.01
        self.waiting = 0

    @property
    def wait_s(self) -> float:
        """How long the next one would wait."""
        return self.waiting * self._mean_s / self._at_once

    def check(self) -> None:
        """PeerError `unavailable` with a time to come back when the next one would wait too long."""
        if self.wait_s > self._patience_s:
            TURNED_AWAY.inc()
            spread_ms = secrets.randbelow(int(self.wait_s * 1000))
            wait_ms = int(self._patience_s * 1000) + spread_ms
            raise PeerError(Code.UNAVAILABLE, "too many come at once; connect again after retry_after", wait_ms)

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for one's turn and hold it for the block."""
        self.waiting += 1
        try:
            await self._free.acquire()
        finally:
            self.waiting -= 1
        began = self._clock.monotonic()
        try:
            yield
        finally:
            self._free.release()
            self._mean_s += WEIGHT * (self._clock.monotonic() - began - self._mean_s)


def check_app_version(settings: Settings, options: HelloOptions) -> None:
    """PeerError `update_required` with the store link, when the app says it is older than the minimum for its os."""
    if settings.min_app_version is None or options.app is None:
        return
    minimum = minimum_for(settings.min_app_version, options.os or "")
    if minimum is not None and version_of(options.app) < version_of(minimum):
        raise PeerError(Code.UPDATE_REQUIRED, settings.store_link or f"version {minimum} or newer is needed")


def minimum_for(rule: str, os: str) -> str | None:
    """The minimum of an operating system in "1.4.0" (for all) or "ios=1.4.0,android=1.3.2"."""
    if "=" not in rule:
        return rule
    minimums = dict(part.strip().split("=", 1) for part in rule.split(",") if "=" in part)
    return minimums.get(os)


def version_of(text: str) -> tuple[int, ...]:
    """The numbers of a version, compared from the left; what follows them ("-beta") does not count."""
    numbers = [int(number) for number in re.findall(r"\d{1,9}", re.split(r"[-+ ]", text, maxsplit=1)[0])]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)
