"""What is under way, done and abandoned; whose rows are lost."""

from collections.abc import AsyncIterator

import asyncpg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mim.store import dispatch
from mim.store.db import Connection
from mim.store.dispatch import Dispatch, Dispatches


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[Connection]:
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


def test_it_is_done_when_the_last_lets_go() -> None:
    dispatches = Dispatches(7)
    one = dispatches.begin()
    one.hold()
    one.release()
    assert dispatches.living() == (1, [1])
    assert dispatches.take_done() == []
    one.release()
    assert dispatches.take_done() == [1]
    assert dispatches.living() == (1, [1])  # its row is about to go, and is not abandoned meanwhile
    dispatches.forgotten([1], ok=False)
    assert dispatches.take_done() == [1]
    dispatches.forgotten([1], ok=True)
    assert dispatches.living() == (1, [])


def test_one_failure_leaves_it_to_recovery() -> None:
    dispatches = Dispatches(7)
    one = dispatches.begin()
    one.hold()
    one.release(ok=False)
    one.release()
    assert (dispatches.take_done(), dispatches.living()) == ([], (1, []))


def test_an_attempt_settles_those_before_it() -> None:
    dispatches = Dispatches(7)
    first = dispatches.begin()
    second = dispatches.begin(first)
    third = dispatches.begin(second)
    third.release()
    assert sorted(dispatches.take_done()) == [1, 2, 3]


@given(
    st.lists(st.tuples(st.sampled_from(["begin", "retry", "hold", "ok", "fail", "take", "kept"]), st.integers(0, 5)))
)
def test_every_number_is_living_until_it_failed_or_was_forgotten(steps: list[tuple[str, int]]) -> None:
    dispatches = Dispatches(7)
    holds: dict[Dispatch, int] = {}
    failed: set[int] = set()
    gone: set[int] = set()
    for step, which in steps:
        open_ones = [one for one, count in holds.items() if count]
        if step == "begin" or not open_ones:
            holds[dispatches.begin()] = 1
            continue
        one = open_ones[which % len(open_ones)]
        if step == "retry" and not failed & set(one.numbers):
            holds[dispatches.begin(one)] = 1
            holds[one] = 0  # the newer attempt speaks for it
        elif step == "hold":
            one.hold()
            holds[one] += 1
        elif step in ("ok", "fail", "retry"):
            one.release(ok=step == "ok")
            holds[one] -= 1
            failed |= set() if step == "ok" else set(one.numbers)
        else:
            taken = dispatches.take_done()
            dispatches.forgotten(taken, ok=step == "take")
            gone |= set(taken) if step == "take" else set()
        newest, living = dispatches.living()
        under_way = {number for one, count in holds.items() if count for number in one.numbers}
        ended = set(range(1, newest + 1)) - under_way
        assert set(living) == under_way | (ended - failed - gone)
        assert len(living) == len(set(living))


async def test_rows_of_the_dead_the_stale_and_the_abandoned_are_lost(connection: Connection, database_url: str) -> None:
    me, living, dead, slow = Dispatches(1), 2, 3, 4
    neighbour = await asyncpg.connect(database_url)
    for node in (living, slow):
        await dispatch.occupy(neighbour, node, serving=True)
    await dispatch.occupy(connection, me.node, serving=True)
    under_way, abandoned = me.begin(), me.begin()
    abandoned.release(ok=False)
    for node, number, chat in ((1, 1, 11), (1, 2, 12), (1, 3, 13), (living, 1, 21), (dead, 1, 31), (dead, 2, 32)):
        await dispatch.write(connection, node, number, chat)
    await dispatch.write(connection, slow, 1, 41)
    await connection.execute("update dispatch_log set at = at - 60 where node = 4")
    await dispatch.write(connection, slow, 2, 42)
    found = {lost.node: (lost.numbers, lost.chats) for lost in await dispatch.lost(connection, me)}
    # Number 3 of this node began after its list of the living was made.
    assert found == {1: ([2], [12]), dead: ([1, 2], [31, 32]), slow: ([1], [41])}
    assert await dispatch.others_serve(connection)
    await neighbour.close()
    await dispatch.forget(connection, dead, [1, 2])
    found = {lost.node: (lost.numbers, lost.chats) for lost in await dispatch.lost(connection, me)}
    assert found == {1: ([2], [12]), living: ([1], [21]), slow: ([1, 2], [41, 42])}
    await dispatch.serve_no_more(connection, me.node)
    assert not await dispatch.others_serve(connection)
    under_way.release()
