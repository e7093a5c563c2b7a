"""Watermarks: READ frames are gathered, stored in batches and told as READBY (proto/messages.md#reading).

How soon others hear depends on how many there are: in chats up to 100 members at once after the batch, up to 3,000 once
a second together, in larger ones only the reader's own devices do.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

import structlog

from mim.bus.port import chat_topic, user_topic
from mim.chat.publisher import Publisher, reader_topics
from mim.clock import Clock
from mim.model import Caller
from mim.store import watermarks
from mim.store.db import UNAVAILABLE, Pool
from mim.store.watermarks import Moved
from mim.tasks import TaskSet

log = structlog.get_logger("mim.reading")

GATHER_S: Final = 0.04
SMALL_CHAT: Final = 100
LARGE_CHAT: Final = 3000
LARGE_EVERY_S: Final = 1.0
MAX_WAITING: Final = 100_000
BATCH: Final = 1000
CLOSE_S: Final = 2.0


class Reading:
    """Gathers, stores and tells watermarks."""

    def __init__(self, pool: Pool, publisher: Publisher, clock: Clock) -> None:
        self._pool = pool
        self._publisher = publisher
        self._clock = clock
        self._marks: dict[tuple[int, int], tuple[int, int]] = {}  # (chat, user): (seq, connection)
        self._large: dict[int, dict[int, int]] = {}  # chat: user: seq, told once a second
        self._large_told = 0.0
        self._wake = asyncio.Event()
        self._tasks = TaskSet()
        self._last = TaskSet()

    def __len__(self) -> int:
        """Watermarks that wait to be stored."""
        return len(self._marks)

    def start(self) -> None:
        """Begin to store."""
        self._tasks.spawn(self._run(), name="watermarks")

    async def close(self) -> None:
        """Store what was gathered, for at most CLOSE_S, then stop."""
        # A task of its own, not a timeout: the driver waits for a stalled database to confirm what is cancelled.
        last = self._last.spawn(self._finish(), name="last watermarks")
        await asyncio.wait({last}, timeout=CLOSE_S)
        last.cancel()
        if self._marks:
            log.warning("watermarks lost at shutdown", count=len(self._marks))
        self._tell_large()

    async def _finish(self) -> None:
        await self._tasks.close()
        with suppress(*UNAVAILABLE):
            while self._marks:
                await self._store()

    def mark(self, caller: Caller, chat: int, seq: int) -> bool:
        """Note that a user has read a chat up to `seq`. Must not block; False when too many wait."""
        key = (chat, caller.user)
        known = self._marks.get(key)
        if known is None and len(self._marks) >= MAX_WAITING:
            return False
        if known is None or known[0] < seq:
            self._marks[key] = (seq, caller.connection)
            self._wake.set()
        return True

    async def _run(self) -> None:
        while True:
            if self._large:
                await asyncio.sleep(GATHER_S)
            else:
                await self._wake.wait()
                await asyncio.sleep(GATHER_S)
            self._wake.clear()
            try:
                while self._marks:
                    await self._store()
            except UNAVAILABLE as exc:
                log.warning("watermarks wait for storage", error=type(exc).__name__, count=len(self._marks))
                self._wake.set()
                await asyncio.sleep(1)
            if self._large and self._clock.monotonic() - self._large_told >= LARGE_EVERY_S:
                self._tell_large()

    async def _store(self) -> None:
        batch = sorted(self._marks)[:BATCH]
        taken = {key: self._marks[key] for key in batch}
        moved = await watermarks.mark(self._pool, [(chat, user, taken[chat, user][0]) for chat, user in batch])
        for key, value in taken.items():
            if self._marks.get(key) == value:
                del self._marks[key]
        self._tell(moved, {key: connection for key, (_, connection) in taken.items()})

    def _tell(self, moved: Sequence[Moved], origins: dict[tuple[int, int], int]) -> None:
        small: dict[int, list[Moved]] = {}
        for mark in moved:
            if mark.members <= SMALL_CHAT:
                small.setdefault(mark.chat, []).append(mark)
            elif mark.members <= LARGE_CHAT:
                self._large.setdefault(mark.chat, {})[mark.user] = mark.seq
            else:
                origin = origins[mark.chat, mark.user]
                self._publisher.read_by(mark.chat, [user_topic(mark.user)], [mark.user, mark.seq], origin)
        for chat, marks in small.items():
            # One reader alone need not hear of himself; together with others it does no harm.
            origin = origins[chat, marks[0].user] if len(marks) == 1 else 0
            flat = [number for mark in marks for number in (mark.user, mark.seq)]
            self._publisher.read_by(chat, reader_topics(marks[0]), flat, origin)

    def _tell_large(self) -> None:
        self._large_told = self._clock.monotonic()
        for chat, marks in self._large.items():
            flat = [number for pair in marks.items() for number in pair]
            self._publisher.read_by(chat, [chat_topic(chat)], flat, origin=0)
        self._large.clear()
