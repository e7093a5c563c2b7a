"""Many clients in many chats, who talk without pause until they are told to stop."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from mim.tasks import TaskSet
from tests.faults.clients import Client, texts
from tests.harness import until

GROUP = 10


class Crowd:
    """Users in pairs and in groups of ten: every one talks in a direct chat and in a group."""

    def __init__(self, clients: list[Client], seed: int) -> None:
        self.clients = clients
        self.chats: dict[Client, list[int]] = {client: [] for client in clients}
        self._seed = seed
        self._stopped = False
        self._connections = TaskSet()
        self._talks = TaskSet()

    async def connects(self) -> None:
        """Everybody is there."""
        for client in self.clients:
            self._connections.spawn(client.runs(), name="client")
        await self.is_back()

    async def are_disconnected(self) -> None:
        """Wait until nobody has a connection, nor tries to get one."""
        await until(lambda: not len(self._connections))

    async def returns(self) -> None:
        """Everybody connects again, after `are_disconnected`."""
        for client in self.clients:
            client.come_back = True
        await self.connects()

    async def is_back(self) -> None:
        """Wait until every client has a connection."""
        await asyncio.gather(*(client.opened.wait() for client in self.clients))

    async def opens_chats(self) -> None:
        """A direct chat for every two, a group for every ten."""
        for one, other in zip(self.clients[::2], self.clients[1::2], strict=True):
            await self._opens([one, other], kind="direct")
        for start in range(0, len(self.clients), GROUP):
            await self._opens(self.clients[start : start + GROUP], kind="group")

    async def _opens(self, people: list[Client], kind: str) -> None:
        members = [client.record.user for client in people[1:]]
        chat = int((await people[0].calls("chat.create", kind=kind, members=members))["chat"])
        for client in people:
            self.chats[client].append(chat)

    def starts_talking(self) -> None:
        """Everybody sends, one message after another, until `stops_talking`."""
        for number, client in enumerate(self.clients):
            self._talks.spawn(self._talk(client, number), name="talk")

    async def _talk(self, client: Client, number: int) -> None:
        rng = random.Random(f"{self._seed}/{number}")
        bodies = texts(self._seed, str(number))
        while not self._stopped:
            body = next(bodies)
            await client.sends(
                rng.choice(self.chats[client]), {"t": body, "x": {"n": 1}} if rng.random() < 0.1 else body
            )

    def acknowledged(self) -> int:
        """Messages acknowledged so far."""
        return sum(len(client.record.sent) - len(client.record.unacknowledged) for client in self.clients)

    async def talks_on(self, messages: int) -> None:
        """Wait until so many more messages are acknowledged."""
        goal = self.acknowledged() + messages
        await until(lambda: self.acknowledged() >= goal, patience_s=60)

    async def stops_talking(self) -> None:
        """Nobody begins a new message; everything begun gets acknowledged, sent again where it was refused."""
        self._stopped = True
        await until(lambda: not len(self._talks), patience_s=60)
        await asyncio.gather(*(client.resends() for client in self.clients))

    async def catches_up(self) -> None:
        """Everybody reads all of his chats from their beginning."""
        for client in self.clients:
            for chat in self.chats[client]:
                await client.fetches_all(chat)

    async def leaves(self) -> None:
        """Drop every connection."""
        await self._talks.close()
        await self._connections.close()


@asynccontextmanager
async def crowd(url: Callable[[], str], people: int, seed: int, *, window: int = 4) -> AsyncIterator[Crowd]:
    """`people` clients with their chats, connected."""
    print(f"seed {seed}")
    crowd = Crowd([Client(url, f"user{seed}-{number}", window=window) for number in range(people)], seed)
    try:
        await crowd.connects()
        await crowd.opens_chats()
        yield crowd
    finally:
        await crowd.leaves()
