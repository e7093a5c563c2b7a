"""Accounts and their devices.

Whoever locks rows of more than one of these tables does it in the order account, device, refresh_token, so
that transactions wait for each other and never in a circle. Times are whole seconds since 1970.
"""

from typing import TYPE_CHECKING, TypeAlias

from msgspec import Struct

from mim.store.db import Connection, Pool

if TYPE_CHECKING:
    from asyncpg import Record
    from asyncpg.pool import PoolConnectionProxy

    Queries: TypeAlias = Pool | Connection | PoolConnectionProxy[Record]
    Transaction: TypeAlias = Connection | PoolConnectionProxy[Record]
else:
    Queries = Transaction = object


class Login(Struct, frozen=True):
    """A device with its account, as a login needs it; `name` is the account's."""

    user: int
    device: int
    name: str
    revoked: bool


def found(row_id: int | None) -> int:
    """An id that must be there."""
    if row_id is None:
        raise LookupError("a row vanished between two statements")
    return row_id


async def read_device(db: Queries, user: int, device: int, now: int, touch_s: int) -> Login | None:
    """The device `device` of `user`, or None; its `seen` is set to `now` when it is older than `touch_s`.

    One statement: a login is hot, and most logins of a phone that comes and goes need no write at all.
    """
    row = await db.fetchrow(
        """
        with touched as (
            update device set seen = $3
            where id = $2 and user_id = $1 and revoked is null and seen < $3 - $4::bigint
        )
        select a.name, d.revoked is not null as revoked
        from device d join account a on a.id = d.user_id
        where d.id = $2 and d.user_id = $1
        """,
        user,
        device,
        now,
        touch_s,
    )
    return None if row is None else Login(user, device, row["name"], row["revoked"])


async def read_install(db: Queries, sub: str, install: str, now: int, touch_s: int) -> Login | None:
    """The same as `read_device` for an app's own ids: external id and install id."""
    row = await db.fetchrow(
        """
        with touched as (
            update device d set seen = $3 from account a
            where a.sub = $1 and d.user_id = a.id and d.install = $2
                and d.revoked is null and d.seen < $3 - $4::bigint
        )
        select a.id as user_id, a.name, d.id, d.revoked is not null as revoked
        from account a join device d on d.user_id = a.id
        where a.sub = $1 and d.install = $2
        """,
        sub,
        install,
        now,
        touch_s,
    )
    return None if row is None else Login(row["user_id"], row["id"], row["name"], row["revoked"])


async def add_phone_account(db: Queries, phone: str, name: str, now: int) -> int | None:
    """Add an account for an E.164 phone and return its id; None when the phone has one already."""
    user: int | None = await db.fetchval(
        """
        insert into account (phone, name, created) values ($1, $2, $3)
        on conflict (phone) do nothing returning id
        """,
        phone,
        name,
        now,
    )
    return user


async def lock_phone_account(db: Transaction, phone: str) -> int | None:
    """Lock the account of an E.164 phone until the transaction ends; its id, or None."""
    user: int | None = await db.fetchval("select id from account where phone = $1 for no key update", phone)
    return user


async def ensure_phone_account(db: Transaction, phone: str, now: int) -> int:
    """Lock the account of an E.164 phone until the transaction ends, adding it first if it is new; its id."""
    user = await lock_phone_account(db, phone)
    if user is None:
        # Another node may add it at the same time: then this waits for its commit and finds that row.
        await add_phone_account(db, phone, "", now)
        user = await lock_phone_account(db, phone)
    return found(user)


async def ensure_sub_account(db: Transaction, sub: str, name: str, now: int) -> int:
    """The same for the external id `sub`; `name` is for a new account."""
    select = "select id from account where sub = $1 for no key update"
    user: int | None = await db.fetchval(select, sub)
    if user is None:
        await db.execute(
            "insert into account (sub, name, created) values ($1, $2, $3) on conflict (sub) do nothing",
            sub,
            name,
            now,
        )
        user = await db.fetchval(select, sub)
    return found(user)


async def add_device(db: Transaction, user: int, install: str | None, name: str, os: str, now: int) -> int:
    """Add a device and return its id. The account must be locked, and have none with this install id."""
    device: int | None = await db.fetchval(
        """
        insert into device (user_id, install, name, os, created, seen) values ($1, $2, $3, $4, $5, $5)
        returning id
        """,
        user,
        install,
        name,
        os,
        now,
    )
    return found(device)


async def find_device_named(db: Queries, user: int, name: str) -> int | None:
    """The newest signed-in device of `user` with this name that no app installed, or None."""
    device: int | None = await db.fetchval(
        """
        select id from device where user_id = $1 and name = $2 and install is null and revoked is null
        order by id desc limit 1
        """,
        user,
        name,
    )
    return device


async def revoke_beyond(db: Transaction, user: int, keep: int, limit: int, now: int) -> list[int]:
    """Revoke the least recently seen devices of `user` so that `limit` remain, `keep` among them.

    Returns the revoked ones. The account must be locked, else two new devices do not see each other.
    """
    rows = await db.fetch(
        """
        with surplus as (
            select id from device where user_id = $1 and revoked is null and id <> $2
            order by seen desc, id desc offset $3
        ), gone as (
            update device set revoked = $4, push_platform = null, push_token = null
            where id in (select id from surplus) returning id
        ), forgotten as (
            delete from refresh_token where device_id in (select id from gone)
        )
        select id from gone
        """,
        user,
        keep,
        limit - 1,
        now,
    )
    return [row["id"] for row in rows]


async def revoke(db: Queries, user: int, device: int, now: int) -> bool:
    """Revoke a device of `user` and forget its refresh and push tokens; False when it is not the user's."""
    gone = await db.fetchval(
        """
        with gone as (
            update device set revoked = coalesce(revoked, $3), push_platform = null, push_token = null
            where id = $2 and user_id = $1 returning id
        ), forgotten as (
            delete from refresh_token where device_id in (select id from gone)
        )
        select id from gone
        """,
        user,
        device,
        now,
    )
    return gone is not None
