"""Crews, each in a load process of its own.

    async with crews(TrafficCrew, place, processes) as all_crews:
        await all_crews.all(TrafficCrew.connect)

This process only looks at them and at the server's, once a second. That takes some milliseconds, which would be added
to the latency of a message if its clients were here.

A load process carries some 10,000 connections and fills one core. More of them spread over the cores that the server
leaves, and over each process's open files. It ends with this one, whatever ends that: its standard input, through which
it is told what to do, is then closed.
"""

import asyncio
import os
import pickle
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import count, pairwise
from typing import Any, Concatenate, Final, Generic, ParamSpec, Protocol, TypeVar

from loadtest.load.client import LoadError
from loadtest.load.crew import Crew, Place, Progress

END_S: Final = 10.0
HEAD: Final = 8  # bytes of a length before each pickled message

C = TypeVar("C", bound=Crew)
P = ParamSpec("P")
R = TypeVar("R")


class Member(Protocol):
    """A crew somewhere."""

    pid: int

    async def call(self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call a method of the crew."""

    async def end(self) -> None:
        """No more calls will come."""


class Crews(Generic[C]):
    """All crews of a run."""

    def __init__(self, members: list[Member]) -> None:
        self._members = members

    def __len__(self) -> int:
        return len(self._members)

    @property
    def pids(self) -> list[int]:
        """The load processes, this one included."""
        return sorted({os.getpid(), *(member.pid for member in self._members)})

    async def all(
        self, method: Callable[Concatenate[C, P], Awaitable[R]], *args: P.args, **kwargs: P.kwargs
    ) -> list[R]:
        """Call a method on every crew at once; the answers in the order of their users. The first failure ends it."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(member.call(method.__name__, args, kwargs)) for member in self._members]
        return [task.result() for task in tasks]

    async def progress(self) -> Progress:
        """How far they are together."""
        sums = Progress()
        for part in await self.all(Crew.snapshot):
            sums.add(part)
        return sums


class Here:
    """The crew in this process."""

    def __init__(self, crew: Crew) -> None:
        self._crew = crew
        self.pid = os.getpid()

    async def call(self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call it."""
        return await getattr(self._crew, method)(*args, **kwargs)

    async def end(self) -> None:
        """Nothing is left behind."""


class Elsewhere:
    """A crew in a process of its own, :mod:`loadtest.load.crew_process`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.pid = process.pid
        self._numbers = count(1)
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._reader = asyncio.get_running_loop().create_task(self._listen())

    async def call(self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Have it called there."""
        number = next(self._numbers)
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        assert self._process.stdin is not None
        write_message(self._process.stdin, (number, method, args, kwargs))
        return await answer

    async def end(self) -> None:
        """Close its input, and see that it ends."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            await asyncio.wait_for(self._process.wait(), END_S)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        await self._reader

    async def _listen(self) -> None:
        assert self._process.stdout is not None
        while (message := await read_message(self._process.stdout)) is not None:
            number, answer, failure = message
            waiting = self._waiting.pop(number)
            if waiting.done():
                continue
            if failure is None:
                waiting.set_result(answer)
            else:
                waiting.set_exception(LoadError(failure))
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(LoadError(f"load process {self.pid} ended"))


async def load_process() -> asyncio.subprocess.Process:
    """A process that waits to be told what crew to make."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "loadtest.load.crew_process",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )


def write_message(stream: asyncio.StreamWriter, message: Any) -> None:
    """Between a parent and the child that it started itself, which is why pickle may be trusted."""
    data = pickle.dumps(message)
    stream.write(len(data).to_bytes(HEAD, "big") + data)


async def read_message(stream: asyncio.StreamReader) -> Any | None:
    """The next one; None at the end."""
    try:
        size = int.from_bytes(await stream.readexactly(HEAD), "big")
        return pickle.loads(await stream.readexactly(size))  # noqa: S301 - see `write_message`
    except asyncio.IncompleteReadError:
        return None


@asynccontextmanager
async def crews(kind: type[C], place: Place, processes: int) -> AsyncIterator[Crews[C]]:
    """`processes` crews that share the users of `place`; with 0 one crew, in this process, for tests and profilers."""
    members: list[Member] = []
    try:
        if processes == 0:
            members.append(Here(kind(place)))
        else:
            for part in (replace(place, numbers=numbers) for numbers in shares(place.numbers, processes)):
                members.append(Elsewhere(await load_process()))
                await members[-1].call("", (kind, part), {})  # it makes its crew
        yield Crews(members)
    finally:
        for member in members:
            await member.end()


def shares(numbers: range, parts: int) -> list[range]:
    """Cut a range into `parts` of nearly the same size, two partners never apart."""
    pairs = (len(numbers) + 1) // 2
    cuts = [numbers.start + min(2 * (pairs * part // parts), len(numbers)) for part in range(parts + 1)]
    return [range(first, last) for first, last in pairwise(cuts) if first < last]
