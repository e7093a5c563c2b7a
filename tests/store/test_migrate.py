import asyncio
import shutil
from pathlib import Path

import asyncpg
import pytest

from mim.store.migrate import FOLDER, MigrationError, migrate, read_migrations


def write(folder: Path, **files: str) -> Path:
    """A folder of migrations: keyword `m0001_one="select 1"` becomes 0001_one.sql."""
    for name, sql in files.items():
        (folder / f"{name[1:]}.sql").write_text(sql)
    return folder


async def ask(url: str, sql: str) -> object:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(sql)
    finally:
        await connection.close()


async def test_applies_all_in_order_and_then_nothing(empty_database_url: str) -> None:
    names = [migration.name for migration in read_migrations()]

    assert await migrate(empty_database_url) == names
    assert await migrate(empty_database_url) == []
    assert await ask(empty_database_url, "select count(*) from message") == 0
    assert await ask(empty_database_url, "select array_agg(name order by number) from schema_migration") == names


async def test_a_later_file_is_applied_alone(empty_database_url: str, tmp_path: Path) -> None:
    folder = write(tmp_path, m0001_one="create table one ()")
    await migrate(empty_database_url, folder)
    write(folder, m0002_two="create table two (); insert into two default values")

    assert await migrate(empty_database_url, folder) == ["0002_two"]
    assert await ask(empty_database_url, "select count(*) from two") == 1


async def test_callers_at_once_apply_each_file_once(empty_database_url: str) -> None:
    applied = await asyncio.gather(*(migrate(empty_database_url) for _ in range(5)))

    assert sorted(name for names in applied for name in names) == [m.name for m in read_migrations()]


async def test_a_file_that_fails_leaves_nothing_of_itself(empty_database_url: str, tmp_path: Path) -> None:
    folder = write(tmp_path, m0001_one="create table one ()", m0002_two="create table two (); select nonsense")

    with pytest.raises(MigrationError, match="0002_two failed and was rolled back"):
        await migrate(empty_database_url, folder)

    assert await ask(empty_database_url, "select to_regclass('one')::text") == "one"
    assert await ask(empty_database_url, "select to_regclass('two')::text") is None
    assert await ask(empty_database_url, "select max(number) from schema_migration") == 1


async def test_a_newer_database_is_refused(database_url: str, tmp_path: Path) -> None:
    folder = write(tmp_path, **{f"m{file.stem}": file.read_text() for file in sorted(FOLDER.glob("*.sql"))[:1]})

    with pytest.raises(MigrationError, match="newer than this mim, which knows 1; install the newer mim"):
        await migrate(database_url, folder)


def test_gaps_and_odd_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MigrationError, match="without gap"):
        read_migrations(write(tmp_path, m0001_one="", m0003_three=""))
    with pytest.raises(MigrationError, match="is not named like"):
        read_migrations(write(tmp_path, mfix=""))


async def test_members_of_the_chats_that_there_are_learn_whether_they_are_direct(
    empty_database_url: str, tmp_path: Path
) -> None:
    for migration in sorted(FOLDER.glob("000[1-4]_*.sql")):
        shutil.copy(migration, tmp_path)
    await migrate(empty_database_url, tmp_path)
    connection = await asyncpg.connect(empty_database_url)
    try:
        await connection.execute(
            """insert into chat (kind, members, active, touched, created)
               select kind, 2, 0, pg_current_xact_id(), 0 from unnest(array[1, 2, 1]) kind;
               insert into member (chat_id, user_id, first_seq, read_seq, joined, join_rev, touched)
               select id, 7, 1, 0, 0, 0, pg_current_xact_id() from chat"""
        )
        await migrate(empty_database_url)
        found = await connection.fetch("select chat_id, direct from member order by chat_id")
    finally:
        await connection.close()
    assert [tuple(row) for row in found] == [(1, True), (2, False), (3, True)]
