"""Doing something for many, a few at a time, and waiting for what sets no event."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final, TypeVar

from loadtest.load.client import LoadError

AT_ONCE: Final = 50

T = TypeVar("T")


async def few_at_a_time(work: Callable[[T], Awaitable[Any]], items: Iterable[T], at_once: int = AT_ONCE) -> list[Any]:
    """Do `work` on all items, `at_once` at a time; the answers in order. The first failure ends it."""
    queue = list(enumerate(items))
    answers: list[Any] = [None] * len(queue)
    waiting = iter(queue)

    async def worker() -> None:
        for place, item in waiting:
            answers[place] = await work(item)

    async with asyncio.TaskGroup() as group:
        for _ in range(min(at_once, len(queue))):
            group.create_task(worker())
    return answers


async def wait_until(condition: Callable[[], bool], within_s: float, what: str) -> None:
    """Look again and again until it is so; raises LoadError. What a client notes of each frame sets no event: that
    would cost more than the frame."""
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            raise LoadError(f"{what} did not happen within {within_s:.0f} s")
        await asyncio.sleep(0.01)


def first_of(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first exception in a group, however nested."""
    first = group.exceptions[0]
    return first_of(first) if isinstance(first, BaseExceptionGroup) else first
