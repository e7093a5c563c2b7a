"""What the command line finds out before it runs a server, and how its other commands use the database."""

import asyncio
import errno
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar
from urllib.parse import urlsplit

import asyncpg

from mim.config import Settings, secret
from mim.embedded import EmbeddedPostgres
from mim.store.db import Pool, open_pool
from mim.store.migrate import migrate

T = TypeVar("T")


class UnreachableError(Exception):
    """An address that cannot be listened on, or a database that does not answer; the text is a sentence."""


def check_listening(settings: Settings) -> None:
    """Raise UnreachableError when the server could not listen where the settings say."""
    where = f"port {settings.port} of {settings.host}"
    try:
        [family, kind, _, _, address], *_ = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except socket.gaierror as exc:
        raise UnreachableError(f"{settings.host} is no address; correct --host (MIM_HOST)") from exc
    except OSError as exc:
        raise UnreachableError(
            LISTENING.get(exc.errno or 0, "{} cannot be used; choose another").format(where)
        ) from exc


LISTENING = {
    errno.EADDRINUSE: "{} is in use; stop the program that uses it, or choose another with --port (MIM_PORT)",
    errno.EACCES: "{} needs rights that you do not have; choose one above 1023 with --port (MIM_PORT)",
    errno.EADDRNOTAVAIL: "{} is not of this machine; correct --host (MIM_HOST)",
}


def check_database(settings: Settings) -> None:
    """Raise UnreachableError when there is a database URL and nobody answers there. Blocks."""

    async def ask(url: str) -> None:
        await (await open_pool(url, 1)).close()

    if settings.database_url is not None:
        with database(settings) as url:
            asyncio.run(ask(url))


@contextmanager
def database(settings: Settings) -> Iterator[str]:
    """The URL of the database, of the embedded one too; raises UnreachableError when it does not answer."""
    url = secret(settings.database_url)
    embedded = None if url else EmbeddedPostgres(settings.data_dir / "postgres")
    if embedded is not None:
        url = embedded.start()
    assert url is not None
    try:
        yield url
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as exc:
        where = urlsplit(url).hostname or settings.data_dir
        raise UnreachableError(
            f"the database at {where} cannot be used ({type(exc).__name__}); "
            "check that it runs and that MIM_DATABASE_URL is right"
        ) from exc
    finally:
        if embedded is not None:
            embedded.stop()


def with_pool(settings: Settings, work: Callable[[Pool], Awaitable[T]]) -> T:
    """What `work` returns, done on the migrated database of `settings`."""

    async def run(url: str) -> T:
        await migrate(url)
        async with await open_pool(url, 2) as pool:
            return await work(pool)

    with database(settings) as url:
        return asyncio.run(run(url))
