"""The model held against runs on this machine.

A machine has moods: the same work takes twice the CPU while somebody else uses its caches. So the unit costs are taken
anew from a few runs of this sitting, and before every run that is predicted from them a short one, always the same,
tells how the mood has changed. What is checked is how cost moves with the load, which is what a prediction rests on.
"""

import json as json_format
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

import httpx
import uvloop

from loadtest.capacity import page
from loadtest.capacity.model import GATHER_S, MOST_A_COMMIT, batch_of
from loadtest.capacity.units import Cost, Units
from loadtest.launch import allow_many_files
from loadtest.load.client import LoadError
from loadtest.load.many import first_of
from loadtest.reports.report import Report, machine, short
from loadtest.running import leave_core, measure, refuse
from loadtest.scenarios.chat import chat
from loadtest.scenarios.group import group
from loadtest.scenarios.idle import idle
from loadtest.scenarios.signals import signals
from loadtest.server import ServerError, Target, private

DURATION_S: Final = 3.0
ROUNDS: Final = 2
CPU: Final = "CPU µs/message"
SERVER: Final = "  of it server µs"
POSTGRES: Final = "  of it Postgres µs"
REDIS: Final = "  of it Redis µs"
READ_RATES: Final = (1000.0, 6000.0)
BURST: Final = 10  # unanswered messages of a sender, which come and are answered together


class Line(NamedTuple):
    """One comparison."""

    what: str
    unit: str
    predicted: float
    measured: float

    @property
    def error(self) -> float:
        """Share of the measured."""
        return self.predicted / self.measured - 1

    def __str__(self) -> str:
        return f"| `{self.what}` | {short(self.predicted)} {self.unit} | {short(self.measured)} | {self.error:+.0%} |"


class Lines(list[Line]):
    """Comparisons, each told when it is made, for whoever waits."""

    def add(self, *lines: Line) -> None:
        """One more, or several."""
        for line in lines:
            self.append(line)
            print(line, file=sys.stderr, flush=True)  # noqa: T201


class Pairs(NamedTuple):
    """A load of two-person chats."""

    users: int
    inflight: int = 1
    rate: float = 0.0

    @property
    def options(self) -> dict[str, Any]:
        """Of the scenario."""
        return {"users": self.users, "inflight": self.inflight, "rate": self.rate}

    @property
    def name(self) -> str:
        """For the table."""
        how = f"--rate {self.rate:.0f}" if self.rate else f"--inflight {self.inflight}"
        return f"chat --users {self.users} {how}"


REFERENCE: Final = Pairs(600)


class Groups(NamedTuple):
    """A load of groups with one sender each."""

    users: int
    group_size: int
    inflight: int

    @property
    def options(self) -> dict[str, Any]:
        """Of the scenario."""
        return self._asdict()

    @property
    def batch(self) -> float:
        """Messages of a commit."""
        return self.users / self.group_size * self.inflight

    @property
    def name(self) -> str:
        """For the table."""
        return f"group --users {self.users} --group-size {self.group_size} --inflight {self.inflight}"


def main(core: int, *, json: bool, into: Path | None = None) -> None:
    """Calibrate, predict, measure, and tell; with `into`, write the table into capacity.md there."""
    leave_core(core, private=True)
    allow_many_files()
    try:
        units, lines = uvloop.run(_check(core))
    except* (ServerError, LoadError, OSError) as group_of:
        refuse(str(first_of(group_of)))
    table = "\n".join(["| run | predicted | measured | error |", "|---|---|---|---|", *map(str, lines)])
    if into is not None:
        page.put(into, "check", f"{machine()}:\n\n{table}")
    if json:
        rows = [{**line._asdict(), "error": line.error} for line in lines]
        print(json_format.dumps({"check": rows, "units": units._asdict()}))  # noqa: T201
        return
    print(f"{table}\n\nUnit costs of this sitting: {_own(units)}")  # noqa: T201


def _own(units: Units) -> str:
    """As options of `capacity`."""
    names = ("server_message", "server_delivery", "postgres_message", "server_turn", "postgres_turn")
    costs = ((name, getattr(units, name)) for name in names)
    return " ".join(f"--unit {name}={cost.each:.3g},{cost.batch:.3g}" for name, cost in costs)


class Sitting:
    """A server, what things cost on it, and how the machine is at the moment."""

    def __init__(self, server: Target) -> None:
        self.server = server
        self.units = Units()
        self._usual = 0.0

    async def calibrate(self) -> None:
        """Take the unit costs, and the cost of the run by which later moods are told."""
        self.units = await _calibrated(self.server)
        self._usual = (await _chat(self.server, REFERENCE))[0][CPU]

    async def now(self) -> Units:
        """Unit costs of this moment: a short run, the same every time, tells how much slower everything is."""
        return self.units.times((await _chat(self.server, REFERENCE))[0][CPU] / self._usual)


async def _check(core: int) -> tuple[Units, Lines]:
    lines = Lines()
    async with private(core) as server:
        sitting = Sitting(server)
        await sitting.calibrate()
        for load in (Pairs(200), Pairs(1000), Pairs(4000), Pairs(100, 10), Pairs(1000, 4),
                     Pairs(2000, rate=400), Pairs(2000, rate=2000)):  # fmt: skip
            lines.add(*await _pairs(server, await sitting.now(), load))
        for groups in (Groups(500, 10, 1), Groups(500, 10, BURST), Groups(500, 50, 5), Groups(1000, 1000, 1),
                       Groups(1000, 1000, BURST)):  # fmt: skip
            lines.add(await _group(server, await sitting.now(), groups))
        for rate in (500.0, 3000.0):
            lines.add(await _reads(server, await sitting.now(), rate))
        units = await sitting.now()
    async with private(core, 2) as server:
        lines.add(*await _two_nodes(server, units))
    lines.add(*await _idle(core))
    return sitting.units, lines


# -- calibrating ---------------------------------------------------------------------------------


async def _calibrated(server: Target) -> Units:
    """Unit costs of this sitting. What is not measured here keeps its value in the table."""
    full, full_batch, _ = await _chat(server, Pairs(2000))
    bursts = (await _chat(server, Pairs(200, BURST)))[0]
    few, few_batch, commit_ms = await _chat(server, Pairs(2000, rate=800))
    turns = {part: (full[part] - bursts[part]) / (1 - 1 / BURST) for part in (SERVER, POSTGRES)}
    calls = {part: (few[part] - full[part]) / (1 / few_batch - 1 / full_batch) for part in (SERVER, POSTGRES)}
    eachs = {part: full[part] - calls[part] / full_batch for part in (SERVER, POSTGRES)}
    mood = full[CPU] / _message(Units(), full_batch)
    units = (
        Units()
        .times(mood)
        ._replace(
            server_message=Cost(eachs[SERVER], calls[SERVER]),  # with its one delivery, which is known below
            postgres_message=Cost(eachs[POSTGRES], calls[POSTGRES]),
            server_turn=Cost(turns[SERVER]),
            postgres_turn=Cost(turns[POSTGRES]),
            server_delivery=Cost(0.0),
            commit_ms=commit_ms,
        )
    )
    alone = await _delivery(server, units, Groups(500, 50, 1))
    together = await _delivery(server, units, Groups(1000, 200, BURST))
    write = max(0.0, alone - together) / (1 - 1 / BURST)
    delivery = Cost(alone - write, write)
    message = Cost(eachs[SERVER] - delivery.of(1), calls[SERVER])
    read = await _read_costs(server)
    return units._replace(
        server_delivery=delivery, server_message=message, server_read=read[SERVER], postgres_read=read[POSTGRES]
    )


async def _read_costs(server: Target) -> dict[str, Cost]:
    """Of a READ, from few and from many a second."""
    few, many = [await _run(server, signals, users=3000, rate=rate) for rate in READ_RATES]
    batches = [rate * GATHER_S for rate in READ_RATES]
    costs = {}
    for part, name in ((SERVER, "READ: of it server µs"), (POSTGRES, "READ: of it Postgres µs")):
        batch = (few[name] - many[name]) / (1 / batches[0] - 1 / batches[1])
        costs[part] = Cost(many[name] - batch / batches[1], batch)
    return costs


async def _delivery(server: Target, units: Units, load: "Groups") -> float:
    """µs of each delivery more than the one that a message between two has."""
    figures = await _run(server, group, **load.options)
    return (figures[CPU] - _message(units, load.batch, load.inflight)) / (load.group_size - 2)


async def _run(server: Target, command: Callable[..., None], **options: Any) -> dict[str, float]:
    """Medians of a scenario; raises LoadError where a promise was broken."""
    work: Callable[..., Awaitable[None]] = command.work  # type: ignore[attr-defined]
    said = " ".join(f"--{name.replace('_', '-')} {value}" for name, value in options.items() if value)
    print(f"{command.__name__} {said}", file=sys.stderr, flush=True)  # noqa: T201
    if command is not idle:
        options |= {"duration": DURATION_S, "rounds": ROUNDS}
    report: Report = await measure(work, options, server)
    if report.violations:
        raise LoadError(f"{report.scenario}: {report.violations[0]}")
    return report.medians()


async def _chat(server: Target, load: Pairs) -> tuple[dict[str, float], float, float]:
    """Its figures, the messages of a commit, and the ms of one."""
    before = await _commits(server)
    figures = await _run(server, chat, **load.options)
    messages, commits, seconds = (now - then for now, then in zip(await _commits(server), before, strict=True))
    return figures, messages / commits, seconds / commits * 1e3


async def _commits(server: Target) -> tuple[float, float, float]:
    """Messages, commits and seconds of commits so far, by the server's own counting."""
    async with httpx.AsyncClient() as http:
        text = (await http.get(f"http://{server.host}:{server.port}/metrics")).text
    told = dict(line.rsplit(" ", 1) for line in text.splitlines() if line.startswith("mim_commit"))
    return (
        float(told["mim_commit_batch_messages_sum"]),
        float(told["mim_commit_batch_messages_count"]),
        float(told["mim_commit_seconds_sum"]),
    )


# -- predicting ----------------------------------------------------------------------------------


async def _pairs(server: Target, units: Units, load: Pairs) -> list[Line]:
    figures, batch, _ = await _chat(server, load)
    expected = _batch(units, load)
    if not load.rate:
        return [Line(load.name, "µs a message", _message(units, expected, load.inflight), figures[CPU])]
    return [  # how long a commit takes is the disk's affair, so its error is told apart
        Line(load.name, "µs a message, by the commits there were", _message(units, batch), figures[CPU]),
        Line(load.name, "messages of a commit", expected, batch),
    ]


def _batch(units: Units, load: Pairs) -> float:
    """Messages of a commit: of a closed loop all that may be on the way, which is answered and sent again together."""
    if load.rate:
        return batch_of(load.rate, units.commit_ms, units.postgres_message.each)
    return min(MOST_A_COMMIT, load.users * load.inflight)


def _message(units: Units, batch: float, burst: float = 1.0) -> float:
    """µs of server and Postgres for a message between two, in bursts of one sender."""
    saved = (units.server_turn.each + units.postgres_turn.each) * (1 - 1 / burst)
    return units.server_message.of(batch) + units.server_delivery.of(1) + units.postgres_message.of(batch) - saved


async def _group(server: Target, units: Units, load: Groups) -> Line:
    figures = await _run(server, group, **load.options)
    more = (load.group_size - 2) * units.server_delivery.of(load.inflight)
    predicted = (_message(units, load.batch, load.inflight) + more) / (load.group_size - 1)
    return Line(load.name, "µs a delivery", predicted, figures["CPU µs/delivery"])


async def _reads(server: Target, units: Units, rate: float) -> Line:
    figures = await _run(server, signals, users=3000, rate=rate)
    together = rate * GATHER_S
    read = units.server_read.of(together) + units.postgres_read.of(together)
    return Line(f"signals: {rate:.0f} READ/s", "µs", read, figures["READ: CPU µs"])


async def _idle(core: int) -> list[Line]:
    """Memory grows only once in a process, so each size has a server of its own; the first is the unit."""
    found = []
    for users in (2000, 1000, 5000):
        async with private(core) as server:
            found.append((users, await _run(server, idle, users=users)))
    kib, alive = found[0][1]["KiB/connection"], found[0][1]["CPU µs/keep-alive"]
    return [
        line
        for users, figures in found[1:]
        for line in (
            Line(f"idle --users {users}", "KiB a connection", kib, figures["KiB/connection"]),
            Line(f"idle --users {users}", "µs a keep-alive", alive, figures["CPU µs/keep-alive"]),
        )
    ]


async def _two_nodes(server: Target, units: Units) -> list[Line]:
    """The bus' part is predicted from `bus` and `redis` alone: two envelopes for a message, each of which both nodes
    listen to, and its author's node gets back."""
    load = Pairs(2000)
    figures, batch, _ = await _chat(server, load)
    at_once = 2 * batch
    bus = 2 * units.publish.of(at_once) + 2 * units.receive.of(at_once)
    redis = 2 * (units.redis_publish.of(at_once) + units.redis_listener.of(at_once))
    name = f"{load.name} --nodes 2"
    return [
        Line(name, "µs a message", _message(units, _batch(units, load)) + bus + redis, figures[CPU]),
        Line(name, "µs of Redis a message", redis, figures[REDIS]),
    ]
