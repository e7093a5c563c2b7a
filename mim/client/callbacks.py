"""The callbacks of a client, plain or async, and messages as an async iterator.

Within a chat they run one after another, in the order of the chat; chats do not wait for each other. A
callback that raises is logged and the next event comes all the same.
"""

import asyncio
import inspect
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar, overload

from mim.client.models import Change, Chat, Event, Message, Note, ReadBy, Typing

log = logging.getLogger("mim.client")

E = TypeVar("E")
Callback = Callable[[E], Awaitable[Any] | None]
OnMessage = Callable[[Message], Awaitable[Any] | None]

ITERATOR_HOLDS: Final = 100


class Taken:
    """Messages between the callbacks that bring them and the loop that takes them; holds a bounded number."""

    def __init__(self, holds: int = ITERATOR_HOLDS) -> None:
        self._messages: asyncio.Queue[Message] = asyncio.Queue()
        self._places = asyncio.Semaphore(holds)
        self._closed = False

    async def put(self, message: Message) -> None:
        """Hand over a message, waiting for a place; drop it when nobody takes any more."""
        await self._places.acquire()
        if self._closed:
            self._places.release()  # let the next one go as well
        else:
            self._messages.put_nowait(message)

    def close(self) -> None:
        """Nobody takes any more: whoever waits for a place goes on."""
        self._closed = True
        self._places.release()

    def __aiter__(self) -> "Taken":
        return self

    async def __anext__(self) -> Message:
        message = await self._messages.get()
        self._places.release()
        return message


class Callbacks:
    """Registration, usable as decorators; each `on_*` returns its callback."""

    def __init__(self) -> None:
        self._others: list[OnMessage] = []
        self._every: list[OnMessage] = []
        self._by_type: dict[type[Any], list[Callback[Any]]] = {}
        self._online: list[Callable[[bool], None]] = []

    @overload
    def on_message(self, callback: OnMessage, *, own: bool = ...) -> OnMessage: ...
    @overload
    def on_message(self, *, own: bool = ...) -> Callable[[OnMessage], OnMessage]: ...
    def on_message(
        self, callback: OnMessage | None = None, *, own: bool = False
    ) -> OnMessage | Callable[[OnMessage], OnMessage]:
        """Call with every message of others by rising seq; with `own` also with those of this user, from
        whichever device."""

        def register(callback: OnMessage) -> OnMessage:
            (self._every if own else self._others).append(callback)
            return callback

        return register if callback is None else register(callback)

    def on_change(self, callback: Callback[Change]) -> Callback[Change]:
        """Call with every change by rising rev, after the messages that it follows."""
        return self._add(Change, callback)

    def on_read(self, callback: Callback[ReadBy]) -> Callback[ReadBy]:
        """Call when watermarks of others, or of this user on another device, moved."""
        return self._add(ReadBy, callback)

    def on_typing(self, callback: Callback[Typing]) -> Callback[Typing]:
        """Call when somebody types."""
        return self._add(Typing, callback)

    def on_chat(self, callback: Callback[Chat]) -> Callback[Chat]:
        """Call when a chat appears, alters or is left."""
        return self._add(Chat, callback)

    def on_note(self, callback: Callback[Note]) -> Callback[Note]:
        """Call with what concerns this user outside any chat."""
        return self._add(Note, callback)

    def on_online(self, callback: Callable[[bool], None]) -> Callable[[bool], None]:
        """Call with True when a session opens and False when it ends; a plain function, not an async one."""
        self._online.append(callback)
        return callback

    @asynccontextmanager
    async def messages(self, *, own: bool = False) -> AsyncIterator[AsyncIterator[Message]]:
        """Messages as an iterator: `async with client.messages() as messages: async for message in messages`.

        What the loop has not taken yet waits; beyond a bound it is left on the server and asked for later.
        """
        taken = Taken()
        listeners = self._every if own else self._others
        listeners.append(taken.put)
        try:
            yield taken
        finally:
            listeners.remove(taken.put)
            taken.close()

    def _add(self, kind: type[E], callback: Callback[E]) -> Callback[E]:
        self._by_type.setdefault(kind, []).append(callback)
        return callback

    def _tell_online(self, *, online: bool) -> None:
        for callback in self._online:
            try:
                callback(online)
            except Exception:
                log.exception("a callback failed")

    async def _call_back(self, event: Event, user: int) -> None:
        """Run the callbacks of one event, one after another."""
        callbacks: list[Callback[Any]]
        if isinstance(event, Message):
            callbacks = self._every if event.sender == user else [*self._every, *self._others]
        else:
            callbacks = self._by_type.get(type(event), [])
        for callback in list(callbacks):
            try:
                result = callback(event)
                if inspect.isawaitable(result):
                    await result
            except Exception:
                log.exception("a callback failed")
