"""`mim push`: workers of the outbox alone, and a trial notification."""

import asyncio
import hmac
import signal
import threading
from collections.abc import Iterable
from typing import Annotated, Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

import structlog
import typer
from prometheus_client import make_wsgi_app

from mim import logs
from mim.clock import SystemClock
from mim.config import Settings, secret
from mim.config_check import load_settings
from mim.preflight import check_database, with_pool
from mim.push.notice import Verdict
from mim.store.db import BY_KEY, Pool, open_pool
from mim.store.migrate import migrate

log = structlog.get_logger("mim.push")

NOT_ACCEPTED = 1  # exit code

app = typer.Typer(help="Push notifications: workers of their own, and a trial.", invoke_without_command=True)

DatabaseUrl = Annotated[
    str | None, typer.Option(help="postgresql://... of the servers' database; better given as MIM_DATABASE_URL.")
]


@app.callback()
def push(
    context: typer.Context,
    database_url: DatabaseUrl = None,
    metrics_port: Annotated[int | None, typer.Option(help="TCP port for /metrics; none without it.")] = None,
) -> None:
    """Send what the servers put into the outbox, until Ctrl-C or SIGTERM.

    \b
    Servers send by themselves; this takes the work off them, as many processes as you like:
      MIM_PUSH_WORKERS=false mim serve
      mim push
      mim push test --user 42        one notification now, and what the provider says
    """
    if context.invoked_subcommand is not None:
        return
    settings = load_settings(database_url=database_url)
    if settings.database_url is None:
        raise typer.BadParameter("say which database the servers use: MIM_DATABASE_URL")
    logs.configure(settings.log_level, settings.log_format, settings.dev)
    check_database(settings)
    if metrics_port is not None:
        show_metrics(settings.host, metrics_port, secret(settings.metrics_token))
    asyncio.run(_work(settings))


def show_metrics(host: str, port: int, token: str | None) -> int:
    """Answer /metrics in a thread that ends with the process; returns the port. With `token` only who sends it."""
    shown = make_wsgi_app()

    def answer(environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        given = str(environ.get("HTTP_AUTHORIZATION", ""))
        if token is not None and not hmac.compare_digest(given.encode(), f"Bearer {token}".encode()):
            start("401 Unauthorized", [])
            return [b""]
        if environ.get("PATH_INFO") != "/metrics":
            start("404 Not Found", [])
            return [b""]
        return shown(environ, start)  # type: ignore[no-any-return]

    server = make_server(host, port, answer, handler_class=_Silent)
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    return server.server_port


class _Silent(WSGIRequestHandler):
    """Without a line for every request."""

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Nothing."""


async def _work(settings: Settings) -> None:
    from mim.bus.redis import RedisBus  # late: the other commands start faster without them
    from mim.push.service import Push, names

    url = secret(settings.database_url)
    assert url is not None
    await migrate(url)
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with await open_pool(url, settings.database_pool, BY_KEY) as pool:
        clock = SystemClock()
        redis_url = secret(settings.redis_url)
        bus = RedisBus(redis_url, clock) if redis_url else None
        if bus is not None:
            await bus.start()
        workers = Push(settings, pool, bus, clock, plans=False)
        workers.start()
        log.info("sending push notifications", platforms=names(sorted(workers.platforms)))
        await stop.wait()
        await workers.close()
        if bus is not None:
            await bus.close()


@app.command("test")
def send_trial(
    user: Annotated[int, typer.Option(help="The user's id, as `mim user add` prints it.")],
    database_url: DatabaseUrl = None,
) -> None:
    """Send one notification to each device of a user and print what the providers answered."""
    settings = load_settings(database_url=database_url)
    logs.configure("warning", settings.log_format, settings.dev)
    if not with_pool(settings, lambda pool: _try(settings, pool, user)):
        raise typer.Exit(NOT_ACCEPTED)


async def _try(settings: Settings, pool: Pool, user: int) -> bool:
    """Whether every device's provider accepted; False when the user has none."""
    from mim.push.trial import trial

    verdicts = []
    async for device, answer in trial(settings, pool, SystemClock(), user):
        verdicts.append(answer.verdict)
        typer.echo(f"device {device.device} ({device.platform}): {answer.verdict.value}, {answer.reason}")
    if not verdicts:
        typer.echo(f"user {user} has no device that takes notifications")
    return bool(verdicts) and all(verdict is Verdict.ACCEPTED for verdict in verdicts)
