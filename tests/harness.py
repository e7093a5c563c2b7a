"""Real servers and phones for conversations that read as a transcript.

A :class:`Phone` speaks the protocol by itself, with the independent `msgpack` package and plain lists, so that what it
understands is what proto/ says and not what the server's own codec would forgive.
"""

import asyncio
import itertools
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import jwt
import msgpack
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from mim.app import Node, Server, run_node
from mim.clock import Clock
from mim.config import Settings

SECRET = "a secret that only this test suite signs with"
PATIENCE_S = 10.0

HELLO, SEND, READ, TYPING, RECV, FETCH, CALL, PING, CHANGES = range(1, 10)
READY, ACK, MSG, CHANGE, READBY, RESULT, ERROR, USER_TYPING, CHAT, SYNCED, BYE, PONG, NOTE, NACK = range(16, 30)

# The state of a group that one is out of: every key, and no news.
LEFT = {
    "kind": "left", "title": None, "count": 0, "head": 0, "rev": 0, "first": 0, "read": 0,
    "role": "member", "muted": False, "pinned": False,
}  # fmt: skip


@dataclass(frozen=True)
class RunningServer:
    """A node that listens on loopback."""

    node: Node
    http: str

    @property
    def ws(self) -> str:
        """Where its socket is."""
        return self.http.replace("http", "ws", 1) + "/v1/ws"

    def phone(self, sub: str, dev: str = "phone", **options: Any) -> "Phone":
        """A phone of the user whose app calls him `sub`; it connects at `async with`."""
        return Phone(self.ws, token_for(sub, dev), **options)


@asynccontextmanager
async def running(url: str, clock: Clock | None = None, **overrides: Any) -> AsyncIterator[RunningServer]:
    """Run a node on the database `url` until the block ends; SIGTERM's path is taken at the end."""
    settings = Settings(port=0, **{"jwt_secret": SECRET, "reconnect_spread_s": 0.1, "drain_s": 5, **overrides})
    async with run_node(settings, url, clock) as node:
        server = Server(settings, node)
        serving = asyncio.get_running_loop().create_task(server.serve(), name="server under test")
        try:
            await until(lambda: server.started or serving.done())
            yield RunningServer(node, f"http://127.0.0.1:{server.port}")
        finally:
            server.should_exit = True
            await serving


def token_for(sub: str, dev: str = "phone", *, ttl_s: int = 3600, secret: str = SECRET, **claims: Any) -> str:
    """What an app with accounts of its own would sign."""
    payload = {"sub": sub, "dev": dev, "exp": int(time.time()) + ttl_s, "name": sub.title(), **claims}
    return jwt.encode(payload, secret, algorithm="HS256")


async def until(condition: Callable[[], Any], patience_s: float = PATIENCE_S) -> Any:
    """Wait until `condition()` is true and return what it said."""
    async with asyncio.timeout(patience_s):
        while not (value := condition()):  # noqa: ASYNC110 - conditions of all kinds, also outside this process
            await asyncio.sleep(0.005)
    return value


class Phone:
    """A client by hand. Frames that are not asked for yet stay in `inbox`, in the order in which they came."""

    def __init__(
        self,
        url: str,
        token: str,
        *,
        codec: str = "msgpack",
        cursor: str | None = None,
        auth: str = "hello",
        **options: Any,
    ) -> None:
        self.url = url
        self.token = token
        self.codec = codec
        self.cursor = cursor
        self.auth = auth
        self.options = options
        self.inbox: list[list[Any]] = []
        self.session: dict[str, Any] = {}
        self.close_code: int | None = None
        self._socket: ClientConnection = None  # type: ignore[assignment]  # set by connect()
        self._refs = itertools.count(1)
        self._cids = itertools.count(1)

    async def __aenter__(self) -> "Phone":
        await self.connect()
        await self.signs_in()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.leaves()

    @property
    def user(self) -> int:
        """The signed-in user's id."""
        return int(self.session["user"])

    @property
    def device(self) -> int:
        """This device's id."""
        return int(self.session["device"])

    # -- the socket ------------------------------------------------------------------------

    async def connect(self, **extra: Any) -> None:
        """Open the socket."""
        headers = {"Authorization": f"Bearer {self.token}"} if self.auth == "upgrade" else {}
        query = "&".join(f"{key}={value}" for key, value in self.options.items()) if self.auth == "upgrade" else ""
        if self.auth == "upgrade" and self.cursor:
            query += f"&cursor={self.cursor}"
        self._socket = await connect(
            f"{self.url}?{query}",
            subprotocols=[f"mim.{self.codec}"],  # type: ignore[list-item]
            additional_headers=headers,
            compression=None,
            max_size=None,
            max_queue=None,
            ping_interval=None,
            proxy=None,
            **extra,
        )

    async def signs_in(self) -> None:
        """HELLO (unless the upgrade said it), READY, and the sync up to SYNCED, which stays in the inbox."""
        if self.auth == "hello":
            await self.says(HELLO, next(self._refs), self.token, self.options, *([self.cursor] if self.cursor else []))
        self.session = (await self.gets(READY))[2]
        synced = await self.gets(SYNCED, keep=True)
        self.cursor = synced[1]

    async def leaves(self) -> None:
        """Close the socket."""
        await self._socket.close()

    async def says(self, *frame: Any) -> None:
        """Send a frame."""
        if self.codec == "json":
            await self._socket.send(json.dumps(frame, ensure_ascii=False))
        else:
            await self._socket.send(msgpack.packb(frame))

    async def says_raw(self, message: str | bytes) -> None:
        """Send a message as it is."""
        await self._socket.send(message)

    async def _hears(self) -> list[Any]:
        """The next frame as a list."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                message = await self._socket.recv()
        except ConnectionClosed as exc:
            self.close_code = exc.rcvd.code if exc.rcvd else 1006
            raise
        expected = str if self.codec == "json" else bytes
        assert isinstance(message, expected), f"{type(message).__name__} on mim.{self.codec}"
        frame = json.loads(message) if isinstance(message, str) else msgpack.unpackb(message, strict_map_key=False)
        assert isinstance(frame, list)
        return frame

    # -- what a test waits for -------------------------------------------------------------

    async def gets(self, op: int, *fields: Any, keep: bool = False) -> list[Any]:
        """The next frame with this op whose first fields are `fields` (... for any); others stay in the inbox."""

        def fits(frame: list[Any]) -> bool:
            got = frame[1 : 1 + len(fields)]
            return frame[0] == op and all(want is ... or want == have for want, have in zip(fields, got, strict=False))

        for index, frame in enumerate(self.inbox):
            if fits(frame):
                return frame if keep else self.inbox.pop(index)
        while True:
            try:
                frame = await self._hears()
            except TimeoutError:
                raise AssertionError(f"no frame {op} {fields}; the inbox holds {self.inbox}") from None
            if fits(frame):
                if keep:
                    self.inbox.append(frame)
                return frame
            self.inbox.append(frame)

    async def is_closed(self) -> int:
        """Read until the server closes; returns the close code. What came before stays in the inbox."""
        while True:
            try:
                self.inbox.append(await self._hears())
            except ConnectionClosed:
                assert self.close_code is not None
                return self.close_code

    async def settles(self) -> list[list[Any]]:
        """All that the server had to say by now: a PING goes round; what came before its PONG is the inbox."""
        await self.says(PING, 600)
        await self.gets(PONG)
        return self.inbox

    async def heard(self, op: int) -> list[list[Any]]:
        """Settle, and take the frames with this op."""
        inbox = await self.settles()
        found = [frame for frame in inbox if frame[0] == op]
        self.inbox = [frame for frame in inbox if frame[0] != op]
        return found

    # -- what a person does ----------------------------------------------------------------

    async def calls(self, method: str, **params: Any) -> Any:
        """CALL a method and return its value; an ERROR is raised as :class:`Refused`."""
        ref = next(self._refs)
        await self.says(CALL, ref, method, params)
        return await self._answer(ref)

    async def _answer(self, ref: int) -> Any:
        while True:
            for index, frame in enumerate(self.inbox):
                if frame[0] in (RESULT, ERROR) and frame[1] == ref:
                    del self.inbox[index]
                    if frame[0] == ERROR:
                        raise Refused(*frame[2:])
                    return frame[2]
            self.inbox.append(await self._hears())

    async def sends(self, chat: int, body: Any, cid: int | None = None) -> tuple[int, int]:
        """SEND and wait for the ACK: (seq, at); a NACK is raised as :class:`Refused`."""
        cid = next(self._cids) if cid is None else cid
        await self.says(SEND, cid, chat, body)
        while True:
            for index, frame in enumerate(self.inbox):
                if frame[0] in (ACK, NACK) and frame[1] == cid:
                    del self.inbox[index]
                    if frame[0] == NACK:
                        raise Refused(*frame[2:])
                    return frame[2], frame[3]
            self.inbox.append(await self._hears())

    async def fetches(self, chat: int, start: int = 0, limit: int = -50) -> tuple[list[list[Any]], bool]:
        """FETCH a page: (MSG frames in the order in which they came, whether there is more)."""
        return await self._page(FETCH, MSG, chat, start, limit)

    async def changes(self, chat: int, start: int = 0, limit: int = 200) -> tuple[list[list[Any]], bool]:
        """CHANGES: (CHANGE frames, whether there is more)."""
        return await self._page(CHANGES, CHANGE, chat, start, limit)

    async def _page(self, op: int, kind: int, chat: int, start: int, limit: int) -> tuple[list[list[Any]], bool]:
        """The inbox must hold no frame of `kind` of this chat, or the page cannot be told from it."""
        assert not [frame for frame in self.inbox if frame[0] == kind and frame[1] == chat], self.inbox
        ref = next(self._refs)
        await self.says(op, ref, chat, start, limit)
        value = await self._answer(ref)
        page = [frame for frame in self.inbox if frame[0] == kind and frame[1] == chat]
        self.inbox = [frame for frame in self.inbox if frame not in page]
        return page, value["more"]


class Refused(Exception):  # noqa: N818 - it says what happened
    """The server answered ERROR or NACK."""

    def __init__(self, code: str, detail: str, retry_after: int | None = None) -> None:
        super().__init__(code, detail, retry_after)
        self.code = code
        self.detail = detail
        self.retry_after = retry_after


async def direct(one: Phone, other: Phone) -> int:
    """Open the direct chat of two people and take its CHAT frames."""
    chat = int((await one.calls("chat.create", kind="direct", members=[other.user]))["chat"])
    for phone in (one, other):
        phone.inbox = [frame for frame in await phone.settles() if frame[0] != CHAT]
    return chat


async def group(owner: Phone, *others: Phone, title: str = "모임") -> int:
    """Open a group and take its CHAT frames."""
    members = [phone.user for phone in others]
    chat = int((await owner.calls("chat.create", kind="group", members=members, title=title))["chat"])
    for phone in (owner, *others):
        phone.inbox = [frame for frame in await phone.settles() if frame[0] != CHAT]
    return chat
