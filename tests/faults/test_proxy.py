"""The proxy does to a plain TCP connection what its faults are called after, and a held port stays free."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.faults.ports import Port
from tests.faults.proxy import Proxy

SOON_S = 5.0
A_WHILE_S = 0.2  # in which nothing must come


class Caller:
    """A connection through the proxy to a server that echoes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    def says(self, line: str) -> None:
        self._writer.write(line.encode() + b"\n")

    async def hears(self, within_s: float = SOON_S) -> str:
        """The next line, "" at the end of the connection."""
        return (await asyncio.wait_for(self._reader.readline(), within_s)).decode().strip()

    async def is_cut(self) -> bool:
        """Whether the connection ends without a farewell."""
        try:
            return await self.hears() == ""
        except ConnectionResetError:
            return True

    def close(self) -> None:
        self._writer.transport.abort()


class Wire:
    """An echo server, the proxy before it, and the callers."""

    def __init__(self, proxy: Proxy, port: Port) -> None:
        self.proxy = proxy
        self._port = port
        self._callers: list[Caller] = []

    async def calls(self) -> Caller:
        """A new connection."""
        self._callers.append(Caller(*await asyncio.open_connection("127.0.0.1", self._port.number)))
        return self._callers[-1]

    def close(self) -> None:
        for caller in self._callers:
            caller.close()


@pytest_asyncio.fixture
async def wire() -> AsyncIterator[Wire]:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            writer.write(line)
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    upstream = server.sockets[0].getsockname()
    port = Port()
    async with Proxy((upstream[0], upstream[1]), ("127.0.0.1", port.number)) as proxy:
        wire = Wire(proxy, port)
        yield wire
        wire.close()
    server.close()
    port.close()


async def test_it_forwards_until_it_cuts_and_lets_new_connections_through(wire: Wire) -> None:
    caller = await wire.calls()
    caller.says("hello")
    assert await caller.hears() == "hello"
    assert wire.proxy.cut() == 1
    assert await caller.is_cut()
    other = await wire.calls()
    other.says("again")
    assert await other.hears() == "again"


async def test_a_stall_holds_everything_back_and_loses_nothing(wire: Wire) -> None:
    before = await wire.calls()
    wire.proxy.stall()
    before.says("one")
    during = await wire.calls()  # accepted all the same
    during.says("two")
    for caller in (before, during):
        with pytest.raises(TimeoutError):
            await caller.hears(within_s=A_WHILE_S)
    await wire.proxy.restore()
    assert [await before.hears(), await during.hears()] == ["one", "two"]


async def test_a_delay_is_one_in_each_direction(wire: Wire) -> None:
    caller = await wire.calls()
    wire.proxy.delay(0.1)
    began = time.monotonic()
    caller.says("late")
    assert await caller.hears() == "late"
    assert time.monotonic() - began >= 0.2
    await wire.proxy.restore()


async def test_it_refuses_until_it_is_restored_on_the_same_port(wire: Wire) -> None:
    caller = await wire.calls()
    caller.says("hello")
    await caller.hears()
    await wire.proxy.refuse()
    assert await caller.is_cut()
    with pytest.raises(ConnectionRefusedError):
        await wire.calls()
    await wire.proxy.restore()
    again = await wire.calls()
    again.says("back")
    assert await again.hears() == "back"


def test_a_held_port_can_be_listened_on_again_and_again() -> None:
    port = Port()
    for _ in range(3):
        with socket.socket() as server:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            server.bind(("127.0.0.1", port.number))
            server.listen()
    port.close()
