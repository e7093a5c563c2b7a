"""Many clients in many chats, who talk without pause until they are told to stop."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from loadtest.checks.invariants import Verdict, check
from loadtest.checks.record import Record
from loadtest.checks.stored import Stored, read_stored
from mim.tasks import TaskSet
from tests.faults.clients import Client, texts
from tests.faults.line import GONE

GROUP = 10
PATIENCE_S = 60.0
SIGN_INS = 50  # at once
REACTIONS = "👍🎉❤️"


class Crowd:
    """Users in pairs and in groups of ten: every one talks in a direct chat and in a group.

    `desktops` are second devices of some of them, which read and do not write.
    """

    def __init__(
        self, clients: list[Client], seed: int, desktops: Sequence[Client] = (), pace_s: float = 0.0,
        talkers: int | None = None,
    ) -> None:  # fmt: skip
        self.clients = clients
        self.talkers = clients[:talkers]  # whole groups, so that all that these are in is talked in
        self.desktops = list(desktops)
        self.everyone = [*clients, *desktops]
        self.chats: dict[Client, list[int]] = {client: [] for client in self.everyone}
        self._members: dict[int, list[Client]] = {}  # devices by chat
        self._seed = seed
        self._pace_s = pace_s
        self._stopped = False
        self._connections = TaskSet()
        self._talks: list[asyncio.Task[None]] = []

    # -- connections -----------------------------------------------------------------------

    async def connects(self) -> None:
        """Everybody is there."""
        await self._connect(self.everyone)

    async def _connect(self, clients: Sequence[Client]) -> None:
        for start in range(0, len(clients), SIGN_INS):
            some = clients[start : start + SIGN_INS]
            for client in some:
                self._connections.spawn(client.runs(), name="client")
            await asyncio.wait_for(asyncio.gather(*(client.opened.wait() for client in some)), PATIENCE_S)

    async def are_disconnected(self) -> None:
        """Wait until nobody has a connection, nor tries to get one."""
        await eventually(lambda: not len(self._connections))

    async def returns(self, clients: Sequence[Client] | None = None) -> None:
        """Those who were told to stay away and have lost their connections, or all of them, connect again."""
        clients = self.everyone if clients is None else clients
        for client in clients:
            client.come_back = True
        await self._connect(clients)

    async def is_back(self, patience_s: float = PATIENCE_S) -> None:
        """Wait until every client has a connection and its sync."""
        await eventually(lambda: all(client.is_synced for client in self.everyone), patience_s)

    async def leaves(self) -> None:
        """Drop every connection."""
        for talk in self._talks:
            talk.cancel()
        await asyncio.gather(*self._talks, return_exceptions=True)
        await self._connections.close()

    # -- chats -----------------------------------------------------------------------------

    async def opens_chats(self) -> None:
        """A direct chat for every two, a group for every ten."""
        for one, other in zip(self.clients[::2], self.clients[1::2], strict=True):
            await self.opens([one, other], kind="direct")
        for start in range(0, len(self.clients), GROUP):
            await self.opens(self.clients[start : start + GROUP], kind="group")

    async def opens(self, people: Sequence[Client], kind: str) -> int:
        """A new chat, in which its members talk from then on like in their others."""
        users = {client.record.user for client in people}
        others = [client.record.user for client in people[1:]]
        chat = int((await people[0].calls("chat.create", kind=kind, members=others))["chat"])
        self._members[chat] = [client for client in self.everyone if client.record.user in users]
        for client in self._members[chat]:
            self.chats[client].append(chat)
        return chat

    def members(self, chat: int) -> list[Client]:
        """The devices of a chat's members."""
        return self._members[chat]

    # -- talk ------------------------------------------------------------------------------

    def starts_talking(self) -> None:
        """The talkers send, one message after another, until `stops_talking`."""
        self._stopped = False
        loop = asyncio.get_running_loop()
        works = [self._talk(client, number) for number, client in enumerate(self.talkers)]
        works += [self._look(client, number) for number, client in enumerate(self.desktops)]
        self._talks = [loop.create_task(work, name="talk") for work in works]

    @property
    def is_talking(self) -> bool:
        """Whether anybody begins new messages."""
        return bool(self._talks) and not self._stopped

    async def _talk(self, client: Client, number: int) -> None:
        rng = random.Random(f"{self._seed}/{number}/{len(client.record.sent)}")
        bodies = texts(self._seed, f"{number}.{len(client.record.sent)}")
        while not self._stopped:
            body, chat = next(bodies), rng.choice(self.chats[client])
            await client.sends(chat, {"t": body, "x": {"n": 1}} if rng.random() < 0.1 else body)
            if self._pace_s:
                await self._dwells(client, rng, chat)

    async def _dwells(self, client: Client, rng: random.Random, chat: int) -> None:
        """What a person does between two messages: read, react, think."""
        chance = rng.random()
        if chance < 0.3:
            await client.reads(chat)
        elif chance < 0.35:
            await self._reacts(client, rng, chat)
        await asyncio.sleep(rng.uniform(0, 2 * self._pace_s))

    async def _reacts(self, client: Client, rng: random.Random, chat: int) -> None:
        """Once, and not again when it is unknown what became of it."""
        if have := client.views[chat].have if chat in client.views else 0:
            try:
                await client.reacts(chat, rng.randint(1, have), rng.choice(REACTIONS))
            except GONE:
                return

    async def _look(self, client: Client, number: int) -> None:
        rng = random.Random(f"{self._seed}/look/{number}")
        while not self._stopped:
            await client.reads(rng.choice(self.chats[client]))
            await asyncio.sleep(rng.uniform(0, 4 * self._pace_s + 0.1))

    def acknowledged(self) -> int:
        """Messages acknowledged so far."""
        return sum(len(client.waits) for client in self.clients)

    async def talks_on(self, messages: int) -> None:
        """Wait until so many more messages are acknowledged."""
        goal = self.acknowledged() + messages
        await eventually(lambda: self.acknowledged() >= goal, patience_s=PATIENCE_S)

    async def stops_talking(self) -> None:
        """Nobody begins a new message; everything begun gets acknowledged, sent again where it was refused."""
        self._stopped = True
        await asyncio.wait_for(asyncio.gather(*self._talks), PATIENCE_S)
        await asyncio.gather(*(client.settles() for client in self.clients))

    # -- what they have --------------------------------------------------------------------

    def heads(self) -> dict[int, int]:
        """The newest seq of each chat that anybody knows of."""
        return {
            chat: max((client.views[chat].head for client in members if chat in client.views), default=0)
            for chat, members in self._members.items()
        }

    async def is_served(self, patience_s: float = PATIENCE_S) -> float:
        """Wait until service is as it was: everybody is connected, has had a new message of his own acknowledged, and
        has something in each of his chats that is newer than this call. Returns how many seconds it took.
        """
        began, heads = time.monotonic(), self.heads()
        concerned = [*self.talkers, *self.desktops]

        def has_news(client: Client) -> bool:
            return all(client.views[chat].have > heads[chat] for chat in self.chats[client])

        def is_answered(client: Client) -> bool:
            return bool(client.waits) and client.waits[-1][1] > began

        await eventually(
            lambda: (
                all(client.is_synced and has_news(client) for client in concerned)
                and all(is_answered(client) for client in self.talkers)
            ),
            patience_s,
        )
        return time.monotonic() - began

    def lacking(self) -> int:
        """How many messages the clients lack together, of those that anybody knows of."""
        heads = self.heads()
        return sum(
            heads[chat] - (client.views[chat].have if chat in client.views else 0)
            for client in self.everyone
            for chat in self.chats[client]
        )

    async def have_everything(self, patience_s: float = PATIENCE_S) -> float:
        """Wait until nobody lacks anything; returns how many seconds it took."""
        began = time.monotonic()
        try:
            await eventually(lambda: not self.lacking(), patience_s)
        except TimeoutError:
            raise AssertionError(f"after {patience_s:.0f} s {self.lacking()} messages have not arrived") from None
        return time.monotonic() - began

    def delays(self, since: float) -> list[float]:
        """Seconds from sending to arrival of everything that was sent after `since`, for every receiver but the device
        that sent it, in order.
        """
        sent = {
            (message.chat, message.seq): (client, client.began[cid])
            for client in self.clients
            for cid, message in client.record.sent.items()
            if message.is_acknowledged and client.began[cid] >= since
        }
        return sorted(
            when - sent[place][1] for client in self.everyone for place, (when, _) in client.arrivals.items()
            if place in sent and sent[place][0] is not client
        )  # fmt: skip

    async def catches_up(self) -> None:
        """Everybody reads all of his chats from their beginning."""
        for client in self.everyone:
            for chat in self.chats[client]:
                await client.fetches_all(chat)

    async def stored(self, url: str) -> Stored:
        """What the database holds of their chats."""
        return await read_stored(url, self._members)

    async def verdict(self, url: str, patience_s: float = 10) -> Verdict:
        """Compare everybody's record with the database `url`, once the watermarks have had `patience_s` to arrive."""
        deadline = time.monotonic() + patience_s
        while True:
            for client in self.everyone:
                client.record.shows = {chat: client.shows(chat) for chat in self.chats[client]}
            verdict = check(self.records(), await self.stored(url), in_order=False)
            if not verdict.counts["unread wrong"] or time.monotonic() > deadline:
                return verdict
            await asyncio.sleep(0.2)

    def records(self) -> list[Record]:
        """Everybody's record. What was said to be read is certain by now: it was said again on every connection."""
        for client in self.everyone:
            for chat, seq in client.record.attempted_reads.items():
                client.record.says_read(chat, seq, certain=True)
        return [client.record for client in self.everyone]


def new_seed() -> int:
    """A seed, printed, so that a failed run can be repeated with its traffic."""
    print(f"seed {(seed := random.randrange(1 << 32))}")
    return seed


async def eventually(condition: Callable[[], bool], patience_s: float = PATIENCE_S) -> None:
    """Look again and again until it is so, no oftener than a large crowd can bear. Raises TimeoutError."""
    async with asyncio.timeout(patience_s):
        while not condition():  # noqa: ASYNC110 - conditions of all kinds
            await asyncio.sleep(0.02)


@asynccontextmanager
async def crowd(
    addresses: Callable[[], Sequence[str]], people: int, seed: int, *,
    window: int = 4, desktops: int = 0, pace_s: float = 0.0, ping_s: float = 2.0, pong_s: float = 3.0,
    talkers: int | None = None,
) -> AsyncIterator[Crowd]:  # fmt: skip
    """`people` clients with their chats, connected, the first `desktops` of them with a second device."""

    def make(number: int, dev: str, place: int) -> Client:
        return Client(addresses, f"user{seed}-{number}", dev, window=window, place=place, ping_s=ping_s, pong_s=pong_s)

    phones = [make(number, "phone", number) for number in range(people)]
    seconds = [make(number, "desktop", number + 1) for number in range(desktops)]
    crowd = Crowd(phones, seed, seconds, pace_s, talkers)
    try:
        await crowd.connects()
        await crowd.opens_chats()
        yield crowd
    finally:
        await crowd.leaves()
