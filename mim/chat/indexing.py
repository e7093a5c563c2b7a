"""Keeps the search index near the newest message without getting in the way of messages.

A chat is due when a message completes a block of 64. The work is done one block at a time, and the indexer rests after
each for a multiple of the time it took, so that it never uses more than a small share of a core: what is
not indexed yet is still found, by reading it.
"""

import asyncio
from collections.abc import MutableSet
from typing import Final

import structlog
from prometheus_client import Counter

from mim.clock import Clock
from mim.store import search
from mim.store.db import UNAVAILABLE, Pool
from mim.tasks import TaskSet

log = structlog.get_logger("mim.indexing")

BLOCKS = Counter("mim_search_blocks_total", "Blocks of 64 messages added to the search index.")

POLL_S: Final = 0.5
REST: Final = 19  # seconds of rest for a second of work: 5 % of a core at most


class Indexer:
    """Indexes the chats that appear in `due`."""

    def __init__(self, pool: Pool, due: MutableSet[int], clock: Clock) -> None:
        self._pool = pool
        self._due = due
        self._clock = clock
        self._tasks = TaskSet()

    def start(self) -> None:
        """Begin to index."""
        self._tasks.spawn(self._run(), name="search indexer")

    async def close(self) -> None:
        """Stop; what is due is picked up when the chat's next block is full."""
        await self._tasks.close()

    async def _run(self) -> None:
        while True:
            pause = POLL_S
            if self._due:
                chat = self._due.pop()
                started = self._clock.monotonic()
                try:
                    left = await search.index_block(self._pool, chat)
                    if left is not None:
                        BLOCKS.inc()
                        if left >= search.BLOCK:
                            self._due.add(chat)
                except UNAVAILABLE as exc:
                    log.warning("storage is away", error=type(exc).__name__)
                    self._due.add(chat)
                    await asyncio.sleep(1)
                pause = REST * (self._clock.monotonic() - started)
            await asyncio.sleep(pause)
