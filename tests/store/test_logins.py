"""Queries of signing in that must hold when many come at once, and that a hot login writes nothing."""

import asyncio
from collections.abc import AsyncIterator

import pytest_asyncio

from mim.store import accounts, logins
from mim.store.db import Pool, open_pool

NOW = 1_700_000_000


@pytest_asyncio.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    pool = await open_pool(database_url, 8)
    yield pool
    await pool.close()


async def test_uses_at_once_are_all_counted(pool: Pool) -> None:
    waits = await asyncio.gather(*(logins.count_use(pool, "s", NOW, 60, 7) for _ in range(40)))
    assert waits.count(0) == 7
    assert set(waits) == {0, 60}


async def test_a_window_starts_again_and_a_refused_use_does_not_extend_it(pool: Pool) -> None:
    assert await logins.count_use(pool, "s", NOW, 60, 1) == 0
    assert await logins.count_use(pool, "s", NOW + 59, 60, 1) == 1
    assert await logins.count_use(pool, "s", NOW + 60, 60, 1) == 0
    assert await logins.count_use(pool, "s", NOW + 61, 60, 1) == 59


async def test_a_clock_that_is_behind_does_not_open_the_window(pool: Pool) -> None:
    assert await logins.count_use(pool, "s", NOW + 5, 60, 1) == 0
    assert await logins.count_use(pool, "s", NOW, 60, 1) == 65


async def test_the_first_secret_is_kept(pool: Pool) -> None:
    offered = [bytes([n]) * 32 for n in range(8)]
    taken = await asyncio.gather(*(logins.shared_secret(pool, "s", secret) for secret in offered))
    assert len(set(taken)) == 1
    assert taken[0] in offered


async def test_a_login_writes_only_when_seen_is_old(pool: Pool) -> None:
    async with pool.acquire() as db, db.transaction():
        user = await accounts.ensure_sub_account(db, "mina", "Mina", NOW)
        device = await accounts.add_device(db, user, "phone", "", "", NOW)
    version = "select xmin::text from device"
    before = await pool.fetchval(version)
    login = accounts.Login(user, device, "Mina", False)
    assert await accounts.read_device(pool, user, device, NOW + 300, 300) == login
    assert await accounts.read_install(pool, "mina", "phone", NOW + 300, 300) == login
    assert await pool.fetchval(version) == before
    assert await accounts.read_install(pool, "mina", "phone", NOW + 301, 300) == login
    assert await pool.fetchval("select seen from device") == NOW + 301
    assert await accounts.read_device(pool, user + 1, device, NOW, 300) is None


async def test_an_account_added_by_many_at_once_is_one(pool: Pool) -> None:
    async def ensure() -> int:
        async with pool.acquire() as db, db.transaction():
            return await accounts.ensure_phone_account(db, "+821023456789", NOW)

    assert len(set(await asyncio.gather(*(ensure() for _ in range(20))))) == 1
