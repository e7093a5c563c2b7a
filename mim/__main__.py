"""The command line. Every mistake of an operator ends in a sentence and exit code 2, never in a traceback."""

import asyncio
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, NoReturn

import typer

from mim import logs
from mim.config import Settings
from mim.config_check import SettingsError, load_settings, read_settings_file, source_of
from mim.config_reference import listing, reference
from mim.embedded import EmbeddedError, claim_for_server
from mim.errors import PeerError
from mim.listening import UnreachableError, check_listening
from mim.preflight import check_database, check_redis, database, with_pool
from mim.push_cli import app as push
from mim.store.migrate import MigrationError, migrate

WRONG = 2  # exit code: what was asked for cannot be done as it was asked

ABOUT = """mim: a messenger server in which acknowledged means durable.

\b
First steps, from two terminals besides that of the server:
  mim serve --dev
  mim chat --phone 010-2345-6701 --name Mina
  mim chat --phone 010-2345-6702 --name Jun 010-2345-6701

\b
Next:
  mim COMMAND --help     options and examples of a command
  mim config             the settings in effect and where they come from
  mim config --reference every setting there is
"""

app = typer.Typer(
    help=ABOUT,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
db = typer.Typer(help="The database: bring it to the version of this mim.", no_args_is_help=True)
user = typer.Typer(help="Accounts: add people without a phone in your hand.", no_args_is_help=True)
app.add_typer(db, name="db")
app.add_typer(user, name="user")
app.add_typer(push, name="push")

DataDir = Annotated[Path | None, typer.Option(help="Folder of the embedded Postgres.", show_default="data")]
DatabaseUrl = Annotated[
    str | None,
    typer.Option(help="postgresql://... of an own Postgres; better given as MIM_DATABASE_URL, which ps does not show."),
]
Phone = Annotated[str, typer.Option(help="Phone number: +821023456701, or as written in the default region.")]


def main() -> None:
    """Run the command line; what the console script `mim` and `python -m mim` call."""
    with _sentences():
        app(prog_name="mim")


@app.callback(invoke_without_command=True)
def _root(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.", show_default="127.0.0.1")] = None,
    port: Annotated[int | None, typer.Option(help="TCP port; 0 picks a free one.", show_default="8080")] = None,
    data_dir: DataDir = None,
    dev: Annotated[
        bool | None, typer.Option("--dev", help="One-time codes are shown to the client; readable logs.")
    ] = None,
    database_url: DatabaseUrl = None,
    redis_url: Annotated[str | None, typer.Option(help="redis://... that connects several servers.")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes that serve the port.", show_default="1")] = None,
) -> None:
    """Run a server until Ctrl-C or SIGTERM.

    \b
    Examples:
      mim serve --dev                            on this machine, to try it
      mim serve --host 0.0.0.0 --port 80         for everybody
      mim serve --workers 4                      on four cores; a process that dies is started again
      MIM_DATABASE_URL=postgresql://... mim serve  on a Postgres of your own

    Without a database URL a private Postgres keeps its files under --data-dir. Several workers without a Redis
    URL get a private Redis. With several workers SIGHUP starts them anew one after the other, for a new certificate.
    """
    options = {"host": host, "port": port, "data_dir": data_dir, "dev": dev, "workers": workers}
    settings = load_settings(**options, database_url=database_url, redis_url=redis_url)
    check_listening(settings)
    check_database(settings)
    check_redis(settings)
    alone = settings.redis_url is None and (settings.database_url is None or settings.workers > 1)
    claim = claim_for_server(settings.data_dir) if alone else None
    if settings.workers > 1:  # both late: the other commands start faster without them
        from mim.workers.serve import serve_workers as run
    else:
        from mim.app import serve as run

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _leave)
    try:
        code = run(settings)
    finally:
        if claim is not None:
            claim.close()
    raise typer.Exit(code)


def _leave(number: int, frame: FrameType | None) -> NoReturn:
    """Told to stop before there is an event loop to tell: end through every `finally`, and hear of it only once."""
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)
    raise SystemExit(0)


@db.command("migrate")
def db_migrate(data_dir: DataDir = None, database_url: DatabaseUrl = None) -> None:
    """Bring the database to the version of this mim. A server does so itself when it starts."""
    settings = _quiet_settings(data_dir=data_dir, database_url=database_url)
    with database(settings) as url:
        applied = asyncio.run(migrate(url))
    for name in applied:
        typer.echo(f"applied {name}")
    if not applied:
        typer.echo("The database is up to date.")


@user.command("add")
def user_add(
    phone: Phone,
    name: Annotated[str, typer.Option(help="Shown name.")],
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Add an account, also beside a running server; prints the user's id.

    \b
    Example:
      mim user add --phone 010-2345-6701 --name Mina
    """
    from mim.auth.accounts import add_user

    settings = _quiet_settings(data_dir=data_dir, database_url=database_url)
    added = with_pool(settings, lambda pool: add_user(pool, settings, phone, name))
    typer.echo(f"user {added}")


@app.command()
def token(
    phone: Phone,
    device: Annotated[str, typer.Option(help="Name of the device; added if it is new.")] = "command line",
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Print an access token of an account, for bots and for trying the HTTP interface.

    \b
    Example:
      curl -H "Authorization: Bearer $(mim token --phone 010-2345-6701)" \\
           -d '{}' http://127.0.0.1:8080/v1/call/chat.list
    """
    from mim.auth.accounts import issue_token_for_phone

    settings = _quiet_settings(data_dir=data_dir, database_url=database_url)
    typer.echo(with_pool(settings, lambda pool: issue_token_for_phone(pool, settings, phone, device)))


@app.command()
def chat(
    to: Annotated[str | None, typer.Argument(help="Phone number of the person to talk to.")] = None,
    url: Annotated[str, typer.Option(help="The server.")] = "http://127.0.0.1:8080",
    phone: Annotated[str | None, typer.Option(help="Your phone number, to sign in by a one-time code.")] = None,
    name: Annotated[str | None, typer.Option(help="Your shown name.")] = None,
    token: Annotated[str | None, typer.Option(help="Sign in by a token instead, see `mim token`.")] = None,
) -> None:
    """Chat from this terminal.

    \b
    Example, each in a terminal of its own:
      mim chat --phone 010-2345-6701 --name Mina
      mim chat --phone 010-2345-6702 --name Jun 010-2345-6701
    """
    if phone is None and token is None:
        raise typer.BadParameter("say who you are: --phone NUMBER, or --token TOKEN")
    from mim.client import terminal

    logs.configure("error", "text")
    raise typer.Exit(terminal.run(url=url, phone=phone, name=name, token=token, to=to))


@app.command()
def config(
    as_reference: Annotated[bool, typer.Option("--reference", help="Describe every setting, as Markdown.")] = False,
) -> None:
    """Show the settings in effect, secrets masked, and where each that is no default was set."""
    if as_reference:
        typer.echo(reference(), nl=False)
        return
    settings = load_settings()
    in_file = read_settings_file()
    found = {name: source_of(name, {}, in_file) for name in Settings.model_fields}
    typer.echo(listing(settings, {name: source for name, source in found.items() if source is not None}))


@app.command("version")
def show_version() -> None:
    """Print the version."""
    try:
        typer.echo(f"mim {version('mim')}")
    except PackageNotFoundError:
        typer.echo("mim (not installed)")


@contextmanager
def _sentences() -> Iterator[None]:
    """Turn what an operator can mend into a sentence each and exit code 2."""
    try:
        yield
    except SettingsError as exc:
        _refuse(*exc.problems)
    except PeerError as exc:
        _refuse(f"{exc.detail} ({exc.code})")
    except (EmbeddedError, MigrationError, UnreachableError) as exc:
        _refuse(str(exc))


def _refuse(*problems: str) -> None:
    for problem in problems:
        typer.echo(f"mim: {problem}", err=True)
    sys.exit(WRONG)


def _quiet_settings(**options: Any) -> Settings:
    """Settings of a command whose output matters: only warnings are logged."""
    settings = load_settings(**options)
    logs.configure("warning", settings.log_format, settings.dev)
    return settings


if __name__ == "__main__":
    main()
