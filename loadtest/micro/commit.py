"""The commit function alone, by batch size: what Postgres takes for a message before any Python or socket.

It runs on a private Postgres with the settings of the embedded one, fsync on, and calls the statement that the
committer calls, on a connection with the committer's settings. The CPU is that of the backend which executes it.
"""

import asyncio
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from loadtest import proc
from loadtest.load.client import TEXT
from loadtest.reports.report import Report
from mim.embedded import EmbeddedPostgres
from mim.store.committer import PLANNER, STATEMENT
from mim.store.db import connector
from mim.store.migrate import migrate

SIZES: Final = (1, 10, 50, 200, 500)
ROUND_S: Final = 2.0

USERS_AND_CHATS: Final = (
    "insert into account (sub, created) select 'u' || n, 0 from generate_series(1, $1::int) n",
    """insert into chat (kind, members, low, high, active, touched, created)
       select 1, 2, 2 * n - 1, 2 * n, 0, '1', 0 from generate_series(1, $1::int / 2) n""",
    """insert into member (chat_id, user_id, first_seq, read_seq, joined, join_rev, touched, direct)
       select (n + 1) / 2, n, 1, 0, 0, 0, '1', true from generate_series(1, $1::int) n""",
)


def run(users: int, sizes: Sequence[int], rounds: int, core: int) -> Report:
    """Commit batches of each size for ROUND_S, `rounds` times, among the direct chats of `users`."""
    folder = Path(tempfile.mkdtemp(prefix="mim-load-"))
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})  # Postgres inherits it
    postgres = EmbeddedPostgres(folder / "postgres")
    try:
        url = postgres.start()
        os.sched_setaffinity(0, cores - {core} or cores)
        settings = {"users": users, "text_bytes": len(TEXT), "core": core, "cpu": "of the Postgres backend"}
        return asyncio.run(_run(Report("commit", settings), url, users, sizes, rounds))
    finally:
        os.sched_setaffinity(0, cores)
        postgres.stop()
        shutil.rmtree(folder, ignore_errors=True)


async def _run(report: Report, url: str, users: int, sizes: Sequence[int], rounds: int) -> Report:
    await migrate(url)
    connection = await connector(url)(PLANNER)
    for statement in USERS_AND_CHATS:
        await connection.execute(statement, users)
    bench = Bench(await connection.prepare(STATEMENT), connection.get_server_pid(), users)
    for number in range(rounds + 1):  # the first one warms up
        figures: dict[str, float] = {}
        for size in sizes:
            figures |= await bench.measure(size)
        if number:
            report.rounds.append(figures)
    stored = await connection.fetchval("select count(*) from message")
    holes = await connection.fetchval(
        """select count(*) from chat c where c.head <> (select count(*) from message m where m.chat_id = c.id)
           or c.head <> coalesce((select max(m.seq) from message m where m.chat_id = c.id), 0)"""
    )
    await connection.close()
    report.checked.append(f"{stored:,} messages stored")
    if stored != bench.sent or holes:
        report.violations.append(f"{bench.sent} messages sent, {stored} stored, {holes} chats with holes")
    return report


class Bench:
    """Counts cids up, so that no message was stored before."""

    def __init__(self, statement: Any, backend: int, users: int) -> None:
        self._statement = statement
        self._backend = backend
        self._users = users
        self.sent = 0
        self._number = 0

    async def measure(self, size: int) -> dict[str, float]:
        """Batches of one size for ROUND_S."""
        times: list[float] = []
        cpu, began = proc.cpu_s(self._backend), time.perf_counter()
        while time.perf_counter() < began + ROUND_S:
            start = time.perf_counter()
            await self._commit(size)
            times.append(time.perf_counter() - start)
        took, cpu = time.perf_counter() - began, proc.cpu_s(self._backend) - cpu
        messages = len(times) * size
        return {
            f"batch {size}: messages/s": messages / took,
            f"batch {size}: ms/commit": statistics.median(times) * 1e3,
            f"batch {size}: CPU µs/message": cpu / messages * 1e6,
        }

    async def _commit(self, size: int) -> None:
        cids = range(self.sent, self.sent + size)
        users = [cid % self._users + 1 for cid in cids]
        self.sent += size
        self._number += 1
        await self._statement.fetch(
            *(1, self._number, [self._number - 1]),  # node, row of dispatch_log, the row before is done
            *([(user + 1) // 2 for user in users], users, users, list(cids), [TEXT] * size, [None] * size),
        )
