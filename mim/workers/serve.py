"""`mim serve --workers N`: what the parent owns, put together and taken apart again."""

import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Final

import structlog
from pydantic import SecretStr

from mim import logs
from mim.app import announce, keep_alive
from mim.config import Settings, secret
from mim.embedded import EmbeddedPostgres
from mim.embedded_redis import EmbeddedRedis
from mim.listening import Address, reserved
from mim.store.migrate import migrate
from mim.tasks import TaskSet
from mim.workers.supervisor import Supervisor

log = structlog.get_logger("mim.workers")

FAILED: Final = 1


def serve_workers(settings: Settings) -> int:
    """Run several workers until SIGTERM or SIGINT; returns the exit code. Blocks."""
    logs.configure(settings.log_level, settings.log_format, settings.dev)
    url = secret(settings.database_url)
    embedded = None if url else EmbeddedPostgres(settings.data_dir / "postgres")
    with reserved(settings) as addresses:
        try:
            if embedded is not None:
                url = embedded.start()
            assert url is not None
            with asyncio.Runner() as runner:
                return runner.run(_serve(settings, url, embedded, addresses))
        except asyncio.CancelledError:  # told to stop before it was up
            return 0
        finally:
            if embedded is not None:
                embedded.stop()


async def _serve(settings: Settings, url: str, embedded: EmbeddedPostgres | None, addresses: Sequence[Address]) -> int:
    """Own the parts. Until there is a supervisor, SIGINT and SIGTERM cancel this."""
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    for name in await migrate(url):
        log.info("database migrated", migration=name)
    async with AsyncExitStack() as parts:
        watches = TaskSet()
        if settings.redis_url is None:
            redis = EmbeddedRedis(settings.data_dir / "redis")
            parts.push_async_callback(redis.stop)
            settings = settings.model_copy(update={"redis_url": SecretStr(await redis.start())})
            watches.spawn(redis.watch(), name="watch over the private Redis")
        if embedded is not None:
            watches.spawn(keep_alive(embedded), name="watch over the embedded Postgres")
        parts.push_async_callback(watches.close)
        return await _supervise(Supervisor(settings, url, addresses), settings, addresses[0][1][1])


async def _supervise(supervisor: Supervisor, settings: Settings, port: int) -> int:
    loop = asyncio.get_running_loop()
    had_terminal = _has_terminal()

    def hang_up() -> None:
        """SIGHUP asks for new workers; it also comes when the terminal is closed in which this runs."""
        if had_terminal and not _has_terminal():
            supervisor.stop()
        else:
            supervisor.roll()

    well = drained = True
    try:
        well = await supervisor.start()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, supervisor.stop)
        loop.add_signal_handler(signal.SIGHUP, hang_up)
        if well:
            announce(settings, port)
            await supervisor.run()
        else:
            log.error("a worker does not start; its own lines say why")
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, supervisor.stop)  # what is closing is not to be cancelled
        drained = await supervisor.close()
    return 0 if well and drained else FAILED


def _has_terminal() -> bool:
    return sys.stdin is not None and os.isatty(sys.stdin.fileno())
