"""From a scenario to a command, and from a command to a verdict.

    @scenario
    async def chat(run: Run, users: Users = 100, ...) -> None:
        '''Pairs of users, ...'''

`chat` is then a command with the scenario's own options and those that all share. It finds or starts the server, gives
the scenario a :class:`Run`, bounds its time, tells what was found, and ends with 0, with BROKEN when a promise was
broken, or with WRONG when the run could not be made.
"""

import asyncio
import inspect
import os
import secrets
import signal
import sys
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Concatenate, Final, NoReturn, ParamSpec, TypeVar, get_type_hints

import uvloop

from loadtest.launch import allow_many_files
from loadtest.load.client import Client, LoadError
from loadtest.load.crew import Crew, Place
from loadtest.load.crews import Crews, crews
from loadtest.load.many import first_of
from loadtest.options import Ca, Core, Folder, Json, Nodes, Processes, Url
from loadtest.progress import Watch, watching
from loadtest.reports import page
from loadtest.reports.report import Report
from loadtest.server import ServerError, Target, target

BROKEN: Final = 1
WRONG: Final = 2
SETUP_S: Final = 600.0  # for starting, signing in and checking, beside what a scenario says it lasts

C = TypeVar("C", bound=Crew)
P = ParamSpec("P")
Scenario = Callable[Concatenate["Run", P], Awaitable[None]]


@dataclass
class Run:
    """What a scenario works with."""

    target: Target
    report: Report
    watch: Watch
    bound: asyncio.Timeout
    processes: int = 1
    client: type[Client] = Client
    ca: str | None = None
    name: str = field(default_factory=lambda: secrets.token_hex(4))

    def lasts(self, seconds: float) -> None:
        """So long the measuring takes; twice that, and SETUP_S, is when the run is given up."""
        self.bound.reschedule(asyncio.get_running_loop().time() + SETUP_S + 2 * seconds)

    def place(self, users: int) -> Place:
        """Where `users` new users connect."""
        return Place(
            addresses=tuple(self.target.addresses),
            secret=self.target.secret,
            run=self.name,
            numbers=range(users),
            client=self.client,
            tls=self.target.ssl is not None,
            ca=self.ca,
        )

    @asynccontextmanager
    async def crews(self, kind: type[C], users: int) -> AsyncIterator[Crews[C]]:
        """Crews with `users` new users, in as many processes as were asked for, and watched."""
        async with crews(kind, self.place(users), min(self.processes, (users + 1) // 2)) as all_crews:
            self.watch.follow(all_crews)
            try:
                yield all_crews
            finally:
                self.watch.follow(None)


def scenario(work: Callable[Concatenate[Run, P], Awaitable[None]]) -> Callable[..., None]:
    """Make a command of a scenario; see the module's words."""

    def command(
        url: Url = None, ca: Ca = None, core: Core = 0, nodes: Nodes = 1, processes: Processes = 1,
        report: Folder = None, json: Json = False, **options: Any,
    ) -> None:  # fmt: skip
        run = start(work, options, url, ca, core, nodes, processes)
        finish(run, report, json)

    own, common = inspect.signature(work), inspect.signature(command)
    parameters = [
        *list(own.parameters.values())[1:],
        *(p for p in common.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD),
    ]
    hints = {**get_type_hints(command, include_extras=True), **get_type_hints(work, include_extras=True)}
    command.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: hints[p.name] for p in parameters} | {"return": None}
    command.__name__, command.__doc__ = work.__name__, work.__doc__
    command.work = work  # type: ignore[attr-defined]  # for who makes runs of their own
    return command


def start(
    work: Callable[..., Awaitable[None]], options: dict[str, Any], urls: list[str] | None, ca: str | None, core: int,
    nodes: int, processes: int, opened: AbstractAsyncContextManager[Target] | None = None,
) -> Report:  # fmt: skip
    """Run a scenario against a server; ends within a bound, whatever hangs. `opened` is another than the usual ones."""
    leave_core(core, private=not urls)
    allow_many_files()

    async def bounded() -> Report:
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)  # through every `finally`
        usual = target(urls, os.environ.get("MIM_JWT_SECRET"), core, nodes, None if ca is None else Path(ca))
        async with opened or usual as server:
            return await measure(work, options, server, processes, ca=ca)

    try:
        return uvloop.run(bounded())
    except* asyncio.CancelledError:
        refuse("ended before it was done")
    except* TimeoutError:
        refuse("not done within its bound of time")
    except* (ServerError, LoadError, OSError) as group:  # one by one, or several of the clients at once
        refuse(str(first_of(group)) or type(first_of(group)).__name__)
    except* Exception as group:  # noqa: BLE001 - 1, which Python would end with, is for broken promises
        traceback.print_exception(group)
        refuse("a mistake in the load test itself, see above; nothing is said about the server")


async def measure(
    work: Callable[..., Awaitable[None]], options: dict[str, Any], server: Target, processes: int = 1,
    client: type[Client] = Client, ca: str | None = None,
) -> Report:  # fmt: skip
    """Run a scenario against a server that is there."""
    settings = {name: value for name, value in options.items() if value not in (None, 0, False)}
    report = Report(work.__name__, {**settings, "processes": processes, **server.about})
    async with watching(server, report) as watch, asyncio.timeout(SETUP_S) as bound:
        await work(Run(server, report, watch, bound, processes, client, ca), **options)
    return report


def leave_core(core: int, *, private: bool) -> None:
    """Let this process, and the load processes that it starts, keep off the server's core."""
    cores = os.sched_getaffinity(0)
    if not private:
        return
    if core not in cores:
        refuse(f"--core {core}: this process may use {sorted(cores)}")
    if cores - {core}:
        os.sched_setaffinity(0, cores - {core})


def finish(report: Report, folder: str | None, json: bool) -> None:
    """Tell what was found, and end with what it means."""
    if folder is not None:
        print(f"report: {page.write(report, Path(folder))}", file=sys.stderr)  # noqa: T201
    print("\n".join(report.json_lines()) if json else report.table())  # noqa: T201
    if report.violations:
        sys.exit(BROKEN)


def refuse(sentence: str) -> NoReturn:
    """End a run that cannot be made."""
    print(f"loadtest: {sentence}", file=sys.stderr)  # noqa: T201
    sys.exit(WRONG)
