"""Questions that come together are asked together.

Most of what a small query costs is that it is one: a round trip, a plan set up and taken down, and the driver's part
on the event loop. So a question waits for nothing, but while a query is under way the next ones gather, and one query
answers all of them. Whoever is alone is asked for alone and at once.

An answer is read after its question was asked, never before: whoever subscribes first and asks then misses nothing.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Generic, TypeAlias, TypeVar

from mim.store.db import UNAVAILABLE
from mim.tasks import TaskSet

PATIENCE_S: Final = 8.0  # of one query; below the driver's own

Question = TypeVar("Question")
Answer = TypeVar("Answer")

Asked: TypeAlias = tuple[Question, asyncio.Future[Answer]]


class Together(Generic[Question, Answer]):
    """Gathers questions for `query`, which gives the answers in the order of its questions.

    One query is under way at a time, for `most` questions or fewer. When storage is away, all of a query fail; any
    other failure may be one question's own, so they are asked one by one then.
    """

    def __init__(self, query: Callable[[list[Question]], Awaitable[Sequence[Answer]]], *, most: int) -> None:
        self._query = query
        self._most = most
        self._waiting: deque[Asked[Question, Answer]] = deque()
        self._is_working = False
        self._tasks = TaskSet()

    async def ask(self, question: Question) -> Answer:
        """The answer; raises what the query raised. The asker bounds how many ask at a time."""
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((question, answer))
        if not self._is_working:
            self._is_working = True
            self._tasks.spawn(self._work(), name="questions asked together")
        return await answer

    async def close(self) -> None:
        """Answer nobody any more."""
        await self._tasks.close()
        for _, answer in self._waiting:
            answer.cancel()
        self._waiting.clear()

    async def _work(self) -> None:
        try:
            while self._waiting:
                batch = [self._waiting.popleft() for _ in range(min(self._most, len(self._waiting)))]
                try:
                    await self._answer([asked for asked in batch if not asked[1].done()])  # who gave up needs none
                finally:
                    for _, answer in batch:
                        answer.cancel()  # does nothing to one that is there
        finally:
            self._is_working = False

    async def _answer(self, batch: list[Asked[Question, Answer]]) -> None:
        try:
            async with asyncio.timeout(PATIENCE_S):
                found = await self._query([question for question, _ in batch]) if batch else []
        except UNAVAILABLE as exc:
            _fail(batch, exc)
        except Exception as exc:  # noqa: BLE001 - it is raised where the question was asked
            if len(batch) == 1:
                _fail(batch, exc)
            else:
                for asked in batch:
                    await self._answer([asked])
        else:
            for (_, answer), value in zip(batch, found, strict=True):
                if not answer.done():
                    answer.set_result(value)


def _fail(batch: list[Asked[Question, Answer]], exc: Exception) -> None:
    for _, answer in batch:
        if not answer.done():
            answer.set_exception(exc)
