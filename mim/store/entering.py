"""Who comes in and what they must listen to, for many at a time (mim/gateway/opening.py)."""

from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from mim.store.db import Pool

# By our own ids, or by an app's: what a token does not name is null and finds nothing.
ENTER = """
    with named as (
        select i.ord, d.id, d.user_id, d.revoked, d.seen
        from unnest($1::bigint[], $2::bigint[]) with ordinality as i(user_id, device_id, ord)
        join device d on d.id = i.device_id and d.user_id = i.user_id
        union all
        select i.ord, d.id, d.user_id, d.revoked, d.seen
        from unnest($3::text[], $4::text[]) with ordinality as i(sub, install, ord)
        join account a on a.sub = i.sub
        join device d on d.user_id = a.id and d.install = i.install
    )
    select n.ord, n.id, n.user_id, n.revoked is not null as revoked, n.seen, g.chats, g.firsts,
           pg_snapshot_xmin(pg_current_snapshot())::text::bigint as xid
    from named n left join lateral (
        select array_agg(m.chat_id) as chats, array_agg(m.first_seq) as firsts
        from member m where m.user_id = n.user_id and m.left_at is null and not m.direct
    ) g on n.revoked is null
"""

# Nothing waits for a row that somebody else has: he touches it too, or revokes it.
TOUCH = """
    update device d set seen = $2 from (
        select id from device where id = any ($1) and revoked is null for no key update skip locked
    ) free where d.id = free.id
"""


class Claim(Struct, frozen=True):
    """A device as a token names it: by our own ids, or by an app's external id and install id."""

    user: int | None = None
    device: int | None = None
    sub: str | None = None
    install: str | None = None


class Entry(Struct, frozen=True):
    """A device, and the groups in which its user was present (chat to the first seq the user may see) when `xid` was
    the oldest transaction under way.
    """

    user: int
    device: int
    revoked: bool
    groups: dict[int, int]
    xid: int


async def enter(db: Pool, claims: Sequence[Claim], now: int, touch_s: int) -> list[Entry | None]:
    """What the claims name, in their order, None for what there is not. A device's `seen` becomes `now` when it is
    older than `touch_s`: most sign-ins of a phone that comes and goes write nothing.
    """
    rows = await db.fetch(
        ENTER,
        [claim.user for claim in claims], [claim.device for claim in claims],
        [claim.sub for claim in claims], [claim.install for claim in claims],
    )  # fmt: skip
    stale = [row["id"] for row in rows if row["seen"] < now - touch_s and not row["revoked"]]
    if stale:
        await db.execute(TOUCH, stale, now)
    found: list[Entry | None] = [None] * len(claims)
    for row in rows:
        found[row["ord"] - 1] = _entry(row)
    return found


def _entry(row: Any) -> Entry:
    groups = {} if row["chats"] is None else dict(zip(row["chats"], row["firsts"], strict=True))
    return Entry(row["user_id"], row["id"], row["revoked"], groups, row["xid"])
