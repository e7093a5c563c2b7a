"""Messages after their commit: pages of history, edits, deletions, reactions."""

from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from mim.errors import Code, PeerError
from mim.model import Stored, body_of
from mim.store.chats import not_member
from mim.store.db import Connection, Pool

COLUMNS = "s.chat_id, s.seq, s.sender, s.at, s.edited, s.deleted, s.reacted, s.text, s.extra, h.at as hidden"
HIDDEN = "left join hidden_message h on h.user_id = {user} and h.chat_id = s.chat_id and h.seq = s.seq"

BYTES = "(octet_length(y.text) + coalesce(octet_length(y.extra::text), 0))"
PAGE_BYTES = 1 << 20  # bodies of a page, so that 200 messages of 64 KiB do not stand in memory at once
SYNC_BYTES = 1 << 17  # bodies of one chat in a sync


class Message(Struct, frozen=True):
    """A message in its present state for one asker. `meta` is empty where there is nothing to tell."""

    chat: int
    seq: int
    sender: int
    at: int
    body: str | dict[str, Any]
    meta: dict[str, Any]


class Existing(Struct, frozen=True):
    """What judging an edit, deletion or reaction needs to know of a message."""

    seq: int
    sender: int
    at: int
    deleted: bool


async def page(db: Pool | Connection, chat: int, user: int, start: int, limit: int) -> tuple[list[Message], bool]:
    """One page of history and whether there is more.

    limit > 0: seq > start, oldest first; limit < 0: seq < start (0: no bound), newest first. A page ends early at
    PAGE_BYTES of bodies. Never shows what came before the asker's first seq. Raises PeerError `not_member`.
    """
    if limit > 0:
        bound, order = "s.seq > $3", "seq"
    else:
        bound, order = "($3 = 0 or s.seq < $3)", "seq desc"
    rows = await db.fetch(
        f"""select x.* from member m left join lateral (
               select * from (
                   select y.*, sum({BYTES}) over (order by {order}) - {BYTES} as bytes_before from (
                       select {COLUMNS} from message s {HIDDEN.format(user="m.user_id")}
                       where s.chat_id = m.chat_id and s.seq >= m.first_seq and {bound} order by s.{order} limit $4
                   ) y
               ) z where bytes_before < {PAGE_BYTES} order by {order}
           ) x on true
           where m.chat_id = $1 and m.user_id = $2 and m.left_at is null""",
        chat, user, start, abs(limit) + 1,
    )  # fmt: skip
    if not rows:
        raise not_member()
    found = [row for row in rows if row["seq"] is not None]
    # A page that the bytes ended is shorter than was asked for and still not the last one: ask what lies beyond it.
    more = len(found) > abs(limit) or bool(found and await _beyond(db, chat, user, found[-1]["seq"], limit))
    return await with_reactions(db, user, found[: abs(limit)]), more


async def _beyond(db: Pool | Connection, chat: int, user: int, last: int, limit: int) -> bool:
    """Whether the asker may see a message after `last` (limit > 0) or before it."""
    bound = "c.head > $3" if limit > 0 else "m.first_seq < $3"
    beyond: bool | None = await db.fetchval(
        f"select {bound} from member m join chat c on c.id = m.chat_id where m.chat_id = $1 and m.user_id = $2",
        chat, user, last,
    )  # fmt: skip
    return bool(beyond)


async def newest(
    db: Pool | Connection, user: int, chats: Sequence[int], firsts: Sequence[int], since: int, limit: int
) -> dict[int, list[Message]]:
    """By chat its newest messages: seq >= first, stored at or after second `since`, at most `limit`, oldest first.

    A chat's part ends early at SYNC_BYTES of bodies. Membership is the caller's to have judged.
    """
    rows = await db.fetch(
        f"""select x.* from unnest($2::bigint[], $3::bigint[]) as c(chat_id, first) cross join lateral (
               select y.*, sum({BYTES}) over (order by seq desc) - {BYTES} as bytes_before from (
                   select {COLUMNS} from message s {HIDDEN.format(user="$1")}
                   where s.chat_id = c.chat_id and s.seq >= c.first order by s.seq desc limit $4
               ) y
           ) x where x.at >= $5 and x.bytes_before < {SYNC_BYTES}""",
        user, list(chats), list(firsts), limit, since,
    )  # fmt: skip
    found: dict[int, list[Message]] = {}
    for message in await with_reactions(db, user, rows):
        found.setdefault(message.chat, []).append(message)
    for messages in found.values():
        messages.reverse()
    return found


async def with_reactions(db: Pool | Connection, user: int, rows: Sequence[Any]) -> list[Message]:
    """Turn COLUMNS rows into messages, with one more query only when something was reacted to."""
    reacted = [row for row in rows if row["reacted"] and row["deleted"] is None and row["hidden"] is None]
    counts: dict[tuple[int, int], dict[str, int]] = {}
    mine: dict[tuple[int, int], str] = {}
    if reacted:
        for chat, seq, reaction, count, own in await db.fetch(
            """select r.chat_id, r.seq, r.reaction, count(*), bool_or(r.user_id = $3)
               from unnest($1::bigint[], $2::bigint[]) as i(chat_id, seq)
               join reaction r on r.chat_id = i.chat_id and r.seq = i.seq
               group by 1, 2, 3 order by count(*) desc, 3""",
            [row["chat_id"] for row in reacted], [row["seq"] for row in reacted], user,
        ):  # fmt: skip
            counts.setdefault((chat, seq), {})[reaction] = count
            if own:
                mine[chat, seq] = reaction
    return [
        _message(row, counts.get((row["chat_id"], row["seq"])), mine.get((row["chat_id"], row["seq"]))) for row in rows
    ]


def _message(row: Any, reactions: dict[str, int] | None, mine: str | None) -> Message:
    meta: dict[str, Any] = {}
    deleted = row["hidden"] if row["deleted"] is None else row["deleted"]
    if deleted is not None:
        return Message(row["chat_id"], row["seq"], row["sender"], row["at"], "", {"deleted": deleted})
    if row["edited"] is not None:
        meta["edited"] = row["edited"]
    if reactions:
        meta["reactions"] = reactions
    if mine is not None:
        meta["mine"] = mine
    return Message(row["chat_id"], row["seq"], row["sender"], row["at"], body_of(row["text"], row["extra"]), meta)


# -- writing: inside a transaction that has locked the chat ------------------------------------


async def existing(conn: Connection, chat: int, seq: int, first: int) -> Existing:
    """The message, if it is there for someone who sees from `first` on; PeerError `not_found` otherwise."""
    row = await conn.fetchrow("select seq, sender, at, deleted from message where chat_id = $1 and seq = $2", chat, seq)
    if row is None or seq < first:
        raise PeerError(Code.NOT_FOUND, f"there is no message {seq} in this chat")
    return Existing(row["seq"], row["sender"], row["at"], row["deleted"] is not None)


async def edit(conn: Connection, chat: int, seq: int, body: Stored, now: int) -> None:
    """Replace a message's body."""
    await conn.execute(
        "update message set text = $3, extra = $4, edited = $5 where chat_id = $1 and seq = $2",
        chat, seq, body.text, body.extra, now,
    )  # fmt: skip


async def delete_for_everyone(conn: Connection, chat: int, seq: int, now: int) -> None:
    """Leave a tombstone: the text, what was attached and the reactions are gone from the tables."""
    await conn.execute(
        """update message set text = '', extra = null, deleted = $3, edited = null, reacted = false
           where chat_id = $1 and seq = $2""",
        chat, seq, now,
    )  # fmt: skip
    await conn.execute("delete from reaction where chat_id = $1 and seq = $2", chat, seq)


async def delete_for_me(db: Pool | Connection, user: int, chat: int, seq: int, now: int) -> bool:
    """Hide a message from one user; False when it was hidden already."""
    status = await db.execute(
        "insert into hidden_message (user_id, chat_id, seq, at) values ($1, $2, $3, $4) on conflict do nothing",
        user, chat, seq, now,
    )  # fmt: skip
    return bool(status.endswith(" 1"))


async def react(conn: Connection, chat: int, seq: int, user: int, reaction: str | None) -> None:
    """Set or take away the one reaction of a user."""
    if reaction is None:
        await conn.execute("delete from reaction where chat_id = $1 and seq = $2 and user_id = $3", chat, seq, user)
        return
    await conn.execute(
        """insert into reaction (chat_id, seq, user_id, reaction) values ($1, $2, $3, $4)
           on conflict (chat_id, seq, user_id) do update set reaction = excluded.reaction""",
        chat, seq, user, reaction,
    )  # fmt: skip
    await conn.execute("update message set reacted = true where chat_id = $1 and seq = $2 and not reacted", chat, seq)
