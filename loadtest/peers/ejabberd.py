"""ejabberd from Debian's packages as a peer, with its archive (XEP-0313) in PostgreSQL.

Its clients are those of :mod:`loadtest.peers.xmpp`.

It is set up as its manual advises for load, and to its advantage where there is a choice: no shapers, only the modules
that the work needs, passwords stored plain, one scheduler for the one core, no busy waiting, prepared statements,
caches. Accounts and contacts are written into its tables before it starts.
"""

import asyncio
import os
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import asyncpg

from loadtest import proc
from loadtest.peers.postgres import PEER, PeerPostgres
from loadtest.peers.xmpp import HOST, PASSWORD
from loadtest.server import SECRET, Memory, ServerError, Usage

LIBRARIES: Final = Path("/usr/lib")
SCHEMA: Final = Path("/usr/share/ejabberd/sql/pg.sql")
MISSING: Final = (
    "ejabberd is not installed; on Debian 12 `apt install --no-install-recommends ejabberd erlang-p1-pgsql`"
)
START_S: Final = 60.0
STOP_S: Final = 30.0
POOL: Final = 20  # connections to Postgres; 5, 10 and 50 were no better

CONFIG: Final = """\
hosts: [{host}]
loglevel: warning
log_rotate_count: 0
listen:
  - port: {port}
    ip: 127.0.0.1
    module: ejabberd_http
    backlog: 1024
    request_handlers: {{/ws: ejabberd_http_ws}}
auth_method: [sql]
auth_password_format: plain
default_db: sql
sql_type: pgsql
sql_server: {address}
sql_port: 5432
sql_database: mim
sql_username: postgres
sql_password: ""
sql_pool_size: {pool}
sql_prepared_statements: true
use_cache: true
cache_size: 100000
queue_type: ram
max_fsm_queue: 100000
s2s_access: none
modules:
  mod_disco: {{}}
  mod_roster: {{versioning: true, store_current_id: true}}
  mod_stream_mgmt: {{max_ack_queue: 100000}}
  mod_mam:
    default: always
    compress_xml: false
    request_activates_archiving: false
    assume_mam_usage: true
  mod_muc:
    max_users: 10000
    max_user_conferences: 1000
    max_users_presence: 100000
    min_message_interval: 0
    min_presence_interval: 0
    user_message_shaper: none
    user_presence_shaper: none
    room_shaper: none
    default_room_options:
      persistent: true
      mam: true
      max_users: 10000
      presence_broadcast: []
"""
# One scheduler of each kind, for there is one core; sleeping instead of spinning while there is nothing to do.
ERLANG: Final = (
    *("+K", "true", "+P", "1000000", "+Q", "262144", "+S", "1:1", "+SDcpu", "1:1", "+sbt", "db"),
    *("+sbwt", "none", "+sbwtdcpu", "none", "+sbwtdio", "none"),
)


class Ejabberd:
    """A private ejabberd and its Postgres, both on one core; a :class:`loadtest.server.Target`."""

    secret = SECRET  # of tokens, of which only the user's number is used
    ssl = None

    def __init__(self, folder: Path, core: int, accounts: int, contacts: int = 0) -> None:
        """With `accounts` users u0, u1, ..., each with `contacts` contacts, half of them before and half after.
        `folder` is for its files, and gone with it. Raises ServerError where ejabberd is not installed."""
        self._libraries = libraries()
        self.host, self.port = "127.0.0.1", free_port()
        self.addresses = [(self.host, self.port)]
        self.about: dict[str, Any] = {"core": core, "cpu": "of ejabberd and its Postgres"}
        self._accounts, self._contacts = accounts, contacts
        self._core = core
        self._folder = folder.resolve() / PEER
        self._postgres = PeerPostgres(folder.resolve(), core)
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        """Make the database with its accounts, start, and wait until it listens; raises ServerError."""
        await self._postgres.start()
        await self._fill()
        self._folder.mkdir()
        config = CONFIG.format(host=HOST, port=self.port, address=self._postgres.address, pool=POOL)
        (self._folder / "ejabberd.yml").write_text(config)
        with (self._folder / "erlang.log").open("wb") as log:
            self._process = subprocess.Popen(  # noqa: ASYNC220, S603 - it returns at once
                # the kernel ends it when the load test dies; a node without a name has no distribution, and no epmd
                ["setpriv",  # noqa: S607
                 "--pdeathsig", "TERM", "taskset", "-c", str(self._core), "erl", *ERLANG, "-noinput",
                 "-mnesia", "dir", f'"{self._folder}/mnesia"', "-s", "ejabberd"],
                cwd=self._folder,
                env={**os.environ, "ERL_LIBS": str(self._libraries), "HOME": str(self._folder),
                     "EJABBERD_CONFIG_PATH": str(self._folder / "ejabberd.yml"),
                     "EJABBERD_LOG_PATH": str(self._folder / "ejabberd.log"), "ERL_CRASH_DUMP_BYTES": "0"},
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + START_S
        while not await self._is_ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise ServerError(f"ejabberd does not start:\n{self._said()}")
            await asyncio.sleep(0.1)

    async def _fill(self) -> None:
        database = await asyncpg.connect(self._postgres.url)
        try:
            await database.execute(SCHEMA.read_text())
            await database.execute(
                "INSERT INTO users (username, password) SELECT 'u' || n, $2 FROM generate_series(0, $1::int - 1) n",
                self._accounts, PASSWORD,
            )  # fmt: skip
            await database.execute(
                "INSERT INTO rosterusers (username, jid, nick, subscription, ask, askmessage, server, subscribe, type) "
                "SELECT 'u' || n, 'u' || (n + $1 + step) % $1 || $3::text, '', 'B', 'N', '', 'N', '', 'item' "
                "FROM generate_series(0, $1::int - 1) n, generate_series(-$2::int, $2::int) step WHERE step <> 0",
                self._accounts, self._contacts // 2, f"@{HOST}",
            )  # fmt: skip
            await database.execute("ANALYZE")
        finally:
            await database.close()

    async def _is_ready(self) -> bool:
        """Whether it listens, and has all its connections to Postgres."""
        with suppress(OSError):
            _, writer = await asyncio.open_connection(self.host, self.port)
            writer.close()
            database = await asyncpg.connect(self._postgres.url)
            try:
                query = "SELECT count(*) FROM pg_stat_activity WHERE client_addr IS NOT NULL"
                return int(await database.fetchval(query)) >= POOL
            finally:
                await database.close()
        return False

    def _said(self) -> str:
        logs = [self._folder / "ejabberd.log", self._folder / "erlang.log"]
        return "\n".join(line for log in logs if log.exists() for line in log.read_text().splitlines()[-5:])

    def stop(self) -> None:
        """End it, kill what does not end, and remove the folder. Blocks."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._postgres.stop()

    async def usage(self) -> Usage:
        """CPU of the Erlang machine with its helpers, and of the Postgres."""
        server, postgres = (sum(map(proc.cpu_s, proc.pids_in(at))) for at in (self._folder, self._postgres.cluster))
        return Usage(server, postgres)

    async def memory(self) -> Memory:
        """Memory of the same processes."""
        server = sum(map(proc.rss_kib, proc.pids_in(self._folder)))
        return Memory(server, proc.shared_once_kib(proc.pids_in(self._postgres.cluster)))

    async def files(self) -> int:
        """Descriptors of the Erlang machine with its helpers."""
        return sum(map(proc.open_files, proc.pids_in(self._folder)))


def free_port() -> int:
    """A port of loopback that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def libraries() -> Path:
    """Where its Erlang libraries are; raises ServerError where they are not."""
    found = sorted(LIBRARIES.glob("*-linux-gnu/ejabberd-*/ebin/ejabberd.app"))
    if not found or not list(LIBRARIES.glob("erlang/lib/p1_pgsql-*")) or not SCHEMA.exists():
        raise ServerError(MISSING)
    return found[-1].parents[2]


async def versions() -> str:
    """What runs here; raises ServerError where ejabberd is not installed."""
    libraries()
    asked = await asyncio.create_subprocess_exec(
        "dpkg-query", "-W", "-f", "${Package} ${Version}, ", "ejabberd", "erlang-base", stdout=subprocess.PIPE
    )
    said, _ = await asked.communicate()
    return said.decode().rstrip(", ")
