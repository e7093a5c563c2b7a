"""This server beside ejabberd: the same scenarios, the same machine, by turns.

A :class:`Work` is run on every side, one round after the other, several times: what slows the machine for a while slows
all of them. Each side's figure is the median of its rounds, and the ratio is the median of the rounds' own ratios.
"""

import asyncio
import os
import signal
import statistics
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple

import asyncpg
import typer
import uvloop

from loadtest.launch import allow_many_files
from loadtest.load.client import Client, LoadError
from loadtest.load.many import first_of
from loadtest.meter import OTHERS
from loadtest.options import Core
from loadtest.peers import ejabberd, xmpp
from loadtest.reports.report import machine, short
from loadtest.running import BROKEN, leave_core, measure, refuse
from loadtest.scenarios.chat import chat
from loadtest.scenarios.group import group
from loadtest.scenarios.idle import idle
from loadtest.scenarios.login import login
from loadtest.scenarios.wire import wire
from loadtest.server import ServerError, Target, target

PAGE: Final = Path("docs/performance.md")
BEGIN, END = "<!-- compare:begin -->", "<!-- compare:end -->"

Scenario = Callable[..., Awaitable[None]]


class Side(NamedTuple):
    """A column of the table: a server, and how its clients use it."""

    name: str
    is_mim: bool
    client: type[Client]


MIM: Final = Side("mim", True, Client)
ACKS: Final = Side("ejabberd, with acks", False, xmpp.XmppClient)
PLAIN: Final = Side("ejabberd, without", False, xmpp.PlainXmppClient)
SIDES: Final = (MIM, ACKS, PLAIN)


class Row(NamedTuple):
    """A line of the table: what is measured, in what, and by which figure of a scenario's report."""

    what: str
    unit: str
    figure: str
    of_peer: str = ""  # its figure, where it has another name


class Work(NamedTuple):
    """A scenario with its options, and the lines that come of it."""

    name: str
    scenario: Scenario
    options: dict[str, Any]
    rows: tuple[Row, ...]
    sides: tuple[Side, ...] = SIDES
    of_peer: Scenario | None = None  # a scenario in its stead
    accounts: int = 1000
    contacts: int = 0  # of each account
    fresh: bool = False  # on servers that nobody used before, in every round


SIGN_IN: Final = {"users": 200, "inflight": 20}


def _work(command: Callable[..., None]) -> Scenario:
    """The scenario of a command."""
    work: Scenario = command.work  # type: ignore[attr-defined]
    return work


def works(duration_s: float, idle_users: int) -> tuple[Work, ...]:
    """Everything that is compared."""
    timed: dict[str, Any] = {"duration": duration_s, "rounds": 1}
    talk = {"inflight": 10, "rate": 0.0, **timed}
    return (
        Work(
            "chat", _work(chat), {"users": 100, **talk},
            # by deliveries, of which each message has one: ejabberd's acknowledgements come later than those, and a
            # round that is not much longer than they take would count fewer messages than it has carried
            (Row("chat: 100 users in pairs, 10 messages each in flight", "CPU µs a message", "CPU µs/delivery"),),
        ),
        Work(
            "group", _work(group), {"users": 500, "group_size": 50, **talk},
            (Row("group: 10 of 50, one sender each", "CPU µs a delivery", "CPU µs/delivery"),),
        ),
        Work(
            "group-1000", _work(group), {"users": 1000, "group_size": 1000, **talk},
            (Row("group: one of 1,000, one sender", "CPU µs a delivery", "CPU µs/delivery"),),
        ),
        Work(
            "wire", _work(wire), {},
            (
                Row("wire: a message, its acknowledgement, its delivery", "bytes",
                    "message: SEND + ACK + MSG bytes", "message: bytes"),
                Row("wire: a sign-in, up", "bytes", "sign-in: bytes up"),
                Row("wire: a sign-in, down", "bytes", "sign-in: bytes down"),
            ),
            of_peer=xmpp.wire,
        ),
        Work(
            "login-0", _work(login), {"chats": 0, **SIGN_IN, **timed},
            (Row("login: without chats or contacts", "CPU ms", "all chats: CPU ms/login"),),
        ),
        Work(
            "idle", _work(idle), {"users": idle_users},
            (Row(f"idle: {idle_users:,} silent connections", "KiB each", "KiB/connection"),),
            accounts=idle_users, fresh=True,
        ),
        Work(
            "login", _work(login), {"chats": 50, **SIGN_IN, **timed},
            (
                Row("login: with 50 chats or contacts, all told", "CPU ms", "all chats: CPU ms/login"),
                Row("login: the same, nothing new to tell", "CPU ms", "with a cursor: CPU ms/login"),
            ),
            (MIM, ACKS), accounts=200, contacts=50,
        ),
    )  # fmt: skip


@dataclass
class Comparison:
    """What was found: for each row, the figure of each side in every round."""

    settings: str
    versions: str = ""
    rows: dict[Row, dict[Side, list[float]]] = field(default_factory=dict)
    others: list[float] = field(default_factory=list)  # share of a core that other programs took, by round
    violations: list[str] = field(default_factory=list)

    def table(self) -> str:
        """In Markdown."""
        lines = [
            "| work | | mim | ejabberd, with acks | ratio | ejabberd, without | ratio |",
            "|---|---|---|---|---|---|---|",
        ]
        for row, found in self.rows.items():
            cells = [_spread(found[MIM])]
            for side in (ACKS, PLAIN):
                if side in found:
                    ratio = statistics.median(b / a for a, b in zip(found[MIM], found[side], strict=True))
                    cells += [_spread(found[side]), f"**{ratio:.1f}**"]
                else:
                    cells += ["–", "–"]
            lines.append(f"| {row.what} | {row.unit} | {' | '.join(cells)} |")
        return "\n".join(lines)

    def section(self) -> str:
        """What goes into the page."""
        busy = statistics.median(self.others) if self.others else 0.0
        return (
            f"{self.table()}\n\nMeasured on {datetime.now(UTC):%Y-%m-%d} with `make compare`: {self.settings}. "
            f"{self.versions}. Machine: {machine()}, {os.cpu_count()} cores; other programs took {busy:.2f} of a core "
            "meanwhile (median of the rounds).\n"
        )


def _spread(values: list[float]) -> str:
    middle, least, most = short(statistics.median(values)), short(min(values)), short(max(values))
    return middle if least == most else f"{middle} ({least}–{most})"


async def run(chosen: Iterable[Work], rounds: int, core: int, found: Comparison) -> None:
    """Do the works, and note in `found` what comes of them."""
    for kind, alike in groupby(chosen, lambda work: (work.accounts, work.contacts, work.fresh)):
        async with AsyncExitStack() as stack:
            servers = Servers(*kind, core, stack)
            for work in alike:
                await _do(work, rounds, servers, found)


async def _do(work: Work, rounds: int, servers: "Servers", found: Comparison) -> None:
    values: dict[Side, list[dict[str, float]]] = {side: [] for side in work.sides}
    for _ in range(rounds):
        for side in work.sides:
            async with servers.of(side) as server:
                values[side].append(await _round(work, side, server, found))
    for row in work.rows:
        found.rows[row] = {
            side: [figures[(not side.is_mim and row.of_peer) or row.figure] for figures in values[side]]
            for side in work.sides
        }


async def _round(work: Work, side: Side, on: Target, found: Comparison) -> dict[str, float]:
    scenario = work.scenario if side.is_mim else work.of_peer or work.scenario
    report = await measure(scenario, work.options, on, client=side.client)
    found.violations += [f"{work.name}, {side.name}: {violation}" for violation in report.violations]
    (figures,) = report.rounds
    found.others += [value for name, value in figures.items() if name.endswith(OTHERS)]
    told = "  ".join(f"{name} {short(value)}" for name, value in figures.items())
    print(f"{work.name}, {side.name}: {told}", flush=True)  # noqa: T201
    return figures


class Servers:
    """One of each kind for several works, or, for works that ask for fresh ones, another every time."""

    def __init__(self, accounts: int, contacts: int, fresh: bool, core: int, stack: AsyncExitStack) -> None:
        self._accounts, self._contacts, self._fresh, self._core = accounts, contacts, fresh, core
        self._stack = stack
        self._open: dict[bool, Target] = {}

    @asynccontextmanager
    async def of(self, side: Side) -> AsyncIterator[Target]:
        """The server of a side."""
        if self._fresh:
            async with self._server(side) as fresh:
                yield fresh
            return
        if side.is_mim not in self._open:
            self._open[side.is_mim] = await self._stack.enter_async_context(self._server(side))
        yield self._open[side.is_mim]

    @asynccontextmanager
    async def _server(self, side: Side) -> AsyncIterator[Target]:
        """A private one, gone afterwards with all its files."""
        if side.is_mim:
            async with target(None, None, self._core) as mim:
                yield mim
            return
        peer = ejabberd.Ejabberd(Path(tempfile.mkdtemp(prefix="mim-peer-")), self._core, self._accounts, self._contacts)
        try:
            await peer.start()
            yield peer
        finally:
            await asyncio.to_thread(peer.stop)


def write(found: Comparison, page: Path) -> None:
    """Put the section between the page's marks."""
    before, begin, rest = page.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise LoadError(f"{page} has no {BEGIN} and {END} to write between")
    page.write_text(f"{before}{BEGIN}\n{found.section()}{END}{after}")


def compare(
    rounds: Annotated[int, typer.Option(min=1, help="Rounds of each side, by turns.")] = 3,
    duration: Annotated[float, typer.Option(min=1.0, help="Seconds of a round, warm-up not counted.")] = 6.0,
    idle_users: Annotated[int, typer.Option(min=2, help="Silent connections.")] = 2000,
    only: Annotated[list[str] | None, typer.Option(help="chat, group, group-1000, idle, login-0, login, wire")] = None,
    page: Annotated[Path | None, typer.Option(help=f"Where to write the table, such as {PAGE}.")] = None,
    core: Core = 0,
) -> None:
    """This server and ejabberd 23.01 (Debian's package, tuned, its archive in the same Postgres) by turns."""
    chosen = [work for work in works(duration, idle_users) if not only or work.name in only]
    if not chosen:
        refuse(f"--only {' '.join(only or ())}: none of {', '.join(work.name for work in works(duration, 2))}")
    try:
        ejabberd.libraries()
    except ServerError as exc:
        refuse(str(exc))
    leave_core(core, private=True)
    allow_many_files()
    found = Comparison(f"{rounds} rounds of {duration:g} s by turns, median (least–most), the ratio by round")

    async def bounded() -> None:
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)  # through every `finally`
        found.versions = await ejabberd.versions()
        await run(chosen, rounds, core, found)
        if page is not None and not only:  # a part is no table
            write(found, page)

    try:
        uvloop.run(bounded())
    except* asyncio.CancelledError:
        refuse("ended before it was done")
    except* TimeoutError:
        refuse("not done within its bound of time")
    except* (ServerError, LoadError, OSError, asyncpg.PostgresError) as group:
        refuse(str(first_of(group)) or type(first_of(group)).__name__)
    print(found.section())  # noqa: T201
    for violation in found.violations:
        print(f"VIOLATION: {violation}")  # noqa: T201
    if found.violations:
        raise typer.Exit(BROKEN)
