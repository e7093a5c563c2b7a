"""Fresh cursors for clients that stay connected (proto/session.md#cursor).

A client that was online for a day would resume from the cursor of its morning and be told everything again. So
this node reads
the horizon now and then, and gives out one that is old enough for everything below it to have been delivered.
"""

import asyncio
from collections import deque
from typing import Final

import structlog

from mim.clock import Clock
from mim.store import sync
from mim.store.db import UNAVAILABLE, Pool
from mim.store.sync import Horizon
from mim.tasks import TaskSet

log = structlog.get_logger("mim.freshness")

EVERY_S: Final = 10.0
SAFE_AFTER_S: Final = 30.0  # a message is published within milliseconds of its commit; this is a thousand times that


class Freshness:
    """The horizons of the last minute."""

    def __init__(self, pool: Pool, clock: Clock) -> None:
        self._pool = pool
        self._clock = clock
        self._read: deque[tuple[float, Horizon]] = deque(maxlen=16)
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
        """The newest horizon below which everything has been delivered."""
        safe_until = self._clock.monotonic() - SAFE_AFTER_S
        found = None
        for read_at, horizon in self._read:
            if read_at > safe_until:
                break
            found = horizon
        return found

    async def _look(self) -> None:
        horizon = await sync.horizon(self._pool)
        if horizon.system != self.system:
            self._read.clear()
            self.system = horizon.system
        self._read.append((self._clock.monotonic(), horizon))

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(EVERY_S)
            try:
                await self._look()
            except UNAVAILABLE as exc:
                log.warning("storage is away", error=type(exc).__name__)
