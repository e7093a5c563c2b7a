"""Users who write in many chats by turns, and the tables in which those chats are."""

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import cycle, islice
from typing import Final

import asyncpg

from loadtest.load.client import TEXT, Client
from loadtest.load.crew import Crew
from loadtest.load.many import wait_until

ANY_MSG: Final = b"\x96\x12"  # how every MSG begins
SETTLE_S: Final = 60.0
FILLED_AT_A_TIME: Final = 500_000

CHATS: Final = """
    with made as (
        insert into chat (kind, members, low, high, active, touched, created)
        select 1, 2, p.low, p.high, 0, pg_current_xact_id(), 0 from unnest($1::bigint[], $2::bigint[]) p(low, high)
        returning id, low, high
    ), named as (
        insert into direct_chat (low, high, chat_id) select low, high, id from made
    ), joined as (
        insert into member (chat_id, user_id, direct, first_seq, read_seq, joined, join_rev, touched)
        select id, unnest(array[low, high]), true, 1, 0, 0, 0, pg_current_xact_id() from made
    )
    select id, low, high from made
"""
UNINDEX: Final = "alter table message drop constraint message_pkey, drop constraint message_chat_id_device_id_cid_key"
INDEX: Final = "alter table message add primary key (chat_id, seq), add unique (chat_id, device_id, cid)"
FILL: Final = """
    insert into message (chat_id, seq, sender, device_id, cid, at, text)
    select c.id, c.head + s, c.low, 0, c.head + s, 0, $3
    from generate_series($1::bigint, $2::bigint) s, chat c where c.kind = 1 order by s, c.id
"""


class WrongCount(Exception):  # noqa: N818 - a verdict, not a failure
    """What was acknowledged, heard and stored is not the same."""


class Rover(Client):
    """Writes in its chats by turns, and hears all of them."""

    def enter_all(self, chats: Sequence[int]) -> None:
        """These are the chats."""
        frames = []
        for chat in chats:
            self.enter(chat, TEXT)
            frames.append(self._message)
        self._turns = cycle(frames)
        self._msg_head = ANY_MSG

    def _send(self, count: int) -> None:
        first = self.sent + 1
        self.sent += count
        if not self._probe:
            self._probe, self._probed_at = first, time.perf_counter()
        self._transport.write(
            b"".join(
                before + cid.to_bytes(4, "big") + after
                for cid, (before, after) in enumerate(islice(self._turns, count), first)
            )
        )


class RoverCrew(Crew):
    """Users with chats of their own choice."""

    async def run(self, chats: Mapping[int, Sequence[int]], window: int) -> None:
        """User number n writes in `chats[n]`, `window` unanswered messages at a time; everybody hears."""
        for client in self._rovers():
            client.enter_all(chats.get(client.number, (0,)))
            if client.number in chats:
                client.run(window)

    def _rovers(self) -> list[Rover]:
        return [client for client in self.clients if isinstance(client, Rover)]

    async def stop(self) -> None:
        """Send no more, and wait for what is on the way."""
        for client in self.clients:
            client.stop()
        await wait_until(
            lambda: all(client.acked == client.sent for client in self.clients), SETTLE_S, "ACK of every message"
        )

    async def heard(self) -> int:
        """Messages that came, so far."""
        return sum(client.heard for client in self.clients)

    async def acked(self) -> int:
        """Messages that were acknowledged, so far."""
        return sum(client.acked for client in self.clients)


def pairs(users: int, chats: int) -> list[tuple[int, int]]:
    """So many different pairs of users, everybody in as many as the others; neighbours first."""
    if chats <= users // 2:
        return [(2 * number, 2 * number + 1) for number in range(chats)]
    if chats > users * ((users - 1) // 2):
        raise ValueError(f"{users} users do not make {chats} pairs of equal shares")
    return [(number % users, (number % users + number // users + 1) % users) for number in range(chats)]


async def make_chats(url: str, ids: Sequence[int], chats: int) -> dict[int, list[int]]:
    """Direct chats straight into the tables; by user's number, those in which the user is."""
    numbers = {user: number for number, user in enumerate(ids)}
    both = [sorted((ids[a], ids[b])) for a, b in pairs(len(ids), chats)]
    found: dict[int, list[int]] = defaultdict(list)
    connection = await asyncpg.connect(url)
    try:
        rows = await connection.fetch(CHATS, [low for low, _ in both], [high for _, high in both], timeout=600)
        await connection.execute("vacuum analyze chat, member, direct_chat", timeout=600)
    finally:
        await connection.close()
    for chat, low, high in rows:
        found[numbers[low]].append(chat)
        found[numbers[high]].append(chat)
    return dict(found)


async def stored(url: str) -> int:
    """Messages in all chats; raises WrongCount when a chat's head says another number."""
    connection = await asyncpg.connect(url)
    try:
        heads = await connection.fetchval("select coalesce(sum(head), 0)::bigint from chat")
        count = await connection.fetchval("select count(*) from message", timeout=600)
    finally:
        await connection.close()
    if heads != count:
        raise WrongCount(f"the chats count {heads} messages, {count} are stored")
    return int(count)


async def fill(url: str, until: int) -> None:
    """Have `until` messages or nearly so, spread over all direct chats, interleaved as they would have come."""
    missing = until - await stored(url)
    connection = await asyncpg.connect(url)
    try:
        chats: int = await connection.fetchval("select count(*) from chat where kind = 1")
        each = missing // chats
        if each > 0:
            await connection.execute("set maintenance_work_mem = '512MB'; set synchronous_commit = off")
            await connection.execute(UNINDEX)
            step = max(1, FILLED_AT_A_TIME // chats)
            for first in range(1, each + 1, step):
                await connection.execute(FILL, first, min(each, first + step - 1), TEXT, timeout=600)
            await connection.execute(INDEX, timeout=1200)
            await connection.execute("update chat set head = head + $1 where kind = 1", each)
        await connection.execute("vacuum analyze message, chat, member", timeout=1200)
        await connection.execute("checkpoint", timeout=600)
    finally:
        await connection.close()
