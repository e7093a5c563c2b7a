"""A server for every conversation."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.conversations.raw import assert_calm, peace
from tests.harness import RunningServer, running


@pytest_asyncio.fixture
async def server(request: pytest.FixtureRequest, database_url: str) -> AsyncIterator[RunningServer]:
    """A node on an empty database; with the mark `unlimited` it never says `rate_limited`."""
    rates: dict[str, Any] = {}
    if request.node.get_closest_marker("unlimited"):
        rates = dict.fromkeys(("request_rate", "request_burst", "send_rate", "send_burst"), 1_000_000)
    async with running(database_url, **rates) as server:
        yield server


@pytest_asyncio.fixture
async def calm(
    server: RunningServer, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> AsyncIterator[None]:
    """Neighbours chat before and after, nothing is left of the attacker, and the log tells of no failure."""
    async with peace(server):
        yield
    assert_calm(caplog, capsys)
