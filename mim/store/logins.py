"""What signing in keeps: one-time codes, refresh tokens, rates, and the server's own secrets.

Only digests of codes and tokens are stored. Times are whole seconds since 1970.
"""

from msgspec import Struct

from mim.store.accounts import Queries, Transaction


class RefreshRow(Struct, frozen=True):
    """A device's refresh tokens as SHA-256; `user` is who owns the device."""

    user: int
    current: bytes
    previous: bytes | None
    expires: int


async def count_use(db: Queries, subject: str, now: int, window_s: int, limit: int) -> int:
    """Count one use of `subject`; 0 when it is within `limit`, else seconds until the next window.

    One atomic statement, so that nodes that count at once cannot let more through. The count stops one above
    the limit.
    """
    row = await db.fetchrow(
        """
        insert into rate_window as w (subject, started, used) values ($1, $2, 1)
        on conflict (subject) do update set
            started = case when w.started <= $2 - $3::bigint then $2 else w.started end,
            used = case when w.started <= $2 - $3::bigint then 1 else least(w.used, $4::int) + 1 end
        returning started, used
        """,
        subject,
        now,
        window_s,
        limit,
    )
    if row is None or row["used"] <= limit:
        return 0
    wait_s: int = row["started"] + window_s - now
    return max(1, wait_s)


async def put_code(db: Queries, phone: str, digest: bytes, expires: int) -> None:
    """Make `digest` the only valid code of `phone`, with all its tries."""
    await db.execute(
        """
        insert into login_code (phone, digest, expires) values ($1, $2, $3)
        on conflict (phone) do update set digest = excluded.digest, expires = excluded.expires, tries = 0
        """,
        phone,
        digest,
        expires,
    )


async def take_try(db: Queries, phone: str, now: int, tries: int) -> bytes | None:
    """Spend one of the `tries` of the code of `phone`; its digest, or None when there is no code to try."""
    digest: bytes | None = await db.fetchval(
        """
        update login_code set tries = tries + 1 where phone = $1 and tries < $3 and expires > $2
        returning digest
        """,
        phone,
        now,
        tries,
    )
    return digest


async def use_code(db: Transaction, phone: str, digest: bytes) -> bool:
    """Remove the code; False when it was used or replaced meanwhile."""
    found = await db.fetchval("delete from login_code where phone = $1 and digest = $2 returning 1", phone, digest)
    return found is not None


async def forget_code(db: Queries, phone: str, digest: bytes) -> None:
    """Remove a code that did not reach its phone."""
    await db.execute("delete from login_code where phone = $1 and digest = $2", phone, digest)


async def lock_refresh(db: Transaction, device: int) -> RefreshRow | None:
    """The refresh tokens of a device, locked until the transaction ends; None when it has none."""
    # The device first: revoking locks it before the tokens.
    user = await db.fetchval("select user_id from device where id = $1 for no key update", device)
    row = await db.fetchrow(
        "select current, previous, expires from refresh_token where device_id = $1 for update", device
    )
    if user is None or row is None:
        return None
    return RefreshRow(user, row["current"], row["previous"], row["expires"])


async def put_refresh(db: Transaction, device: int, current: bytes, previous: bytes | None, expires: int) -> None:
    """Store the refresh tokens of a device in place of those it had."""
    await db.execute(
        """
        insert into refresh_token (device_id, current, previous, expires) values ($1, $2, $3, $4)
        on conflict (device_id) do update
            set current = excluded.current, previous = excluded.previous, expires = excluded.expires
        """,
        device,
        current,
        previous,
        expires,
    )


async def touch_device(db: Queries, device: int, now: int) -> None:
    """Note that a device was seen."""
    await db.execute("update device set seen = greatest(seen, $2) where id = $1", device, now)


async def shared_secret(db: Queries, name: str, fresh: bytes) -> bytes:
    """The secret `name` that all nodes share; `fresh` becomes it when there is none yet."""
    stored: bytes | None = await db.fetchval("select value from server_secret where name = $1", name)
    if stored is None:
        await db.execute("insert into server_secret (name, value) values ($1, $2) on conflict do nothing", name, fresh)
        stored = await db.fetchval("select value from server_secret where name = $1", name)
    if stored is None:
        raise LookupError(f"server secret {name} was removed while it was read")
    return stored


async def purge(db: Queries, now: int, window_s: int) -> None:
    """Remove codes that expired and windows that ended, a bounded number at a time."""
    await db.execute(
        """
        delete from login_code where phone in (
            select phone from login_code where expires <= $1 limit 10000 for update skip locked)
        """,
        now,
    )
    await db.execute(
        """
        delete from rate_window where subject in (
            select subject from rate_window where started <= $1 - $2::bigint limit 10000
            for update skip locked)
        """,
        now,
        window_s,
    )
