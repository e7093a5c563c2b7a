"""Pages of messages and of changes, as frames: what FETCH and CHANGES answer."""

from typing import Any

from mim.chat.context import Context
from mim.errors import Code, PeerError
from mim.model import Caller
from mim.store import changes, messages
from mim.store.messages import Message
from mim.wire.frames import Change, Changes, Fetch, Msg, MsgWithMeta, Result


def message_frame(message: Message) -> Msg | MsgWithMeta:
    """The MSG frame of a message in its present state."""
    if message.meta:
        return MsgWithMeta(message.chat, message.seq, message.sender, message.at, message.body, message.meta)
    return Msg(message.chat, message.seq, message.sender, message.at, message.body)


async def fetch(context: Context, caller: Caller, frame: Fetch) -> list[Any]:
    """MSG frames of the page and the closing RESULT `{more}`; PeerError `not_member`, `bad_frame`."""
    limit = bounded(frame.limit, context.settings.fetch_limit)
    page, more = await messages.page(context.pool, frame.chat, caller.user, frame.from_seq, limit)
    return [*map(message_frame, page), Result(frame.ref, {"more": more})]


async def changes_page(context: Context, caller: Caller, frame: Changes) -> list[Any]:
    """CHANGE frames of the page and the closing RESULT `{more}`; PeerError `not_member`, `bad_frame`."""
    if frame.limit < 0:
        raise PeerError(Code.BAD_FRAME, "limit: 1 to 200 changes, oldest first")
    limit = bounded(frame.limit, context.settings.fetch_limit)
    first, found = await changes.page(context.pool, frame.chat, caller.user, frame.from_rev, limit + 1)
    frames = [Change(r.chat, r.rev, r.kind, r.user, r.at, r.shown(first)) for r in found[:limit]]
    return [*frames, Result(frame.ref, {"more": len(found) > limit})]


def bounded(limit: int, most: int) -> int:
    """A page limit within the bounds, its sign kept; PeerError for 0, which asks for nothing."""
    if limit == 0:
        raise PeerError(Code.BAD_FRAME, "limit: 1 to 200 rows, negative for the way back; 0 asks for nothing")
    return max(-most, min(limit, most))
