"""The sync after READY: chats that changed and their newest messages (proto/session.md#sync)."""

from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

from mim.chat.context import Context
from mim.chat.freshness import Freshness
from mim.chat.history import message_frame
from mim.store import chats, messages, sync
from mim.store.sync import Changed as Changed
from mim.store.sync import Horizon, Resume
from mim.store.together import Together
from mim.wire.frames import ChatFrame, ReadBy

NEWEST: Final = 50  # messages of a chat in a sync
CHATS_AT_ONCE: Final = 20
RESUMED: Final = 32  # sessions in one query
FULL: Final = 8  # when everything is told

# `at` is the second in which a message's batch was committed, the cursor's second is read a little before or
# after: what is told twice is dropped by the client, what is not told would be a gap for it to fetch.
MARGIN_S: Final = 5


async def groups(context: Context, user: int, device: int) -> dict[int, int] | None:
    """Groups to listen to: chat to the first seq that the user may see. None for a revoked device."""
    return await chats.groups_of(context.pool, user, device)


class Missing:
    """Reads what sessions that open missed, for those who come together at once. Who resumes, and misses little as a
    rule, does not wait for those to whom everything is told.
    """

    def __init__(self, context: Context, freshness: Freshness) -> None:
        self._pool = context.sessions
        self._freshness = freshness
        self._resumed: Together[Resume, Changed | None] = Together(self._read, most=RESUMED)
        self._full: Together[Resume, Changed | None] = Together(self._read, most=FULL)

    async def since(self, user: int, device: int, cursor: str | None, known: int) -> Changed | None:
        """What changed since the cursor; everything without one, or with one that the database cannot vouch for. None
        for a revoked device. `known`: the oldest transaction that was under way when the user's groups were read.
        """
        since = sync.parse_cursor(cursor) if cursor else None
        together = self._full if since is None else self._resumed
        return await together.ask(Resume(user, device, since, known))

    async def close(self) -> None:
        """Read no more."""
        await self._resumed.close()
        await self._full.close()

    async def _read(self, resumes: list[Resume]) -> list[Changed | None]:
        return await sync.changed(self._pool, resumes, self._freshness.system)


async def changed(context: Context, user: int, device: int, since: Horizon | None, system: int) -> Changed | None:
    """What changed since a horizon of database `system`. None for a revoked device."""
    (found,) = await sync.changed(context.pool, [Resume(user, device, since)], system)
    return found


async def frames(context: Context, user: int, changed: Changed) -> AsyncIterator[list[Any]]:
    """Portions of a sync: CHAT frames, each followed by its newest messages, oldest first."""
    since = 0 if changed.since is None else changed.since.at - MARGIN_S
    for start in range(0, len(changed.chats), CHATS_AT_ONCE):
        portion = changed.chats[start : start + CHATS_AT_ONCE]
        talked = [(chat, state) for chat, state in portion if not state.is_left and state.head >= state.first]
        newest = await messages.newest(
            context.pool, user, [chat for chat, _ in talked], [state.first for _, state in talked], since, NEWEST
        )  # fmt: skip
        yield [
            frame
            for chat, state in portion
            for frame in (ChatFrame(chat, state), *map(message_frame, newest.get(chat, ())))
        ]


async def chat_frames(context: Context, chat: int, user: int, rev: int) -> list[Any]:
    """CHAT and the newest messages of one chat, for who was told of it when its newest change was `rev` and there was
    nothing to see; nothing when that is still so, or the user is out again."""
    found = await chats.states(context.pool, chat, [user])
    if not found:
        return []
    state = found[0][1]
    if state.is_left or (state.head < state.first and state.rev <= rev):
        return []
    newest = await messages.newest(context.pool, user, [chat], [state.first], 0, NEWEST)
    return [ChatFrame(chat, state), *map(message_frame, newest.get(chat, ()))]


async def direct_read_by(context: Context, user: int, since: Horizon) -> list[ReadBy]:
    """READBY of a user's direct chats: how far the others have read since a horizon."""
    return [ReadBy(chat, [peer, seq]) for chat, peer, seq in await sync.read_since(context.pool, user, since.xid)]


async def groups_read_by(context: Context, groups: Sequence[int], since: Horizon) -> list[ReadBy]:
    """READBY of groups, in which anybody has read since a horizon."""
    moved = await sync.groups_read_since(context.pool, groups, since.xid)
    return [ReadBy(chat, marks) for chat, marks in moved.items()]


async def concerned(context: Context, chats: Sequence[int], xid: int) -> set[int]:
    """Users who must hear of what these chats gained from transaction `xid` on."""
    return await sync.concerned(context.pool, chats, xid)
