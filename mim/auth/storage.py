"""Reaching Postgres within a bound: what it cannot answer is `unavailable`, never the caller's fault.

A phone that is told `unauthorized` signs out; one that is told `unavailable` tries again with what it has.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog

from mim.errors import Code, PeerError
from mim.store.db import UNAVAILABLE

log = structlog.get_logger("mim.auth.storage")

PATIENCE_S = 8.0
RETRY_MS = 2_000


@asynccontextmanager
async def storage() -> AsyncIterator[None]:
    """Bound what runs inside by PATIENCE_S; raise PeerError `unavailable` when Postgres does not answer."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            yield
    except UNAVAILABLE as exc:
        log.warning("storage is away", error=type(exc).__name__)
        raise PeerError(Code.UNAVAILABLE, "storage is down; try again shortly", RETRY_MS) from exc
