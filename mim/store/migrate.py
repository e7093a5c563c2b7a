"""Numbered SQL files, applied in order, each in a transaction of its own.

The advisory lock is taken inside each transaction and what is applied is read again under it. So callers that
come at once (several nodes starting) take turns, one that is killed leaves no lock and no half of a file, and
a pooler between us and Postgres does no harm.
"""

import re
from pathlib import Path
from typing import NamedTuple

import asyncpg

from mim.store.db import Connection

FOLDER = Path(__file__).parent / "migrations"
FILE_NAME = re.compile(r"(\d{4})_\w+\.sql")
LOCK = 7_302_553  # any number; the same for every mim

LEDGER = """
create table if not exists schema_migration (
    number  int primary key,
    name    text not null,
    applied bigint not null default extract(epoch from clock_timestamp())::bigint
)
"""


class MigrationError(Exception):
    """The database cannot be brought to this version of mim; the text says why and what to do."""


class Migration(NamedTuple):
    """One file: its number, its name without the ending, its SQL."""

    number: int
    name: str
    sql: str


def read_migrations(folder: Path = FOLDER) -> list[Migration]:
    """The files of `folder`, numbered 1, 2, 3, ... Raises MigrationError for a gap or an odd name."""
    files = sorted(folder.glob("*.sql"))
    migrations = [Migration(int(file.name[:4]), file.stem, file.read_text()) for file in files if _named(file)]
    if [migration.number for migration in migrations] != list(range(1, len(migrations) + 1)):
        raise MigrationError(f"the files in {folder} are not numbered 0001, 0002, ... without gap or repetition")
    return migrations


def _named(file: Path) -> bool:
    if not FILE_NAME.fullmatch(file.name):
        raise MigrationError(f"{file} is not named like 0001_subject.sql")
    return True


async def migrate(url: str, folder: Path = FOLDER) -> list[str]:
    """Bring the database `url` to the newest version; the names of what was applied, oldest first.

    Raises MigrationError when the database is newer than this code or a file fails, OSError or
    asyncpg.PostgresError when the server cannot be used.
    """
    migrations = read_migrations(folder)
    connection: Connection = await asyncpg.connect(url, server_settings={"application_name": "mim migrate"})
    applied: list[str] = []
    try:
        while (migration := await _apply_next(connection, migrations)) is not None:
            applied.append(migration.name)
    finally:
        await connection.close()
    return applied


async def _apply_next(connection: Connection, migrations: list[Migration]) -> Migration | None:
    async with connection.transaction():
        await connection.execute("select pg_advisory_xact_lock($1)", LOCK)
        if await connection.fetchval("select to_regclass('schema_migration')") is None:
            await connection.execute(LEDGER)
        at: int = await connection.fetchval("select coalesce(max(number), 0) from schema_migration")
        if at > len(migrations):
            raise MigrationError(
                f"the database is at version {at}, newer than this mim, which knows {len(migrations)}; "
                "install the newer mim, or restore a backup from before its upgrade"
            )
        if at == len(migrations):
            return None
        migration = migrations[at]
        try:
            await connection.execute(migration.sql)
        except asyncpg.PostgresError as exc:
            raise MigrationError(f"migration {migration.name} failed and was rolled back: {exc}") from exc
        await connection.execute(
            "insert into schema_migration (number, name) values ($1, $2)", migration.number, migration.name
        )
        return migration
