"""Postgres held up on purpose: somebody else has the locks that the server needs."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from tests.harness import PATIENCE_S


@asynccontextmanager
async def held(url: str, sql: str) -> AsyncIterator[asyncpg.Connection]:
    """Hold the locks that `sql` takes until the block ends; gives the connection that holds them."""
    side = await asyncpg.connect(url)
    try:
        async with side.transaction():
            await side.execute(sql)
            yield side
    finally:
        await side.close()


async def waiting_for_locks(side: asyncpg.Connection) -> None:
    """Until somebody waits for what `side` holds."""
    asked = "select exists (select from pg_locks where not granted and pg_backend_pid() = any (pg_blocking_pids(pid)))"
    async with asyncio.timeout(PATIENCE_S):
        while not await side.fetchval(asked):  # noqa: ASYNC110 - in the database
            await asyncio.sleep(0.01)
