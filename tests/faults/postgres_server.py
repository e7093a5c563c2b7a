"""Postgres over TCP for the drills: a primary and a synchronous standby, both from the wheel's programs.

Postgres refuses root, so as root it runs as the user that the embedded one runs as (mim/embedded_owner.py).
"""

import asyncio
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import asyncpg

from mim.embedded import _programs
from mim.embedded_owner import let_in, owner_of
from tests.faults.ports import Port
from tests.faults.process import end_postgres, kill_all, pids_in
from tests.faults.programs import START_S, Program

DATABASE = "mim"
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_error_verbosity": "terse",
    "wal_retrieve_retry_interval": "500ms",  # how soon a standby looks for its primary again
    "wal_sender_timeout": "5s",
    "wal_receiver_timeout": "5s",
    "dynamic_shared_memory_type": "mmap",  # in the folder, with which it goes; else whoever is killed leaves it behind
}
MADE = ("-U", "postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync")
COLLATION = ("--locale-provider=builtin", "--builtin-locale=C.UTF-8")


class PostgresServer(Program):
    """One Postgres on a port of its own."""

    def __init__(self, name: str, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        super().__init__(name, folder)
        self.port = Port()
        self._cluster = folder / "cluster"
        self._owner = owner_of(self._cluster)
        self._bin = _programs(self._cluster)
        if self._owner is not None:
            os.chown(folder, self._owner.pw_uid, self._owner.pw_gid)
            let_in(self._owner, self._cluster)
            let_in(self._owner, self._bin / "postgres")

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        return "127.0.0.1", self.port.number

    @property
    def url(self) -> str:
        """Straight to it, with no proxy between."""
        return f"postgresql://postgres@127.0.0.1:{self.port.number}/{DATABASE}"

    async def makes(self) -> None:
        """A new, empty cluster."""
        await self._runs("initdb", "-D", str(self._cluster), *MADE, *COLLATION)

    async def copies(self, primary: "PostgresServer") -> None:
        """Become a standby of a primary that runs."""
        host, port = primary.address
        where = ("-h", host, "-p", str(port), "-U", "postgres")
        await self._runs("rm", "-rf", str(self._cluster))
        await self._runs("pg_basebackup", *where, "-D", str(self._cluster), "-R", "-X", "stream", "-c", "fast", "-N")

    async def start(self) -> None:
        """Start and wait until it answers queries."""
        self.begins()
        await self.answers()

    def begins(self) -> None:
        """Start, without waiting."""
        (self._cluster / "postmaster.pid").unlink(missing_ok=True)  # of one that was killed
        settings = [word for name, value in SETTINGS.items() for word in ("-c", f"{name}={value}")]
        command = [str(self._bin / "postgres"), "-D", str(self._cluster), "-p", str(self.port.number), *settings]
        owner = self._owner
        self.launch(command, {"PATH": "/usr/bin:/bin", "LC_ALL": "C"}, owner.pw_uid if owner else None)

    async def answers(self) -> None:
        """Wait until it answers queries."""
        async with asyncio.timeout(START_S):
            while True:
                try:
                    await self.asks("select 1", database="postgres")
                except (OSError, asyncpg.PostgresError):
                    assert self.is_running, self.log()
                    await asyncio.sleep(0.05)
                else:
                    return

    async def asks(self, query: str, *values: Any, database: str = DATABASE) -> Any:
        """One value."""
        host, port = self.address
        connection = await asyncpg.connect(host=host, port=port, user="postgres", database=database, timeout=10)
        try:
            return await connection.fetchval(query, *values, timeout=30)
        finally:
            await connection.close()

    async def has_standby(self) -> None:
        """Acknowledge no commit from now on that a standby does not hold too; wait until one is there."""
        await self.asks("alter system set synchronous_standby_names = '*'")
        await self.asks("select pg_reload_conf()")
        async with asyncio.timeout(START_S):
            while not await self.asks(SYNCHRONOUS):  # noqa: ASYNC110
                await asyncio.sleep(0.05)

    async def is_promoted(self) -> None:
        """Stop following, become a primary, and wait until writes are taken."""
        await self._runs("pg_ctl", "promote", "-D", str(self._cluster), "-w", "-t", str(int(START_S)))

    def kill(self) -> None:
        """SIGKILL every process of it at once, as when the machine goes away."""
        kill_all(pids_in(self._cluster))
        super().kill()

    async def stop(self) -> None:
        """A fast shutdown, as for an upgrade."""
        os.kill(self.pid, signal.SIGINT)
        await self.ends(START_S)

    async def is_gone(self) -> None:
        """Wait until none of its processes is left."""
        async with asyncio.timeout(START_S):
            while pids_in(self._cluster):  # noqa: ASYNC110
                await asyncio.sleep(0.02)

    def clean_up(self) -> None:
        end_postgres(self._cluster)
        super().clean_up()
        self.port.close()

    async def _runs(self, program: str, *args: str) -> None:
        """Run a program of the wheel, or of the system, as the cluster's owner."""
        owner, path = self._owner, self._bin / program
        done = await asyncio.to_thread(
            subprocess.run,
            [str(path) if path.exists() else program, *args],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, cwd="/",
            env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"},
            user=owner.pw_uid if owner else None,
        )  # fmt: skip
        assert done.returncode == 0, f"{program}: {done.stderr}"


SYNCHRONOUS = "select count(*) = 1 from pg_stat_replication where sync_state = 'sync'"
