"""The server's own keys: one random secret shared by all nodes, and a key derived from it for each use.

A key serves one purpose only, so that nothing made for one can be presented as another.
"""

import asyncio
import hashlib
import hmac
import secrets

from msgspec import Struct

from mim.auth.storage import storage
from mim.store import logins
from mim.store.db import Pool

_ROW = "identity"
_SECRET_BYTES = 32


class Keys(Struct, frozen=True):
    """Keys of 32 bytes: for access tokens, refresh tokens, and one-time codes."""

    access: bytes
    refresh: bytes
    code: bytes


class ServerKeys:
    """Reads the keys on first use and keeps them; the first node ever makes them."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._keys: Keys | None = None
        self._loading = asyncio.Lock()

    async def load(self) -> Keys:
        """Return the keys; raises `unavailable` when they are not known yet and Postgres is away."""
        if self._keys is None:
            async with self._loading:
                if self._keys is None:
                    self._keys = await self._read()
        return self._keys

    async def _read(self) -> Keys:
        fresh = secrets.token_bytes(_SECRET_BYTES)
        async with storage():
            secret = await logins.shared_secret(self._pool, _ROW, fresh)
        return Keys(*(hmac.digest(secret, f"mim {use}".encode(), hashlib.sha256) for use in Keys.__struct_fields__))
