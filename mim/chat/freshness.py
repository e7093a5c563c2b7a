"""Fresh cursors for clients that stay connected (proto/session.md#cursor), and points to catch up from.

A client that was online for a day would resume from the cursor of its morning and be told everything again. So this
node reads the horizon now and then: what is below it was committed, and the bus had it. Once the bus has proved that
everything up to that moment was delivered here as well, it may be given out.
"""

import asyncio
from typing import Final

import structlog

from mim.bus.port import Bus
from mim.clock import Clock
from mim.store import sync
from mim.store.db import UNAVAILABLE, Pool
from mim.store.sync import Horizon as Horizon
from mim.tasks import TaskSet

log = structlog.get_logger("mim.freshness")

EVERY_S: Final = 10.0
SAFE_AFTER_S: Final = 30.0  # for what dispatch_log does not hold: settings and notes are published within milliseconds
KEPT: Final = 16


class Freshness:
    """The horizons of the last minutes, and one from before the bus went away."""

    def __init__(self, pool: Pool, bus: Bus, clock: Clock) -> None:
        self._pool = pool
        self._bus = bus
        self._clock = clock
        self._read: list[tuple[float, Horizon]] = []  # by the monotonic second
        self._tasks = TaskSet()
        self.system = 0  # identity of the database

    async def start(self) -> None:
        """Read the first horizon, then one every few seconds."""
        await self._look()
        self._tasks.spawn(self._run(), name="fresh cursors")

    async def close(self) -> None:
        """Stop."""
        await self._tasks.close()

    def safe(self) -> Horizon | None:
        """The newest horizon below which everything has been delivered here."""
        return self.before(min(self._clock.monotonic() - SAFE_AFTER_S, self._bus.whole_until()))

    def before(self, at: float) -> Horizon | None:
        """The newest horizon that was read up to monotonic second `at`."""
        found = None
        for read_at, horizon in self._read:
            if read_at > at:
                break
            found = horizon
        return found

    async def _look(self) -> None:
        horizon = await sync.horizon(self._pool)
        if horizon.system != self.system:
            self._read.clear()
            self.system = horizon.system
        self._read.append((self._clock.monotonic(), horizon))
        if len(self._read) > KEPT:
            # The oldest goes, unless the bus has been away since: then it is what everybody catches up from.
            del self._read[0 if self._read[1][0] <= self._bus.whole_until() else 1]

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(EVERY_S)
            try:
                await self._look()
            except UNAVAILABLE as exc:
                log.warning("storage is away", error=type(exc).__name__)
