"""The four series: each grows one thing and keeps the rest, on private servers of one core."""

import asyncio
import statistics
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from loadtest.load.client import LoadError
from loadtest.load.crews import Crews
from loadtest.meter import OTHERS
from loadtest.progress import Round, watching
from loadtest.reports.report import Report
from loadtest.running import Run
from loadtest.scale.rovers import Rover, RoverCrew, WrongCount, fill, make_chats, stored
from loadtest.server import PrivateServer, private

PATIENCE_S: Final = 1800.0
HEARD_S: Final = 30.0
WARM_UP_S: Final = 1.5
ON_THE_WAY: Final = 1000  # unanswered messages of all together, where connections are not what grows
USERS: Final = 1000
CONNECTIONS: Final = (100, 300, 1000, 3000, 10_000)
CHATS: Final = (10, 100, 1000, 10_000, 100_000)
STORED: Final = (1000, 10_000, 100_000, 1_000_000, 10_000_000)
NODES: Final = (1, 2, 3)
CROWD: Final = 2000  # connections of the series of nodes


class Point(NamedTuple):
    """What was measured at one size: medians of the rounds."""

    size: int
    messages_s: float
    cpu_us: float
    server_us: float
    postgres_us: float
    redis_us: float
    stored: int  # messages at the end
    others: float  # share of a core that others used meanwhile, at most


@dataclass
class Series:
    """One thing that grows."""

    name: str  # for a file
    grows: str  # for an axis
    points: list[Point] = field(default_factory=list)
    left_out: list[int] = field(default_factory=list)


@dataclass
class Effort:
    """How long is measured, and when to stop."""

    rounds: int
    duration_s: float
    ends: float  # of time.monotonic()

    def is_over(self) -> bool:
        """No time for another point."""
        return time.monotonic() > self.ends


async def measure_all(core: int, effort: Effort, most: int, only: Sequence[str]) -> list[Series]:
    """The series with these names, or all; sizes above `most` stored messages, and those for which no time is left, are
    left out."""
    return [await measure(core, effort, most) for name, measure in SERIES.items() if name in only or not only]


async def _nodes(core: int, effort: Effort, _most: int) -> Series:
    series = Series("nodes", "nodes on one core, partners on different ones")
    for nodes in NODES:
        if _skipped(series, nodes, effort):
            continue
        async with private(core, nodes) as server:
            series.points.append(await point_at(server, series, nodes, effort, CROWD, CROWD // 2, 1))
    return series


async def _connections(core: int, effort: Effort, _most: int) -> Series:
    series = Series("connections", "connections, each with one message on the way")
    async with private(core) as server:
        for users in CONNECTIONS:
            if not _skipped(series, users, effort):
                series.points.append(await point_at(server, series, users, effort, users, users // 2, 1))
    return series


async def _chats(core: int, effort: Effort, _most: int) -> Series:
    series = Series("chats", f"chats of {USERS:,} connections")
    for chats in CHATS:
        if _skipped(series, chats, effort):
            continue
        async with private(core) as server:  # each with tables of its own
            window = ON_THE_WAY // min(USERS, 2 * chats)
            series.points.append(await point_at(server, series, chats, effort, USERS, chats, window))
    return series


async def _stored(core: int, effort: Effort, most: int) -> Series:
    series = Series("stored", "messages stored before")
    for size in STORED:
        if size > most or _skipped(series, size, effort):
            series.left_out += [size] * (size not in series.left_out)
            continue
        async with private(core) as server:
            series.points.append(await point_at(server, series, size, effort, USERS, USERS, 1, fill_to=size))
    return series


SERIES: Final[dict[str, Callable[[int, Effort, int], Awaitable[Series]]]] = {
    "nodes": _nodes,
    "stored": _stored,
    "chats": _chats,
    "connections": _connections,
}


def _skipped(series: Series, size: int, effort: Effort) -> bool:
    if not effort.is_over():
        return False
    series.left_out.append(size)
    return True


async def point_at(
    server: PrivateServer, series: Series, size: int, effort: Effort, users: int, chats: int, window: int,
    fill_to: int = 0,
) -> Point:  # fmt: skip
    """Traffic of `users` in `chats`, and what it costs; then everything is counted."""
    began = time.monotonic()
    async with _watched(server) as run, run.crews(RoverCrew, users) as crews:
        run.watch.doing = f"{series.name} {size:,}: connecting"
        ids = [user for part in await crews.all(RoverCrew.connect) for user in part]
        run.watch.doing = f"{series.name} {size:,}: filling tables"
        by_user = await make_chats(server.database_url, ids, chats)
        if fill_to:
            await fill(server.database_url, fill_to)
        before = await stored(server.database_url)
        run.watch.doing = f"{series.name} {size:,}: measuring"
        await crews.all(RoverCrew.run, by_user, window)
        await asyncio.sleep(WARM_UP_S)
        rounds = []
        for _ in range(effort.rounds):
            async with run.watch.round() as measured:
                await asyncio.sleep(effort.duration_s)
            rounds.append(measured)
        await crews.all(RoverCrew.stop)
        acked = sum(await crews.all(RoverCrew.acked))
        heard = await _all_heard(crews, acked)
        after = await stored(server.database_url)
        await crews.all(RoverCrew.close)
    if not acked == heard == after - before:
        raise WrongCount(f"{series.name} {size:,}: {acked} acknowledged, {heard} heard, {after - before} stored")
    point = _median(size, rounds, after)
    tell(
        f"{series.name} {size:,}: {point.messages_s:,.0f} messages/s, {point.cpu_us:.1f} µs each, "
        f"{acked:,} acknowledged, heard and stored ({time.monotonic() - began:.0f} s)"
    )
    return point


async def _all_heard(crews: Crews[RoverCrew], acked: int) -> int:
    """Messages that were heard, once all are that were acknowledged, or it took too long: what another node stored
    comes by the bus, and so after its ACK."""
    deadline = time.monotonic() + HEARD_S
    while (heard := sum(await crews.all(RoverCrew.heard))) < acked and time.monotonic() < deadline:  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    return heard


@asynccontextmanager
async def _watched(server: PrivateServer) -> AsyncIterator[Run]:
    report = Report("scale", {})
    async with watching(server, report) as watch, asyncio.timeout(PATIENCE_S) as bound:
        yield Run(server, report, watch, bound, client=Rover)


def _median(size: int, rounds: Sequence[Round], stored_after: int) -> Point:
    def middle(part: str) -> float:
        return float(statistics.median(getattr(found.used, part) / found.acked * 1e6 for found in rounds))

    if not all(found.acked for found in rounds):
        raise LoadError(f"at {size:,} nothing was acknowledged in a whole round")
    return Point(
        size, statistics.median(found.acked / found.took_s for found in rounds), middle("total"), middle("server"),
        middle("postgres"), middle("redis"), stored_after, max(found.surroundings()[OTHERS] for found in rounds),
    )  # fmt: skip


def tell(line: str) -> None:
    """For whoever waits."""
    print(line, file=sys.stderr, flush=True)  # noqa: T201
