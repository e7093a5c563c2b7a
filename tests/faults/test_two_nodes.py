"""Two nodes on one database, racing for the same messages in the same chats."""

import asyncio
import random
from collections import defaultdict

import asyncpg

from loadtest.checks.stored import read_stored
from mim.store.committer import PLANNER
from mim.store.db import connector
from tests.harness import ACK, NACK, READ, SEND, Phone, direct, group, running

ROUNDS = 12
ROUND = 50  # messages of one device at once
Places = defaultdict[tuple[int, int, int], set[tuple[int, int]]]  # (chat, device, cid): seq and at as acknowledged


async def test_the_same_device_and_cid_on_two_nodes_is_one_message(database_url: str) -> None:
    rng = random.Random(seed := random.randrange(1 << 32))
    print(f"seed {seed}")
    places: Places = defaultdict(set)
    async with (
        running(database_url, send_rate=10_000.0, send_burst=10_000, request_rate=10_000.0) as one,
        running(database_url, send_rate=10_000.0, send_burst=10_000, request_rate=10_000.0) as two,
        one.phone("mina") as mina,
        one.phone("jun") as jun,
        two.phone("mina") as mina_too,
        two.phone("jun") as jun_too,
    ):
        assert (mina.device, jun.device) == (mina_too.device, jun_too.device)
        chats = [await direct(mina, jun), *[await group(mina, jun) for _ in range(7)]]
        for start in range(0, ROUNDS * ROUND, ROUND):
            sends = [(rng.choice(chats), cid) for cid in range(start + 1, start + ROUND + 1)]
            orders = [rng.sample(sends, ROUND) for _ in range(4)]
            phones = (mina, jun, mina_too, jun_too)
            await asyncio.gather(*(talks(*pair, places) for pair in zip(phones, orders, strict=True)))
    stored = await read_stored(database_url)
    rows = [row for rows in stored.messages.values() for row in rows]
    assert len(rows) == len(places) == 2 * ROUNDS * ROUND
    assert {(row.chat, row.device, row.cid): {(row.seq, row.at)} for row in rows} == places
    for chat in chats:
        assert [row.seq for row in stored.messages[chat]] == list(range(1, stored.heads[chat] + 1))
        assert {read for (of, _), (_, read) in stored.members.items() if of == chat} == {stored.heads[chat]}
    assert await deadlocks(database_url) == 0


async def talks(phone: Phone, sends: list[tuple[int, int]], places: Places) -> None:
    """Send all of it at once, read as far as one sees, and note where the messages went."""
    for chat, cid in sends:
        await phone.says(SEND, cid, chat, f"{cid}")
        await phone.says(READ, chat, 1 << 40)
    chat_of = {cid: chat for chat, cid in sends}
    for _ in sends:
        _, cid, seq, at, *_ = await phone.gets(ACK)
        places[chat_of[cid], phone.device, cid].add((seq, at))
    for chat in set(chat_of.values()):
        await phone.says(READ, chat, 1 << 40)
    assert not [frame for frame in await phone.settles() if frame[0] == NACK]
    phone.inbox.clear()


async def test_watermarks_and_messages_wait_for_each_other_in_one_order(database_url: str) -> None:
    """Statements over the same rows, given in every order: they may wait, and must not wait in a circle."""
    rng = random.Random(seed := random.randrange(1 << 32))
    print(f"seed {seed}")
    setup = await asyncpg.connect(database_url)
    await setup.execute(CHATS)
    await setup.close()
    pairs = [(chat, user) for chat in range(1, 41) for user in range(1, 11)]

    async def marks(number: int) -> None:
        connection = await asyncpg.connect(database_url)
        for turn in range(40):
            some = rng.sample(pairs, 300)
            chats, users = [chat for chat, _ in some], [user for _, user in some]
            await connection.execute("select mark_read($1, $2, $3)", chats, users, [turn * 9 + number] * len(some))
        await connection.close()

    async def commits(device: int) -> None:
        connection = await connector(database_url)(PLANNER)
        for turn in range(40):
            some = rng.sample(pairs, 100)
            await connection.execute(
                "select commit_messages($1, $2, '{}', $3, $4, $5, $6, $7, $8)",
                *(device, turn),
                *([chat for chat, _ in some], [user for _, user in some], [device] * 100),
                *([turn * 100 + n for n in range(100)], ["text"] * 100, [None] * 100),
            )
        await connection.close()

    await asyncio.gather(*(marks(number) for number in range(4)), *(commits(device) for device in range(1, 4)))
    assert await deadlocks(database_url) == 0


CHATS = """
    insert into chat (kind, members, active, touched, created)
        select 2, 10, 0, pg_current_xact_id(), 0 from generate_series(1, 40);
    insert into member (chat_id, user_id, first_seq, read_seq, joined, join_rev, touched)
        select c, u, 1, 0, 0, 0, pg_current_xact_id()
        from generate_series(1, 40) c, generate_series(1, 10) u order by hashint8(c * 1000 + u);
"""


async def deadlocks(url: str) -> int:
    """How many deadlocks this database has seen, as counted when the connections to it have ended."""
    connection = await asyncpg.connect(url)
    try:
        return int(
            await connection.fetchval("select deadlocks from pg_stat_database where datname = current_database()")
        )
    finally:
        await connection.close()
