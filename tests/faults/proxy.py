"""A proxy that fails on demand: faults are injected at the wire, not in mocks.

A :class:`Proxy` forwards bytes between its own address and the real one, and knows nothing of what they say. It stands
before Postgres or Redis, over TCP or a Unix socket.

A :class:`PostgresProxy` understands of the wire protocol only what it needs to cut a connection at the worst moment:
after a statement has been committed and before its answer reaches the client.
"""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self, TypeAlias
from urllib.parse import parse_qs, urlencode, urlsplit, urlunsplit

from mim.tasks import TaskSet
from tests.faults.ports import Port

Address: TypeAlias = str | tuple[str, int]
"""A Unix socket's path, or host and port."""

SOCKET = ".s.PGSQL.5432"
CHUNK = 64 * 1024
BIND = b"B"  # begins the request that executes a prepared statement
IDLE = b"Z\x00\x00\x00\x05I"  # ReadyForQuery outside a transaction: what was asked is committed


class Link:
    """One client connection and its counterpart at the server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.client = (reader, writer)
        self.server: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self.marked = False  # it carried the marker, so it is the connection under attack
        self.request = b""  # how the request that waits for its answer begins
        self.is_cut = False

    def cut(self) -> None:
        """Drop both sides at once, without a farewell."""
        self.is_cut = True
        self.client[1].transport.abort()
        if self.server is not None:
            self.server[1].transport.abort()


class Proxy:
    """Forwards from `here` to `upstream`; use it as an async context manager. Neither has to be there yet."""

    def __init__(self, upstream: Address | Callable[[], Address], here: Address) -> None:
        self._upstream = upstream
        self._here = here
        self.cuts = 0  # connections that were cut
        self._links: set[Link] = set()
        self._tasks = TaskSet()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._delay_s = 0.0
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        await self._listen()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.refuse()
        await self._tasks.close()

    # -- faults ----------------------------------------------------------------------------

    def cut(self, *, marked: bool = False) -> int:
        """Kill the live connections, or only the marked ones; returns how many. New ones are let through."""
        victims = [link for link in self._links if link.marked or not marked]
        for link in victims:
            link.cut()
        self.cuts += len(victims)
        return len(victims)

    def stall(self) -> None:
        """Connections stay open, new ones are accepted, and nothing moves any more."""
        self._flowing.clear()

    async def refuse(self) -> None:
        """Kill the live connections and refuse new ones."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
            if isinstance(self._here, str):
                Path(self._here).unlink(missing_ok=True)  # noqa: ASYNC240
        self.cut()

    def delay(self, seconds: float) -> None:
        """Every piece of data in either direction waits this long."""
        self._delay_s = seconds

    async def restore(self) -> None:
        """End every fault that lasts. What was held back by a stall goes on its way."""
        self._delay_s = 0.0
        self._flowing.set()
        if self._server is None:
            await self._listen()

    # -- forwarding ------------------------------------------------------------------------

    async def _listen(self) -> None:
        if isinstance(self._here, str):
            self._server = await asyncio.start_unix_server(self._accept, self._here)
        else:
            self._server = await asyncio.start_server(self._accept, *self._here, reuse_address=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._tasks.spawn(self._forward(Link(reader, writer)), name="link of a proxy")

    async def _forward(self, link: Link) -> None:
        self._links.add(link)
        try:
            with suppress(OSError):
                link.server = await self._connect()
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._pass_requests(link, link.client[0], link.server[1]))
                    group.create_task(self._pass_answers(link, link.server[0], link.client[1]))
        finally:
            self._links.discard(link)
            link.cut()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        where = self._upstream() if callable(self._upstream) else self._upstream
        if isinstance(where, str):
            return await asyncio.open_unix_connection(where)
        return await asyncio.open_connection(*where)

    async def _pass_requests(self, link: Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async for data in self._pieces(link, reader):
            self._request(link, data)
            writer.write(data)
        writer.close()

    async def _pass_answers(self, link: Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async for data in self._pieces(link, reader):
            if self._answer(link, data):
                writer.write(data)
        writer.close()

    async def _pieces(self, link: Link, reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
        """What arrives, held back by a stall and late by a delay, until either end is gone."""
        while not link.is_cut:
            try:
                data = await reader.read(CHUNK)
            except OSError:
                return
            if not data:
                return
            if self._delay_s:
                await asyncio.sleep(self._delay_s)
            await self._flowing.wait()
            if not link.is_cut:
                yield data

    # -- for a proxy that understands ------------------------------------------------------

    def _request(self, link: Link, data: bytes) -> None:
        """The client says this, and it will be passed on."""

    def _answer(self, link: Link, data: bytes) -> bool:
        """The server says this: whether it is to be passed on."""
        return True


class PostgresProxy(Proxy):
    """Forwards to the Postgres at `url`; connect to `self.url`.

    It listens on a Unix socket in a folder of its own, under the name that Postgres clients expect, or on `port`.
    `marker` tells the connection under attack: one is marked when these bytes went to the server on it.
    """

    def __init__(self, url: str, marker: bytes = b"commit_messages", port: Port | None = None) -> None:
        parts = urlsplit(url)
        query = {key: values[-1] for key, values in parse_qs(parts.query).items()}
        upstream: Address = (parts.hostname or "localhost", parts.port or 5432)
        if "host" in query:
            upstream = str(Path(query["host"], f".s.PGSQL.{query.get('port', '5432')}"))
        self._folder = Path(tempfile.mkdtemp(prefix="mim-proxy-"))
        super().__init__(upstream, str(self._folder / SOCKET) if port is None else ("127.0.0.1", port.number))
        user = f"{parts.username or 'postgres'}" + (f":{parts.password}" if parts.password else "")
        if port is None:
            where = urlencode({**query, "host": str(self._folder), "port": "5432"})
            self.url = urlunsplit(("postgresql", f"{user}@", parts.path, where, ""))
        else:
            self.url = urlunsplit(("postgresql", f"{user}@127.0.0.1:{port.number}", parts.path, "", ""))
        self.unknown = 0  # connections that were cut between a commit and its answer
        self._marker = marker
        self._answers_to_cut = 0

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await super().__aexit__(kind, exc, trace)
        shutil.rmtree(self._folder, ignore_errors=True)

    def cut_answers(self, times: int) -> None:
        """Kill the marked connection the next `times` times that a commit is about to be answered: it took effect, and
        the client cannot know."""
        self._answers_to_cut += times

    async def restore(self) -> None:
        """End every fault that lasts."""
        self._answers_to_cut = 0
        await super().restore()

    def _request(self, link: Link, data: bytes) -> None:
        link.request = link.request or data[:1]
        link.marked = link.marked or self._marker in data

    def _answer(self, link: Link, data: bytes) -> bool:
        if self._answers_to_cut and link.marked and link.request == BIND:
            if not data.endswith(IDLE):
                return False  # the answer is not complete, so the commit may not be
            self._answers_to_cut -= 1
            self.unknown += 1
            self.cuts += 1
            link.cut()
            return False
        if data.endswith(IDLE):
            link.request = b""
        return True
