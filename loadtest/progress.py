"""A look at a run once a second: a line for whoever waits, and a point for the report's plots."""

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

from loadtest import proc
from loadtest.load.crew import Progress
from loadtest.load.crews import Crews
from loadtest.meter import Meter
from loadtest.reports.latency import Latencies
from loadtest.reports.report import Point, Report
from loadtest.server import Target

EVERY_S: Final = 1.0


class Round(Meter):
    """What happened between two looks: counts and latencies of the crews, beside what the server used."""

    def __init__(self, target: Target, pids: Sequence[int]) -> None:
        super().__init__(target, pids)
        self.sent = self.acked = self.heard = 0
        self.ack_times = Latencies()
        self.delivery_times = Latencies()

    def add(self, progress: Progress) -> None:
        """Take in the latencies of a second."""
        self.ack_times.add(progress.ack_times)
        self.delivery_times.add(progress.delivery_times)


class Watch:
    """Looks while something runs. `doing` is what the line begins with. What happens within :meth:`round` is kept for
    the report; before and after (connecting, warming up, settling) it is only told."""

    def __init__(self, target: Target, report: Report, tell: Callable[[str], None]) -> None:
        self.doing = "starting"
        self._target = target
        self._report = report
        self._tell = tell
        self._crews: Crews[Any] | None = None
        self._round: Round | None = None
        self._first_at: float | None = None  # when the first round began
        self._last = Progress()
        self._last_at = 0.0
        self._cpu: dict[str, float] = {}
        self._lock = asyncio.Lock()

    def follow(self, crews: Crews[Any] | None) -> None:
        """These are the crews to look at."""
        self._crews = crews
        self._last = Progress()

    @asynccontextmanager
    async def round(self) -> AsyncIterator[Round]:
        """Measure what happens within; the figures are there afterwards."""
        assert self._crews is not None
        measured = Round(self._target, self._crews.pids)
        await self._look()
        before, self._round = self._last, measured
        self._first_at = self._last_at if self._first_at is None else self._first_at
        async with measured:
            yield measured
            await self._look()  # before the meter's own look, as at the beginning
        self._round = None
        measured.sent = self._last.sent - before.sent
        measured.acked = self._last.acked - before.acked
        measured.heard = self._last.heard - before.heard
        for name, times in (("send to ACK", measured.ack_times), ("send to delivery", measured.delivery_times)):
            if times.count:
                self._report.latencies.setdefault(name, Latencies()).add(times)

    async def runs(self) -> None:
        """Look until cancelled."""
        while True:
            await asyncio.sleep(EVERY_S)
            await self._look()

    async def _look(self) -> None:
        async with self._lock:
            if self._crews is None:
                self._tell(self.doing)
                return
            progress, now = await self._crews.progress(), time.perf_counter()
            cpu = (await self._target.usage())._asdict() | {"load": sum(map(proc.cpu_s, self._crews.pids))}
            point = _point(self._last, progress, now - self._last_at, self._cpu, cpu)
            took = now - self._last_at
            self._last, self._last_at, self._cpu = progress, now, cpu
            if self._round is not None and self._first_at is not None:
                self._round.add(progress)
                if took > EVERY_S / 2:  # over less time, CPU in ticks of 10 ms would be noise
                    memory = (await self._target.memory())._asdict()
                    self._report.series.append(point._replace(t_s=now - self._first_at, memory=memory))
        if took > EVERY_S / 2:
            self._tell(_line(self.doing, point))


def _point(last: Progress, now: Progress, took_s: float, cpu_before: dict[str, float], cpu: dict[str, float]) -> Point:
    times = now.delivery_times if now.delivery_times.count else now.ack_times
    return Point(
        t_s=0.0,
        connected=now.connected,
        sent=max(0, now.sent - last.sent) / took_s,  # less than before when other clients have taken over
        acked=max(0, now.acked - last.acked) / took_s,
        delivered=max(0, now.heard - last.heard) / took_s,
        errors=now.errors,
        p50_ms=times.percentile(0.5),
        p99_ms=times.percentile(0.99),
        cpu={part: (used - cpu_before.get(part, used)) / took_s for part, used in cpu.items()},
        memory={},
    )


def _line(doing: str, point: Point) -> str:
    return (
        f"{doing}: {point.connected:,} connected, {point.sent:,.0f} sent/s, {point.acked:,.0f} acknowledged/s, "
        f"{point.delivered:,.0f} delivered/s, p50 {point.p50_ms:.1f} ms, p99 {point.p99_ms:.1f} ms, "
        f"{point.errors} errors"
    )


@asynccontextmanager
async def watching(target: Target, report: Report) -> AsyncIterator[Watch]:
    """A watch that looks while the block runs, and tells on standard error."""
    teller = Teller()
    watch = Watch(target, report, teller.tell)
    task = asyncio.get_running_loop().create_task(watch.runs())
    try:
        yield watch
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        teller.done()


class Teller:
    """On a terminal one line that changes; elsewhere a line now and then, so that a log stays short."""

    SELDOM_S: Final = 10.0

    def __init__(self) -> None:
        self._is_terminal = sys.stderr.isatty()
        self._told_at = 0.0
        self._width = 0

    def tell(self, line: str) -> None:
        """Show it."""
        if self._is_terminal:
            line = line[: os.get_terminal_size(sys.stderr.fileno()).columns - 1]
            print(f"\r{line:{self._width}}", end="", file=sys.stderr, flush=True)  # noqa: T201
            self._width = len(line)
        elif time.monotonic() - self._told_at >= self.SELDOM_S:
            self._told_at = time.monotonic()
            print(line, file=sys.stderr, flush=True)  # noqa: T201

    def done(self) -> None:
        """Leave the terminal to others."""
        if self._is_terminal and self._width:
            print(f"\r{'':{self._width}}\r", end="", file=sys.stderr, flush=True)  # noqa: T201
