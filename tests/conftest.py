"""What every test may ask for: one real Postgres for the session, and a database of one's own in it.

`make test` shares the files out to several processes, for tests wait more than they work. Each process has a Postgres
and everything else of its own; nothing has a fixed port or folder.
"""

import os
import random
import shutil
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import hypothesis
import pytest
from xdist.scheduler import LoadScopeScheduling

from mim.embedded import EmbeddedPostgres
from mim.store.migrate import migrate

hypothesis.settings.register_profile("ci", derandomize=False, print_blob=True, deadline=None)
hypothesis.settings.load_profile("ci")

# What takes longest and cannot be shared out: begun first, so that nobody waits for it at the end. The files of a
# folder stay together: they share a browser.
FIRST = ("tests/faults/test_drills.py", "tests/web/")
MEMORY = Path("/dev/shm")  # a file system in memory, where there is one
ENOUGH = 4 << 30


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Choose a seed unless --hypothesis-seed gave one, so that the summary can say how to repeat the run."""
    if config.getoption("hypothesis_seed", None) is None:
        config.option.hypothesis_seed = str(random.randrange(1 << 32))
    vars(hypothesis.core)["global_force_seed"] = int(config.option.hypothesis_seed)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The parts that take longest come first where several processes share the work."""
    if os.environ.get("PYTEST_XDIST_WORKER"):
        items.sort(key=lambda item: not item.nodeid.startswith(FIRST))


class Shares(LoadScopeScheduling):  # type: ignore[misc]  # it has no types
    """Whole files go to the processes, in the order in which they were collected."""

    def _split_scope(self, nodeid: str) -> str:
        return next((part for part in FIRST if nodeid.startswith(part)), nodeid.partition("::")[0])


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """How `-n 3` shares out the tests, whatever --dist says."""
    config.option.loadscopereorder = False
    return Shares(config, log)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    terminalreporter.write_line(f"hypothesis: repeat with --hypothesis-seed={config.option.hypothesis_seed}")


def with_database(url: str, name: str) -> str:
    """`url` with its database replaced by `name`."""
    parts = urlsplit(url)
    # urlunsplit would drop the empty host of a socket URL if it were not for the user before it.
    return urlunsplit(parts._replace(path=f"/{name}"))


async def execute(url: str, sql: str) -> None:
    """One statement on a connection of its own."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(sql)
    finally:
        await connection.close()


def unique(prefix: str) -> str:
    """A name for a database that no other run uses."""
    return f"{prefix}_{uuid.uuid4().hex[:12]}"


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """URL of the cluster under test: MIM_TEST_DATABASE_URL, else a private one that ends with the session.

    The private one is kept in memory where there is room: hundreds of databases are made and dropped, and a busy disk
    takes longer over that than the tests do. Tests that are about files have a Postgres of their own, on disk.
    """
    if url := os.environ.get("MIM_TEST_DATABASE_URL"):
        yield url
        return
    in_memory = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > ENOUGH
    folder = Path(tempfile.mkdtemp(prefix="mim-test-", dir=MEMORY if in_memory else None))
    folder.chmod(0o711)  # as root, Postgres runs as somebody else
    server = EmbeddedPostgres(folder / "postgres")
    try:
        yield server.start()
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
async def template(postgres: str) -> AsyncIterator[str]:
    """Name of a migrated, empty database to copy."""
    name = unique("template")
    await execute(postgres, f"create database {name}")
    try:
        await migrate(with_database(postgres, name))
        yield name
    finally:
        await execute(postgres, f"drop database if exists {name} with (force)")


@pytest.fixture
async def empty_database_url(postgres: str) -> AsyncIterator[str]:
    """URL of a database without any table, dropped after the test."""
    name = unique("empty")
    await execute(postgres, f"create database {name}")
    yield with_database(postgres, name)
    await execute(postgres, f"drop database if exists {name} with (force)")


@pytest.fixture
async def database_url(postgres: str, template: str) -> AsyncIterator[str]:
    """URL of a fresh, migrated database, dropped after the test."""
    name = unique("test")
    await execute(postgres, f"create database {name} template {template}")
    yield with_database(postgres, name)
    await execute(postgres, f"drop database if exists {name} with (force)")
