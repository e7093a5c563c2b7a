"""How many bytes a stored message takes in Postgres, and how many it writes into the log that standbys are fed from.

On a private Postgres with the settings of the embedded one. Messages are stored by the committer's own statement, in
chats of chance among `chats`, with texts of common syllables, and indexed for search as the server does it. Of the
write-ahead log there are two figures: right after a checkpoint the first change of each page writes the whole page,
later ones only what changed. Which of them counts is a matter of how many pages are touched between two checkpoints.
"""

import asyncio
import random
import shutil
import tempfile
import time
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, Final

from loadtest import proc
from loadtest.micro.commit import USERS_AND_CHATS
from loadtest.reports.report import Report
from mim.embedded import EmbeddedPostgres
from mim.store.committer import PLANNER, STATEMENT
from mim.store.db import connector
from mim.store.migrate import migrate
from mim.store.search import BLOCK, grams

BATCHES: Final = (1, 10, 100, 500)
MOST_COMMITS: Final = 500  # of one kind: each waits for the disk
SYLLABLES: Final = 1000
WORD: Final = (1, 4)  # syllables

TABLES: Final = """
    select pg_relation_size('message') as rows, pg_indexes_size('message') as indexes,
           pg_total_relation_size('search_block') as search
"""


async def run(messages: int, chats: int, text_bytes: int, seed: int) -> Report:
    """Store `messages` for each size of a batch."""
    folder = Path(tempfile.mkdtemp(prefix="mim-load-"))
    report = Report("storage", {"messages": messages, "chats": chats, "text_bytes": text_bytes, "seed": seed})
    postgres = EmbeddedPostgres(folder / "postgres")
    try:
        url = await asyncio.to_thread(postgres.start)
        await migrate(url)
        connection = await connector(url)(PLANNER)
        for statement in USERS_AND_CHATS:
            await connection.execute(statement, 2 * chats)
        store = _Store(connection, await connection.prepare(STATEMENT), chats, text_bytes, random.Random(seed))  # noqa: S311
        await store.put(messages, BATCHES[-1])  # tables that are not new
        figures: dict[str, float] = {}
        for batch in BATCHES:
            some = min(messages, MOST_COMMITS * batch)
            await connection.execute("checkpoint")
            figures[f"log, batches of {batch}, after a checkpoint: bytes/message"] = await store.put(some, batch)
            figures[f"log, batches of {batch}, later: bytes/message"] = await store.put(some, batch)
        figures |= await store.index()
        row: Any = await connection.fetchrow(TABLES)
        figures |= {f"{name}: bytes/message": row[name] / store.stored for name in ("rows", "indexes")}
        figures["search index: bytes/message"] = row["search"] / max(1, store.indexed)
        report.rounds.append(figures)
        await _check(connection, store, report)
        await connection.close()
    finally:
        await asyncio.to_thread(postgres.stop)
        shutil.rmtree(folder, ignore_errors=True)
    return report


async def _check(connection: Any, store: "_Store", report: Report) -> None:
    stored = await connection.fetchval("select count(*) from message")
    report.checked.append(f"{stored:,} messages stored")
    if stored != store.stored:
        report.violations.append(f"{store.stored} messages sent, {stored} stored")


class _Store:
    """Puts messages into a database that nobody else uses, and looks how far the log has come."""

    def __init__(
        self, connection: Any, statement: Any, chats: int, text_bytes: int, chance: random.Random
    ) -> None:  # fmt: skip
        self._connection = connection
        self._statement = statement
        self._chats = chats
        self._text_bytes = text_bytes
        self._chance = chance
        self._syllables = [chr(0xAC00 + number) for number in chance.sample(range(11_172), SYLLABLES)]
        # few are frequent, as in a language
        self._ranks = list(accumulate(1 / rank for rank in range(1, SYLLABLES + 1)))
        self._batches = 0
        self.stored = self.indexed = 0

    async def put(self, messages: int, batch: int) -> float:
        """Store them; bytes of the log for one."""
        before = await self._log()
        for _ in range(messages // batch):
            await self._commit(batch)
        return (await self._log() - before) / (messages // batch * batch)

    async def _commit(self, size: int) -> None:
        users = [self._chance.randrange(2 * self._chats) + 1 for _ in range(size)]
        cids = range(self.stored, self.stored + size)
        self.stored += size
        self._batches += 1
        texts = [self._text() for _ in range(size)]
        await self._statement.fetch(
            *(1, self._batches, [self._batches - 1]),  # node, row of dispatch_log, the row before is done
            *([(user + 1) // 2 for user in users], users, users, list(cids), texts, [None] * size),
        )

    def _text(self) -> str:
        """Words until it is as long as it shall be."""
        text = ""
        while (left := self._text_bytes - len(text.encode())) > 0:
            size = self._chance.randint(*WORD)
            word = "".join(self._chance.choices(self._syllables, cum_weights=self._ranks, k=size))
            text += word if len(word.encode()) <= left else "x" * left
            text += " " * (len(text.encode()) < self._text_bytes)
        return text

    async def _log(self) -> int:
        return int(await self._connection.fetchval("select pg_current_wal_insert_lsn() - '0/0'::pg_lsn"))

    async def index(self) -> dict[str, float]:
        """Write the search index for every full block; what a message takes of the log and of CPU."""
        before = await self._log()
        backend = self._connection.get_server_pid()
        postgres_s, python_s = proc.cpu_s(backend), time.process_time()
        rows = await self._connection.fetch(
            "select chat_id, array_agg(text order by seq) as texts from message group by 1 having count(*) >= $1", BLOCK
        )
        for row in rows:
            texts: Sequence[str] = row["texts"]
            for first in range(0, len(texts) - BLOCK + 1, BLOCK):
                await self._connection.execute(
                    "insert into search_block values ($1, $2, $3, 0, 0, $4)",
                    row["chat_id"], first + 1, first + BLOCK, grams(texts[first : first + BLOCK]),
                )  # fmt: skip
                self.indexed += BLOCK
        await self._connection.execute("vacuum search_block")  # what waits in the list of the GIN index goes into it
        return {
            "log, search index: bytes/message": (await self._log() - before) / max(1, self.indexed),
            "search index: CPU µs/message of Python": (time.process_time() - python_s) / max(1, self.indexed) * 1e6,
            "search index: CPU µs/message of Postgres": (proc.cpu_s(backend) - postgres_s) / max(1, self.indexed) * 1e6,
        }
