"""The mobile mix for long, with faults now and then: what grows, leaks or drifts shows only with time.

The run has four quarters. In the second and the third one fault follows another: a tenth of the connected phones lose
their network, a node is killed and started again, Redis is put out and comes back empty. The first and the last quarter
are quiet, and are compared. Every message must have arrived all the same.

Faults of the installation need one that this load test started itself; elsewhere only phones fail.
"""

import asyncio
import secrets
import time
from collections.abc import Sequence
from typing import Annotated, Final, NamedTuple

import typer

from loadtest.load.crews import Crews
from loadtest.options import Chats, Users
from loadtest.phones.crew import check, done, refused
from loadtest.phones.people import PeopleCrew, begin, lateness, per_second, settle_in
from loadtest.progress import Round
from loadtest.reports.latency import Latencies
from loadtest.reports.report import Report
from loadtest.running import Run, scenario
from loadtest.scenarios.mobile import LATE, Seed, figures_of
from loadtest.server import Memory, PrivateServer, Target

QUARTERS: Final = 4
FAULTS: Final = 8  # in the two quarters in the middle, or fewer in a short run
SPARE_S: Final = 600.0
FAULT_S: Final = 20.0  # for each: a node has to come back, and everybody to it
TENTH: Final = 0.1
AWAY_S: Final = 2.0  # how long a killed node stays away
MIB: Final = 1024  # in KiB

# What is allowed from the first quarter to the last. Time and CPU move by themselves on a machine that others use.
MEMORY_MIB: Final = 16.0
MEMORY_SHARE: Final = 0.15
POSTGRES_MIB: Final = 256.0  # its buffers fill up as tables grow: 128 MiB, and what each backend has cached
FILES: Final = 16  # descriptors: pools may grow to their size
DRIFT: Final = 2.0
MANY: Final = 1000  # deliveries of a quarter; of fewer nothing is said
CLOSING_S: Final = 1.0
CLOSED_S: Final = 10.0  # until the server has closed what its clients closed


class Growth(NamedTuple):
    """Something that must not grow, in the words of the report."""

    what: str
    before: float
    after: float
    most: float
    unit: str

    @property
    def is_fine(self) -> bool:
        """Whether it stayed within its bound."""
        return self.after <= self.most

    def __str__(self) -> str:
        return f"{self.what}: {self.before:,.1f}, then {self.after:,.1f}, at most {self.most:,.1f} {self.unit}"


def faults_of(nodes: int, duration_s: float, *, private: bool) -> list[str]:
    """What happens, one after the other: `phones`, `node N`, `redis`."""
    kinds = ["phones"]
    if private:
        kinds = [f"node {number}" for number in range(nodes)] + (["redis"] if nodes > 1 else []) + kinds
    count = max(2, min(FAULTS, int(duration_s / 2 / FAULT_S)))
    return [kinds[number % len(kinds)] for number in range(count)]


@scenario
async def soak(
    run: Run, users: Users = 1000, chats: Chats = 50,
    duration: Annotated[float, typer.Option(min=1.0, help="Seconds of the whole run.")] = 3600.0,
    compress: Annotated[float, typer.Option(min=1.0, help="Seconds of people in each second.")] = 30.0,
    seed: Seed = None,
    faults: Annotated[bool, typer.Option(help="Break something now and then.")] = True,
) -> None:  # fmt: skip
    """The mobile mix for long, with faults: memory, descriptors, drift."""
    seed = secrets.randbelow(1 << 32) if seed is None else seed
    run.report.settings |= {"seed": seed}
    run.lasts(duration)
    nodes = len(run.target.addresses)
    coming = faults_of(nodes, duration, private=isinstance(run.target, PrivateServer)) if faults else []
    async with run.crews(PeopleCrew, users) as crews:
        await settle_in(run, crews, users, chats, seed)
        files = await _files(run.target)
        await begin(crews, users, seed, 2 * duration + SPARE_S, compress)  # longer than the run, whatever faults take
        quarters, memory = await _quarters(run, crews, duration / QUARTERS, coming)
        await crews.all(PeopleCrew.rest)
        await check(run, crews, in_order=nodes == 1 and not coming)
        await crews.all(PeopleCrew.sleep_all)
        growths = growths_of(quarters, memory, killed=any(fault.startswith("node") for fault in coming))
        growths.append(Growth("descriptors", files, await _files(run.target), files + FILES, ""))
        await crews.all(PeopleCrew.close)
    _tell(run.report, growths)
    if coming:
        run.report.notes.append("faults: " + ", ".join(coming))


async def _quarters(
    run: Run, crews: Crews[PeopleCrew], quarter_s: float, coming: Sequence[str]
) -> tuple[list[Round], list[Memory]]:
    """All four, with the faults in the middle. Memory before the first one and at the end of each."""
    rounds, memory = [], [await run.target.memory()]
    run.report.latencies[LATE] = late = Latencies()
    half = len(coming) // 2
    happens = [[], coming[:half], coming[half:], []]
    for number in range(QUARTERS):
        run.watch.doing = f"quarter {number + 1} of {QUARTERS}"
        before, said = await done(crews), await refused(crews)
        async with run.watch.round() as measured:
            await _quarter(run, crews, quarter_s, happens[number])
        rounds.append(measured)
        late.add(await lateness(crews))
        memory.append(await run.target.memory())
        figures = figures_of(measured) | per_second(await done(crews) - before, measured.took_s)
        figures["refusals and lost connections"] = (await refused(crews) - said).total()
        figures |= {f"memory of {part} MiB": kib / MIB for part, kib in memory[-1]._asdict().items() if kib}
        run.report.rounds.append(figures)
    return rounds, memory


async def _quarter(run: Run, crews: Crews[PeopleCrew], quarter_s: float, happens: Sequence[str]) -> None:
    """Faults evenly spread; longer than a quarter when they take longer."""
    began = time.perf_counter()
    for number, fault in enumerate(happens):
        await _until(began + quarter_s * (number + 0.5) / len(happens))
        run.watch.doing = f"fault: {fault}"
        await _break(run.target, crews, fault)
    await _until(began + quarter_s)


async def _until(when: float) -> None:
    await asyncio.sleep(max(0.0, when - time.perf_counter()))


async def _break(target: Target, crews: Crews[PeopleCrew], fault: str) -> None:
    if fault == "phones":
        await crews.all(PeopleCrew.lose, TENTH)
        return
    assert isinstance(target, PrivateServer)
    if fault == "redis":
        await target.restart_redis()
        return
    node = int(fault.removeprefix("node "))
    target.kill(node)
    await asyncio.sleep(AWAY_S)
    await target.start(node)


async def _files(target: Target) -> int:
    """Descriptors of the server when its clients are gone: it is given time to notice, until it closes no more."""
    deadline = time.monotonic() + CLOSED_S
    before, now = -1, await target.files()
    while now != before and time.monotonic() < deadline:
        await asyncio.sleep(CLOSING_S)
        before, now = now, await target.files()
    return now


def growths_of(quarters: Sequence[Round], memory: Sequence[Memory], *, killed: bool) -> list[Growth]:
    """What is compared. `memory` is that before the first quarter and at the end of each. A node that was `killed`
    begins with little memory, so its growth is that of the last quarter alone."""
    first, last = quarters[0], quarters[-1]
    early, late = memory[3 if killed else 1], memory[4]
    redis = Growth("memory of redis", memory[1].redis / MIB, late.redis / MIB, _room(memory[1].redis / MIB), "MiB")
    return [
        Growth("memory of server", early.server / MIB, late.server / MIB, _room(early.server / MIB), "MiB"),
        Growth(
            "memory of postgres", memory[1].postgres / MIB, late.postgres / MIB,
            memory[1].postgres / MIB + POSTGRES_MIB, "MiB",
        ),
        *([redis] if late.redis else []),
        *(_drifts(first, last) if min(first.delivery_times.count, last.delivery_times.count) >= MANY else []),
    ]  # fmt: skip


def _room(before_mib: float) -> float:
    return before_mib + max(MEMORY_MIB, MEMORY_SHARE * before_mib)


def _drifts(first: Round, last: Round) -> list[Growth]:
    return [
        _drift("CPU a message", _cpu_us(first), _cpu_us(last), "µs"),
        _drift("due to delivery, p50", _late_ms(first, 0.5), _late_ms(last, 0.5), "ms"),
        _drift("due to delivery, p99", _late_ms(first, 0.99), _late_ms(last, 0.99), "ms"),
    ]


def _drift(what: str, before: float, after: float, unit: str) -> Growth:
    return Growth(what, before, after, DRIFT * before, unit)


def _late_ms(measured: Round, share: float) -> float:
    return measured.delivery_times.percentile(share)


def _cpu_us(measured: Round) -> float:
    return measured.used.total / max(1, measured.acked) * 1e6


def _tell(report: Report, growths: Sequence[Growth]) -> None:
    for growth in growths:
        if growth.is_fine:
            report.checked.append(str(growth))
        else:
            report.violations.append(f"it must not grow: {growth}")
