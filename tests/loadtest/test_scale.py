"""What `scale` grows is what it says, and what it writes into the docs."""

import os
from collections import Counter
from pathlib import Path

import asyncpg
import pytest

from loadtest.scale.command import BEGIN, END, PAGE, PLOTS, write
from loadtest.scale.rovers import WrongCount, fill, make_chats, pairs, stored
from loadtest.scale.series import Effort, Point, Series, point_at
from loadtest.server import private
from mim.store.migrate import migrate


@pytest.mark.parametrize(("users", "chats"), [(1000, 10), (1000, 500), (1000, 2000), (200, 10_000), (10, 40)])
def test_pairs_differ_and_everybody_has_as_many(users: int, chats: int) -> None:
    found = pairs(users, chats)
    assert len({frozenset(pair) for pair in found}) == chats
    assert all(a != b for a, b in found)
    shares = Counter(user for pair in found for user in pair)
    assert max(shares.values()) - min(shares.values()) <= 2


def test_more_pairs_than_there_are_is_refused() -> None:
    with pytest.raises(ValueError, match="do not make"):
        pairs(10, 41)


async def test_filled_tables_are_what_the_server_would_have_made(database_url: str) -> None:
    await migrate(database_url)
    connection = await asyncpg.connect(database_url)
    rows = await connection.fetch(
        "insert into account (sub, created) select 'u' || n, 0 from generate_series(1, 20) n returning id"
    )
    by_user = await make_chats(database_url, [row["id"] for row in rows], 40)
    assert sum(map(len, by_user.values())) == 80
    await fill(database_url, 400)
    await fill(database_url, 1000)
    assert await stored(database_url) == 1000
    per_chat = await connection.fetch(
        """select c.head, min(m.seq) as first, max(m.seq) as last, count(*) as count
           from chat c join message m on m.chat_id = c.id group by c.id"""
    )
    assert {tuple(row) for row in per_chat} == {(25, 1, 25, 25)}
    indexes = await connection.fetchval("select count(*) from pg_indexes where tablename = 'message'")
    assert indexes == 2
    await connection.execute("update chat set head = head + 1 where id = (select min(id) from chat)")
    with pytest.raises(WrongCount, match="1001 messages, 1000 are stored"):
        await stored(database_url)
    await connection.close()


async def test_a_point_counts_everything_and_says_when_it_does_not_agree() -> None:
    core = min(os.sched_getaffinity(0))
    effort = Effort(rounds=1, duration_s=0.3, ends=0)
    async with private(core) as server:
        point = await point_at(server, Series("chats", "chats"), 30, effort, users=10, chats=30, window=2, fill_to=90)
        assert point.messages_s > 0
        assert point.cpu_us == pytest.approx(point.server_us + point.postgres_us + point.redis_us, rel=0.01)
        assert point.stored > 90
        connection = await asyncpg.connect(server.database_url)
        await connection.execute("create rule swallow as on insert to message where new.seq % 5 = 0 do instead nothing")
        await connection.close()
        with pytest.raises(WrongCount):
            await point_at(server, Series("chats", "chats"), 5, effort, users=10, chats=5, window=2)


def test_only_what_is_between_the_marks_is_written_anew(tmp_path: Path) -> None:
    page = tmp_path / PAGE
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n", "utf-8")
    series = Series("chats", "chats", [Point(10, 100, 50, 30, 20, 0, 5, 0), Point(100, 90, 55, 33, 22, 0, 6, 0)])
    write(page, [series], "a table")
    text = page.read_text("utf-8")
    assert text.startswith(f"before\n{BEGIN}\na table\n")
    assert text.endswith(f"{END}\nafter\n")
    assert "old" not in text
    drawn = {path.name for path in (tmp_path / PLOTS).iterdir()}
    assert drawn == {"scale-chats-cpu.svg", "scale-chats-rate.svg"}
    assert all(name in text for name in drawn)
