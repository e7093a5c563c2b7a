"""A proxy between the load and a server that knows WebSocket messages of `mim.msgpack` and does one of them wrong.

What the client says goes through as it is; what the server says after its 101 is cut into messages, of which a
:class:`Fault` may hold back, drop or repeat one.
"""

import asyncio
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self

import msgpack

from mim.tasks import TaskSet

CHUNK = 64 * 1024
ACK, MSG, SYNCED = 17, 18, 25


class Fault:
    """Nothing is done wrong here; the others do it once.

    Whether the client saw it cannot be known when its connection ends after it, so then it is done once more.
    """

    def __init__(self) -> None:
        self.times = 0
        self._done_on: object | None = None

    def passes(self, link: object, frame: list[Any], message: bytes) -> list[bytes]:
        """What goes to the client for this message of a live session, of which nobody told before."""
        if self._done_on is not None:
            return [message]
        spoilt = self.spoils(link, frame, message)
        if spoilt is None:
            return [message]
        return spoilt

    def spoils(self, link: object, frame: list[Any], message: bytes) -> list[bytes] | None:
        """What goes to the client instead, if it is not the message."""
        return None

    def did(self, link: object) -> None:
        """It was done on this connection."""
        self.times += 1
        self._done_on = link

    def ends(self, link: object) -> None:
        """A connection is over."""
        if self._done_on is link:
            self._done_on = None


class EatsAck(Fault):
    """An ACK never arrives."""

    def spoils(self, link: object, frame: list[Any], message: bytes) -> list[bytes] | None:
        if frame[0] != ACK:
            return None
        self.did(link)
        return []


class Doubles(Fault):
    """A message arrives twice."""

    def spoils(self, link: object, frame: list[Any], message: bytes) -> list[bytes] | None:
        if frame[0] != MSG:
            return None
        self.did(link)
        return [message, message]


class Swaps(Fault):
    """Two neighbours of a chat arrive in the wrong order."""

    def __init__(self) -> None:
        super().__init__()
        self._held: tuple[object, int, bytes] | None = None  # connection, chat

    def spoils(self, link: object, frame: list[Any], message: bytes) -> list[bytes] | None:
        if frame[0] != MSG:
            return None
        if self._held is None:
            self._held = (link, frame[1], message)
            return []
        where, chat, held = self._held
        if (where, chat) != (link, frame[1]):
            return None
        self._held = None
        self.did(link)
        return self.settles(held, message)

    def settles(self, held: bytes, message: bytes) -> list[bytes]:
        """What to do with the one that was held back, when its follower comes."""
        return [message, held]

    def ends(self, link: object) -> None:
        super().ends(link)
        if self._held is not None and self._held[0] is link:  # it was on its way when the connection broke
            self._held = None


class Drops(Swaps):
    """A message never arrives, and the one after it does."""

    def settles(self, held: bytes, message: bytes) -> list[bytes]:
        return [message]


class FrameProxy:
    """Listens on `port` of loopback while its block runs."""

    def __init__(self, upstream_port: int, fault: Fault) -> None:
        self.port = 0
        self._upstream_port = upstream_port
        self._fault = fault
        self._tasks = TaskSet()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        await self._tasks.close()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._tasks.spawn(self._forward(reader, writer), name="link of a frame proxy")

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._upstream_port)
        link = object()
        up = self._tasks.spawn(_pump(reader, server_writer), name="up")
        try:
            async for data in self._down(link, server_reader):
                writer.write(data)
        except OSError:
            pass
        finally:
            self._fault.ends(link)
            up.cancel()
            writer.close()
            server_writer.close()

    async def _down(self, link: object, reader: asyncio.StreamReader) -> Any:
        """What goes to the client, piece by piece."""
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return
        yield head
        if b" 101 " not in head[:16]:  # an ordinary answer
            while data := await reader.read(CHUNK):
                yield data
            return
        buffer, live = b"", False
        heads: dict[int, int] = {}  # by chat: what was told on this connection
        while data := await reader.read(CHUNK):
            buffer += data
            used = 0
            for start, end in _messages(buffer):
                message = buffer[used:end]
                frame = msgpack.unpackb(buffer[start:end], strict_map_key=False) if message[0] == 0x82 else [0]
                fresh = frame[0] != MSG or frame[2] > heads.get(frame[1], 0)  # not told by the sync already
                for out in self._fault.passes(link, frame, message) if live and fresh else [message]:
                    yield out
                live = live or frame[0] == SYNCED
                if frame[0] == MSG:
                    heads[frame[1]] = max(frame[2], heads.get(frame[1], 0))
                used = end
            buffer = buffer[used:]


def _messages(buffer: bytes) -> Iterator[tuple[int, int]]:
    """Where the payloads of the whole messages in a buffer begin and end; servers do not mask."""
    at = 0
    while len(buffer) - at >= 2:
        size, start = buffer[at + 1], at + 2
        if size == 126:
            size, start = int.from_bytes(buffer[at + 2 : at + 4], "big"), at + 4
        elif size == 127:
            size, start = int.from_bytes(buffer[at + 2 : at + 10], "big"), at + 10
        if len(buffer) < start + size:
            return
        at = start + size
        yield start, at


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(CHUNK):
            writer.write(data)
    except OSError:
        pass
    finally:
        writer.close()
