"""Many who come in are told apart, and what each missed is read for all of them at once."""

from collections.abc import AsyncIterator

import pytest

from mim.store import accounts, chats, entering, sync
from mim.store.db import BY_KEY, Pool, open_pool
from mim.store.entering import Claim, Entry
from mim.store.sync import Horizon, Resume

NOW = 1_700_000_000


@pytest.fixture(params=["planner's choice", "by key"])
async def pool(request: pytest.FixtureRequest, database_url: str) -> AsyncIterator[Pool]:
    """Connections with the planner's settings of the general pool, and of the one for sessions."""
    pool = await open_pool(database_url, 4, BY_KEY if request.param == "by key" else None)
    yield pool
    await pool.close()


async def add(pool: Pool, sub: str, install: str = "phone") -> tuple[int, int]:
    """A user of an app with a device: their ids."""
    async with pool.acquire() as db, db.transaction():
        user = await accounts.ensure_sub_account(db, sub, "", NOW)
        return user, await accounts.add_device(db, user, install, "", "", NOW)


async def club(pool: Pool, *users: int) -> int:
    """A group; the first user owns it."""
    async with pool.acquire() as db, db.transaction():
        return await chats.create_group(db, users[0], users, "club", NOW)


async def enter(pool: Pool, *claims: Claim, now: int = NOW) -> list[Entry | None]:
    """Those who come in `now`."""
    return await entering.enter(pool, claims, now, 300)


async def test_everybody_is_found_by_what_the_token_names(pool: Pool) -> None:
    (mina, phone), (jun, desktop), (gone, lost) = [await add(pool, sub) for sub in ("mina", "jun", "gone")]
    async with pool.acquire() as db, db.transaction():
        await chats.open_direct(db, mina, jun, NOW)
    both, own, left = await club(pool, mina, jun), await club(pool, jun), await club(pool, mina, jun)
    async with pool.acquire() as db, db.transaction():
        await chats.remove_members(db, await chats.lock(db, left), [jun], NOW)
    await accounts.revoke(pool, gone, lost, NOW)
    found = await enter(
        pool,
        Claim(sub="jun", install="phone"),
        Claim(user=mina, device=desktop),  # somebody else's device
        Claim(user=mina, device=phone),
        Claim(sub="jun", install="tablet"),
        Claim(sub="nobody", install="phone"),
        Claim(user=gone, device=lost),
        Claim(user=mina, device=phone),
    )
    assert [entry and (entry.user, entry.device, entry.revoked, entry.groups) for entry in found] == [
        (jun, desktop, False, {both: 1, own: 1}),
        None,
        (mina, phone, False, {both: 1, left: 1}),
        None,
        None,
        (gone, lost, True, {}),
        (mina, phone, False, {both: 1, left: 1}),
    ]


async def test_seen_is_written_when_it_is_old_and_waits_for_nobody(pool: Pool) -> None:
    devices = [await add(pool, sub) for sub in ("mina", "jun", "gone")]
    claims = [Claim(user=user, device=device) for user, device in devices]
    await accounts.revoke(pool, *devices[2], NOW)

    async def seen() -> list[int]:
        return [row["seen"] for row in await pool.fetch("select seen from device order by id")]

    await enter(pool, *claims, now=NOW + 300)
    assert await seen() == [NOW, NOW, NOW]
    async with pool.acquire() as other, other.transaction():
        await other.execute("select from device where id = $1 for update", devices[0][1])
        await enter(pool, *claims, now=NOW + 301)
        assert await seen() == [NOW, NOW + 301, NOW]
    await enter(pool, *claims, now=NOW + 302)
    assert await seen() == [NOW + 302, NOW + 301, NOW]


async def test_each_is_told_what_is_his(pool: Pool) -> None:
    (mina, phone), (jun, desktop), (gone, lost) = [await add(pool, sub) for sub in ("mina", "jun", "gone")]
    old, quiet = await club(pool, mina, jun), await club(pool, mina, gone)
    await accounts.revoke(pool, gone, lost, NOW)
    start = await sync.horizon(pool)
    new = await club(pool, jun, mina)
    async with pool.acquire() as db, db.transaction():
        await chats.remove_members(db, await chats.lock(db, old), [mina], NOW)
    later = Horizon(start.at, start.xid + 1000, start.system)
    other = Horizon(start.at, start.xid, start.system ^ 1)
    found = await sync.changed(
        pool,
        [
            Resume(mina, phone, start),
            Resume(gone, lost, start),
            Resume(mina, phone, None),
            Resume(jun, phone, start),  # not his device
            Resume(jun, desktop, later),
            Resume(jun, desktop, other),
            Resume(mina, phone, await sync.horizon(pool)),
        ],
        start.system,
    )
    told = [one and (one.since, {chat: state.kind for chat, state in one.chats}) for one in found]
    assert told == [
        (start, {old: "left", new: "group"}),
        None,
        (None, {quiet: "group", new: "group"}),
        None,
        (None, {old: "group", new: "group"}),
        (None, {old: "group", new: "group"}),
        (told[-1][0] if told[-1] else None, {}),
    ]
    resumed, full = found[0], found[2]
    assert resumed is not None
    assert resumed.groups({old: 1, quiet: 1}) == {quiet: 1, new: 1}
    assert full is not None
    assert full.groups({old: 1}) == {quiet: 1, new: 1}


async def test_a_cursor_that_is_newer_than_the_reading_of_groups_passes_over_nothing(pool: Pool) -> None:
    (mina, phone), (jun, _) = [await add(pool, sub) for sub in ("mina", "jun")]
    (entry,) = await enter(pool, Claim(user=mina, device=phone))
    assert entry is not None
    new = await club(pool, jun, mina)
    cursor = await sync.horizon(pool)
    (found,) = await sync.changed(pool, [Resume(mina, phone, cursor, entry.xid)], cursor.system)
    assert found is not None
    assert found.since == cursor
    assert found.groups(entry.groups) == {new: 1}
