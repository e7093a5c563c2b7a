"""A server for every conversation."""

from collections.abc import AsyncIterator

import pytest_asyncio

from tests.harness import RunningServer, running


@pytest_asyncio.fixture
async def server(database_url: str) -> AsyncIterator[RunningServer]:
    """A node on an empty database."""
    async with running(database_url) as server:
        yield server
