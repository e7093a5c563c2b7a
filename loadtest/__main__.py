"""The command line of the load tests."""

from typing import Annotated

import typer
import uvloop

from loadtest.capacity.command import capacity
from loadtest.launch import allow_many_files
from loadtest.load.client import LoadError
from loadtest.micro import bus as bus_paths
from loadtest.micro import commit as commit_function
from loadtest.micro import redis_cost, storage
from loadtest.options import Core, Json, Rounds, Users
from loadtest.peers.compare import compare
from loadtest.running import finish, refuse
from loadtest.scale.command import scale
from loadtest.scenarios.broadcast import broadcast
from loadtest.scenarios.chat import chat
from loadtest.scenarios.group import group
from loadtest.scenarios.idle import idle
from loadtest.scenarios.login import login
from loadtest.scenarios.mobile import mobile
from loadtest.scenarios.own import self_
from loadtest.scenarios.signals import signals
from loadtest.scenarios.soak import soak
from loadtest.scenarios.storm import storm
from loadtest.scenarios.web import web
from loadtest.scenarios.wire import wire
from loadtest.server import ServerError
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
  python -m loadtest storm                       half of 2,000 users drop and come back at once
  python -m loadtest mobile                      a busy hour of people with phones, in a minute
  python -m loadtest soak --nodes 2              the same for an hour, with faults
  python -m loadtest broadcast                   one who writes to 3,000
  python -m loadtest wire                        bytes by frame
  python -m loadtest commit                      the database function alone
  python -m loadtest bus                         a message through Redis, in Python
  python -m loadtest redis                       the same, in Redis
  python -m loadtest storage                     bytes of a stored message
  python -m loadtest capacity --users 1000000    how much a load asks for
  python -m loadtest push                        10,000 notifications while two people talk
  python -m loadtest web                         the web client in Chromium
  python -m loadtest self                        the load itself, against a stub that stores nothing
  python -m loadtest compare                     this server and ejabberd, by turns
  python -m loadtest SCENARIO --help             the options of a scenario

\b
On a deployment of your own, with its secret, from another machine:
  MIM_JWT_SECRET=... python -m loadtest chat --url http://10.0.0.5:8080 --json

That server must lift its rates for the time (MIM_SEND_RATE, MIM_SEND_BURST, MIM_REQUEST_RATE, MIM_REQUEST_BURST),
or it answers rate_limited, which ends the run. The exit code is 1 when a promise of the protocol was broken, and 2
when the run could not be made.

On a busy machine messages per second say little. CPU per message moves less; take the median of several rounds.
"""

app = typer.Typer(
    help=ABOUT,
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

for command in (chat, group, login, idle, signals, wire, web, broadcast, mobile, soak, storm, compare):
    app.command()(command)

app.command("self")(self_)


@app.command()
def commit(
    users: Users = 2000, rounds: Rounds = 3, core: Core = 0, json: Json = False,
    sizes: Annotated[str, typer.Option(help="Batch sizes.")] = ",".join(map(str, commit_function.SIZES)),
) -> None:  # fmt: skip
    """The database function that stores a batch, alone, by batch size."""
    logs.configure("warning", "text")
    finish(commit_function.run(users, [int(size) for size in sizes.split(",")], rounds, core), None, json)


@app.command()
def bus(
    messages: Annotated[int, typer.Option(min=100, help="Messages of a round, for each way.")] = 20_000,
    rounds: Rounds = 5, json: Json = False,
) -> None:  # fmt: skip
    """Publishing and receiving through a private Redis, by way of doing it: CPU of Python."""
    logs.configure("warning", "text")
    finish(uvloop.run(bus_paths.run(messages, rounds)), None, json)


@app.command(name="redis")
def redis_process(
    messages: Annotated[int, typer.Option(min=100, help="Messages of a round, for each way.")] = 10_000,
    rounds: Rounds = 3, json: Json = False,
) -> None:  # fmt: skip
    """Publishing through a private Redis: CPU of Redis itself, by who listens and how many come together."""
    logs.configure("warning", "text")
    finish(uvloop.run(redis_cost.run(messages, rounds)), None, json)


@app.command(name="storage")
def stored_bytes(
    messages: Annotated[int, typer.Option(min=1000, help="Messages of each kind.")] = 50_000,
    chats: Annotated[int, typer.Option(min=10, help="Chats in which they are.")] = 2_000,
    text_bytes: Annotated[int, typer.Option(min=1, max=10_000, help="UTF-8 bytes of a text.")] = 64,
    seed: int = 1, json: Json = False,
) -> None:  # fmt: skip
    """Bytes of a stored message in Postgres, and of its write-ahead log."""
    logs.configure("warning", "text")
    finish(uvloop.run(storage.run(messages, chats, text_bytes, seed)), None, json)


app.command()(capacity)
app.command()(scale)


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
        from loadtest.micro import (
            push as push_paths,  # late: its far end needs a package of the development environment
        )
    except ModuleNotFoundError as exc:
        refuse(f"{exc.name} is not installed; `make .venv/.installed-dev` brings it")
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
        refuse(str(exc))
    finish(report, None, json)


if __name__ == "__main__":
    app(prog_name="python -m loadtest")
