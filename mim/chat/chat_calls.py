"""`chat.*` methods that open, show and set up chats (proto/calls.md#chats)."""

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from mim.chat.altering import altering
from mim.chat.calls import Empty, method
from mim.chat.context import Context
from mim.chat.sending import SendParams, Sent, Waiter
from mim.chat.texts import check_text
from mim.errors import Code, PeerError
from mim.model import Caller, ChatInfo, ChatState, Role
from mim.store import changes, chats
from mim.store.changes import ChangeRow
from mim.store.chats import LockedChat
from mim.store.db import Connection
from mim.wire.frames import Id, UInt

TITLE_LIMIT = 100
NOTICE_LIMIT = 1000

Limit = Annotated[int, Meta(ge=1)]
"""Rows of a page; more than the method has are its most."""


class CreateParams(Struct, frozen=True):
    """Parameters of `chat.create`."""

    kind: Literal["direct", "group"]
    members: Annotated[list[Id], Meta(max_length=3000)]
    title: str | None = None


class ChatParams(Struct, frozen=True):
    """Just a chat."""

    chat: Id


class ListParams(Struct, frozen=True):
    """Parameters of `chat.list`: the page after chat `before`, latest activity first."""

    before: Id | None = None
    limit: Limit | None = None


class MembersParams(Struct, frozen=True):
    """Parameters of `chat.members`: the page after user `after`."""

    chat: Id
    after: UInt | None = None
    limit: Limit | None = None


class MemberInfo(Struct, frozen=True):
    """A present member."""

    user: int
    name: str
    role: str
    joined: int


class UpdateParams(Struct, frozen=True):
    """Parameters of `chat.update`; null takes the title or notice away."""

    chat: Id
    title: str | UnsetType | None = UNSET
    notice: str | UnsetType | None = UNSET


class SettingsParams(Struct, frozen=True):
    """Parameters of `chat.settings`."""

    chat: Id
    muted: bool | None = None
    pinned: bool | None = None


def info(chat: int, state: ChatState) -> ChatInfo:
    """A state with its chat's id."""
    return ChatInfo(chat=chat, **{name: getattr(state, name) for name in ChatState.__struct_fields__})


@method("chat.create")
async def create(context: Context, caller: Caller, params: CreateParams) -> ChatInfo:
    """Open a chat. A direct chat between two users is one chat for ever; a group belongs to its creator."""
    others = sorted(set(params.members) - {caller.user})
    if params.kind == "direct":
        chat = await _create_direct(context, caller, others)
    else:
        chat = await _create_group(context, caller, others, params.title)
    return info(chat, await chats.state(context.pool, chat, caller.user))


async def _check_users(context: Context, users: list[int]) -> None:
    missing = set(users) - await chats.existing_users(context.pool, users)
    if missing:
        raise PeerError(Code.NOT_FOUND, f"there is no user {min(missing)}")


async def _create_direct(context: Context, caller: Caller, others: list[int]) -> int:
    if len(others) != 1:
        raise PeerError(Code.BAD_FRAME, "members: a direct chat is with exactly one other user")
    await _check_users(context, others)
    low, high = sorted((caller.user, others[0]))
    async with altering(context) as alteration:
        chat, created = await chats.open_direct(alteration.conn, low, high, context.now())
        if created:
            alteration.tells_states(chat, [low, high])
        elif await chats.reveal_direct(alteration.conn, chat, caller.user):
            alteration.tells_states(chat, [caller.user])
    return chat


async def _create_group(context: Context, caller: Caller, others: list[int], title: str | None) -> int:
    title = check_text("title", title or "", TITLE_LIMIT) or None
    if not others:
        raise PeerError(Code.BAD_FRAME, "members: a group has at least one member besides its creator")
    if len(others) + 1 > context.settings.group_limit:
        raise PeerError(Code.FULL, f"a group holds at most {context.settings.group_limit} members")
    await _check_users(context, others)
    users = sorted({*others, caller.user})
    async with altering(context) as alteration:
        chat = await chats.create_group(alteration.conn, caller.user, users, title, context.now())
        alteration.tells_states(chat, joined=True)
    return chat


@method("chat.get")
async def get(context: Context, caller: Caller, params: ChatParams) -> ChatInfo:
    """A chat as the caller sees it."""
    return info(params.chat, await chats.state(context.pool, params.chat, caller.user))


@method("chat.list")
async def list_chats(context: Context, caller: Caller, params: ListParams) -> list[ChatInfo]:
    """The caller's chats, latest activity first."""
    rows = await chats.page(context.pool, caller.user, params.before, min(params.limit or 50, 200))
    return [info(chat, state) for chat, state in rows]


@method("chat.members")
async def members(context: Context, caller: Caller, params: MembersParams) -> list[MemberInfo]:
    """Present members by rising user id."""
    await chats.state(context.pool, params.chat, caller.user)
    rows = await chats.members(context.pool, params.chat, params.after or 0, min(params.limit or 100, 500))
    return [MemberInfo(r["user_id"], r["name"], Role(r["role"]).name.lower(), r["joined"]) for r in rows]


@method("chat.watermarks")
async def watermarks(context: Context, caller: Caller, params: ChatParams) -> list[tuple[int, int]]:
    """How far each present member has read: [[user, seq], ...]."""
    await chats.state(context.pool, params.chat, caller.user)
    return await chats.watermarks(context.pool, params.chat)


@method("chat.update")
async def update(context: Context, caller: Caller, params: UpdateParams) -> Empty:
    """Set the title or the notice of a group; for its owner and managers. Each that differs is a change."""
    title, notice = params.title, params.notice
    if isinstance(title, str):
        title = check_text("title", title, TITLE_LIMIT) or None
    if isinstance(notice, str):
        notice = check_text("notice", notice, NOTICE_LIMIT, lines=True) or None
    async with altering(context) as alteration:
        conn = alteration.conn
        chat = await chats.lock(conn, params.chat)
        check_right((await chats.member(conn, chat.id, caller.user)).role, Role.MANAGER, chat)
        retitled = not isinstance(title, UnsetType) and title != chat.title
        if not isinstance(title, UnsetType) and retitled:
            await chats.set_title(conn, chat.id, title)
            alteration.tells_change(chat, await _log(conn, context, caller, chat, "title", title))
        if not isinstance(notice, UnsetType) and notice != chat.notice:
            await chats.set_notice(conn, chat.id, notice)
            alteration.tells_change(chat, await _log(conn, context, caller, chat, "notice", notice))
        if retitled:
            alteration.tells_states(chat.id)
    return Empty()


async def _log(
    conn: Connection, context: Context, caller: Caller, chat: LockedChat, kind: str, value: str | None
) -> ChangeRow:
    return await changes.log_change(conn, chat, kind, caller.user, {kind: value}, context.now())


def check_right(role: Role, needed: Role, chat: LockedChat) -> None:
    """PeerError `forbidden` in a direct chat, which has no roles, or when the role is too low."""
    if chat.is_direct:
        raise PeerError(Code.FORBIDDEN, "a direct chat has no roles, title or membership to change")
    if role < needed:
        raise PeerError(Code.FORBIDDEN, f"this needs the role {needed.name.lower()}")


@method("chat.settings")
async def settings(context: Context, caller: Caller, params: SettingsParams) -> Empty:
    """What the caller alone sets for a chat; told to the caller's devices."""
    async with altering(context) as alteration:
        await chats.set_settings(alteration.conn, params.chat, caller.user, params.muted, params.pinned)
        alteration.tells_states(params.chat, [caller.user])
    return Empty()


@method("chat.send")
async def send(context: Context, caller: Caller, params: SendParams) -> Sent:
    """Send a message; answers when it is durable. The same cid of the same device is one message."""
    waiter = Waiter()
    context.sending.submit(
        context.committer, waiter, Caller(caller.user, caller.device), params.chat, params.cid, params.body
    )
    return await waiter.answer()
