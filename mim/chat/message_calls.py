"""`message.*` methods: what happens to a message after it was sent (proto/calls.md#messages)."""

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from mim.chat.altering import altering
from mim.chat.calls import method
from mim.chat.context import Context
from mim.chat.texts import check_text
from mim.errors import Code, PeerError
from mim.model import Caller, Role, body_of
from mim.store import changes, chats, messages, search
from mim.store.chats import LockedChat
from mim.store.db import Connection
from mim.wire.body import check_body
from mim.wire.frames import Body, Id, UInt

REACTION_LIMIT = 32
QUERY_MIN = 2
QUERY_MAX = 100


class EditParams(Struct, frozen=True):
    """Parameters of `message.edit`."""

    chat: Id
    seq: Id
    body: Body


class DeleteParams(Struct, frozen=True):
    """Parameters of `message.delete`."""

    chat: Id
    seq: Id
    scope: Literal["everyone", "me"]


class ReactParams(Struct, frozen=True):
    """Parameters of `message.react`; null takes the reaction away."""

    chat: Id
    seq: Id
    reaction: str | None


class SearchParams(Struct, frozen=True):
    """Parameters of `message.search`; `before` is [at, chat, seq] of the last row of the page before."""

    query: str
    chat: Id | None = None
    before: tuple[UInt, UInt, UInt] | None = None
    limit: Annotated[int, Meta(ge=1)] | None = None


class Revised(Struct, frozen=True):
    """The change that was made."""

    rev: int


class Deleted(Struct, frozen=True, omit_defaults=True):
    """The change that was made, if it was one: deleting for oneself is none."""

    rev: int | UnsetType = UNSET


class Found(Struct, frozen=True):
    """A message that matches."""

    chat: int
    seq: int
    sender: int
    at: int
    body: str | dict[str, Any]


@method("message.edit")
async def edit(context: Context, caller: Caller, params: EditParams) -> Revised:
    """Replace the body of one's own message."""
    body = check_body(params.body, context.settings.text_limit)
    async with altering(context) as alteration:
        conn = alteration.conn
        chat = await chats.lock(conn, params.chat)
        own = await chats.member(conn, chat.id, caller.user)
        found = await messages.existing(conn, chat.id, params.seq, own.first)
        if found.sender != caller.user:
            raise PeerError(Code.FORBIDDEN, "only the author edits a message")
        if found.deleted:
            raise PeerError(Code.NOT_FOUND, "the message is deleted")
        await search.lock_texts(conn, chat.id)
        await messages.edit(conn, chat.id, params.seq, body, context.now())
        await search.reindex(conn, chat.id, params.seq)
        data = {"seq": params.seq, "body": body_of(body.text, body.extra)}
        row = await changes.log_change(conn, chat, "edit", caller.user, data, context.now(), about=params.seq)
        alteration.tells_change(chat, row, await peer_firsts(conn, chat))
    context.push.revised(chat.id, params.seq)
    return Revised(row.rev)


@method("message.delete")
async def delete(context: Context, caller: Caller, params: DeleteParams) -> Deleted:
    """Delete a message for everyone (its author for a day, managers always) or from one's own view alone."""
    if params.scope == "me":
        return await _delete_for_me(context, caller, params)
    async with altering(context) as alteration:
        conn = alteration.conn
        chat = await chats.lock(conn, params.chat)
        own = await chats.member(conn, chat.id, caller.user)
        found = await messages.existing(conn, chat.id, params.seq, own.first)
        _check_may_delete(context, caller, own.role, found)
        if found.deleted:
            raise PeerError(Code.NOT_FOUND, "the message is deleted already")
        await search.lock_texts(conn, chat.id)
        await messages.delete_for_everyone(conn, chat.id, params.seq, context.now())
        await changes.forget_text(conn, chat.id, params.seq)
        await search.reindex(conn, chat.id, params.seq)
        row = await changes.log_change(
            conn, chat, "delete", caller.user, {"seq": params.seq}, context.now(), about=params.seq
        )
        alteration.tells_change(chat, row, await peer_firsts(conn, chat))
    context.push.revised(chat.id, params.seq)
    return Deleted(row.rev)


def _check_may_delete(context: Context, caller: Caller, role: Role, found: messages.Existing) -> None:
    if role >= Role.MANAGER:
        return
    if found.sender != caller.user:
        raise PeerError(Code.FORBIDDEN, "only the author or a manager deletes a message for everyone")
    if context.now() - found.at > context.settings.delete_window_s:
        hours = context.settings.delete_window_s // 3600
        raise PeerError(Code.FORBIDDEN, f"a message can be deleted for everyone within {hours} hours of its sending")


async def _delete_for_me(context: Context, caller: Caller, params: DeleteParams) -> Deleted:
    async with context.pool.acquire() as conn, conn.transaction():
        own = await chats.member(conn, params.chat, caller.user)
        await messages.existing(conn, params.chat, params.seq, own.first)
        new = await messages.delete_for_me(conn, caller.user, params.chat, params.seq, context.now())
    if new:
        context.publisher.note(caller, "deleted", {"chat": params.chat, "seq": params.seq})
    return Deleted()


@method("message.react")
async def react(context: Context, caller: Caller, params: ReactParams) -> Revised:
    """Set, replace or (null) take away the caller's one reaction to a message."""
    reaction = params.reaction
    if reaction is not None:
        reaction = check_text("reaction", reaction, REACTION_LIMIT)
        if not reaction:
            raise PeerError(Code.BAD_FRAME, "reaction: empty; null takes a reaction away")
    async with altering(context) as alteration:
        conn = alteration.conn
        chat = await chats.lock(conn, params.chat)
        own = await chats.member(conn, chat.id, caller.user)
        found = await messages.existing(conn, chat.id, params.seq, own.first)
        if found.deleted:
            raise PeerError(Code.NOT_FOUND, "the message is deleted")
        await messages.react(conn, chat.id, params.seq, caller.user, reaction)
        data = {"seq": params.seq, "reaction": reaction}
        row = await changes.log_change(conn, chat, "react", caller.user, data, context.now(), about=params.seq)
        alteration.tells_change(chat, row, await peer_firsts(conn, chat))
    return Revised(row.rev)


async def peer_firsts(conn: Connection, chat: LockedChat) -> dict[int, int]:
    """First seqs of a direct chat's peers, whose topics tell no hub what they may see; empty for a group."""
    return await chats.firsts(conn, chat.id) if chat.is_direct else {}


@method("message.search")
async def search_messages(context: Context, caller: Caller, params: SearchParams) -> list[Found]:
    """Messages that hold the query and that the caller may read, newest first."""
    query = params.query.strip()
    if not QUERY_MIN <= len(query) <= QUERY_MAX or "\0" in query:
        raise PeerError(Code.BAD_FRAME, f"query: {QUERY_MIN} to {QUERY_MAX} characters")
    if params.chat is not None:
        await chats.state(context.pool, params.chat, caller.user)
    limit = min(params.limit or 20, 100)
    rows = await search.search(context.pool, caller.user, query, params.chat, params.before, limit)
    return [Found(r["chat_id"], r["seq"], r["sender"], r["at"], body_of(r["text"], r["extra"])) for r in rows]
