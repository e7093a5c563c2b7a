"""What a device missed (docs/architecture.md#sync).

A cursor is a horizon in the database's history: the oldest transaction that was still running when the last sync was
read. Every chat and member row carries the id of the last transaction that touched it; a transaction that was not yet
visible then has an id at or above the horizon, so nothing can fall between two syncs, however long a commit took. The
cursor also names the database, so that one of another database, or of one restored elsewhere, is recognised.
"""

from collections.abc import Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any

from msgspec import Struct

from mim.model import ChatState
from mim.store.chats import STATE, state_of
from mim.store.db import Connection, Pool

HORIZON = """
    select extract(epoch from clock_timestamp())::bigint as at,
           pg_snapshot_xmin(pg_current_snapshot())::text::bigint as xid
"""


class Horizon(Struct, frozen=True, order=True):
    """A point in the history of database `system`: transactions below `xid` are visible; `at` is the second it was
    read.
    """

    at: int
    xid: int
    system: int

    def cursor(self) -> str:
        """The opaque, URL-safe text that clients keep: at most 128 bytes."""
        return f"{self.system:x}.{self.xid:x}.{self.at:x}"


def parse_cursor(cursor: str) -> Horizon | None:
    """The horizon that a cursor names; None for anything that is not a cursor of ours."""
    try:
        system, xid, at = (int(part, 16) for part in cursor.split("."))
    except ValueError:
        return None
    if not (0 <= xid < 2**63 and 0 <= at < 2**53 and 0 <= system < 2**64):
        return None
    return Horizon(at, xid, system)


async def horizon(db: Pool | Connection) -> Horizon:
    """The horizon as of now, below which everything was not only committed but handed to the bus as well."""
    row: Any = await db.fetchrow(
        f"""select least(h.at, (select min(d.at) from dispatch_log d)) as at,
                   least(h.xid, (select min(d.xid) from dispatch_log d)) as xid,
                   (select system_identifier from pg_control_system()) as system
            from ({HORIZON}) h"""
    )
    return Horizon(row["at"], row["xid"], row["system"] % 2**64)


class Changed(Struct, frozen=True):
    """The chats that a sync tells of, newest activity first, and the horizon it was read at."""

    horizon: Horizon
    since: Horizon | None  # what it resumed from; None: everything is told
    chats: list[tuple[int, ChatState]]

    def groups(self, known: Mapping[int, int]) -> dict[int, int]:
        """The groups of the user now (chat to first seq), who was in the `known` ones at or after `since`."""
        groups = {} if self.since is None else dict(known)
        for chat, state in self.chats:
            if state.kind == "group":
                groups[chat] = state.first
            else:
                groups.pop(chat, None)
        return groups


class Resume(Struct, frozen=True):
    """Whose sync is wanted, from which horizon on; `known` is the oldest transaction that was under way when the
    user's groups were read, so that the sync tells at least which came and went since then.
    """

    user: int
    device: int
    since: Horizon | None
    known: int | None = None

    def xid(self, system: int) -> str | None:
        """From which transaction on; None for everything, as without a cursor that database `system` vouches for."""
        if self.since is None or self.since.system != system:
            return None
        return str(self.since.xid if self.known is None else min(self.since.xid, self.known))


async def changed(db: Pool | Connection, resumes: Sequence[Resume], system: int) -> list[Changed | None]:
    """For each, every chat whose state or messages changed for the user since the horizon; all present ones without.
    None for a revoked device.

    A horizon that database `system` cannot vouch for counts as none, and the answer says so. One statement, so
    the rows and the new horizon are of one snapshot.
    """
    xids = [resume.xid(system) for resume in resumes]
    rows = await db.fetch(
        f"""select i.ord, d.id is not null as is_valid, h.at as horizon_at, h.xid as horizon_xid, s.*
            from unnest($1::bigint[], $2::bigint[], $3::text[]::xid8[]) with ordinality
                 as i(user_id, device_id, since, ord)
            cross join ({HORIZON}) h
            left join device d on d.id = i.device_id and d.user_id = i.user_id and d.revoked is null
            left join lateral (
                {STATE.replace("select", "select c.active,", 1)}
                where m.user_id = d.user_id and case when i.since is null then m.left_at is null else
                    m.touched >= i.since or (m.left_at is null and c.touched >= i.since) end
            ) s on true
            order by i.ord, s.active desc, s.chat_id desc""",
        [resume.user for resume in resumes], [resume.device for resume in resumes], xids,
    )  # fmt: skip
    found: list[Changed | None] = []
    for _, group in groupby(rows, key=itemgetter("ord")):
        own = list(group)
        resume, xid = resumes[len(found)], xids[len(found)]
        if not own[0]["is_valid"]:
            found.append(None)
        elif resume.since is not None and xid is not None and resume.since.xid > own[0]["horizon_xid"]:
            # from a later history of this database than the one it has now
            found += await changed(db, [Resume(resume.user, resume.device, None)], system)
        else:
            now = Horizon(own[0]["horizon_at"], own[0]["horizon_xid"], system)
            chats = [(row["chat_id"], state_of(row)) for row in own if row["chat_id"] is not None]
            found.append(Changed(now, None if xid is None else resume.since, chats))
    return found


async def read_since(db: Pool | Connection, user: int, xid: int) -> list[tuple[int, int, int]]:
    """(chat, user, seq): watermarks of others in the user's direct chats that moved from transaction `xid` on."""
    rows = await db.fetch(
        """select m.chat_id, m.user_id, m.read_seq
           from member me join chat c on c.id = me.chat_id and c.kind = 1
           join member m on m.chat_id = me.chat_id and m.user_id <> me.user_id
           where me.user_id = $1 and me.left_at is null and m.touched >= $2::text::xid8""",
        user, str(xid),
    )  # fmt: skip
    return [tuple(row) for row in rows]


async def groups_read_since(db: Pool | Connection, chats: Sequence[int], xid: int) -> dict[int, list[int]]:
    """By group [user, seq, user, seq, ...]: watermarks that moved from transaction `xid` on."""
    rows = await db.fetch(
        """select chat_id, user_id, read_seq from member
           where chat_id = any ($1) and left_at is null and touched >= $2::text::xid8""",
        list(chats), str(xid),
    )  # fmt: skip
    found: dict[int, list[int]] = {}
    for chat, user, seq in rows:
        found.setdefault(chat, []).extend((user, seq))
    return found


async def concerned(db: Pool | Connection, chats: Sequence[int], xid: int) -> set[int]:
    """Users who must hear of what these chats gained from transaction `xid` on: those in them, or out since then."""
    rows = await db.fetch(
        """select distinct user_id from member
           where chat_id = any ($1) and (left_at is null or touched >= $2::text::xid8)""",
        list(chats), str(xid),
    )  # fmt: skip
    return {row["user_id"] for row in rows}
