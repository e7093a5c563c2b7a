"""Altering a chat: judge and store in one transaction, then tell everybody.

    async with altering(context) as alteration:
        chat = await chats.lock(alteration.conn, params.chat)
        ...check, store...
        alteration.tells_states(chat.id, going)
        alteration.tells_change(chat, row)

What is to be told is said inside and published after the commit, in that order. The transaction notes in dispatch_log
that something must be told, so that another node does it should this one die in between.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

from mim.chat.context import Context
from mim.store import chats, dispatch
from mim.store.changes import ChangeRow
from mim.store.chats import LockedChat
from mim.store.db import Connection


class Alteration:
    """An open transaction, and what there will be to tell."""

    def __init__(self, context: Context, conn: Connection) -> None:
        self.conn = conn
        self.chat = 0  # which one was altered; 0: none
        self._context = context
        self._telling: list[Callable[[], Awaitable[None]]] = []

    def tells_change(self, chat: LockedChat, row: ChangeRow, firsts: dict[int, int] | None = None) -> None:
        """A change, to everyone in its chat."""

        async def tell() -> None:
            self._context.publisher.change(chat, row, firsts)

        self.chat = chat.id
        self._telling.append(tell)

    def tells_states(self, chat: int, users: Sequence[int] | None = None, *, joined: bool = False) -> None:
        """The chat as each of these users (None: all present ones) sees it after the commit. `joined`: their sockets
        begin to listen to it.
        """

        async def tell() -> None:
            self._context.publisher.states(chat, await chats.states(self.conn, chat, users), joined=joined)

        self.chat = chat
        self._telling.append(tell)

    async def tell(self) -> None:
        """Publish everything, in the order in which it was said."""
        for tell in self._telling:
            await tell()


@asynccontextmanager
async def altering(context: Context) -> AsyncIterator[Alteration]:
    """A transaction that alters a chat. What its block raises rolls it back, and nothing is told."""
    on_its_way, told = context.dispatches.begin(), False
    try:
        async with context.pool.acquire() as conn:
            alteration = Alteration(context, conn)
            async with conn.transaction():
                yield alteration
                if alteration.chat:
                    await dispatch.write(conn, context.dispatches.node, on_its_way.number, alteration.chat)
            await alteration.tell()
        told = True
        on_its_way.hold()
        context.bus.confirm(on_its_way.release)
    finally:
        on_its_way.release(told)
