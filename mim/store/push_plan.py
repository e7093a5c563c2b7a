"""Who is to be told of messages: one query over the members of the chats, one insertion into push_outbox.

Both are bounded by their caller, which hands over chats until their members are enough for one query.
"""

from collections.abc import Sequence
from typing import Any, Final

from msgspec import Struct

from mim.store.db import Connection, Pool

MESSAGE: Final = 1
REVISED: Final = 2
CALL: Final = 3

CANDIDATE: Final = """
    select d.id, d.user_id, d.push_platform, t.chat_id, t.seq, m.muted, coalesce(s.reading, true),
           coalesce(s.mentions, true), coalesce(s.calls, true), s.quiet_from, s.quiet_until, s.zone
    from target t
    cross join lateral (
        select * from device where user_id = t.user_id and push_platform is not null and revoked is null offset 0
    ) d
    cross join lateral (select * from member where chat_id = t.chat_id and user_id = t.user_id offset 0) m
    left join lateral (select * from push_settings where user_id = t.user_id offset 0) s on true
    where m.left_at is null and m.first_seq <= t.seq and m.read_seq < t.seq
"""  # whom the recipient blocks would be left out here


class Candidate(Struct, frozen=True):
    """A device that has not read up to `seq` of a chat, and what its user wants."""

    device: int
    user: int
    platform: str
    chat: int
    seq: int
    muted: bool
    reading: bool
    mentions: bool
    calls: bool
    quiet_from: int | None
    quiet_until: int | None
    zone: str | None


class Entry(Struct, frozen=True):
    """A row for push_outbox; times are seconds since 1970."""

    device: int
    chat: int
    kind: int
    user: int
    platform: str
    seq: int
    loud: bool
    due: float
    expires: float
    committed: float


class Said(Struct, frozen=True):
    """A message as planning needs it. `low` and `high` are the peers of a direct chat."""

    chat: int
    seq: int
    sender: int
    low: int | None
    high: int | None
    extra: dict[str, Any] | None
    committed: float


async def sizes(db: Pool | Connection, chats: Sequence[int]) -> dict[int, int]:
    """Members by chat."""
    rows = await db.fetch("select id, members from chat where id = any ($1)", chats)
    return {row["id"]: row["members"] for row in rows}


async def peers(db: Pool | Connection, targets: Sequence[tuple[int, int, int]]) -> list[Candidate]:
    """Devices of single users: (chat, user, seq)."""
    rows = await db.fetch(
        f"""with target as (
                select * from unnest($1::bigint[], $2::bigint[], $3::bigint[]) as t(chat_id, user_id, seq)
            ) {CANDIDATE}""",
        *_columns(targets, 3),
    )
    return [Candidate(*row) for row in rows]


async def members(
    db: Pool | Connection, heads: Sequence[tuple[int, int]], own: Sequence[tuple[int, int, int]]
) -> list[Candidate]:
    """Devices of all members of groups: (chat, newest seq). `own` are members who sent some of it themselves: (chat,
    user, newest seq of others), where a seq of 0 leaves them out.
    """
    rows = await db.fetch(
        f"""with target as materialized (
                select m.chat_id, m.user_id, coalesce(o.seq, h.seq) as seq
                from unnest($1::bigint[], $2::bigint[]) as h(chat_id, seq)
                join member m on m.chat_id = h.chat_id and m.left_at is null
                left join unnest($3::bigint[], $4::bigint[], $5::bigint[]) as o(chat_id, user_id, seq)
                    on o.chat_id = m.chat_id and o.user_id = m.user_id
            ) {CANDIDATE} and t.seq > 0""",
        *_columns(heads, 2), *_columns(own, 3),
    )  # fmt: skip
    return [Candidate(*row) for row in rows]


async def unheard(db: Pool | Connection, user: int, device: int, since: int, limit: int) -> list[Candidate]:
    """What one device was not told: the newest message by others of each chat since second `since`."""
    rows = await db.fetch(
        f"""with target as materialized (
                select m.chat_id, m.user_id, x.seq
                from member m join chat c on c.id = m.chat_id and c.active >= $3
                cross join lateral (
                    select x.seq from message x
                    where x.chat_id = m.chat_id and x.seq > m.read_seq and x.sender <> $1 and x.deleted is null
                    order by x.seq desc limit 1
                ) x
                where m.user_id = $1 and m.left_at is null
                order by c.active desc limit $4
            ) {CANDIDATE} and d.id = $2""",
        user, device, since, limit,
    )  # fmt: skip
    return [Candidate(*row) for row in rows]


async def said(db: Pool | Connection, chats: Sequence[int], seqs: Sequence[int]) -> list[Said]:
    """Messages by (chat, seq), without those that were deleted since."""
    rows = await db.fetch(
        """select x.chat_id, x.seq, x.sender, c.low, c.high, x.extra, x.at::double precision
           from unnest($1::bigint[], $2::bigint[]) as i(chat_id, seq)
           join message x on x.chat_id = i.chat_id and x.seq = i.seq and x.deleted is null
           join chat c on c.id = x.chat_id order by 1, 2""",
        chats, seqs,
    )  # fmt: skip
    return [Said(*row) for row in rows]


async def revised(db: Pool | Connection, chats: Sequence[int], seqs: Sequence[int], since: float) -> list[Candidate]:
    """Devices that were shown one of these messages after `since` and have not read it."""
    rows = await db.fetch(
        f"""with target as materialized (
                select w.chat_id, d.user_id, w.shown as seq, w.device_id
                from unnest($1::bigint[], $2::bigint[]) as i(chat_id, seq)
                join push_told w on w.chat_id = i.chat_id and w.shown = i.seq and w.shown <> 0 and w.at > $3
                join device d on d.id = w.device_id
            ) {CANDIDATE} and d.id = t.device_id""",
        chats, seqs, since,
    )  # fmt: skip
    return [Candidate(*row) for row in rows]


async def put(db: Pool | Connection, entries: Sequence[Entry], gap_s: float) -> int:
    """Put entries into the outbox; returns for how many there is a row now that tells more than before.

    What the device was told already is left out, so planning twice tells once. A chat that was told of less than
    `gap_s` ago is due when that is over. Rows go in by device and chat, as all who lock several of them do.
    """
    ordered = sorted(entries, key=lambda e: (e.device, e.chat, e.kind))
    rows = await db.fetch(
        """insert into push_outbox as o
               (device_id, chat_id, kind, user_id, platform, seq, loud, due, expires, committed)
           select i.device_id, i.chat_id, i.kind, i.user_id, i.platform, i.seq, i.loud,
                  case when i.kind = 1 then greatest(i.due, w.at + $11) else i.due end, i.expires, i.committed
           from unnest($1::bigint[], $2::bigint[], $3::smallint[], $4::bigint[], $5::text[], $6::bigint[],
                       $7::boolean[], $8::float8[], $9::float8[], $10::float8[]) with ordinality
                as i(device_id, chat_id, kind, user_id, platform, seq, loud, due, expires, committed, ord)
           cross join lateral (
               select max(t.seq) as seq, max(t.at) as at from push_told t
               where t.device_id = i.device_id and t.chat_id = i.chat_id
           ) w
           where i.kind <> 1 or w.seq is null or w.seq < i.seq
           order by i.ord
           on conflict (device_id, chat_id, kind) do update set
               seq = greatest(o.seq, excluded.seq), loud = o.loud or excluded.loud, asked = o.asked + 1,
               platform = excluded.platform, expires = greatest(o.expires, excluded.expires),
               due = case when o.taken then o.due else least(o.due, excluded.due) end
           where excluded.seq > o.seq or excluded.kind <> 1 or (excluded.loud and not o.loud)
           returning 1""",
        *_columns([(e.device, e.chat, e.kind, e.user, e.platform, e.seq, e.loud, e.due, e.expires, e.committed)
                   for e in ordered], 10),
        gap_s,
    )  # fmt: skip
    return len(rows)


def _columns(rows: Sequence[tuple[Any, ...]], width: int) -> list[list[Any]]:
    return [[row[column] for row in rows] for column in range(width)]
