"""Where devices take notifications and what their users want to be told."""

from msgspec import Struct

from mim.store.db import Connection, Pool


class PushSettings(Struct, frozen=True):
    """A user's wishes. `quiet_from` and `quiet_until` are minutes since midnight in `zone`; None: no quiet hours.

    `preview` None means what the deployment says.
    """

    preview: str | None = None
    quiet_from: int | None = None
    quiet_until: int | None = None
    zone: str | None = None
    reading: bool = True
    mentions: bool = True
    calls: bool = True


async def get(db: Pool | Connection, user: int) -> PushSettings:
    """What a user wants; the defaults where nothing was set."""
    row = await db.fetchrow(
        """select preview, quiet_from, quiet_until, zone, reading, mentions, calls
           from push_settings where user_id = $1""",
        user,
    )
    return PushSettings() if row is None else PushSettings(*row)


async def put(db: Pool | Connection, user: int, wanted: PushSettings) -> None:
    """Store all of a user's wishes."""
    await db.execute(
        """insert into push_settings (user_id, preview, quiet_from, quiet_until, zone, reading, mentions, calls)
           values ($1, $2, $3, $4, $5, $6, $7, $8)
           on conflict (user_id) do update set
               preview = excluded.preview, quiet_from = excluded.quiet_from, quiet_until = excluded.quiet_until,
               zone = excluded.zone, reading = excluded.reading, mentions = excluded.mentions, calls =
               excluded.calls""",
        user, wanted.preview, wanted.quiet_from, wanted.quiet_until, wanted.zone, wanted.reading, wanted.mentions,
        wanted.calls,
    )  # fmt: skip


async def register(
    db: Pool | Connection, device: int, platform: str, token: str, voip: str | None, locale: str, now: float
) -> None:
    """Remember where a device takes notifications. A token belongs to one device: it leaves any other."""
    await db.execute(
        """with taken as (
               update device set push_platform = null, push_token = null, push_voip = null
               where push_platform = $2 and push_token = $3 and id <> $1
           )
           update device set push_platform = $2, push_token = $3, push_voip = $4, push_locale = $5, push_since = $6
           where id = $1 and revoked is null""",
        device, platform, token, voip, locale, now,
    )  # fmt: skip


async def unregister(db: Pool | Connection, device: int) -> None:
    """The device takes no notifications any more."""
    await db.execute(
        "update device set push_platform = null, push_token = null, push_voip = null where id = $1", device
    )


class Registered(Struct, frozen=True):
    """A device that takes notifications."""

    device: int
    name: str
    platform: str
    token: str
    locale: str


async def registered(db: Pool | Connection, user: int) -> list[Registered]:
    """The devices of a user that take notifications."""
    rows = await db.fetch(
        """select d.id, d.name, d.push_platform, d.push_token, coalesce(nullif(d.push_locale, ''), a.locale)
           from device d join account a on a.id = d.user_id
           where d.user_id = $1 and d.push_platform is not null and d.revoked is null order by d.id""",
        user,
    )
    return [Registered(*row) for row in rows]
