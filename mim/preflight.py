"""What the command line finds out before it runs a server, and how its other commands use the database."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar
from urllib.parse import urlsplit

import asyncpg

from mim.bus.redis import probe_redis
from mim.bus.redis_link import RedisRefusedError
from mim.config import Settings, secret
from mim.embedded import EmbeddedPostgres
from mim.listening import UnreachableError
from mim.store.db import Pool, open_pool
from mim.store.migrate import migrate

T = TypeVar("T")


def check_database(settings: Settings) -> None:
    """Raise UnreachableError when there is a database URL and nobody answers there. Blocks."""

    async def ask(url: str) -> None:
        await (await open_pool(url, 1)).close()

    if settings.database_url is not None:
        with database(settings) as url:
            asyncio.run(ask(url))


def check_redis(settings: Settings) -> None:
    """Raise UnreachableError when a Redis answers and refuses us. One that is away may come later. Blocks."""
    url = secret(settings.redis_url)
    if url is None:
        return
    try:
        asyncio.run(probe_redis(url))
    except (RedisRefusedError, ValueError) as exc:
        raise UnreachableError(f"{exc}; check that MIM_REDIS_URL is right") from exc


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
