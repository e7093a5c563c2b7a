"""The private Postgres as it is lived with: real clusters, real processes, real kill -9."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import pytest

from mim.embedded import EmbeddedError, EmbeddedPostgres, claim_for_server
from mim.embedded_process import find_postmaster

HOLDER = """
import asyncio, sys, time
from pathlib import Path
import asyncpg
from mim.embedded import EmbeddedPostgres

async def write(url):
    connection = await asyncpg.connect(url)
    await connection.execute("create table kept (word text)")
    await connection.execute("insert into kept values ('acknowledged')")

server = EmbeddedPostgres(Path(sys.argv[1]))
asyncio.run(write(server.start()))
print("written", flush=True)
time.sleep(600)
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder closed to others, with a space in its name; what still runs is stopped afterwards."""
    root = Path(tempfile.mkdtemp(prefix="mim test-"))
    yield root / "my data" / "postgres"
    if (root / "my data" / "postgres" / "cluster").exists():
        last = EmbeddedPostgres(root / "my data" / "postgres")
        last.start()
        last.stop()
    shutil.rmtree(root)


async def ask(url: str, sql: str) -> object:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(sql)
    finally:
        await connection.close()


def postmaster(folder: Path) -> int:
    return int((folder / "cluster" / "postmaster.pid").read_text().split()[0])


async def revived(server: EmbeddedPostgres) -> None:
    """Look until the server was started again: a process that was sent SIGKILL lives for a moment more."""
    async with asyncio.timeout(60):
        while not await asyncio.to_thread(server.revive):  # noqa: ASYNC110 - of processes nobody tells
            await asyncio.sleep(0.02)


@contextmanager
def holder(folder: Path) -> Iterator[None]:
    """Another process that started the cluster and wrote a row; it ends by kill -9."""
    process = subprocess.Popen([sys.executable, "-c", HOLDER, folder], stdout=subprocess.PIPE, text=True)
    with process:
        try:
            assert process.stdout is not None
            assert "written\n" in process.stdout
            yield
        finally:
            process.kill()


async def test_a_row_outlives_kill_9_of_its_holder_and_of_postgres(folder: Path) -> None:
    with holder(folder):
        pass
    before = postmaster(folder)
    server = EmbeddedPostgres(folder)

    url = server.start()
    assert postmaster(folder) == before, "the running postmaster is shared, not replaced"
    assert await ask(url, "select word from kept") == "acknowledged"

    os.kill(before, signal.SIGKILL)
    await revived(server)
    assert await ask(url, "select word from kept") == "acknowledged"
    assert not server.revive()
    os.kill(postmaster(folder), signal.SIGKILL)  # of which it knew the process, and not the socket alone
    await revived(server)
    assert await ask(url, "select word from kept") == "acknowledged"

    server.stop()
    assert not (folder / "cluster" / "postmaster.pid").exists()
    assert await ask(server.start(), "select word from kept") == "acknowledged"
    server.stop()


@pytest.mark.parametrize("written", ["", "nonsense", "our own", f"{2**22 + 1}"])
def test_a_number_in_a_pid_file_is_not_believed_by_itself(tmp_path: Path, written: str) -> None:
    (tmp_path / "postmaster.pid").write_text(written.replace("our own", f"{os.getpid()}"))
    files = len(list(Path("/proc/self/fd").iterdir()))
    assert find_postmaster(tmp_path) is None
    assert len(list(Path("/proc/self/fd").iterdir())) == files


async def test_both_killed_then_started_again(folder: Path) -> None:
    with holder(folder):
        os.kill(postmaster(folder), signal.SIGKILL)
    server = EmbeddedPostgres(folder)

    assert await ask(server.start(), "select word from kept") == "acknowledged"
    server.stop()


async def test_the_last_user_stops_it(folder: Path) -> None:
    guest = EmbeddedPostgres(folder)
    with holder(folder):
        url = guest.start()
        guest.stop()
        assert await ask(url, "select word from kept") == "acknowledged", "the holder still needs it"
        guest.start()
    guest.stop()
    with pytest.raises(OSError, match=r"."):
        await asyncpg.connect(url)


async def test_durability_cannot_be_configured_away(folder: Path) -> None:
    server = EmbeddedPostgres(folder)
    server.start()
    server.stop()
    own = folder / "cluster" / "conf.d" / "mine.conf"
    own.write_text("fsync = off\nfull_page_writes = off\nsynchronous_commit = off\nwork_mem = 7MB\n")
    own.chmod(0o644)

    url = server.start()
    for setting in ("fsync", "full_page_writes", "synchronous_commit"):
        assert await ask(url, f"show {setting}") == "on"
    assert await ask(url, "show work_mem") == "7MB", "other settings of the operator win"
    assert await ask(url, "show server_encoding") == "UTF8"
    server.stop()


async def test_a_pid_file_that_names_another_program_is_no_obstacle(folder: Path) -> None:
    server = EmbeddedPostgres(folder)
    server.start()
    pid_file = folder / "cluster" / "postmaster.pid"
    lines = pid_file.read_text().splitlines()
    server.stop()
    pid_file.write_text("\n".join([str(os.getpid()), *lines[1:]]) + "\n")

    assert await ask(server.start(), "select 1") == 1
    server.stop()


async def test_a_half_made_cluster_is_made_anew(folder: Path) -> None:
    (folder / "cluster.new").mkdir(parents=True)
    (folder / "cluster.new" / "PG_VERSION").write_text("18\n")
    server = EmbeddedPostgres(folder)

    assert await ask(server.start(), "select 1") == 1
    server.stop()


async def test_a_path_too_long_for_a_socket(folder: Path) -> None:
    deep = folder.parent / ("long" * 30) / "postgres"
    server = EmbeddedPostgres(deep)

    assert await ask(server.start(), "select 1") == 1
    server.stop()


def test_a_cluster_of_another_version_is_refused(folder: Path) -> None:
    server = EmbeddedPostgres(folder)
    server.start()
    server.stop()
    version = folder / "cluster" / "PG_VERSION"
    version.write_text("99\n")

    with pytest.raises(EmbeddedError, match=r"made by Postgres 99, and only \[.*18\] are installed"):
        server.start()
    version.write_text("18\n")


def test_a_second_server_on_a_folder_is_refused(tmp_path: Path) -> None:
    first = claim_for_server(tmp_path / "data")
    with pytest.raises(EmbeddedError, match=r"another mim server runs on the data folder .*; stop it, give"):
        claim_for_server(tmp_path / "data")
    first.close()
    claim_for_server(tmp_path / "data").close()


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EmbeddedError, match="cannot use the data folder"):
        EmbeddedPostgres(tmp_path / "file" / "postgres").start()
