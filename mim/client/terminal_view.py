"""The chat on the screen: messages with their unread numbers, changes, who types."""

import asyncio
import time
from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final

from mim.client.client import Client
from mim.client.errors import CallError, ClientError
from mim.client.models import Change, Chat, Message, ReadBy, Typing
from mim.client.terminal_screen import Screen
from mim.client.terminal_texts import Texts, harmless

HISTORY: Final = 20
TYPING_SHOWN_S: Final = 4.0


class View:
    """One open chat at a time. What is shown of it counts as read."""

    def __init__(self, client: Client, screen: Screen, texts: Texts) -> None:
        self.client = client
        self.screen = screen
        self.texts = texts
        self.chat: int | None = None
        self.names: dict[int, str] = {}
        self.listed: list[int] = []
        self.sending = 0
        self.opens_by_itself = False
        """With no chat open, the first message opens its chat."""
        self._title = ""
        self._oldest = 0
        self._newest = 0
        self._own: tuple[int, int] | None = None  # the last own message: seq, how many have not read it
        self._typists: dict[int, float] = {}
        self._order = asyncio.Lock()
        screen.toolbar = self.toolbar
        screen.on_typing = self.on_keys
        client.on_message(self.on_message, own=True)
        client.on_change(self.on_change)
        client.on_read(self.on_read)
        client.on_typing(self.on_typing)
        client.on_chat(self.on_chat)
        client.on_online(lambda _: self.screen.refresh())

    def say(self, key: str, /, **fields: object) -> None:
        """Write a text of the table."""
        self.screen.write(self.texts(key, **fields))

    # -- names

    async def name(self, user: int) -> str:
        """Return how this user is shown."""
        if user == self.client.user:
            return self.texts("me")
        if user == 0:
            return self.texts("system")
        if user not in self.names:
            try:
                self.learn(user, (await self.client.call("profile.get", user=user))["name"])
            except (ClientError, KeyError, TypeError):
                return self.texts("user", id=user)
        return self.names[user]

    async def all_names(self, users: Iterable[int]) -> str:
        """Return the names of these users."""
        return ", ".join([await self.name(user) for user in users])

    def learn(self, user: int, name: str | None) -> None:
        """Remember a name."""
        self.names[user] = harmless(name or "") or self.texts("user", id=user)

    async def title(self, chat: Chat) -> str:
        """Return how this chat is called."""
        if chat.title:
            return harmless(chat.title)
        return await self.name(chat.peer) if chat.peer else self.texts("group", id=chat.id)

    # -- chats

    async def list_chats(self) -> None:
        """Write the chats, numbered for /open."""
        self.listed = sorted(self.client.chats)
        for n, chat in enumerate(self.listed, 1):
            unread = self.client.unread(chat)
            shown = f"  ({self.texts('unread', n=unread)})" if unread else ""
            self.say("chat_line", n=n, title=await self.title(self.client.chats[chat]), unread=shown)
        self.say("pick" if self.listed else "no_chats")

    async def open(self, chat: int) -> None:
        """Show a chat from its last messages on. Raises CallError."""
        before, self.chat = self.chat, chat
        try:
            await self._open(chat)
        except BaseException:
            self.chat = before
            raise

    async def _open(self, chat: int) -> None:
        async with self._order:
            for row in await self.client.call("chat.members", chat=chat, limit=200):
                self.learn(row["user"], row["name"])
            state = self.client.chats.get(chat)
            self._title = await self.title(state) if state else str(chat)
            self.say("opened", title=self._title)
            self._own, self._oldest, self._newest = None, 0, 0
            self._typists.clear()
            messages = await self.client.history(chat, limit=HISTORY)
            for message in messages:
                await self._show(message)
            self._oldest = messages[0].seq if messages else 0
        self.screen.refresh()

    async def older(self) -> None:
        """Show messages before those shown. Raises CallError."""
        assert self.chat is not None
        async with self._order:
            page = await self.client.history(self.chat, self._oldest, HISTORY) if self._oldest > 1 else []
            for message in page:
                self.screen.write(await self.line(message))
            self._oldest = page[0].seq if page else self._oldest
            if not page:
                self.say("no_more")

    # -- messages

    async def on_message(self, message: Message) -> None:
        """Show a message, or that one came in another chat."""
        if self.chat is None and message.sender != self.client.user:
            if self.opens_by_itself:
                await self.open(message.chat)
        elif message.chat == self.chat:
            async with self._order:
                self._typists.pop(message.sender, None)
                if message.chat == self.chat and message.seq > self._newest:
                    await self._show(message)
            self.screen.refresh()
        elif message.sender != self.client.user:
            await self._tell_of(message)

    async def _tell_of(self, message: Message) -> None:
        if message.chat not in self.listed:
            self.listed.append(message.chat)
        chat = self.client.chats.get(message.chat)
        self.say(
            "elsewhere",
            n=self.listed.index(message.chat) + 1,
            title=await self.title(chat) if chat else message.chat,
            name=await self.name(message.sender),
            text=harmless(message.text),
        )

    async def _show(self, message: Message) -> None:
        self.client.read(message.chat, message.seq)
        self._newest = max(self._newest, message.seq)
        unread = await self._unread_by(message.chat, message.seq)
        if message.sender == self.client.user:
            self._own = (message.seq, unread)
        else:
            await self._recount(message.chat)
        self.screen.write(await self.line(message, unread))

    async def _unread_by(self, chat: int, seq: int) -> int:
        try:
            return await self.client.unread_by(chat, seq)
        except CallError:
            return 0

    async def line(self, message: Message, unread: int | None = None) -> str:
        """Return a message as a line: time, number, sender, text, and how many have not read it."""
        at = datetime.fromtimestamp(message.at).astimezone().strftime("%H:%M")
        if unread is None:
            unread = await self._unread_by(message.chat, message.seq)
        parts = [f"{at} #{message.seq} {await self.name(message.sender)}:", self._text(message)]
        if message.meta.get("edited"):
            parts.append(self.texts("edited"))
        parts += [f"{harmless(sign)}{count}" for sign, count in message.meta.get("reactions", {}).items()]
        if unread:
            parts.append(f"({unread})")
        return " ".join(parts)

    def _text(self, message: Message) -> str:
        if message.meta.get("deleted"):
            return self.texts("deleted")
        kind = message.body.get("k") if isinstance(message.body, dict) else None
        return harmless(message.text or (f"[{kind}]" if kind else ""))

    # -- everything else

    async def on_change(self, change: Change) -> None:
        """Show what happened in the open chat."""
        if change.chat != self.chat:
            return
        data: dict[str, Any] = dict(change.data)
        fields: dict[str, object] = {"name": await self.name(change.user), "seq": data.get("seq", "?")}
        kind = change.kind
        if kind == "edit" and "body" in data:
            body = data["body"]
            fields["text"] = harmless(body if isinstance(body, str) else str(body.get("t", "")))
        elif kind == "react" and "reaction" in data:
            kind = "react" if data["reaction"] else "unreact"
            fields["reaction"] = harmless(data["reaction"] or "")
        elif kind in ("join", "kick"):
            fields["users"] = await self.all_names(data.get("users", []))
        elif kind == "role":
            fields.update(users=await self.name(data.get("user", 0)), role=data.get("role"))
        elif kind == "title":
            fields["title"] = harmless(data.get("title") or "")
        elif kind not in ("delete", "leave", "notice"):
            return  # of a later version, or without its content
        self.say(kind, **fields)

    async def on_read(self, event: ReadBy) -> None:
        """The number beside the last own message may have changed."""
        if event.chat == self.chat:
            await self._recount(event.chat)

    async def _recount(self, chat: int) -> None:
        """Count again who has not read the last own message: somebody read, or wrote, which says as much."""
        if self._own is None or not self._own[1]:
            return
        seq = self._own[0]
        unread = await self._unread_by(chat, seq)
        if self._own == (seq, unread) or self._own[0] != seq:
            return
        self._own = (seq, unread)
        if unread == 0:
            self.say("read_by_all", seq=seq)
        self.screen.refresh()

    async def on_typing(self, event: Typing) -> None:
        """Show for a moment who types."""
        if event.chat == self.chat:
            await self.name(event.user)
            self._typists[event.user] = time.monotonic() + TYPING_SHOWN_S
            asyncio.get_running_loop().call_later(TYPING_SHOWN_S + 0.1, self.screen.refresh)
            self.screen.refresh()

    async def on_chat(self, chat: Chat) -> None:
        """Tell when the open chat was left."""
        if chat.left and chat.id == self.chat:
            self.chat = None
            self.say("left", title=await self.title(chat))

    def on_keys(self, text: str) -> None:
        """The user types: tell the chat, unless it is a command."""
        if self.chat is not None and text and not text.startswith("/"):
            self.client.typing(self.chat)

    def toolbar(self) -> str:
        """Return the line at the bottom."""
        parts = [self._title] if self.chat is not None else []
        now = time.monotonic()
        if not self.client.connected:
            parts.append(self.texts("offline"))
        if self.sending:
            parts.append(self.texts("sending", n=self.sending))
        if self._own is not None and self._own[1]:
            parts.append(f"#{self._own[0]} {self.texts('unread', n=self._own[1])}")
        typists = [user for user, until in self._typists.items() if until > now]
        parts += [self.texts("typing", name=self.names.get(user, user)) for user in typists]
        return "  ·  ".join(parts)
