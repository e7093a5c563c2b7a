"""A server in development, as an app developer has it, and clients that are put away after the test."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from tests.conformance.json_client import Disk, JsonClient
from tests.conformance.msgpack_client import Phone
from tests.harness import running

MINA, JUN, SORA = "010-1234-5678", "010-8765-4321", "010-5555-6666"


@dataclass
class Cast:
    """Who plays; only the address of the server is known."""

    base: str
    clients: list[JsonClient] = field(default_factory=list)

    async def by_json(self, phone: str = MINA, name: str = "json") -> JsonClient:
        """Signed in and connected."""
        return await self.again((await JsonClient.sign_in(self.base, phone, name)).disk)

    async def again(self, disk: Disk) -> JsonClient:
        """An app that starts from what is on its disk."""
        client = JsonClient(self.base, disk)
        self.clients.append(client)
        await client.open()
        return client

    async def by_msgpack(self, phone: str = JUN, name: str = "msgpack") -> Phone:
        """Signed in; `online()` connects."""
        return await Phone.sign_in(self.base, phone, name)

    async def pair(self) -> tuple[JsonClient, Phone, int]:
        """민아 is connected, 준 is not yet, they have a chat."""
        mina, jun = await self.by_json(MINA), await self.by_msgpack(JUN)
        return mina, jun, await mina.create(kind="direct", members=[jun.user])


@pytest.fixture
async def cast(database_url: str) -> AsyncIterator[Cast]:
    """A fresh server and nobody signed in."""
    async with running(database_url, dev=True) as server:
        company = Cast(server.http)
        try:
            yield company
        finally:
            for client in company.clients:
                await client.close()
