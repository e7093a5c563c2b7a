"""What tests of signing in share: an Identity on a fresh database, a clock turned by hand, the codes sent."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import jwt
import pytest
import pytest_asyncio

from mim.auth import Identity, SignIn
from mim.clock import ManualClock
from mim.config import Settings
from mim.errors import Code, PeerError
from mim.store.db import Pool, open_pool

PHONE = "010-2345-6789"
ADDRESS = "203.0.113.7"


class Carrier:
    """An SMS provider that keeps what it was given; `broken` makes it fail."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, str, str]] = []
        self.broken = False

    async def send_code(self, phone: str, code: str, locale: str) -> None:
        if self.broken:
            raise ConnectionError(f"no route for {phone} {code}")
        self.sent.append((phone, code, locale))


class World:
    """One node: its Identity and what it was built from. Nodes of one test share the pool."""

    def __init__(self, pool: Pool, http: httpx.AsyncClient, clock: ManualClock, settings: Settings) -> None:
        self.pool = pool
        self.clock = clock
        self.settings = settings
        self.carrier = Carrier()
        self.revoked: list[tuple[int, int]] = []
        self.added: list[tuple[int, int]] = []
        self.identity = Identity(
            pool,
            settings,
            clock,
            self.carrier,
            http,
            on_revoked=lambda user, device: self.revoked.append((user, device)),
            on_added=lambda user, device: self.added.append((user, device)),
        )

    async def code(self, phone: str = PHONE, address: str = ADDRESS) -> str:
        """Ask for a code and read it off the carrier."""
        await self.identity.request_code(phone, address)
        return self.carrier.sent[-1][1]

    async def sign_in(self, phone: str = PHONE) -> SignIn:
        """A new device of the phone's user. A window later, so that tests may sign in often."""
        self.clock.advance(3600)
        return await self.identity.verify(phone, await self.code(phone), "Galaxy", "android", ADDRESS)

    def app_token(self, key: Any, algorithm: str = "HS256", kid: str | None = None, **claims: Any) -> str:
        """A token as an app signs it, good for an hour; a claim given as None is left out."""
        payload = {"sub": "mina", "dev": "phone", "exp": int(self.clock.now()) + 3600, **claims}
        payload = {name: value for name, value in payload.items() if value is not None}
        return jwt.encode(payload, key, algorithm, headers={"kid": kid} if kid else None)

    async def refuses(self, token: str) -> str:
        """The detail with which `token` is refused as unauthorized; no part of the token may be in it."""
        with pytest.raises(PeerError) as refused:
            await self.identity.authenticate(token)
        error = refused.value
        assert error.code is Code.UNAUTHORIZED
        assert not any(len(part) > 16 and part in error.detail for part in token.split("."))
        return error.detail


@pytest_asyncio.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    """Connections to a fresh database."""
    pool = await open_pool(database_url, 8)
    yield pool
    await pool.close()


@pytest_asyncio.fixture
async def make_world(pool: Pool) -> AsyncIterator[Callable[..., World]]:
    """Builds nodes with settings of one's own, all on one database and one clock."""
    worlds: list[World] = []
    clock = ManualClock()
    async with httpx.AsyncClient() as http:

        def make(**settings: Any) -> World:
            worlds.append(World(pool, http, clock, Settings(**settings)))
            return worlds[-1]

        yield make
        for world in worlds:
            await world.identity.close()


@pytest_asyncio.fixture
async def world(make_world: Callable[..., World]) -> World:
    """A node with the default settings."""
    return make_world()
