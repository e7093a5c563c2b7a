"""Reaching Postgres within a bound: what it cannot answer is `unavailable`, never the caller's fault.

A phone that is told `unauthorized` signs out; one that is told `unavailable` tries again with what it has.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import structlog

from mim.errors import Code, PeerError
from mim.store.db import UNAVAILABLE

log = structlog.get_logger("mim.auth.storage")

PATIENCE_S = 8.0
RETRY_MS = 2_000


@asynccontextmanager
async def storage() -> AsyncIterator[None]:
    """Bound what runs inside by PATIENCE_S; raise PeerError `unavailable` when Postgres does not answer."""
    with bounded_storage():
        async with asyncio.timeout(PATIENCE_S):
            yield


@contextmanager
def bounded_storage() -> Iterator[None]:
    """The same for what has a bound of its own."""
    try:
        yield
    except UNAVAILABLE as exc:
        log.warning("storage is away", error=type(exc).__name__)
        raise PeerError(Code.UNAVAILABLE, "storage is down; try again shortly", RETRY_MS) from exc
