"""Chats and their members: rows, states and membership. Everything that alters a chat holds its row lock."""

from collections.abc import Iterable, Sequence
from typing import Any

from msgspec import UNSET, Struct

from mim.errors import Code, PeerError
from mim.model import ChatState, Kind, Role
from mim.store.db import Connection, Pool

STATE = """
    select m.chat_id, m.user_id, c.kind, c.title, c.members, c.low, c.high, c.head, c.rev, c.notice,
           m.first_seq, m.read_seq, m.role, m.muted, m.pinned, m.left_at
    from member m join chat c on c.id = m.chat_id
"""


class LockedChat(Struct, frozen=True):
    """A chat whose row this transaction has locked. `low`, `high` are the peers of a direct chat."""

    id: int
    kind: Kind
    head: int
    rev: int
    members: int
    low: int | None
    high: int | None
    title: str | None
    notice: str | None

    @property
    def is_direct(self) -> bool:
        """Whether two peers, and no roles, make it."""
        return self.kind == Kind.DIRECT


class Member(Struct, frozen=True):
    """One user's row in a chat. A user who left has `present` False and keeps the row."""

    user: int
    role: Role
    first: int
    read: int
    present: bool


def not_member() -> PeerError:
    """What an outsider hears, whether the chat exists or not."""
    return PeerError(Code.NOT_MEMBER, "you are not a member of this chat")


def state_of(row: Any) -> ChatState:
    """The state of a STATE row as its user sees it."""
    direct = row["kind"] == Kind.DIRECT
    left = row["left_at"] is not None
    if left and not direct:
        return LEFT_GROUP
    peer = row["low"] if row["user_id"] == row["high"] else row["high"]
    return ChatState(
        kind="left" if left else "direct" if direct else "group",
        title=row["title"],
        count=row["members"],
        peer=peer if direct else UNSET,
        head=row["head"],
        rev=row["rev"],
        first=row["first_seq"],
        read=row["read_seq"],
        role=Role(row["role"]).name.lower(),
        muted=row["muted"],
        pinned=row["pinned"],
        notice=UNSET if row["notice"] is None else row["notice"],
    )


LEFT_GROUP = ChatState(
    kind="left", title=None, count=0, head=0, rev=0, first=0, read=0, role="member", muted=False, pinned=False
)


# -- reading ---------------------------------------------------------------------------------


async def state(db: Pool | Connection, chat: int, user: int) -> ChatState:
    """The chat as `user` sees it; PeerError `not_member` when the user is not in it."""
    row = await db.fetchrow(f"{STATE} where m.chat_id = $1 and m.user_id = $2 and m.left_at is null", chat, user)
    if row is None:
        raise not_member()
    return state_of(row)


async def states(db: Pool | Connection, chat: int, users: Sequence[int] | None = None) -> list[tuple[int, ChatState]]:
    """(user, state) of the named users who have or had a place in the chat; of all present ones when None."""
    if users is None:
        rows = await db.fetch(f"{STATE} where m.chat_id = $1 and m.left_at is null order by m.user_id", chat)
    else:
        rows = await db.fetch(f"{STATE} where m.chat_id = $1 and m.user_id = any ($2)", chat, list(users))
    return [(row["user_id"], state_of(row)) for row in rows]


async def page(db: Pool | Connection, user: int, before: int | None, limit: int) -> list[tuple[int, ChatState]]:
    """(chat, state) of the user's chats, latest activity first, those after chat `before` in that order."""
    rows = await db.fetch(
        f"""{STATE} where m.user_id = $1 and m.left_at is null
            and ($2::bigint is null or (c.active, c.id) < (select b.active, b.id from chat b where b.id = $2))
            order by c.active desc, c.id desc limit $3""",
        user, before, limit,
    )  # fmt: skip
    return [(row["chat_id"], state_of(row)) for row in rows]


async def members(db: Pool | Connection, chat: int, after: int, limit: int) -> list[Any]:
    """Rows (user_id, name, role, joined) of present members by rising user id; a direct chat always has both."""
    return await db.fetch(
        """select m.user_id, a.name, m.role, m.joined
           from member m join account a on a.id = m.user_id join chat c on c.id = m.chat_id
           where m.chat_id = $1 and m.user_id > $2 and (m.left_at is null or c.kind = 1)
           order by m.user_id limit $3""",
        chat, after, limit,
    )  # fmt: skip


async def watermarks(db: Pool | Connection, chat: int) -> list[tuple[int, int]]:
    """(user, read seq) of the present members."""
    rows = await db.fetch(
        """select m.user_id, m.read_seq from member m join chat c on c.id = m.chat_id
           where m.chat_id = $1 and (m.left_at is null or c.kind = 1) order by m.user_id""",
        chat,
    )
    return [(row["user_id"], row["read_seq"]) for row in rows]


async def groups_of(db: Pool | Connection, user: int, device: int) -> dict[int, int] | None:
    """Group chats in which the user is present: chat to the first seq the user may see. None for a revoked device."""
    rows = await db.fetch(
        """select m.chat_id, m.first_seq
           from device d left join member m on m.user_id = d.user_id and m.left_at is null and not m.direct
           where d.id = $2 and d.user_id = $1 and d.revoked is null""",
        user, device,
    )  # fmt: skip
    return {row["chat_id"]: row["first_seq"] for row in rows if row["chat_id"] is not None} if rows else None


async def typing_scopes(
    db: Pool | Connection, typists: Sequence[tuple[int, int]]
) -> dict[tuple[int, int], tuple[int | None, int | None]]:
    """Of (chat, user), those who are present members: (low, high) of a direct chat, (None, None) of a group."""
    rows = await db.fetch(
        """select m.chat_id, m.user_id, c.low, c.high
           from unnest($1::bigint[], $2::bigint[]) as asked (chat_id, user_id)
           join member m on m.chat_id = asked.chat_id and m.user_id = asked.user_id
           join chat c on c.id = m.chat_id
           where m.left_at is null or c.kind = 1""",
        [chat for chat, _ in typists], [user for _, user in typists],
    )  # fmt: skip
    return {(row["chat_id"], row["user_id"]): (row["low"], row["high"]) for row in rows}


async def existing_users(db: Pool | Connection, users: Iterable[int]) -> set[int]:
    """Those of the ids that are users."""
    rows = await db.fetch("select id from account where id = any ($1)", list(users))
    return {row["id"] for row in rows}


# -- writing: inside a transaction -----------------------------------------------------------


async def lock(conn: Connection, chat: int) -> LockedChat:
    """Lock the chat's row; PeerError `not_member` when there is none. Read members only after this."""
    row = await conn.fetchrow(
        "select id, kind, head, rev, members, low, high, title, notice from chat where id = $1 for no key update", chat
    )
    if row is None:
        raise not_member()
    return LockedChat(**{**row, "kind": Kind(row["kind"])})


async def member(conn: Connection, chat: int, user: int) -> Member:
    """The present member `user`; PeerError `not_member` otherwise."""
    row = await conn.fetchrow(
        "select role, first_seq, read_seq from member where chat_id = $1 and user_id = $2 and left_at is null",
        chat, user,
    )  # fmt: skip
    if row is None:
        raise not_member()
    return Member(user, Role(row["role"]), row["first_seq"], row["read_seq"], present=True)


async def present(conn: Connection, chat: int, users: Iterable[int]) -> dict[int, Role]:
    """Role by user of those who are present members."""
    rows = await conn.fetch(
        "select user_id, role from member where chat_id = $1 and user_id = any ($2) and left_at is null",
        chat, list(users),
    )  # fmt: skip
    return {row["user_id"]: Role(row["role"]) for row in rows}


async def firsts(db: Pool | Connection, chat: int) -> dict[int, int]:
    """The first seq that each user with a place in the chat may see."""
    rows = await db.fetch("select user_id, first_seq from member where chat_id = $1", chat)
    return {row["user_id"]: row["first_seq"] for row in rows}


async def create_group(conn: Connection, creator: int, users: Sequence[int], title: str | None, now: int) -> int:
    """A new group of `users` (the creator among them, who owns it); returns its id."""
    chat: int = await conn.fetchval(
        """insert into chat (kind, title, members, active, touched, created)
           values ($1, $2, $3, $4, pg_current_xact_id(), $4) returning id""",
        Kind.GROUP, title, len(users), now,
    )  # fmt: skip
    await conn.execute(
        """insert into member (chat_id, user_id, role, first_seq, read_seq, joined, join_rev, touched)
           select $1, u, case when u = $2 then 3 else 1 end, 1, 0, $4, 0, pg_current_xact_id() from
           unnest($3::bigint[]) u""",
        chat, creator, list(users), now,
    )  # fmt: skip
    return chat


async def open_direct(conn: Connection, low: int, high: int, now: int) -> tuple[int, bool]:
    """The one direct chat of two users: (id, whether it was created now)."""
    found: int | None = await conn.fetchval("select chat_id from direct_chat where low = $1 and high = $2", low, high)
    if found is not None:
        return found, False
    chat: int = await conn.fetchval(
        """insert into chat (kind, members, low, high, active, touched, created)
           values ($1, 2, $2, $3, $4, pg_current_xact_id(), $4) returning id""",
        Kind.DIRECT, low, high, now,
    )  # fmt: skip
    taken: int | None = await conn.fetchval(
        "insert into direct_chat (low, high, chat_id) values ($1, $2, $3) on conflict do nothing returning chat_id",
        low, high, chat,
    )  # fmt: skip
    if taken is None:  # another request created it meanwhile: its row is committed by now
        await conn.execute("delete from chat where id = $1", chat)
        return await conn.fetchval("select chat_id from direct_chat where low = $1 and high = $2", low, high), False
    await conn.execute(
        """insert into member (chat_id, user_id, direct, first_seq, read_seq, joined, join_rev, touched)
           select $1, u, true, 1, 0, $3, 0, pg_current_xact_id() from unnest($2::bigint[]) u""",
        chat, [low, high], now,
    )  # fmt: skip
    return chat, True


async def reveal_direct(conn: Connection, chat: int, user: int) -> bool:
    """Bring a direct chat back to `user` who had left it; True when it was away."""
    status = await conn.execute(
        """update member set left_at = null, touched = pg_current_xact_id()
           where chat_id = $1 and user_id = $2 and left_at is not null""",
        chat, user,
    )  # fmt: skip
    return bool(status.endswith(" 1"))


async def add_members(conn: Connection, chat: LockedChat, users: Sequence[int], rev: int, now: int) -> None:
    """Let users in, new or returning: they see what comes after the present head."""
    await conn.execute(
        """insert into member (chat_id, user_id, first_seq, read_seq, joined, join_rev, touched)
           select $1, u, $3 + 1, $3, $5, $4, pg_current_xact_id() from unnest($2::bigint[]) u
           on conflict (chat_id, user_id) do update set
               role = 1, first_seq = excluded.first_seq, read_seq = excluded.read_seq, joined = excluded.joined,
               join_rev = excluded.join_rev, left_at = null, muted = false, pinned = false, touched =
               excluded.touched""",
        chat.id, list(users), chat.head, rev, now,
    )  # fmt: skip
    await recount(conn, chat.id)


async def remove_members(conn: Connection, chat: LockedChat, users: Sequence[int], now: int) -> None:
    """Mark members as gone. Their rows stay, so that other devices of theirs learn of it when they sync."""
    await conn.execute(
        """update member set left_at = $3, role = 1, touched = pg_current_xact_id()
           where chat_id = $1 and user_id = any ($2) and left_at is null""",
        chat.id, list(users), now,
    )  # fmt: skip
    await recount(conn, chat.id)


async def hide_direct(conn: Connection, chat: LockedChat, user: int, now: int) -> None:
    """Hide a direct chat from one side until either sends: what was said so far stays out of sight."""
    await conn.execute(
        """update member set left_at = $3, first_seq = $4 + 1, read_seq = greatest(read_seq, $4),
               muted = false, pinned = false, touched = pg_current_xact_id()
           where chat_id = $1 and user_id = $2""",
        chat.id, user, now, chat.head,
    )  # fmt: skip
    await conn.execute("update chat set hidden = true where id = $1", chat.id)


async def recount(conn: Connection, chat: int) -> None:
    """Count the present members anew, rather than add and subtract."""
    await conn.execute(
        """update chat set members = (select count(*) from member where chat_id = $1 and left_at is null),
               touched = pg_current_xact_id() where id = $1""",
        chat,
    )


async def set_role(conn: Connection, chat: int, user: int, role: Role) -> None:
    """Give a member a role."""
    await conn.execute(
        "update member set role = $3, touched = pg_current_xact_id() where chat_id = $1 and user_id = $2",
        chat, user, int(role),
    )  # fmt: skip


async def heir(conn: Connection, chat: int, owner: int) -> int | None:
    """Who owns the chat after `owner`: the manager, else the member, who joined first."""
    heir_id: int | None = await conn.fetchval(
        """select user_id from member where chat_id = $1 and user_id <> $2 and left_at is null
           order by role desc, join_rev, joined, user_id limit 1""",
        chat, owner,
    )  # fmt: skip
    return heir_id


async def set_title(conn: Connection, chat: int, title: str | None) -> None:
    """Change the title."""
    await conn.execute("update chat set title = $2 where id = $1", chat, title)


async def set_notice(conn: Connection, chat: int, notice: str | None) -> None:
    """Change the notice."""
    await conn.execute("update chat set notice = $2 where id = $1", chat, notice)


async def set_settings(db: Pool | Connection, chat: int, user: int, muted: bool | None, pinned: bool | None) -> None:
    """Change what one user set for a chat; PeerError `not_member` when the user is not in it."""
    status = await db.execute(
        """update member set muted = coalesce($3, muted), pinned = coalesce($4, pinned), touched = pg_current_xact_id()
           where chat_id = $1 and user_id = $2 and left_at is null""",
        chat, user, muted, pinned,
    )  # fmt: skip
    if not status.endswith(" 1"):
        raise not_member()
