"""How often something may be done in an hour, counted across nodes."""

from mim.auth.storage import storage
from mim.errors import Code, PeerError
from mim.store import logins
from mim.store.db import Pool

WINDOW_S = 3600


async def count(pool: Pool, subject: str, limit: int, now: int) -> None:
    """Count one use of `subject` in this hour; above `limit` raise `rate_limited` with retry_after_ms."""
    async with storage():
        wait_s = await logins.count_use(pool, subject, now, WINDOW_S, limit)
    if wait_s:
        minutes = -(-wait_s // 60)
        raise PeerError(Code.RATE_LIMITED, f"too often; try again in {minutes} min", wait_s * 1000)
