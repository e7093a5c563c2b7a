"""Two nodes on one database and one Redis, in this process."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.harness import RunningServer, running
from tests.redis_server import PROGRAM, RedisServer


@pytest.fixture
async def redis_server() -> AsyncIterator[RedisServer]:
    """A Redis of one's own, to be killed."""
    if PROGRAM is None:
        pytest.skip("redis-server 7 is not installed: apt install redis-server")
    server = RedisServer()
    try:
        await server.start()
        yield server
    finally:
        server.clean_up()


@asynccontextmanager
async def two_nodes(url: str, redis_url: str, **settings: Any) -> AsyncIterator[tuple[RunningServer, RunningServer]]:
    """Nodes that are joined by Redis."""
    async with (
        running(url, redis_url=redis_url, **settings) as one,
        running(url, redis_url=redis_url, **settings) as two,
    ):
        yield one, two
