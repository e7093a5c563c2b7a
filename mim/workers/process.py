"""A worker as its parent sees it."""

import asyncio
import os
import socket
import sys
from asyncio.subprocess import DEVNULL, Process
from contextlib import suppress
from typing import Final, Self

from mim.tasks import TaskSet
from mim.workers.line import Answers, Line, LineEndedError
from mim.workers.orders import Orders

START_S: Final = 60.0  # until it is ready
PING_EVERY_S: Final = 1.0
PINGS: Final = 2  # in a row without an answer: after a pause of the whole machine, one alone proves nothing


class WorkerProcess:
    """One process, made by `launched`. When its line ends, it drains and ends by itself."""

    def __init__(self, index: int, process: Process) -> None:
        self.index = index
        self._process = process
        self._line: Line = None  # type: ignore[assignment]  # set by launched()
        self._is_ready = asyncio.Event()
        self._tasks = TaskSet()
        self._ended = self._tasks.spawn(process.wait(), name="end of a worker")

    @classmethod
    async def launched(cls, orders: Orders, answers: Answers) -> Self:
        """A new process, which is not ready yet. `answers` are what it may ask beside its orders."""

        async def tell() -> bytes:
            return orders.encode()

        ours, theirs = socket.socketpair()
        try:
            with theirs:
                worker = cls(orders.index, await _spawned(theirs.fileno()))
            worker._line = await Line.over(ours, {**answers, "orders": tell, "ready": worker._note_ready})
        except BaseException:
            ours.close()
            raise
        worker._tasks.spawn(worker._line.run(), name="line to a worker")
        return worker

    async def _note_ready(self) -> bytes:
        self._is_ready.set()
        return b""

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def is_ready(self) -> bool:
        """Whether it has said that it listens."""
        return self._is_ready.is_set()

    async def ask(self, what: str, timeout_s: float) -> bytes:
        """Ask it something. Raises TimeoutError and LineEndedError."""
        return await self._line.ask(what, timeout_s)

    async def becomes_ready(self) -> bool:
        """Wait until it listens; False if it ends before, or takes too long."""
        ready = self._tasks.spawn(self._is_ready.wait(), name="a worker gets ready")
        await asyncio.wait({ready, self._ended}, timeout=START_S, return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        return self.is_ready and not self._ended.done()

    async def fails(self, patience_s: float) -> str:
        """Wait until it is of no use any more, end it, and say why it is."""
        if not await self.becomes_ready() and not self._ended.done():
            self.kill()
            return f"it was not ready within {START_S:.0f} s"
        hung = self._tasks.spawn(self._hangs(patience_s), name="ping of a worker")
        await asyncio.wait({hung, self._ended}, return_when=asyncio.FIRST_COMPLETED)
        hung.cancel()
        if self._ended.done():
            return f"it ended with code {self._ended.result()}"
        self.kill()
        return f"it did not answer for {patience_s:g} s"

    async def _hangs(self, patience_s: float) -> None:
        missed = 0
        while missed < PINGS:
            try:
                await self._line.ask("ping", patience_s / PINGS)
            except TimeoutError:
                missed += 1
            except LineEndedError:
                missed = PINGS
            else:
                missed = 0
                await asyncio.sleep(PING_EVERY_S)

    async def ends(self, within_s: float) -> bool:
        """Wait for its end; whether it came in time."""
        await asyncio.wait({self._ended}, timeout=within_s)
        return self._ended.done()

    def terminate(self) -> None:
        """SIGTERM: drain, then end."""
        with suppress(ProcessLookupError):
            self._process.terminate()

    def kill(self) -> None:
        """SIGKILL."""
        with suppress(ProcessLookupError):
            self._process.kill()

    async def close(self) -> None:
        """Kill what still runs, and take leave."""
        self.kill()
        await self.ends(START_S)
        await self._tasks.close()


async def _spawned(line: int) -> Process:
    # `python -m` looks for modules in the working folder first: only where this program does so too.
    here = [] if {"", str(os.getcwd())} & set(sys.path) else ["-P"]  # noqa: PTH109
    return await asyncio.create_subprocess_exec(
        *(sys.executable, *here, "-m", "mim.workers.node", str(line)),
        pass_fds=[line],
        stdin=DEVNULL,
        start_new_session=True,  # Ctrl-C and the end of a terminal are the parent's affair
    )
