"""How a phone stays connected, by the rules of proto/session.md: which address, when to come back, when a path is dead.

A :class:`Line` knows several addresses. After a loss it comes back with back-off and jitter, to the next address, not
before `retry_after`, and not at all after a code that says so. It says PING, takes a PONG that stays away for a dead
path, and counts frames with RECV. What the frames mean is the subclass's.
"""

import asyncio
import random
import socket as socket_module
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import count
from typing import Any
from urllib.parse import urlencode

import msgpack
import orjson
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidMessage, InvalidStatus

from mim.tasks import TaskSet
from tests.harness import HELLO, PING, READY, RECV, token_for

GONE = (OSError, ConnectionClosed, InvalidHandshake, InvalidMessage, EOFError)
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 8.0  # a phone would go up to a minute, drills have less time
OPEN_S = 10.0
RECV_FRAMES = 32
SMALL_BUFFER = 4096


class Line:
    """The connections of one device. `addresses()` says where the nodes are now: they may come back on other ports."""

    def __init__(
        self, addresses: Callable[[], Sequence[str]], sub: str, dev: str, place: int, ping_s: float, pong_s: float
    ) -> None:
        self._addresses = addresses
        self._place = place  # which address comes next; its parity says how to sign in
        self._signs_in_by_upgrade = place % 2 == 0
        self._token = token_for(sub, dev)
        self._ping_s = ping_s
        self._pong_s = pong_s
        self._beat_s = min(ping_s / 4, 1.5)
        self._rng = random.Random(f"{sub}/{dev}")
        self._tasks = TaskSet()
        self._refs = count(1)
        self._transport: asyncio.Transport | None = None
        self._cursor = ""
        self._synced = False
        self._counted = self._told = 0  # frames for RECV
        self._pinged: float | None = None  # when the PING went out whose PONG is not here
        self._retry_after_s = 0.0
        self._is_reading = True
        self.url = ""  # the node of the present connection, or of the newest attempt
        self.opened = asyncio.Event()
        self.come_back = True  # whether to connect again when the connection is lost
        # what happened to it:
        self.close_codes: list[int] = []
        self.errors: list[str] = []  # why an attempt to connect failed, and what was refused
        self.dismissed = ""  # the server said not to come back as it is
        self.connections = 0
        self.dead_paths = 0
        self.lost_at = 0.0
        self.synced_at = 0.0

    # -- for the subclass to say -----------------------------------------------------------

    async def is_ready(self, socket: ClientConnection, session: dict[str, Any]) -> None:
        """READY came."""
        raise NotImplementedError

    def hears(self, frame: list[Any]) -> None:
        """Another frame came."""
        raise NotImplementedError

    def is_lost(self) -> None:
        """The connection is gone."""
        raise NotImplementedError

    # -- life ------------------------------------------------------------------------------

    @property
    def is_synced(self) -> bool:
        """Whether it has a connection and its sync."""
        return self.opened.is_set() and self._synced

    async def runs(self) -> None:
        """Stay connected until cancelled, until told not to come back, or until lost while `come_back` is False."""
        failures = refused = 0
        try:
            while True:
                addresses = self._addresses()
                url = addresses[self._place % len(addresses)]
                self._place += 1
                try:
                    await self._connects(url)
                except GONE as exc:
                    self._note(exc)
                    if isinstance(exc, ConnectionRefusedError) and (refused := refused + 1) < len(addresses):
                        continue  # nobody is there: to ask the next node at once burdens nobody
                refused = 0
                failures = 0 if self._synced else failures + 1
                self._hangs_up()
                if self.dismissed or not self.come_back:
                    return
                pause = self._rng.uniform(0, min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2**failures))
                await asyncio.sleep(max(self._retry_after_s, pause))
        finally:
            await self._tasks.close()

    def drops(self) -> None:
        """The network goes away under it: no farewell in either direction."""
        if self._transport is not None:
            self._transport.abort()

    def stops_reading(self) -> None:
        """Read nothing more, and let the kernel hold little: a reader that is too slow, for as long as it lasts."""
        assert self._transport is not None
        sock = self._transport.get_extra_info("socket")
        sock.setsockopt(socket_module.SOL_SOCKET, socket_module.SO_RCVBUF, SMALL_BUFFER)
        self._transport.pause_reading()
        self._is_reading = False

    def reads_on(self) -> None:
        """Read again, what came meanwhile first."""
        assert self._transport is not None
        self._is_reading = True
        self._pinged = None
        self._transport.resume_reading()

    def _note(self, exc: BaseException) -> None:
        if isinstance(exc, ConnectionClosed):
            code = exc.rcvd.code if exc.rcvd else 1006
            self.close_codes.append(code)
            if 4500 <= code < 4600:
                self.dismissed = f"closed with {code}"
        elif isinstance(exc, InvalidStatus):
            with suppress(orjson.JSONDecodeError):
                answer = orjson.loads(exc.response.body or b"{}")
                self._retry_after_s = (answer.get("retry_after") or 0) / 1000
            self.errors.append(f"HTTP {exc.response.status_code}")
            if exc.response.status_code == 401:
                self.dismissed = "HTTP 401"
        else:
            self.errors.append(type(exc).__name__)

    def _hangs_up(self) -> None:
        self._transport = None
        self._synced = False
        self.opened.clear()
        self.lost_at = time.monotonic()
        self.is_lost()

    async def _connects(self, url: str) -> None:
        headers, query = {}, ""
        self.url = url
        self._is_reading = True
        self._retry_after_s = 0.0
        if self._signs_in_by_upgrade:
            headers = {"Authorization": f"Bearer {self._token}"}
            query = "?" + urlencode({"recv": "1", **({"cursor": self._cursor} if self._cursor else {})})
        async with connect(
            url + query, additional_headers=headers, compression=None, ping_interval=None, max_queue=None, proxy=None,
            open_timeout=OPEN_S, close_timeout=1,
        ) as socket:  # fmt: skip
            self._transport = socket.transport
            self._counted = self._told = 0
            self._pinged = time.monotonic()  # READY is awaited like a PONG
            beats = self._tasks.spawn(self._beats(socket), name="beats")
            try:
                if not self._signs_in_by_upgrade:
                    cursor = [self._cursor] if self._cursor else []
                    await put(socket, HELLO, next(self._refs), self._token, {"recv": True}, *cursor)
                async for message in socket:
                    await self._takes(socket, msgpack.unpackb(message, strict_map_key=False))
            finally:
                beats.cancel()
            raise ConnectionClosed(socket.protocol.close_rcvd, socket.protocol.close_sent)

    async def _takes(self, socket: ClientConnection, frame: list[Any]) -> None:
        if frame[0] == READY:
            self.connections += 1
            self._pinged = None
            await self.is_ready(socket, frame[2])
            self.opened.set()
        else:
            self.hears(frame)
            if self._counted - self._told >= RECV_FRAMES:
                await self._tells_count(socket)

    async def _tells_count(self, socket: ClientConnection) -> None:
        self._told = self._counted
        await put(socket, RECV, self._counted)

    async def _beats(self, socket: ClientConnection) -> None:
        """RECV in time, PING, and the end of a path on which nothing comes back."""
        last = time.monotonic()
        while True:
            await asyncio.sleep(self._beat_s)
            now = time.monotonic()
            if not self._is_reading:
                continue
            if self._counted > self._told:
                await self._tells_count(socket)
            if self._pinged is not None:
                patience = self._pong_s if self.opened.is_set() else max(self._pong_s, OPEN_S)
                if now - self._pinged > patience:
                    self.dead_paths += 1
                    socket.transport.abort()
                    return
            elif now - last >= self._ping_s:
                last = self._pinged = now
                await put(socket, PING, int(2 * self._ping_s))


async def put(socket: ClientConnection, *frame: Any) -> None:
    """Send a frame. That the connection is gone is noticed by who reads from it, once all that came is read."""
    with suppress(*GONE):
        await socket.send(msgpack.packb(frame))
