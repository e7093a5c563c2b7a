"""The command line as its users meet it: real processes, exit codes, sentences."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import pytest

from mim.embedded import EmbeddedPostgres
from mim.store.migrate import LOCK
from tests.faults.process import pids_in
from tests.redis_server import RedisServer, needs_redis


def mim(*arguments: str, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run `mim ARGUMENTS` in `cwd` with no MIM_ variables but `variables`."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MIM_")}
    return subprocess.run(
        [sys.executable, "-m", "mim", *arguments],
        cwd=cwd,
        env={"PYTHONPATH": str(Path(__file__).parents[1]), **inherited, **variables},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def refusal(done: subprocess.CompletedProcess[str]) -> str:
    """What was said on refusing: sentences, no traceback, no output, exit code 2."""
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr
    return done.stderr


def test_mim_alone_teaches(tmp_path: Path) -> None:
    done = mim(cwd=tmp_path)

    assert done.returncode == 0
    assert "mim serve --dev\n" in done.stdout
    assert "mim config --reference" in done.stdout


@pytest.mark.parametrize("command", ["serve", "token", "user add", "db migrate", "chat", "config", "version"])
def test_every_command_explains_itself(tmp_path: Path, command: str) -> None:
    done = mim(*command.split(), "--help", cwd=tmp_path)

    assert done.returncode == 0
    assert f"Usage: mim {command}" in done.stdout


def test_wrong_settings_are_refused_in_sentences(tmp_path: Path) -> None:
    told = refusal(mim("serve", cwd=tmp_path, MIM_PROT="1", MIM_JWT_SECRET="hunter2"))

    assert told.startswith("mim: Unknown variable MIM_PROT: did you mean MIM_PORT?\nmim: MIM_JWT_SECRET must be 32")
    assert "hunter2" not in told


def test_a_port_in_use_is_refused(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        told = refusal(mim("serve", "--port", str(port), cwd=tmp_path))

    assert told == (
        f"mim: port {port} of 127.0.0.1 is in use; stop the program that uses it, "
        "or choose another with --port (MIM_PORT)\n"
    )
    assert not (tmp_path / "data").exists()


def test_a_port_that_a_stranger_would_share_is_refused(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0), reuse_port=True) as taken:
        port = taken.getsockname()[1]
        told = refusal(mim("serve", "--workers", "2", "--port", str(port), cwd=tmp_path))

    assert told.startswith(f"mim: port {port} of 127.0.0.1 is in use; stop the program")


@pytest.mark.parametrize("command", ["serve", "db migrate", "token --phone 010-2345-6701"])
def test_a_database_that_does_not_answer_is_refused(tmp_path: Path, command: str) -> None:
    url = "postgresql://mim:hunter2@127.0.0.1:1/mim"
    told = refusal(mim(*command.split(), cwd=tmp_path, MIM_DATABASE_URL=url, MIM_PORT="0"))

    assert told.startswith("mim: the database at 127.0.0.1 cannot be used (ConnectionRefusedError); check that")
    assert "hunter2" not in told


def test_migrate_add_a_user_and_make_a_token(tmp_path: Path, empty_database_url: str) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return mim(*arguments, cwd=tmp_path, MIM_DATABASE_URL=empty_database_url)

    assert run("db", "migrate").stdout.startswith("applied 0001_core\n")
    assert run("db", "migrate").stdout == "The database is up to date.\n"
    assert run("user", "add", "--phone", "010-2345-6701", "--name", "Mina").stdout == "user 1\n"
    assert "has an account already (conflict)" in refusal(run("user", "add", "--phone", "01023456701", "--name", "M"))
    assert "mim user add" in refusal(run("token", "--phone", "010-2345-6702"))
    token = run("token", "--phone", "010-2345-6701")
    assert (token.stdout.count("."), token.stdout.count("\n"), token.stderr) == (2, 1, "")


async def test_commands_share_the_postgres_of_a_running_server(tmp_path: Path) -> None:
    server = EmbeddedPostgres(tmp_path / "data" / "postgres")
    url = server.start()
    try:
        done = mim("user", "add", "--phone", "010-2345-6701", "--name", "Mina", cwd=tmp_path)
        assert (done.stdout, done.stderr) == ("user 1\n", "")
        connection = await asyncpg.connect(url)
        assert await connection.fetchval("select name from account") == "Mina"
        await connection.close()
    finally:
        server.stop()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_server_that_is_told_to_stop_closes_everything(tmp_path: Path, number: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "mim", "serve", "--port", "0"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        stderr=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stderr is not None
        assert any('"listening"' in line for line in server.stderr)
        assert "another mim server runs on the data folder" in refusal(mim("serve", "--port", "0", cwd=tmp_path))
        server.send_signal(number)
        assert "Traceback" not in server.stderr.read()

    assert server.returncode == 0
    assert not (tmp_path / "data" / "postgres" / "cluster" / "postmaster.pid").exists()


@contextmanager
def starting(folder: Path, **variables: str) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """A server that begins to start, and its log. At the end it has ended in order, without a word of complaint."""
    log = folder / "log"
    with log.open("w") as stderr:
        server = subprocess.Popen(
            [sys.executable, "-m", "mim", "serve", "--port", "0"],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), **variables},
            stderr=stderr,
        )
    with server:
        try:
            yield server, log
            assert server.wait(60) == 0, log.read_text()
            assert "Traceback" not in log.read_text()
        finally:
            server.kill()


@pytest.mark.parametrize("stage", ["cluster.new", "cluster/start.log"], ids=["initdb", "pg_ctl"])
def test_a_server_that_is_told_to_stop_while_postgres_starts_leaves_nothing_running(tmp_path: Path, stage: str) -> None:
    home = tmp_path / "data" / "postgres"
    with starting(tmp_path) as (server, log):
        while not (home / stage).exists():
            assert server.poll() is None, log.read_text()
            time.sleep(0.002)
        server.send_signal(signal.SIGTERM)

    assert pids_in(home / "cluster") == []
    assert mim("db", "migrate", cwd=tmp_path).returncode == 0


async def test_a_server_that_is_told_to_stop_while_it_waits_for_the_database_ends(
    tmp_path: Path, empty_database_url: str
) -> None:
    connection = await asyncpg.connect(empty_database_url)
    try:
        await connection.execute("select pg_advisory_lock($1)", LOCK)  # as another node that migrates
        with starting(tmp_path, MIM_DATABASE_URL=empty_database_url) as (server, log):
            async with asyncio.timeout(60):
                while not await connection.fetchval("select count(*) from pg_locks where not granted"):  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
            server.send_signal(signal.SIGTERM)
            await asyncio.to_thread(server.wait)
        assert "listening" not in log.read_text()
    finally:
        await connection.close()


def test_config_shows_what_is_in_effect_and_why(tmp_path: Path) -> None:
    done = mim("config", cwd=tmp_path, MIM_JWT_SECRET="hunter2-" * 4, MIM_PORT="8081")

    assert done.returncode == 0
    assert "port = 8081  # MIM_PORT\n" in done.stdout
    assert "hunter2" not in done.stdout


def test_chat_asks_who_you_are(tmp_path: Path) -> None:
    assert "say who you are: --phone NUMBER, or --token TOKEN" in refusal(mim("chat", cwd=tmp_path))


@needs_redis
def test_a_redis_that_refuses_is_a_sentence(tmp_path: Path) -> None:
    server = RedisServer("--requirepass", "right")
    try:
        asyncio.run(server.start())
        done = mim("serve", "--port", "0", cwd=tmp_path, MIM_REDIS_URL=f"redis://:wrong@127.0.0.1:{server.port.number}")
        said = refusal(done)
        assert "Redis" in said
        assert "MIM_REDIS_URL" in said
        assert "wrong" not in said.replace("WRONGPASS", "")
    finally:
        server.clean_up()
    done = mim("serve", "--port", "0", cwd=tmp_path, MIM_REDIS_URL="redis+sentinel://127.0.0.1:1")
    assert "names no master" in refusal(done)
