"""Questions that come together share a query, in order, within bounds; a failure is told to those it concerns."""

import asyncio

import pytest

from mim.store.together import Together
from mim.tasks import TaskSet


class Storage:
    """Doubles numbers; a query waits for its turn when `gate` is closed."""

    def __init__(self) -> None:
        self.queries: list[list[int]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.under_way = self.most_under_way = 0

    async def query(self, numbers: list[int]) -> list[int]:
        self.queries.append(numbers)
        self.under_way += 1
        self.most_under_way = max(self.under_way, self.most_under_way)
        try:
            await self.gate.wait()
        finally:
            self.under_way -= 1
        if 13 in numbers:
            raise ValueError("13")
        if 99 in numbers:
            raise ConnectionError("away")
        return [2 * number for number in numbers]


async def test_who_is_alone_is_asked_for_alone() -> None:
    storage = Storage()
    together = Together(storage.query, most=4)
    assert [await together.ask(number) for number in range(3)] == [0, 2, 4]
    assert storage.queries == [[0], [1], [2]]


async def test_those_who_come_while_others_are_asked_for_share_a_query() -> None:
    storage = Storage()
    together = Together(storage.query, most=4)
    storage.gate.clear()
    async with asyncio.TaskGroup() as tasks:
        first = tasks.create_task(together.ask(100))
        while not storage.queries:  # noqa: ASYNC110 - the next turn of the loop
            await asyncio.sleep(0)
        asked = [tasks.create_task(together.ask(number)) for number in range(6)]
        await asyncio.sleep(0)
        assert storage.queries == [[100]]
        storage.gate.set()
    assert (first.result(), [task.result() for task in asked]) == (200, [0, 2, 4, 6, 8, 10])
    assert storage.queries == [[100], [0, 1, 2, 3], [4, 5]]
    assert storage.most_under_way == 1


async def test_one_that_cannot_be_answered_fails_alone() -> None:
    storage = Storage()
    together = Together(storage.query, most=8)
    found = await asyncio.gather(*map(together.ask, (1, 13, 2)), return_exceptions=True)
    assert (found[0], repr(found[1]), found[2]) == (2, "ValueError('13')", 4)


async def test_when_storage_is_away_it_is_not_asked_again_for_each() -> None:
    storage = Storage()
    together = Together(storage.query, most=8)
    found = await asyncio.gather(*map(together.ask, (1, 99, 2)), return_exceptions=True)
    assert list(map(repr, found)) == ["ConnectionError('away')"] * 3
    assert storage.queries == [[1, 99, 2]]
    assert await together.ask(1) == 2


async def test_who_gave_up_is_not_asked_for() -> None:
    storage, tasks = Storage(), TaskSet()
    together = Together(storage.query, most=8)
    storage.gate.clear()
    asking = [tasks.spawn(together.ask(number), name="asks") for number in range(4)]
    while not storage.queries:  # noqa: ASYNC110 - the next turn of the loop
        await asyncio.sleep(0)
    late = [tasks.spawn(together.ask(number), name="asks") for number in (10, 11)]
    await asyncio.sleep(0)
    asking[1].cancel()
    late[0].cancel()
    storage.gate.set()
    found = await asyncio.gather(*asking, *late, return_exceptions=True)
    assert [one for one in found if isinstance(one, int)] == [0, 4, 6, 22]
    assert storage.queries == [[0, 1, 2, 3], [11]]


async def test_closing_leaves_nobody_waiting() -> None:
    storage, tasks = Storage(), TaskSet()
    together = Together(storage.query, most=1)
    storage.gate.clear()
    asking = [tasks.spawn(together.ask(number), name="asks") for number in range(3)]
    while not storage.queries:  # noqa: ASYNC110 - the next turn of the loop
        await asyncio.sleep(0)
    await together.close()
    assert all(isinstance(one, asyncio.CancelledError) for one in await asyncio.gather(*asking, return_exceptions=True))


async def test_a_query_that_hangs_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mim.store.together.PATIENCE_S", 0.05)
    storage = Storage()
    together = Together(storage.query, most=8)
    storage.gate.clear()
    with pytest.raises(TimeoutError):
        await together.ask(1)
    storage.gate.set()
    assert await together.ask(2) == 4
