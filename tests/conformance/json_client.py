"""A client of the protocol, written from proto/ alone: the standard library, `mim.json`, HELLO.

Nothing here runs by itself: the client reads when somebody waits for something (`until`). What an app would keep on
disk is `Disk`; it outlives connections and clients.
"""

import asyncio
import json
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self

from tests.conformance.json_socket import LostError, RefusedError, WebSocket, post

HELLO, SEND, READ, TYPING, RECV, FETCH, CALL, PING, CHANGES = range(1, 10)
AGAIN = {"rate_limited", "unavailable", "internal"}  # the NACKs after which the same cid goes out again


@dataclass
class Message:
    sender: int
    at: int
    body: Any
    meta: dict[str, Any] = field(default_factory=dict)


@dataclass
class Chat:
    state: dict[str, Any] = field(default_factory=dict)
    messages: dict[int, Message] = field(default_factory=dict)
    applied: int = 0  # the rev up to which changes were applied; state["rev"] is what the chat has
    waiting: dict[int, list[Any]] = field(default_factory=dict)
    changes: dict[int, list[Any]] = field(default_factory=dict)
    watermarks: dict[int, int] = field(default_factory=dict)
    stale: set[int] = field(default_factory=set)  # messages whose reactions are to be fetched again

    def missing(self) -> list[int]:
        held = [seq for seq in self.messages if seq >= self.state["first"]]
        start = min(held, default=self.state["head"] + 1)
        return [seq for seq in range(start, self.state["head"] + 1) if seq not in self.messages]

    def unread(self) -> int:
        return int(self.state["head"] - self.state["read"])

    def raise_to(self, key: str, value: int) -> None:
        self.state[key] = max(self.state.get(key, 0), value)

    def unseen_by(self, seq: int) -> int:
        """The number beside a message."""
        sender = self.messages[seq].sender
        return sum(mark < seq for user, mark in self.watermarks.items() if user != sender)


@dataclass
class Disk:
    token: str
    user: int
    device: int
    refresh: str = ""
    cursor: str | None = None
    cid: int = 0
    outbox: dict[int, tuple[int, Any]] = field(default_factory=dict)
    chats: dict[int, Chat] = field(default_factory=dict)


class JsonClient:
    def __init__(self, base: str, disk: Disk) -> None:
        self.base, self.disk = base, disk
        self.ready: dict[str, Any] = {}
        self.answers: dict[int, Any] = {}
        self.acks: dict[int, tuple[int, int]] = {}
        self.failed: dict[int, RefusedError] = {}
        self.errors: list[list[Any]] = []
        self.typing: list[tuple[int, int]] = []
        self.notes: list[tuple[str, Any]] = []
        self.log: list[list[Any]] = []
        self.bye: list[Any] | None = None
        self.synced = self.pongs = self.ref = 0
        self.flying: set[int] = set()
        self.drop: Callable[[list[Any]], bool] = lambda frame: False
        self.socket: WebSocket | None = None
        self.paging = False

    @classmethod
    async def sign_in(cls, base: str, phone: str, name: str = "json") -> Self:
        code = (await post(base, "/v1/auth/code", {"phone": phone}))["code"]
        device = {"name": name, "os": "bot"}
        got = await post(base, "/v1/auth/verify", {"phone": phone, "code": code, "device": device})
        return cls(base, Disk(got["token"], got["user"], got["device"], got["refresh"]))

    async def open(self, *, sync: bool = True) -> None:
        """HELLO with the cursor, then what was never answered, in the old order, with the old cids."""
        self.socket = await WebSocket.open(self.base, "/v1/ws", "mim.json")
        self.flying, self.synced, self.bye, self.ready = set(), 0, None, {}
        ref = self._ref()
        self.emit([HELLO, ref, self.disk.token, {"os": "bot", "app": "1.0.0"}, self.disk.cursor])
        await self.until(lambda: self.ready != {} or ref in self.answers)
        if ref in self.answers:
            raise self.answers.pop(ref)
        self._fly()
        if sync:
            await self.until(lambda: self.synced > 0)

    async def close(self) -> None:
        if self.socket is None:
            return
        self.socket.closing = True
        self.socket.write(8, struct.pack("!H", 1000))
        await self.ends()

    async def ends(self) -> int | None:
        """Reads to the end of the connection: its close code."""
        try:
            await self.until(lambda: False)
        except LostError as lost:
            self.socket = None
            return lost.code
        raise AssertionError

    def cut(self) -> None:
        assert self.socket
        self.socket.cut()
        self.socket = None

    async def create(self, **params: Any) -> int:
        """A chat that this client has heard of."""
        chat = int((await self.call("chat.create", **params))["chat"])
        await self.until(lambda: chat in self.disk.chats)
        return chat

    def emit(self, frame: list[Any]) -> None:
        assert self.socket
        self.socket.write(1, json.dumps(frame, ensure_ascii=False, separators=(",", ":")).encode())

    async def until(self, done: Callable[[], bool], within: float = 10) -> None:
        async with asyncio.timeout(within):
            while not done():
                assert self.socket
                frame = json.loads(await self.socket.receive())
                if not self.drop(frame):
                    self.log.append(frame)
                    self._handle(frame)

    # what an app asks

    def _ref(self) -> int:
        self.ref += 1
        return self.ref

    async def request(self, op: int, *fields: Any) -> Any:
        ref = self._ref()
        self.emit([op, ref, *fields])
        await self.until(lambda: ref in self.answers)
        answer = self.answers.pop(ref)
        if isinstance(answer, RefusedError):
            raise answer
        return answer

    async def call(self, method: str, **params: Any) -> Any:
        return await self.request(CALL, method, params)

    async def fetch(self, chat: int, start: int, limit: int) -> bool:
        self.paging = True
        try:
            return bool((await self.request(FETCH, chat, start, limit))["more"])
        finally:
            self.paging = False

    async def fetch_changes(self, chat: int, limit: int = 200) -> bool:
        return bool((await self.request(CHANGES, chat, self.disk.chats[chat].applied, limit))["more"])

    def post(self, chat: int, body: Any) -> int:
        """Writes down, sends, does not wait."""
        self.disk.cid += 1
        self.disk.outbox[self.disk.cid] = (chat, body)
        self._fly()
        return self.disk.cid

    async def send(self, chat: int, body: Any) -> int:
        """Sends and gives the seq."""
        cid = self.post(chat, body)
        await self.until(lambda: cid in self.acks or cid in self.failed)
        if cid in self.failed:
            raise self.failed.pop(cid)
        return self.acks[cid][0]

    async def settle(self) -> None:
        await self.until(lambda: not self.disk.outbox)

    def _fly(self) -> None:
        if self.socket is None or not self.ready:
            return
        for cid, (chat, body) in self.disk.outbox.items():
            if len(self.flying) >= self.ready["limits"]["inflight"]:
                return
            if cid not in self.flying:
                self.flying.add(cid)
                self.emit([SEND, cid, chat, body])

    def _again(self, cid: int) -> None:
        self.flying.discard(cid)
        self._fly()

    def read(self, chat: int, seq: int | None = None) -> None:
        room = self.disk.chats[chat]
        seq = room.state["head"] if seq is None else seq
        seq = min(seq, room.state["head"])
        room.raise_to("read", seq)
        if self.disk.user in room.watermarks:  # no READBY need come to the connection that sent READ
            room.watermarks[self.disk.user] = max(room.watermarks[self.disk.user], seq)
        self.emit([READ, chat, seq])

    async def ping(self, following: int = 60) -> None:
        before = self.pongs
        self.emit([PING, following])
        await self.until(lambda: self.pongs > before)

    async def watermarks(self, chat: int) -> dict[int, int]:
        known = self.disk.chats[chat].watermarks
        for user, seq in await self.call("chat.watermarks", chat=chat):
            known[user] = max(seq, known.get(user, 0))
        return known

    async def forget(self, chat: int, seq: int) -> None:
        """Deletes for me: the asker has the RESULT, the other devices a NOTE."""
        await self.call("message.delete", chat=chat, seq=seq, scope="me")
        self._tombstone(chat, seq, 0)

    async def mend(self, chat: int) -> None:
        """Closes every gap the numbers show."""
        room = self.disk.chats[chat]
        while room.applied < room.state["rev"]:
            await self.fetch_changes(chat)
        while gap := room.missing():
            await self.fetch(chat, gap[0] - 1, min(200, gap[-1] - gap[0] + 1))
        for seq in sorted(room.stale):
            await self.fetch(chat, seq - 1, 1)
        room.stale.clear()

    # what comes in

    def _handle(self, frame: list[Any]) -> None:
        handler = getattr(self, f"_on_{frame[0]}", None)
        if handler is not None:  # an op of later times is passed over
            handler(*frame[1:])

    def _on_16(self, ref: int, session: dict[str, Any], *_: Any) -> None:
        self.ready = session
        if not session["resumed"]:
            for room in self.disk.chats.values():
                room.state["kind"] = "left"

    def _on_17(self, cid: int, seq: int, at: int, *_: Any) -> None:
        self.acks[cid] = (seq, at)
        self.flying.discard(cid)
        if cid in self.disk.outbox:
            chat, body = self.disk.outbox.pop(cid)
            if isinstance(body, dict):
                body = {key: value for key, value in body.items() if value is not None}
                body = body["t"] if set(body) == {"t"} else body
            self._on_18(chat, seq, self.disk.user, at, body)
        self._fly()

    def _on_18(self, chat: int, seq: int, sender: int, at: int, body: Any, meta: Any = None, *_: Any) -> None:
        room = self.disk.chats[chat]
        old = room.messages.get(seq)
        page = self.paging or not self.synced  # a live one that is held already has no more to tell
        if old is None or (page and "deleted" not in old.meta):
            room.messages[seq] = Message(sender, at, body, meta or {})
        room.raise_to("head", seq)
        if sender == self.disk.user:
            room.raise_to("read", seq)
        if sender in room.watermarks:
            room.watermarks[sender] = max(room.watermarks[sender], seq)

    def _on_19(self, chat: int, rev: int, *rest: Any) -> None:
        room = self.disk.chats[chat]
        room.raise_to("rev", rev)
        if rev > room.applied:
            room.waiting[rev] = [rev, *rest]
        while change := room.waiting.pop(room.applied + 1, None):
            room.applied += 1
            room.changes[room.applied] = change
            _, kind, user, at, data, *_ = change
            if getattr(self, f"_change_{kind}", None):
                getattr(self, f"_change_{kind}")(chat, user, at, data)

    def _change_edit(self, chat: int, user: int, at: int, data: dict[str, Any]) -> None:
        message = self.disk.chats[chat].messages.get(data.get("seq", 0))
        if message and "body" in data and "deleted" not in message.meta:
            message.body, message.meta["edited"] = data["body"], at

    def _change_delete(self, chat: int, user: int, at: int, data: dict[str, Any]) -> None:
        self._tombstone(chat, data.get("seq", 0), at)

    def _tombstone(self, chat: int, seq: int, at: int) -> None:
        if (room := self.disk.chats.get(chat)) and (message := room.messages.get(seq)):
            message.body, message.meta = "", {"deleted": at}

    def _change_react(self, chat: int, user: int, at: int, data: dict[str, Any]) -> None:
        if "reaction" in data:  # counts cannot be moved without knowing the reaction before: ask again
            self.disk.chats[chat].stale.add(data["seq"])

    def _change_join(self, chat: int, user: int, at: int, data: dict[str, Any]) -> None:
        room = self.disk.chats[chat]
        room.state["count"] += len(data["users"])
        if room.watermarks:
            room.watermarks |= dict.fromkeys(data["users"], data["after"])

    def _change_leave(self, chat: int, user: int, at: int, data: dict[str, Any]) -> None:
        self._change_kick(chat, user, at, {"users": [user]})

    def _change_kick(self, chat: int, user: int, at: int, data: dict[str, Any]) -> None:
        room = self.disk.chats[chat]
        room.state["count"] -= len(data["users"])
        for gone in data["users"]:
            room.watermarks.pop(gone, None)

    def _change_title(self, chat: int, user: int, at: int, data: dict[str, Any]) -> None:
        self.disk.chats[chat].state["title"] = data["title"]

    def _on_20(self, chat: int, flat: list[int], *_: Any) -> None:
        room = self.disk.chats[chat]
        for user, seq in zip(flat[::2], flat[1::2], strict=True):
            room.watermarks[user] = max(seq, room.watermarks.get(user, 0))
            if user == self.disk.user:
                room.raise_to("read", seq)

    def _on_21(self, ref: int, value: Any, *_: Any) -> None:
        self.answers[ref] = value

    def _on_22(self, ref: int, code: str, detail: str, *wait: Any) -> None:
        self.errors.append([ref, code, detail, *wait])
        if ref:
            self.answers[ref] = RefusedError(code, detail, *wait[:1])

    def _on_23(self, chat: int, user: int, *_: Any) -> None:
        self.typing.append((chat, user))

    def _on_24(self, chat: int, state: dict[str, Any], *_: Any) -> None:
        known = self.disk.chats.get(chat)
        if known is None or known.state["kind"] == "left":
            room = self.disk.chats.setdefault(chat, Chat())
            behind = known is not None and state.get("first", 0) <= max(known.messages, default=0)
            room.applied = room.applied if behind else state.get("rev", 0)
            room.state = state
            return
        if state.get("rev", 0) < known.state["rev"] and state["kind"] != "left":
            state |= {"count": known.state["count"]}  # older than the changes already counted in
        for key in ("head", "rev", "read"):
            state[key] = max(state.get(key, 0), known.state.get(key, 0))
        known.state = state

    def _on_25(self, cursor: str, *_: Any) -> None:
        self.disk.cursor = cursor
        self.synced += 1

    def _on_26(self, *reason: Any) -> None:
        self.bye = list(reason)

    def _on_27(self, *_: Any) -> None:
        self.pongs += 1

    def _on_28(self, kind: str, data: dict[str, Any], *_: Any) -> None:
        self.notes.append((kind, data))
        if kind == "deleted":
            self._tombstone(data["chat"], data["seq"], 0)

    def _on_29(self, cid: int, code: str, detail: str, *wait: Any) -> None:
        if code in AGAIN:
            asyncio.get_running_loop().call_later(wait[0] / 1000 if wait else 1, self._again, cid)
        else:
            self.flying.discard(cid)
            self.disk.outbox.pop(cid, None)
            self.failed[cid] = RefusedError(code, detail, *wait[:1])
