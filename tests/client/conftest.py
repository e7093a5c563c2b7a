"""A scripted server, and clients of it that end with the test."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from mim.client import Client
from tests.client.peer import Line, Peer, scripted_peer
from tests.harness import RunningServer, running

Opens = Callable[..., Awaitable[tuple[Client, Line]]]


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    async with scripted_peer() as peer:
        yield peer


@pytest.fixture
async def opens(peer: Peer) -> AsyncIterator[Opens]:
    """`await opens(*states, client={...}, **ready)`: a client whose first sync holds these chats, and its line."""
    async with AsyncExitStack() as stack:

        async def open_client(
            *states: dict[str, Any], client: dict[str, Any] | None = None, **ready: Any
        ) -> tuple[Client, Line]:
            opened = Client(peer.url, "token", **(client or {}))

            stack.push_async_callback(opened.close)

            async def serve() -> Line:
                line = await peer.accepts()
                await line.opens(*states, **ready)
                return line

            _, line = await asyncio.gather(opened.__aenter__(), serve())
            return opened, line

        yield open_client


@pytest.fixture
async def server(database_url: str) -> AsyncIterator[RunningServer]:
    """A real node on an empty database."""
    async with running(database_url) as server:
        yield server
