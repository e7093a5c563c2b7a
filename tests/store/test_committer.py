"""The committer against a real Postgres, without sockets."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest
import pytest_asyncio
from prometheus_client import REGISTRY

from mim.clock import SystemClock
from mim.errors import Code
from mim.model import Stored
from mim.store.committer import DUPLICATE, NOT_MEMBER, Committer, Pending
from mim.store.db import Connection, Connector, connector
from mim.store.dispatch import Dispatch, Dispatches
from tests.harness import until

MINA, JUN, STRANGER = 1, 2, 3
DIRECT, GROUP = 1, 2
PEOPLE = """
    insert into account (sub, created) values ('mina', 0), ('jun', 0), ('stranger', 0);
    insert into chat (kind, members, low, high, active, touched, created) values
        (1, 2, 1, 2, 0, pg_current_xact_id(), 0), (2, 2, null, null, 0, pg_current_xact_id(), 0);
    insert into member (chat_id, user_id, first_seq, read_seq, joined, join_rev, touched)
        select c, u, 1, 0, 0, 0, pg_current_xact_id() from generate_series(1, 2) c, generate_series(1, 2) u;
"""


class Asked:
    """A sender that writes down what it is told."""

    def __init__(self) -> None:
        self.acks: list[tuple[int, int]] = []  # cid, seq
        self.nacks: list[tuple[int, Code]] = []

    def acknowledge(self, cid: int, seq: int, at: int) -> None:
        self.acks.append((cid, seq))

    def refuse(self, cid: int, code: Code, detail: str, retry_after_ms: int | None = None) -> None:
        assert (retry_after_ms is not None) == (code == Code.UNAVAILABLE)
        self.nacks.append((cid, code))

    @property
    def answers(self) -> int:
        """How often it was told something."""
        return len(self.acks) + len(self.nacks)


class Desk:
    """A committer with its senders; every batch that it reports is kept."""

    def __init__(self, connect: Connector, *, batch: int = 500, queue: int = 1000, wait_s: float = 10) -> None:
        self.batches: list[list[tuple[int, int]]] = []  # (cid, outcome)
        self.dispatches = Dispatches(7)
        self.committer = Committer(
            connect, self._committed, self.dispatches, SystemClock(), batch=batch, queue=queue, wait_s=wait_s
        )  # fmt: skip

    def _committed(self, batch: Sequence[Pending], dispatch: Dispatch) -> None:
        dispatch.release()
        self.batches.append([(sent.cid, sent.outcome) for sent in batch])
        for sent in batch:
            if sent.outcome == NOT_MEMBER:
                sent.refuse(Code.NOT_MEMBER, "")
            else:
                sent.sender.acknowledge(sent.cid, sent.seq, sent.at)

    def send(
        self, sender: Asked, cid: int, *, chat: int = DIRECT, user: int = MINA, text: str = "안녕", extra: Any = None
    ) -> None:
        """Queue a message; the device has the number of its user, times ten."""
        self.committer.submit(Pending(sender, user, user * 10, 1, chat, cid, Stored(text, extra)))


@pytest_asyncio.fixture
async def db(database_url: str) -> AsyncIterator[Connection]:
    """A database with Mina, Jun and a stranger, a direct chat and a group of the first two."""
    connection = await asyncpg.connect(database_url)
    await connection.execute(PEOPLE)
    yield connection
    await connection.close()


@asynccontextmanager
async def open_desk(connect: Connector | str, **bounds: Any) -> AsyncIterator[Desk]:
    """A committer at work."""
    desk = Desk(connector(connect) if isinstance(connect, str) else connect, **bounds)
    desk.committer.start()
    yield desk
    await desk.committer.close(5)


async def stored(db: Connection, chat: int = DIRECT) -> list[tuple[int, int, str]]:
    """(seq, cid, text) of a chat."""
    return [
        tuple(row) for row in await db.fetch("select seq, cid, text from message where chat_id = $1 order by 1", chat)
    ]


def unavailable() -> float:
    """How many messages were counted as unavailable so far."""
    return REGISTRY.get_sample_value("mim_messages_total", {"outcome": "unavailable"}) or 0


async def test_what_arrives_during_a_commit_is_the_next_batch(database_url: str, db: Connection) -> None:
    async with open_desk(database_url) as desk:
        mina = Asked()
        async with db.transaction():  # the first commit waits for this lock
            await db.execute("select from chat where id = $1 for update", DIRECT)
            desk.send(mina, 1)
            await until(lambda: not len(desk.committer))
            for cid in range(2, 301):
                desk.send(mina, cid)
            assert mina.answers == 0
        await until(lambda: len(mina.acks) == 300)
    assert [len(batch) for batch in desk.batches] == [1, 299]
    assert mina.acks == [(n, n) for n in range(1, 301)]
    assert [row[:2] for row in await stored(db)] == [(n, n) for n in range(1, 301)]


async def test_a_batch_has_a_bound(database_url: str, db: Connection) -> None:
    async with open_desk(database_url, batch=100) as desk:
        mina = Asked()
        for cid in range(1, 251):
            desk.send(mina, cid)
        await until(lambda: len(mina.acks) == 250)
    assert [len(batch) for batch in desk.batches] == [100, 100, 50]
    assert mina.acks == [(n, n) for n in range(1, 251)]


async def test_every_sender_keeps_its_order_in_every_chat(database_url: str, db: Connection) -> None:
    async with open_desk(database_url, batch=7) as desk:
        mina, jun = Asked(), Asked()
        for cid in range(1, 101):
            desk.send(mina, cid, chat=DIRECT if cid % 3 else GROUP)
            desk.send(jun, cid, user=JUN, chat=GROUP if cid % 2 else DIRECT)
        await until(lambda: mina.answers + jun.answers == 200)
    for chat in (DIRECT, GROUP):
        rows = await db.fetch("select seq, sender, cid from message where chat_id = $1 order by seq", chat)
        assert [row["seq"] for row in rows] == list(range(1, len(rows) + 1))
        for user in (MINA, JUN):
            cids = [row["cid"] for row in rows if row["sender"] == user]
            assert cids == sorted(cids)
    heads = await db.fetch("select head, active > 0 as dated from chat order by id")
    assert sum(row["head"] for row in heads) == 200
    assert all(row["dated"] for row in heads)


async def test_sending_moves_the_own_watermark_only(database_url: str, db: Connection) -> None:
    async with open_desk(database_url) as desk:
        mina, jun = Asked(), Asked()
        desk.send(mina, 1)
        desk.send(mina, 2)
        desk.send(jun, 1, user=JUN)
        desk.send(mina, 3, chat=GROUP)
        await until(lambda: mina.answers + jun.answers == 4)
    rows = await db.fetch("select chat_id, user_id, read_seq from member order by 1, 2")
    assert [tuple(row) for row in rows] == [(DIRECT, MINA, 2), (DIRECT, JUN, 3), (GROUP, MINA, 1), (GROUP, JUN, 0)]


async def test_the_same_cid_twice_in_a_batch_is_one_message(database_url: str, db: Connection) -> None:
    async with open_desk(database_url) as desk:
        mina = Asked()
        for cid, text in ((1, "one"), (2, "two"), (1, "another one"), (3, "three"), (2, "another two")):
            desk.send(mina, cid, text=text)
        await until(lambda: mina.answers == 5)
    assert sorted(mina.acks) == [(1, 1), (1, 1), (2, 2), (2, 2), (3, 3)]
    assert await stored(db) == [(1, 1, "one"), (2, 2, "two"), (3, 3, "three")]
    assert desk.batches[1] == [(1, DUPLICATE), (2, DUPLICATE)]


async def test_the_same_cid_in_another_chat_or_of_another_device_is_another_message(
    database_url: str, db: Connection
) -> None:
    async with open_desk(database_url) as desk:
        mina, jun = Asked(), Asked()
        desk.send(mina, 1)
        desk.send(mina, 1, chat=GROUP)
        desk.send(jun, 1, user=JUN)
        await until(lambda: mina.answers + jun.answers == 3)
    assert [row[0] for row in await stored(db)] == [1, 2]
    assert [row[0] for row in await stored(db, GROUP)] == [1]


async def test_a_refused_row_takes_no_seq(database_url: str, db: Connection) -> None:
    async with open_desk(database_url) as desk:
        mina, stranger = Asked(), Asked()
        desk.send(mina, 1)
        desk.send(stranger, 1, user=STRANGER)
        desk.send(stranger, 2, user=STRANGER, chat=999)
        desk.send(mina, 2)
        await until(lambda: mina.answers + stranger.answers == 4)
    assert stranger.nacks == [(1, Code.NOT_MEMBER), (2, Code.NOT_MEMBER)]
    assert mina.acks == [(1, 1), (2, 2)]
    assert len(desk.batches) == 1


@pytest.mark.parametrize("place", [0, 37, 99])
async def test_a_row_that_the_database_refuses_fails_alone(database_url: str, db: Connection, place: int) -> None:
    await db.execute("alter table message add check (text <> 'poison')")
    async with open_desk(database_url) as desk:
        mina = Asked()
        for cid in range(100):
            desk.send(mina, cid, text="poison" if cid == place else "food")
        await until(lambda: mina.answers == 100)
    assert mina.nacks == [(place, Code.BAD_FRAME)]
    fine = [cid for cid in range(100) if cid != place]
    assert mina.acks == list(zip(fine, range(1, 100), strict=True))


async def test_a_value_that_cannot_be_sent_fails_alone(database_url: str, db: Connection) -> None:
    async with open_desk(database_url) as desk:
        mina = Asked()
        desk.send(mina, 1)
        desk.send(mina, 2, text="\x00")
        desk.send(mina, 3, text="\ud800")
        desk.send(mina, 4, extra={"x": 1 << 70})
        desk.send(mina, 5)
        await until(lambda: mina.answers == 5)
    assert mina.nacks == [(2, Code.BAD_FRAME), (3, Code.BAD_FRAME), (4, Code.BAD_FRAME)]
    assert mina.acks == [(1, 1), (5, 2)]


async def test_a_database_out_of_order_is_no_fault_of_the_message(database_url: str, db: Connection) -> None:
    async with open_desk(database_url) as desk:
        mina = Asked()
        desk.send(mina, 1)
        await until(lambda: mina.answers == 1)
        await db.execute("alter table message rename to elsewhere")
        desk.send(mina, 2)
        await until(lambda: mina.answers == 2)
        assert mina.nacks == [(2, Code.UNAVAILABLE)]
        await db.execute("alter table elsewhere rename to message")
        desk.send(mina, 2)
        await until(lambda: mina.answers == 3)
    assert mina.acks == [(1, 1), (2, 2)]


async def test_the_queue_has_a_bound(database_url: str, db: Connection) -> None:
    async with open_desk(database_url, queue=10) as desk:
        mina = Asked()
        for cid in range(1, 16):
            desk.send(mina, cid)
        assert mina.nacks == [(cid, Code.UNAVAILABLE) for cid in range(11, 16)]
        await until(lambda: mina.answers == 15)
    assert mina.acks == [(n, n) for n in range(1, 11)]


async def test_closing_commits_what_waits(database_url: str, db: Connection) -> None:
    desk = Desk(connector(database_url), batch=10)
    mina = Asked()
    for cid in range(1, 101):
        desk.send(mina, cid)
    desk.committer.start()
    await desk.committer.close(5)
    assert mina.acks == [(n, n) for n in range(1, 101)]


async def test_closing_has_an_end(database_url: str, db: Connection) -> None:
    before = unavailable()
    desk = Desk(connector(database_url), batch=10)
    mina = Asked()
    async with db.transaction():
        await db.execute("select from chat where id = $1 for update", DIRECT)
        for cid in range(1, 26):
            desk.send(mina, cid)
        desk.committer.start()
        await desk.committer.close(0.2)
        assert mina.nacks == [(cid, Code.UNAVAILABLE) for cid in range(1, 26)]
    assert unavailable() - before == 25


async def test_who_waits_too_long_is_told_once_and_the_cid_stays_good(database_url: str, db: Connection) -> None:
    async with open_desk(database_url, batch=2, wait_s=0.4) as desk:
        mina = Asked()
        loop = asyncio.get_running_loop()
        began = loop.time()
        async with db.transaction():
            await db.execute("select from chat where id = $1 for update", DIRECT)
            for cid in range(1, 6):
                desk.send(mina, cid)
            await until(lambda: mina.answers == 5)
            assert 0.4 <= loop.time() - began < 1
            assert mina.nacks == [(cid, Code.UNAVAILABLE) for cid in range(1, 6)]
            assert len(desk.committer) == 0
        # The abandoned statement may take effect now, before or after the same cids come again.
        for cid in range(1, 6):
            desk.send(mina, cid)
        await until(lambda: len(mina.acks) == 5)
    assert mina.answers == 10
    rows = await stored(db)
    assert sorted((cid, seq) for seq, cid, _ in rows) == sorted(mina.acks)
    assert [row[0] for row in rows] == [1, 2, 3, 4, 5]


async def test_a_connection_that_cannot_be_made_counts_as_waiting(database_url: str, db: Connection) -> None:
    refusing = asyncio.Event()

    async def connect(settings: Any) -> Any:
        if not refusing.is_set():
            raise ConnectionRefusedError
        return await connector(database_url)(settings)

    async with open_desk(connect, wait_s=5) as desk:
        mina = Asked()
        desk.send(mina, 1)
        asyncio.get_running_loop().call_later(0.3, refusing.set)
        await until(lambda: mina.answers == 1)
    assert mina.acks == [(1, 1)]
