"""The command line of the load tests."""

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Annotated, Final, NoReturn

import typer
import uvloop

from loadtest import bus as bus_paths
from loadtest import commit as commit_function
from loadtest.client import LoadError
from loadtest.launch import allow_many_files
from loadtest.report import Report
from loadtest.scenarios import idle as idle_scenario
from loadtest.scenarios import login as login_scenario
from loadtest.scenarios import traffic
from loadtest.scenarios import web as web_scenario
from loadtest.scenarios import wire as wire_scenario
from loadtest.server import ServerError, Target, target
from mim import logs

ABOUT = """Load tests: what this server costs and carries, over its public protocol alone.

Without --url a scenario starts a private server with a private Postgres on one core, measures it from the others,
and removes everything again. Figures of CPU are those of all processes of that server, from /proc.

\b
Try:
  python -m loadtest chat                        pairs at saturation
  python -m loadtest group --group-size 1000 --users 1000
  python -m loadtest login --chats 50            sign-ins, with and without a cursor
  python -m loadtest idle --users 5000           memory of a silent connection
  python -m loadtest wire                        bytes by frame
  python -m loadtest commit                      the database function alone
  python -m loadtest bus                         a message through Redis, in Python
  python -m loadtest push                        10,000 notifications while two people talk
  python -m loadtest web                         the web client in Chromium
  python -m loadtest SCENARIO --help             the options of a scenario

\b
On a deployment of your own, with its secret, from another machine:
  MIM_JWT_SECRET=... python -m loadtest chat --url http://10.0.0.5:8080 --json

That server must lift its rates for the time (MIM_SEND_RATE, MIM_SEND_BURST, MIM_REQUEST_RATE, MIM_REQUEST_BURST),
or it answers rate_limited, which ends the run. The exit code is 1 when a promise of the protocol was broken, and 2
when the run could not be made.

On a busy machine messages per second say little. CPU per message moves less; take the median of several rounds.
"""

BROKEN: Final = 1
WRONG: Final = 2
SETUP_S: Final = 600.0  # for starting, signing in and checking, beside the rounds

app = typer.Typer(
    help=ABOUT,
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Url = Annotated[
    str | None,
    typer.Option(help="http://HOST:PORT of a server that runs, with its MIM_JWT_SECRET in the environment.",
                 show_default="a private server"),
]  # fmt: skip
Json = Annotated[bool, typer.Option("--json", help="JSON lines instead of a table.")]
Core = Annotated[int, typer.Option(help="Core of the private server; the load comes from the others.")]
Users = Annotated[int, typer.Option(min=2, help="Connections, each of a user of its own.")]
Inflight = Annotated[int, typer.Option(min=1, help="Unanswered messages that a sender keeps on the way.")]
Duration = Annotated[float, typer.Option(min=0.1, help="Seconds of a round, warm-up not counted.")]
Rounds = Annotated[int, typer.Option(min=1, help="Rounds, one after the other; the table shows their median.")]


@app.command()
def chat(
    users: Users = 100, inflight: Inflight = 10, duration: Duration = 5.0, rounds: Rounds = 3,
    url: Url = None, core: Core = 0, json: Json = False,
) -> None:  # fmt: skip
    """Pairs of users, each sending 64-byte texts as fast as they are acknowledged."""

    async def scenario(server: Target) -> Report:
        return await traffic.pairs(server, users, inflight, duration, rounds)

    _run(scenario, rounds * duration, url, core, json)


@app.command()
def group(
    users: Users = 500, group_size: Annotated[int, typer.Option(min=2, help="Members of a group.")] = 50,
    inflight: Inflight = 10, duration: Duration = 5.0, rounds: Rounds = 3,
    url: Url = None, core: Core = 0, json: Json = False,
) -> None:  # fmt: skip
    """Groups with one sender each."""

    async def scenario(server: Target) -> Report:
        return await traffic.groups(server, users, group_size, inflight, duration, rounds)

    _run(scenario, rounds * duration, url, core, json)


@app.command()
def login(
    users: Users = 200, chats: Annotated[int, typer.Option(min=0, help="Direct chats of a user.")] = 50,
    inflight: Annotated[int, typer.Option(min=1, help="Sign-ins on the way at a time.")] = 20,
    duration: Duration = 5.0, rounds: Rounds = 3, url: Url = None, core: Core = 0, json: Json = False,
) -> None:  # fmt: skip
    """Connect, READY, SYNCED, close: on first sight, with all chats, and with a cursor."""

    async def scenario(server: Target) -> Report:
        return await login_scenario.run(server, users, chats, inflight, duration, rounds)

    _run(scenario, 2 * rounds * duration, url, core, json)


@app.command()
def idle(users: Users = 3000, url: Url = None, core: Core = 0, json: Json = False) -> None:
    """Silent connections: KiB each, and CPU of keeping them alive."""

    async def scenario(server: Target) -> Report:
        return await idle_scenario.run(server, users)

    _run(scenario, 60, url, core, json)


@app.command()
def wire(url: Url = None, core: Core = 0, json: Json = False) -> None:
    """Bytes by frame: a message, a READ, a keep-alive, a sign-in."""
    _run(wire_scenario.run, 60, url, core, json)


@app.command()
def web(
    messages: Annotated[int, typer.Option(min=200, help="Stored messages of the room that is opened.")] = 10_000,
    traffic: Annotated[int, typer.Option(min=0, help="Messages that come in while memory is watched.")] = 3600,
    rounds: Rounds = 3, url: Url = None, core: Core = 0, json: Json = False,
) -> None:  # fmt: skip
    """The web client in headless Chromium: bytes of a first load, time to an open room, memory after traffic."""

    async def scenario(server: Target) -> Report:
        return await web_scenario.run(server, messages, traffic, rounds)

    _run(scenario, 120, url, core, json)


@app.command()
def commit(
    users: Users = 2000, rounds: Rounds = 3, core: Core = 0, json: Json = False,
    sizes: Annotated[str, typer.Option(help="Batch sizes.")] = ",".join(map(str, commit_function.SIZES)),
) -> None:  # fmt: skip
    """The database function that stores a batch, alone, by batch size."""
    logs.configure("warning", "text")
    _tell(commit_function.run(users, [int(size) for size in sizes.split(",")], rounds, core), json)


@app.command()
def bus(
    messages: Annotated[int, typer.Option(min=100, help="Messages of a round, for each way.")] = 20_000,
    rounds: Rounds = 5, json: Json = False,
) -> None:  # fmt: skip
    """Publishing and receiving through a private Redis, by way of doing it: CPU of Python."""
    logs.configure("warning", "text")
    _tell(uvloop.run(bus_paths.run(messages, rounds)), json)


@app.command()
def push(
    part: Annotated[str, typer.Option(help="clients, providers or fan-out.")] = "fan-out",
    count: Annotated[int, typer.Option(min=100, help="Notifications of a round; members of a fan-out.")] = 10_000,
    at_once: Annotated[int, typer.Option(min=1, help="Requests on the way.")] = 100,
    platform: Annotated[str, typer.Option(help="Of a fan-out: apns, fcm, webpush or webhook.")] = "apns",
    rounds: Rounds = 3, core: Core = 0, json: Json = False,
) -> None:  # fmt: skip
    """Notifications: HTTP/2 clients side by side, each provider alone, or a fan-out through a whole server."""
    try:
        from loadtest import push as push_paths  # late: its far end needs a package of the development environment
    except ModuleNotFoundError as exc:
        _refuse(f"{exc.name} is not installed; `make .venv/.installed-dev` brings it")
    logs.configure("warning", "text")
    allow_many_files()
    try:
        if part == "clients":
            report = uvloop.run(push_paths.clients(count, at_once, rounds))
        elif part == "providers":
            report = uvloop.run(push_paths.providers(count, at_once, rounds))
        else:
            push_paths.free_core(core)
            report = uvloop.run(push_paths.fan_out(count, platform, rounds, core))
    except (ServerError, LoadError) as exc:
        _refuse(str(exc))
    _tell(report, json)


def _run(
    scenario: Callable[[Target], Awaitable[Report]], measuring_s: float, url: str | None, core: int, json: bool
) -> None:
    """Run a scenario against a server and tell what it found; ends within a bound, whatever hangs."""
    cores = os.sched_getaffinity(0)
    if url is None and core not in cores:
        _refuse(f"--core {core}: this process may use {sorted(cores)}")
    if url is None and cores - {core}:
        os.sched_setaffinity(0, cores - {core})
    allow_many_files()

    async def bounded() -> Report:
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)  # through every `finally`
        async with target(url, os.environ.get("MIM_JWT_SECRET"), core) as server:
            async with asyncio.timeout(SETUP_S + 2 * measuring_s):
                return await scenario(server)

    try:
        report = uvloop.run(bounded())
    except* asyncio.CancelledError:
        _refuse("ended before it was done")
    except* (ServerError, LoadError, OSError) as group:  # one by one, or several of the clients at once
        _refuse(str(first_of(group)) or type(first_of(group)).__name__)
    if len(cores) == 1 and url is None:
        report.notes.append("the load test shares the only core with the server: throughput is not the server's alone")
    _tell(report, json)


def _tell(report: Report, json: bool) -> None:
    print("\n".join(report.json_lines()) if json else report.table())
    if report.violations:
        sys.exit(BROKEN)


def first_of(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first exception in a group, however nested."""
    first = group.exceptions[0]
    return first_of(first) if isinstance(first, BaseExceptionGroup) else first


def _refuse(sentence: str) -> NoReturn:
    print(f"loadtest: {sentence}", file=sys.stderr)
    sys.exit(WRONG)


if __name__ == "__main__":
    app(prog_name="python -m loadtest")
