"""What the nodes of a private installation share: `python -m loadtest.target.keeper FOLDER redis` (or `none`).

A process of its own keeps the Postgres, and the Redis where there are several nodes, because only a process can outlive
a load test that is killed, and tidy up after it: told to end, by the load test or by the kernel in its stead, it waits
for the nodes to drain, ends both, and removes the folder.
"""

import asyncio
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

import orjson

from loadtest import proc
from mim import logs
from mim.embedded import EmbeddedError, EmbeddedPostgres
from mim.embedded_redis import EmbeddedRedis
from mim.tasks import TaskSet

POSTGRES: Final = Path("data/postgres")  # in the installation's folder
REDIS: Final = Path("redis")
WORDS: Final = {True: "redis", False: "none"}
READY: Final = "kept"
DRAIN_S: Final = 30.0  # of nodes; then they are killed


async def main(folder: Path, with_redis: bool) -> None:
    """Keep everything until SIGTERM."""
    told = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.set)
    postgres = EmbeddedPostgres(folder / POSTGRES)
    try:
        database_url = postgres.start()
        async with _redis(folder / REDIS if with_redis else None) as redis_url:
            _say(event=READY, database_url=database_url, redis_url=redis_url)
            await told.wait()
            await _nodes_gone(folder)
    except EmbeddedError as exc:
        _say(event="not ready", reason=str(exc))
    finally:
        postgres.stop()
        shutil.rmtree(folder, ignore_errors=True)


@asynccontextmanager
async def _redis(folder: Path | None) -> AsyncIterator[str]:
    """The URL of a Redis that is started again whenever it ends; none without a folder."""
    if folder is None:
        yield ""
        return
    redis = EmbeddedRedis(folder)
    watch = TaskSet()
    try:
        url = await redis.start()
        watch.spawn(redis.watch(), name="watch over the Redis")
        yield url
    finally:
        await watch.close()
        await redis.stop()


async def _nodes_gone(folder: Path) -> None:
    """Nodes work in the folder. They are told to end by who ends this, and need the rest until they have."""
    try:
        async with asyncio.timeout(DRAIN_S):
            while any(map(proc.is_alive, proc.pids_in(folder))):  # noqa: ASYNC110 - of processes nobody tells
                await asyncio.sleep(0.05)
    except TimeoutError:
        for pid in proc.pids_in(folder):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _say(**event: str) -> None:
    sys.stdout.buffer.write(orjson.dumps(event) + b"\n")
    sys.stdout.flush()


if __name__ == "__main__":
    logs.configure("warning", "json")
    asyncio.run(main(Path(sys.argv[1]), with_redis=sys.argv[2] == WORDS[True]))
