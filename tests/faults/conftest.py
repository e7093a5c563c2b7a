"""What the fault tests share."""

import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.faults.process import ServerProcess
from tests.faults.proxy import PostgresProxy


@pytest.fixture
def processes() -> Iterator[Callable[..., ServerProcess]]:
    """Makes server processes on fresh data folders with short names; none of them outlives the test."""
    made: list[tuple[ServerProcess, Path]] = []

    def make(**settings: str) -> ServerProcess:
        folder = Path(tempfile.mkdtemp(prefix="mim-kill-"))
        folder.chmod(0o711)  # as root, Postgres runs as somebody else
        made.append((ServerProcess("server", folder, **settings), folder))
        return made[-1][0]

    yield make
    for process, folder in made:
        process.clean_up()
        shutil.rmtree(folder, ignore_errors=True)


@pytest_asyncio.fixture
async def proxy(database_url: str) -> AsyncIterator[PostgresProxy]:
    """A proxy before an empty database of one's own."""
    async with PostgresProxy(database_url) as proxy:
        yield proxy
