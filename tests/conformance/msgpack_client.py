"""A second client, written from proto/ alone and without the first: `mim.msgpack`, the token in the upgrade, RECV.

It keeps a journal of all frames and works out what it shows by going through that journal: nothing is counted twice,
because nothing is counted before somebody looks.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any, Self

import httpx
import msgpack
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

READY, ACK, MSG, CHANGE, READBY, RESULT, ERROR, TYPED, CHAT, SYNCED, BYE, PONG, NOTE, NACK = range(16, 30)


class Fault(Exception):  # noqa: N818 - it carries an error word
    @property
    def code(self) -> str:
        return str(self.args[0])


class Gone(Exception):  # noqa: N818 - the connection ended under a request
    pass


@dataclass
class View:
    """A chat as the journal tells it."""

    state: dict[str, Any] = field(default_factory=dict)
    messages: dict[int, list[Any]] = field(default_factory=dict)  # seq: [sender, at, body, meta]
    changes: dict[int, list[Any]] = field(default_factory=dict)  # rev: [kind, user, at, data]
    marks: dict[int, int] = field(default_factory=dict)
    head: int = 0
    rev: int = 0
    read: int = 0
    start: int = 0  # the rev of the first CHAT: changes up to it need no catching up

    @property
    def unread(self) -> int:
        return self.head - self.read

    @property
    def texts(self) -> list[Any]:
        return [self.messages[seq][2] for seq in sorted(self.messages)]

    def message_gap(self) -> int | None:
        """The seq to FETCH from, when something between the first held and the head is missing."""
        for seq in range(min(self.messages, default=self.head + 1), self.head + 1):
            if seq not in self.messages:
                return seq - 1
        return None

    def change_gap(self) -> int | None:
        return next((rev - 1 for rev in range(self.start + 1, self.rev + 1) if rev not in self.changes), None)


class Phone:
    def __init__(self, base: str, signed: dict[str, Any]) -> None:
        self.base, self.token, self.refresh = base, str(signed["token"]), str(signed["refresh"])
        self.user, self.device = int(signed["user"]), int(signed["device"])
        self.journal: list[list[Any]] = []
        self.cursor: str | None = None
        self.session: dict[str, Any] = {}
        self.last_cid = self.last_ref = self.counted = self.told = 0
        self.paged: set[int] = set()  # places in the journal that came in a page or a sync: they tell the whole truth
        self.pages, self.synced = 0, False
        self.closed: int | None = None
        self.deaf = False  # frames of messages and changes are lost while this is set
        self.saying: dict[int, tuple[int, Any, asyncio.Future[tuple[int, int]]]] = {}
        self.asking: dict[int, asyncio.Future[Any]] = {}
        self._wire: ClientConnection | None = None
        self._news = asyncio.Condition()
        self._uncounted = asyncio.Event()

    @classmethod
    async def sign_in(cls, base: str, phone: str, name: str = "msgpack") -> Self:
        async with httpx.AsyncClient(base_url=base, trust_env=False) as http:
            code = (await http.post("/v1/auth/code", json={"phone": phone})).json()["code"]
            device = {"name": name, "os": "bot"}
            answer = await http.post("/v1/auth/verify", json={"phone": phone, "code": code, "device": device})
            return cls(base, answer.json())

    async def over_http(self, method: str, **params: Any) -> Any:
        headers = {"Authorization": f"Bearer {self.token}"}
        async with httpx.AsyncClient(base_url=self.base, headers=headers, trust_env=False) as http:
            answer = await http.post(f"/v1/call/{method}", json=params)
        if answer.status_code != 200:
            raise Fault(answer.json()["code"], answer.status_code, answer.json())
        return answer.json()

    @contextlib.asynccontextmanager
    async def online(self, *, synced: bool = True) -> AsyncIterator[Self]:
        """Connected while the block runs; what was not answered before goes out again."""
        address = f"{self.base.replace('http', 'ws', 1)}/v1/ws?os=bot&recv=1"
        address += f"&cursor={self.cursor}" if self.cursor else ""
        headers = {"Authorization": f"Bearer {self.token}"}
        try:
            wire = await connect(
                address, additional_headers=headers, subprotocols=[Subprotocol("mim.msgpack")], proxy=None
            )
        except InvalidStatus as error:
            body = httpx.Response(200, content=bytes(error.response.body or b"{}")).json()
            raise Fault(body.get("code"), error.response.status_code, body) from error
        assert wire.subprotocol == "mim.msgpack"
        self._wire, self.closed, self.counted, self.told = wire, None, 0, 0
        self.pages, self.synced = 0, False
        mark = len(self.journal)
        async with asyncio.TaskGroup() as tasks:
            listening, receipts = tasks.create_task(self._listen(wire)), tasks.create_task(self._receipts())
            try:
                for cid, (chat, body, _) in self.saying.items():
                    await self.put(2, cid, chat, body)
                if synced:
                    await self.hear(lambda: any(frame[0] == SYNCED for frame in self.journal[mark:]))
                yield self
            finally:
                receipts.cancel()
                await wire.close()
                await listening
                self._wire = None

    async def _listen(self, wire: ClientConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            async for data in wire:
                assert isinstance(data, bytes)
                frame = msgpack.unpackb(data)
                if frame[0] in (MSG, CHANGE):
                    self.counted += 1
                    self._uncounted.set()
                async with self._news:
                    if not self.deaf or frame[0] not in (MSG, CHANGE):
                        self._take(frame)
                    self._news.notify_all()
        self.closed = wire.close_code
        for waiting in self.asking.values():
            waiting.set_exception(Gone(self.closed))
            waiting.exception()  # whoever asked may have left
        self.asking.clear()
        async with self._news:
            self._news.notify_all()

    async def _receipts(self) -> None:
        """RECV no later than 2 s after a frame, or 32 frames after the last one."""
        while True:
            await self._uncounted.wait()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1), self._news:
                    await self._news.wait_for(lambda: self.counted - self.told >= 32)
            self._uncounted.clear()
            await self.count()

    async def count(self) -> None:
        self.told = self.counted
        with contextlib.suppress(ConnectionClosed):
            await self.put(5, self.told)

    def _take(self, frame: list[Any]) -> None:
        if self.pages or not self.synced:
            self.paged.add(len(self.journal))
        self.journal.append(frame)
        match frame:
            case [16, _, session, *_]:
                self.session = session
            case [17, cid, seq, at, *_]:
                chat, body, done = self.saying.pop(cid, (0, None, None))
                if done is not None:
                    self.journal.append(["said", chat, seq, self.user, at, body])
                    done.set_result((seq, at))
            case [21, ref, value, *_] if ref in self.asking:
                self.asking.pop(ref).set_result(value)
            case [22, ref, *why] if ref in self.asking:
                self.asking.pop(ref).set_exception(Fault(*why))
            case [25, cursor, *_]:
                self.cursor, self.synced = cursor, True
            case [29, cid, code, *why] if code not in {"rate_limited", "unavailable", "internal"}:
                self.saying.pop(cid)[2].set_exception(Fault(code, *why))

    async def put(self, *frame: Any) -> None:
        assert self._wire
        await self._wire.send(msgpack.packb(frame))

    async def hear(self, condition: Callable[[], bool], within: float = 10) -> None:
        async with asyncio.timeout(within), self._news:
            await self._news.wait_for(condition)

    async def ask(self, op: int, *fields: Any) -> Any:
        self.last_ref += 1
        answer = self.asking[self.last_ref] = asyncio.get_running_loop().create_future()
        self.pages += op == 6
        try:
            await self.put(op, self.last_ref, *fields)
            return await answer
        finally:
            self.pages -= op == 6

    async def call(self, method: str, **params: Any) -> Any:
        return await self.ask(7, method, params)

    async def page(self, chat: int, start: int, limit: int) -> tuple[list[int], bool]:
        """The seqs in the order they came, and whether there are more. Right while nothing else is said."""
        mark = len(self.journal)
        value = await self.ask(6, chat, start, limit)
        return [frame[2] for frame in self.journal[mark:] if frame[:2] == [MSG, chat]], value["more"]

    async def say(self, chat: int, body: Any) -> asyncio.Future[tuple[int, int]]:
        """Sends; the future has seq and at. It survives connections."""
        await self.hear(lambda: len(self.saying) < self.session["limits"]["inflight"])
        self.last_cid += 1
        done: asyncio.Future[tuple[int, int]] = asyncio.get_running_loop().create_future()
        self.saying[self.last_cid] = (chat, body, done)
        await self.put(2, self.last_cid, chat, body)
        return done

    async def said(self, chat: int, body: Any) -> int:
        return (await (await self.say(chat, body)))[0]

    async def saw(self, chat: int, seq: int) -> None:
        self.journal.append([READBY, chat, [self.user, seq]])
        await self.put(3, chat, seq)

    async def marks(self, chat: int) -> None:
        flat = [number for pair in await self.call("chat.watermarks", chat=chat) for number in pair]
        self.journal.append([READBY, chat, flat])

    async def heal(self, chat: int) -> View:
        """Asks for whatever the numbers show to be missing."""
        while (gap := self.view(chat).message_gap()) is not None:
            await self.ask(6, chat, gap, 200)
        while (gap := self.view(chat).change_gap()) is not None:
            await self.ask(9, chat, gap, 200)
        return self.view(chat)

    def view(self, chat: int) -> View:
        view = View()
        for index, frame in enumerate(self.journal):
            match frame:
                case [24, where, state, *_] if where == chat:
                    self._see_state(view, state)
                case [(18 | "said"), where, seq, sender, at, body, *meta] if where == chat:
                    self._see_message(view, index in self.paged, seq, [sender, at, body, dict(meta[0]) if meta else {}])
                case [19, where, rev, kind, user, at, data, *_] if where == chat:
                    view.changes.setdefault(rev, [kind, user, at, data])
                    view.rev = max(view.rev, rev)
                case [20, where, flat, *_] if where == chat:
                    for user, seq in zip(flat[::2], flat[1::2], strict=True):
                        self._see_mark(view, user, seq)
                case [28, "deleted", {"chat": where, "seq": seq}, *_] if where == chat and seq in view.messages:
                    view.messages[seq][2:] = ["", {"deleted": 0}]
        for rev in sorted(view.changes):
            self._apply(view, *view.changes[rev])
        return view

    def _see_state(self, view: View, state: dict[str, Any]) -> None:
        if view.state.get("kind", "left") == "left":
            view.start = max(view.start, state.get("rev", 0))
        view.state = view.state | state
        view.head = max(view.head, state.get("head", 0))
        view.rev = max(view.rev, state.get("rev", 0))
        view.read = max(view.read, state.get("read", 0))

    def _see_message(self, view: View, page: bool, seq: int, message: list[Any]) -> None:
        held = view.messages.get(seq)
        if held is None or (page and "deleted" not in held[3]):  # a live one that is held has no more to tell
            view.messages[seq] = message
        view.head = max(view.head, seq)
        self._see_mark(view, message[0], seq)

    def _see_mark(self, view: View, user: int, seq: int) -> None:
        view.marks[user] = max(view.marks.get(user, 0), seq)
        if user == self.user:
            view.read = max(view.read, seq)

    def _apply(self, view: View, kind: str, user: int, at: int, data: dict[str, Any]) -> None:
        message = view.messages.get(data.get("seq", 0))
        if message is None or "deleted" in message[3]:
            return
        if kind == "edit" and "body" in data and at >= message[3].get("edited", 0):
            message[2:] = [data["body"], {**message[3], "edited": at}]
        elif kind == "delete":
            message[2:] = ["", {"deleted": at}]
