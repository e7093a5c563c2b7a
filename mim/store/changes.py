"""Changes of a chat, numbered by `rev` without holes (proto/changes.md)."""

from typing import Any

from msgspec import Struct

from mim.store.chats import LockedChat, not_member
from mim.store.db import Connection, Pool


class ChangeRow(Struct, frozen=True):
    """One change as stored. `about` is the seq of the message it concerns, if any; `data` is without `after`."""

    chat: int
    rev: int
    kind: str
    user: int
    at: int
    after: int
    about: int | None
    data: dict[str, Any]

    def shown(self, first: int) -> dict[str, Any]:
        """The data for a member whose first seq is `first`: without content about what came before."""
        if self.about is None:
            return {"after": self.after, **self.data}
        if self.about < first or not self.data:
            return {"after": self.after, "seq": self.about}
        return {"after": self.after, **self.data}


async def log_change(
    conn: Connection,
    chat: LockedChat,
    kind: str,
    user: int,
    data: dict[str, Any],
    now: int,
    about: int | None = None,
) -> ChangeRow:
    """Write the next change of a chat that this transaction has locked."""
    rev, head = await conn.fetchrow(  # type: ignore[misc]
        "update chat set rev = rev + 1, touched = pg_current_xact_id() where id = $1 returning rev, head",
        chat.id,
    )
    row = ChangeRow(chat.id, rev, kind, user, now, head, about, data)
    await conn.execute(
        """insert into change (chat_id, rev, kind, user_id, at, after, about, data)
           values ($1, $2, $3, $4, $5, $6, $7, $8)""",
        chat.id, rev, kind, user, now, head, about, data,
    )  # fmt: skip
    return row


async def page(db: Pool | Connection, chat: int, user: int, after: int, limit: int) -> tuple[int, list[ChangeRow]]:
    """(the asker's first seq, changes with rev > after, oldest first); PeerError `not_member`."""
    rows = await db.fetch(
        """select m.first_seq, c.* from member m
           left join lateral (
               select rev, kind, user_id, at, after, about, data from change
               where chat_id = m.chat_id and rev > $3 order by rev limit $4
           ) c on true
           where m.chat_id = $1 and m.user_id = $2 and m.left_at is null order by c.rev""",
        chat, user, after, limit,
    )  # fmt: skip
    if not rows:
        raise not_member()
    found = [
        ChangeRow(chat, r["rev"], r["kind"], r["user_id"], r["at"], r["after"], r["about"], r["data"])
        for r in rows
        if r["rev"] is not None
    ]
    return rows[0]["first_seq"], found


async def forget_text(conn: Connection, chat: int, seq: int) -> None:
    """Take the text of a message out of its earlier edits; the revs stay."""
    await conn.execute("update change set data = '{}' where chat_id = $1 and about = $2 and kind = 'edit'", chat, seq)
