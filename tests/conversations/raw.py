"""A socket by hand, for what no client library would send, and the peace that must reign beside it."""

import asyncio
import itertools
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import msgpack
import pytest

from mim.bus.port import NODES
from tests.harness import MSG, PATIENCE_S, RunningServer, direct, until

CONT, TEXT, BINARY, CLOSE, WS_PING, WS_PONG = 0, 1, 2, 8, 9, 10
TROUBLE = ("Traceback", "task failed", "a request failed", "Fatal error", "never retrieved", "could not be settled")


def wrap(
    payload: bytes, opcode: int = BINARY, *, fin: bool = True, rsv: int = 0, masked: bool = True, mask: bytes = b""
) -> bytes:
    """The bytes of one WebSocket frame; a mask of chance unless one is given."""
    size = len(payload)
    length = bytes([size]) if size < 126 else b"\x7e" + size.to_bytes(2) if size < 65536 else b"\x7f" + size.to_bytes(8)
    head = bytes([fin << 7 | rsv << 4 | opcode, length[0] | masked << 7]) + length[1:]
    if not masked:
        return head + payload
    mask = mask or os.urandom(4)
    key = mask * (size // 4 + 1)
    return head + mask + bytes(a ^ b for a, b in zip(payload, key, strict=False))


@dataclass
class Ending:
    """What a server said before it hung up. `code` is None where it hung up without a close frame."""

    frames: list[Any] = field(default_factory=list)
    code: int | None = None

    @property
    def last(self) -> Any:
        """The frame before the close."""
        return self.frames[-1]


class Raw:
    """One TCP connection to a server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def to(cls, server: RunningServer) -> "Raw":
        """Connect."""
        parts = urlsplit(server.http)
        return cls(*await asyncio.open_connection(parts.hostname, parts.port))

    async def writes(self, data: bytes) -> None:
        """Send bytes as they are. What the server has closed takes no more, which is no fault."""
        try:
            self.writer.write(data)
            await self.writer.drain()
        except ConnectionError:
            pass

    async def asks(self, *headers: str, path: str = "/v1/ws", subprotocol: str | None = "mim.msgpack") -> None:
        """Send an upgrade request."""
        lines = [
            f"GET {path} HTTP/1.1", "Host: mim", "Upgrade: websocket", "Connection: Upgrade",
            "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        ]  # fmt: skip
        if subprotocol is not None:
            lines.append(f"Sec-WebSocket-Protocol: {subprotocol}")
        await self.writes(("\r\n".join([*lines, *headers]) + "\r\n\r\n").encode("latin-1"))

    async def status(self) -> int:
        """Read the head of an HTTP answer: its status."""
        async with asyncio.timeout(PATIENCE_S):
            head = await self.reader.readuntil(b"\r\n\r\n")
        return int(head.split(b" ", 2)[1])

    async def upgrades(self, *headers: str, **options: Any) -> None:
        """Open the WebSocket."""
        await self.asks(*headers, **options)
        assert await self.status() == 101

    async def says(self, *frame: Any) -> None:
        """Send one frame of mim in msgpack."""
        await self.writes(wrap(msgpack.packb(frame)))

    async def hears(self) -> tuple[int, bytes]:
        """The next WebSocket frame: (opcode, payload)."""
        async with asyncio.timeout(PATIENCE_S):
            first, size = await self.reader.readexactly(2)
            assert first & 0xF0 == 0x80, "the server neither fragments nor sets reserved bits"
            if size == 126:
                size = int.from_bytes(await self.reader.readexactly(2))
            elif size == 127:
                size = int.from_bytes(await self.reader.readexactly(8))
            return first & 15, await self.reader.readexactly(size)

    async def signs_in(self, token: str) -> int:
        """Upgrade, HELLO, and everything up to SYNCED; returns the user."""
        await self.upgrades()
        await self.says(1, 1, token)
        user = 0
        while True:
            _, payload = await self.hears()
            frame = msgpack.unpackb(payload)
            if frame[0] == 16:
                user = frame[2]["user"]
            if frame[0] == 25:
                return user

    async def ends(self) -> Ending:
        """Read until the server hangs up."""
        ending = Ending()
        try:
            while True:
                opcode, payload = await self.hears()
                if opcode == CLOSE:
                    ending.code = int.from_bytes(payload[:2])
                    await self.writes(wrap(payload[:2], CLOSE))
                elif opcode in (TEXT, BINARY):
                    ending.frames.append(msgpack.unpackb(payload) if opcode == BINARY else payload)
        except (asyncio.IncompleteReadError, ConnectionError):
            self.hangs_up()
            return ending

    def hangs_up(self) -> None:
        """Drop the connection."""
        self.writer.close()


@asynccontextmanager
async def peace(server: RunningServer) -> AsyncIterator[None]:
    """Two neighbours who chat, and still do after whatever happens in the block; nothing stays of anybody else."""
    async with server.phone("mina") as mina, server.phone("jun") as jun:
        chat = await direct(mina, jun)
        bodies = (f"message {n}" for n in itertools.count())
        await mina.sends(chat, next(bodies))
        await jun.gets(MSG)
        yield
        body = next(bodies)
        await mina.sends(chat, body)
        assert (await jun.gets(MSG))[5] == body
        await until_gone(server, mina.user, jun.user)


async def until_gone(server: RunningServer, *users: int) -> None:
    """Wait until nobody but `users`, each with one socket, is held by any part of the gateway and the hub."""
    gateway, hub = server.node.gateway, server.node.hub

    def held() -> dict[str, Any]:
        here = {connection for connection in gateway.connections if connection.user in users}
        return {
            "connections": [c.id for c in gateway.connections if c not in here],
            "listeners": [listener.id for listener in hub._topics_of if listener not in here],
            "topics": [topic for topic, who in hub._topics.items() if not set(who) <= here],
            "bus": set(server.node.context.bus._topics) ^ {*hub._topics, NODES},  # type: ignore[attr-defined]
            "joining": [*hub._told],
            "deadlines": [item for slot in gateway.wheel._slots.values() for item in slot if item not in here],
            "addresses": sum(gateway._addresses.values()) - len(users),
            "tasks": len(gateway.tasks),
        }

    try:
        await until(lambda: len(gateway.connections) == len(users) and not any(held().values()))
    except TimeoutError:
        raise AssertionError({part: what for part, what in held().items() if what}) from None


def assert_calm(caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing in the log is a failure of ours. Reads what structlog prints and what the standard library logs."""
    records = [*caplog.get_records("call"), *caplog.get_records("teardown")]
    assert [record.getMessage() for record in records if record.exc_info] == []
    written = "".join([*capsys.readouterr(), *(record.getMessage() for record in records)])
    assert [word for word in TROUBLE if word in written] == [], written
