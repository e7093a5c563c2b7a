"""The line between parent and worker: two real ends in one process."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from mim.tasks import TaskSet
from mim.workers.line import MAX_BYTES, Answers, Line, LineEndedError


@asynccontextmanager
async def two_ends(left: Answers, right: Answers) -> AsyncIterator[tuple[Line, Line]]:
    """Both ends of a line, running."""
    ends = socket.socketpair()
    lines = await Line.over(ends[0], left), await Line.over(ends[1], right)
    tasks = TaskSet()
    for line in lines:
        tasks.spawn(line.run(), name="line")
    try:
        yield lines
    finally:
        await tasks.close()


async def test_both_sides_ask_and_answers_find_their_questions() -> None:
    asked = asyncio.Event()

    async def slow() -> bytes:
        asked.set()
        await answered.wait()
        return b"slow"

    async def quick() -> bytes:
        return b"quick" * 100_000

    answered = asyncio.Event()
    async with two_ends({"name": quick}, {"slow": slow, "quick": quick}) as (parent, worker):
        async with asyncio.TaskGroup() as group:
            first = group.create_task(parent.ask("slow", 10))
            await asked.wait()
            assert await parent.ask("quick", 10) == b"quick" * 100_000
            assert not first.done()
            assert await worker.ask("name", 10) == b"quick" * 100_000
            answered.set()
        assert first.result() == b"slow"


async def test_who_does_not_answer_in_time_is_told_from_who_is_gone() -> None:
    async def never() -> bytes:
        return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]

    ours, theirs = socket.socketpair()
    line = await Line.over(ours, {})
    async with two_ends({}, {"question": never}) as (parent, _):
        with pytest.raises(TimeoutError):
            await parent.ask("question", 0.01)

    async with asyncio.TaskGroup() as group:
        running = group.create_task(line.run())
        question = group.create_task(_ended(line))
        await asyncio.sleep(0)
        assert not question.done()
        theirs.close()
    assert (running.result(), question.result()) == (None, True)
    with pytest.raises(LineEndedError):
        await line.ask("question", 10)


async def _ended(line: Line) -> bool:
    try:
        await line.ask("question", 10)
    except LineEndedError:
        return True
    return False


@pytest.mark.parametrize(
    "sent", [(MAX_BYTES + 1).to_bytes(4, "big"), b"\0\0\0\1\xc1", b"\0\0\0\2\x91\xc0"], ids=["large", "bad", "short"]
)
async def test_nonsense_ends_the_line(sent: bytes) -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        line = await Line.over(ours, {})
        theirs.sendall(sent)
        async with asyncio.timeout(10):
            await line.run()
