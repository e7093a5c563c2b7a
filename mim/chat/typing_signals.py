"""Who is typing: passed on at most once per 3 s, user and chat; never stored.

Whose chat it is must be asked of storage for each signal. So signals gather for a moment that nobody notices, and one
query serves all of them. A signal that could not be passed on soon is dropped: it would tell of the past.
"""

import asyncio
from collections import OrderedDict
from itertools import islice
from typing import Final

import structlog

from mim.bus.port import chat_topic
from mim.chat.publisher import Publisher, direct_topics
from mim.clock import Clock
from mim.model import Caller
from mim.store import chats
from mim.store.db import UNAVAILABLE, Pool
from mim.tasks import TaskSet

log = structlog.get_logger("mim.typing")

EVERY_S: Final = 3.0
REMEMBERED: Final = 50_000
GATHER_S: Final = 0.02  # less than anybody takes from a key to the message
MAX_WAITING: Final = 10_000
BATCH: Final = 1000


class TypingSignals:
    """Passes TYPING on to the others in a chat."""

    def __init__(self, pool: Pool, publisher: Publisher, clock: Clock) -> None:
        self._pool = pool
        self._publisher = publisher
        self._clock = clock
        self._passed: OrderedDict[tuple[int, int], float] = OrderedDict()  # (chat, user): when
        self._waiting: dict[tuple[int, int], float] = {}  # (chat, user): since when
        self._wake = asyncio.Event()
        self._tasks = TaskSet()

    def start(self) -> None:
        """Begin to pass on."""
        self._tasks.spawn(self._run(), name="typing signals")

    async def close(self) -> None:
        """Stop; what waits is dropped."""
        await self._tasks.close()

    def pass_on(self, caller: Caller, chat: int) -> None:
        """Tell the others soon, if the typist is in the chat. Must not block.

        What comes too early after the last one is dropped, and so is what more than MAX_WAITING wait before.
        """
        now = self._clock.monotonic()
        key = (chat, caller.user)
        if now - self._passed.get(key, -EVERY_S) < EVERY_S or len(self._waiting) >= MAX_WAITING:
            return
        self._passed[key] = now
        self._passed.move_to_end(key)
        if len(self._passed) > REMEMBERED:
            self._passed.popitem(last=False)
        self._waiting[key] = now
        self._wake.set()

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            await asyncio.sleep(GATHER_S)
            self._wake.clear()
            try:
                while self._waiting:
                    await self._tell()
            except UNAVAILABLE as exc:
                log.warning("typing signals dropped", error=type(exc).__name__, count=len(self._waiting))
                self._waiting.clear()

    async def _tell(self) -> None:
        batch = list(islice(self._waiting.items(), BATCH))
        for key, _ in batch:
            del self._waiting[key]
        scopes = await chats.typing_scopes(self._pool, [key for key, _ in batch])
        now = self._clock.monotonic()
        for (chat, user), since in batch:
            scope = scopes.get((chat, user))
            if scope is None or now - since > EVERY_S:
                continue
            low, high = scope
            topics = [chat_topic(chat)] if low is None or high is None else direct_topics(low, high)
            self._publisher.typing(chat, user, topics)
