"""The command line of the load tests."""

from typing import Final

import typer

from loadtest.capacity.command import capacity
from loadtest.micro.commands import bus, commit, push, redis, storage
from loadtest.peers.compare import compare
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

COMMANDS: Final = (
    *(chat, group, login, idle, signals, wire, web, broadcast, mobile, soak, storm),
    *(compare, scale, capacity),
    *(bus, commit, push, redis, storage),
)
for command in COMMANDS:
    app.command()(command)
app.command("self")(self_)


if __name__ == "__main__":
    app(prog_name="python -m loadtest")
