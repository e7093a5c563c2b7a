"""`chat.*` methods that alter who is in a group (proto/calls.md#membership).

Each locks the chat, judges, writes the rows and one change, and tells everyone after the commit: those who are out
lose the topic first, those who come in get it first.
"""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from mim.chat.altering import altering
from mim.chat.calls import Empty, method
from mim.chat.chat_calls import ChatParams, check_right
from mim.chat.context import Context
from mim.errors import Code, PeerError
from mim.model import Caller, Role
from mim.store import changes, chats
from mim.wire.frames import Id


class UsersParams(Struct, frozen=True):
    """Parameters of `chat.invite` and `chat.kick`."""

    chat: Id
    users: Annotated[list[Id], Meta(min_length=1, max_length=3000)]


class RoleParams(Struct, frozen=True):
    """Parameters of `chat.role`."""

    chat: Id
    user: Id
    role: Literal["owner", "manager", "member"]


@method("chat.invite")
async def invite(context: Context, caller: Caller, params: UsersParams) -> Empty:
    """Let users into a group; any member may. Those present already are passed over."""
    users = sorted(set(params.users))
    missing = set(users) - await chats.existing_users(context.pool, users)
    if missing:
        raise PeerError(Code.NOT_FOUND, f"there is no user {min(missing)}")
    async with altering(context) as alteration:
        conn = alteration.conn
        chat = await chats.lock(conn, params.chat)
        check_right((await chats.member(conn, chat.id, caller.user)).role, Role.MEMBER, chat)
        there = await chats.present(conn, chat.id, users)
        joining = [user for user in users if user not in there]
        if not joining:
            return Empty()
        if chat.members + len(joining) > context.settings.group_limit:
            raise PeerError(Code.FULL, f"a group holds at most {context.settings.group_limit} members")
        row = await changes.log_change(conn, chat, "join", caller.user, {"users": joining}, context.now())
        await chats.add_members(conn, chat, joining, row.rev, context.now())
        alteration.tells_states(chat.id, joining, joined=True)
        alteration.tells_change(chat, row)
    return Empty()


@method("chat.kick")
async def kick(context: Context, caller: Caller, params: UsersParams) -> Empty:
    """Put users out of a group: the owner anyone, managers members. Those who are not in it are passed over."""
    users = sorted(set(params.users))
    if caller.user in users:
        raise PeerError(Code.BAD_FRAME, "users: to go yourself, call chat.leave")
    async with altering(context) as alteration:
        conn = alteration.conn
        chat = await chats.lock(conn, params.chat)
        own = (await chats.member(conn, chat.id, caller.user)).role
        check_right(own, Role.MANAGER, chat)
        there = await chats.present(conn, chat.id, users)
        if any(role >= own for role in there.values()):
            raise PeerError(Code.FORBIDDEN, "managers put out members; only the owner puts out managers")
        if not there:
            return Empty()
        going = sorted(there)
        row = await changes.log_change(conn, chat, "kick", caller.user, {"users": going}, context.now())
        await chats.remove_members(conn, chat, going, context.now())
        alteration.tells_states(chat.id, going)
        alteration.tells_change(chat, row)
    return Empty()


@method("chat.role")
async def role(context: Context, caller: Caller, params: RoleParams) -> Empty:
    """Give a member a role; for the owner. Handing over the ownership leaves the old owner a manager."""
    new = Role[params.role.upper()]
    async with altering(context) as alteration:
        conn = alteration.conn
        chat = await chats.lock(conn, params.chat)
        check_right((await chats.member(conn, chat.id, caller.user)).role, Role.OWNER, chat)
        there = await chats.present(conn, chat.id, [params.user])
        if params.user not in there:
            raise PeerError(Code.NOT_FOUND, f"user {params.user} is not in this chat")
        if there[params.user] == new:
            return Empty()
        if params.user == caller.user:
            raise PeerError(Code.FORBIDDEN, "hand the ownership to another member first")
        altered = [params.user]
        if new == Role.OWNER:
            await chats.set_role(conn, chat.id, caller.user, Role.MANAGER)
            altered.append(caller.user)
        await chats.set_role(conn, chat.id, params.user, new)
        data = {"user": params.user, "role": params.role}
        row = await changes.log_change(conn, chat, "role", caller.user, data, context.now())
        alteration.tells_change(chat, row)
        alteration.tells_states(chat.id, altered)
    return Empty()


@method("chat.leave")
async def leave(context: Context, caller: Caller, params: ChatParams) -> Empty:
    """Go. In a direct chat this hides it until either side sends; an owner's role passes on."""
    async with altering(context) as alteration:
        conn = alteration.conn
        chat = await chats.lock(conn, params.chat)
        own = await chats.member(conn, chat.id, caller.user)
        alteration.tells_states(chat.id, [caller.user])
        if chat.is_direct:
            await chats.hide_direct(conn, chat, caller.user, context.now())
        else:
            row = await changes.log_change(conn, chat, "leave", caller.user, {}, context.now())
            alteration.tells_change(chat, row)
            heir = await chats.heir(conn, chat.id, caller.user) if own.role == Role.OWNER else None
            await chats.remove_members(conn, chat, [caller.user], context.now())
            if heir is not None:
                await chats.set_role(conn, chat.id, heir, Role.OWNER)
                data = {"user": heir, "role": "owner"}
                row = await changes.log_change(conn, chat, "role", caller.user, data, context.now())
                alteration.tells_change(chat, row)
                alteration.tells_states(chat.id, [heir])
    return Empty()
