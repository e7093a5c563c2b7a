"""A TCP relay before a server, to cut lines in the middle of what they carry."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit


class Cutter:
    """Relays to `upstream` (an http URL) and listens at `url`; the upstream may change between lines."""

    def __init__(self, upstream: str) -> None:
        self.upstream = upstream
        self.url = ""
        self.accepted = 0
        self._writers: set[asyncio.StreamWriter] = set()

    async def relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        parts = urlsplit(self.upstream)
        try:
            up_reader, up_writer = await asyncio.open_connection(parts.hostname, parts.port)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, up_writer}
        await asyncio.gather(copy(reader, up_writer), copy(up_reader, writer))
        self._writers -= {writer, up_writer}

    def cut(self) -> None:
        """Break every line, in both directions, without a goodbye."""
        for writer in self._writers:
            writer.transport.abort()

    async def keep_cutting(self, every_s: tuple[float, float]) -> None:
        """Cut at random moments until cancelled."""
        while True:
            await asyncio.sleep(random.uniform(*every_s))
            self.cut()


async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(4096):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.transport.abort()


@asynccontextmanager
async def cutter(upstream: str) -> AsyncIterator[Cutter]:
    relay = Cutter(upstream)
    server = await asyncio.start_server(relay.relay, "127.0.0.1", 0)
    relay.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield relay
    finally:
        server.close()
        relay.cut()
        await asyncio.sleep(0.05)
