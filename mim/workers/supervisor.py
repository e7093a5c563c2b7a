"""The parent's task: so many workers as were asked for, each of them well, until it is told to stop."""

import asyncio
import time
from collections.abc import Sequence
from typing import Final

import structlog

from mim.config import Settings
from mim.listening import Address
from mim.metrics import Families, decode_families, render_merged
from mim.tasks import TaskSet
from mim.workers.line import LineEndedError
from mim.workers.orders import Orders
from mim.workers.process import WorkerProcess

log = structlog.get_logger("mim.workers")

SCRAPE_S: Final = 1.0  # for one worker's figures
CLOSING_S: Final = 15.0  # beyond drain_s: last commits, the pool, the interpreter
SHORT_LIFE_S: Final = 10.0
PAUSES_S: Final = (0.0, 0.5, 1.0, 2.0, 4.0)  # before a start, by how many short lives went before


class Supervisor:
    """Starts the workers, replaces what ends or hangs, rolls and stops them."""

    def __init__(self, settings: Settings, database_url: str, addresses: Sequence[Address]) -> None:
        self._settings = settings
        self._database_url = database_url
        self._addresses = addresses
        self._workers: dict[int, WorkerProcess] = {}  # by index; what is being replaced has left it
        self._living: set[WorkerProcess] = set()
        self._locks = [asyncio.Lock() for _ in range(settings.workers)]  # of who replaces the worker with this index
        self._starts = [0] * settings.workers
        self._stop = asyncio.Event()
        self._tasks = TaskSet()
        self._rolling: asyncio.Task[None] | None = None

    async def start(self) -> bool:
        """Start all; whether all of them came up."""
        await asyncio.gather(*(self._launch(index) for index in range(self._settings.workers)))
        return all(await asyncio.gather(*(worker.becomes_ready() for worker in self._workers.values())))

    async def run(self) -> None:
        """Keep all of them well until `stop`."""
        for index in range(self._settings.workers):
            self._tasks.spawn(self._keep(index), name=f"worker {index}")
        await self._stop.wait()

    def stop(self) -> None:
        """Let `run` return, now or as soon as it is called."""
        self._stop.set()

    def roll(self) -> None:
        """Put a new worker into the place of each, one after the other, without closing the port."""
        if not self._stop.is_set() and (self._rolling is None or self._rolling.done()):
            self._rolling = self._tasks.spawn(self._roll(), name="rolling the workers")

    async def close(self) -> bool:
        """Drain all workers; whether all of them ended by themselves. Whatever happens, none is left."""
        await self._tasks.close()
        drained = await asyncio.gather(*(self._retire(worker) for worker in list(self._living)))
        return all(drained)

    async def scrape(self) -> bytes:
        """The figures of all workers, as text for Prometheus."""
        indexes = range(self._settings.workers)
        families = await asyncio.gather(*(self._figures(index) for index in indexes))
        answered = {str(index): found for index, found in zip(indexes, families, strict=True) if found is not None}
        starts = {str(index): float(self._starts[index]) for index in indexes}
        return render_merged(answered, starts)

    async def _figures(self, index: int) -> Families | None:
        worker = self._workers[index]
        try:
            return decode_families(await worker.ask("figures", SCRAPE_S)) if worker.is_ready else None
        except (TimeoutError, LineEndedError):
            return None

    async def _launch(self, index: int) -> WorkerProcess:
        self._starts[index] += 1
        orders = Orders(index, self._settings, self._database_url, self._addresses)
        worker = await WorkerProcess.launched(orders, {"scrape": self.scrape})
        self._workers[index] = worker
        self._living.add(worker)
        return worker

    async def _launch_somehow(self, index: int) -> None:
        """Launch as soon as the system allows another process."""
        while True:
            try:
                await self._launch(index)
            except OSError as exc:
                log.error("a worker cannot be started", worker=index, reason=exc.strerror)  # noqa: TRY400
                await asyncio.sleep(PAUSES_S[-1])
            else:
                return

    async def _keep(self, index: int) -> None:
        """Start the worker with this index again whenever it fails."""
        short_lives = 0
        while True:
            worker, since = self._workers[index], time.monotonic()
            why = await worker.fails(self._settings.worker_timeout_s)
            async with self._locks[index]:
                if self._workers[index] is not worker:  # retired by `_roll`, which saw to the next
                    continue
                short_lives = short_lives + 1 if time.monotonic() - since < SHORT_LIFE_S else 0
                log.warning("a worker is replaced", worker=index, pid=worker.pid, reason=why)
                await self._drop(worker)
                await asyncio.sleep(PAUSES_S[min(short_lives, len(PAUSES_S) - 1)])
                await self._launch_somehow(index)

    async def _roll(self) -> None:
        for index, lock in enumerate(self._locks):
            async with lock:
                old = self._workers[index]
                new = await self._launch(index)
                if not await new.becomes_ready():
                    log.error("a new worker does not start; the old ones stay", worker=index)
                    self._workers[index] = old
                    await self._drop(new)
                    return
                await self._retire(old)
        log.info("all workers are new")

    async def _retire(self, worker: WorkerProcess) -> bool:
        """Let it drain; whether it ended by itself."""
        worker.terminate()
        ended = await worker.ends(self._settings.drain_s + CLOSING_S)
        if not ended:
            log.error("a worker did not end and is killed", worker=worker.index, pid=worker.pid)
        await self._drop(worker)
        return ended

    async def _drop(self, worker: WorkerProcess) -> None:
        await worker.close()
        self._living.discard(worker)
