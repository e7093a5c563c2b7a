"""Group commit: whatever arrived while the last batch committed is the next batch (docs/architecture.md#group-commit).

The hot path puts a :class:`Pending` into a list and returns. One loop takes the list, stores it with one call of
`commit_messages` and hands the batch to `on_committed`, which acknowledges and publishes, and releases the batch's
:class:`Dispatch`. A message is settled exactly once.

Failures, in the order they are tried:
- the connection breaks or times out: nobody knows whether the batch is stored; it is sent again with the same keys
  until `wait_s` is over, and the database tells which rows it had already;
- the database refuses the batch for one row's sake: it is halved until that row stands alone, and only that row fails;
- whatever the database does or does not do, who waits longer than `wait_s` is told `unavailable` by a watch of its own.
  Should the message be stored after that, the others receive it, and its sender learns so when sending it again.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

import asyncpg
import orjson
import structlog
from prometheus_client import Counter, Histogram

from mim.clock import Clock
from mim.errors import Code
from mim.model import Kind, Stored
from mim.store.db import UNAVAILABLE, Connection, Connector
from mim.store.dispatch import Dispatch, Dispatches
from mim.tasks import TaskSet

log = structlog.get_logger("mim.committer")

BATCH_SIZE = Histogram(
    "mim_commit_batch_messages", "Messages of one commit.", buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500)
)
COMMIT_SECONDS = Histogram(
    "mim_commit_seconds",
    "Time of one commit, from sending the batch to its answer.",
    buckets=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1, 5, 10),
)
MESSAGES = Counter("mim_messages_total", "Messages by outcome of their commit.", ["outcome"])
RETRIES = Counter("mim_commit_retries_total", "Batches sent again because their outcome was unknown.")

STORED: Final = 0
DUPLICATE: Final = 1
NOT_MEMBER: Final = 2

RETRY_PAUSE_S: Final = 0.2
WATCH_S: Final = 0.1
STATEMENT: Final = "select * from commit_messages($1, $2, $3, $4, $5, $6, $7, $8, $9)"

# What the database says of a row's own content. Any other refusal is about the state of the database: the client is
# told to keep the message and send it again.
UNSTORABLE: Final = (
    ValueError,
    TypeError,
    asyncpg.DataError,
    asyncpg.CheckViolationError,
    asyncpg.ProgramLimitExceededError,
    asyncpg.RaiseError,
)

# Settings of the committer's own connection. The function's plans are made when the tables may still be empty, where
# a sequential scan looks cheap; by key is right at every size.
PLANNER: Final = {
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "plan_cache_mode": "force_generic_plan",
}


class Sender(Protocol):
    """Who sent a message and must hear what became of it."""

    def acknowledge(self, cid: int, seq: int, at: int) -> None:
        """The message is durable."""

    def refuse(self, cid: int, code: Code, detail: str, retry_after_ms: int | None = None) -> None:
        """The message was not stored, or it is not known in time whether it was (`unavailable`)."""


class _Nobody:
    """The :class:`Sender` of a message that was refused: whatever becomes of it now, the answer was given."""

    def acknowledge(self, cid: int, seq: int, at: int) -> None:
        """The answer was given."""

    def refuse(self, cid: int, code: Code, detail: str, retry_after_ms: int | None = None) -> None:
        """The answer was given."""


NOBODY: Final = _Nobody()


class Pending:
    """A message on its way, and after the commit what became of it."""

    __slots__ = (
        "at",
        "body",
        "chat",
        "cid",
        "concerned",
        "connection",
        "device",
        "high",
        "kind",
        "low",
        "outcome",
        "queued",
        "sender",
        "seq",
        "stored",
        "user",
    )  # fmt: skip

    def __init__(
        self, sender: Sender, user: int, device: int, connection: int, chat: int, cid: int, body: Stored
    ) -> None:
        self.sender = sender
        self.user = user
        self.device = device
        self.connection = connection  # 0 for HTTP
        self.chat = chat
        self.cid = cid
        self.body = body
        self.queued = 0.0  # monotonic second
        # settled by the commit:
        self.outcome = NOT_MEMBER
        self.seq = 0
        self.at = 0
        self.kind = 0
        self.low: int | None = None
        self.high: int | None = None
        self.stored: Stored | None = body  # what is delivered; None: stored before and deleted since
        self.concerned: list[int] | None = None  # of a direct chat: to whom it comes back, or who may see it again

    @property
    def is_direct(self) -> bool:
        """Whether the chat has two peers instead of a topic."""
        return self.kind == Kind.DIRECT

    def refuse(self, code: Code, detail: str, retry_after_ms: int | None = None) -> bool:
        """Answer with a NACK, once; False when it was refused before."""
        sender, self.sender = self.sender, NOBODY
        sender.refuse(self.cid, code, detail, retry_after_ms)
        return sender is not NOBODY


class Committer:
    """Stores messages in batches on a connection of its own."""

    def __init__(
        self,
        connect: Connector,
        on_committed: Callable[[Sequence[Pending], Dispatch], None],
        dispatches: Dispatches,
        clock: Clock,
        *,
        batch: int,
        queue: int,
        wait_s: float,
    ) -> None:
        self._connect = connect
        self._on_committed = on_committed
        self._dispatches = dispatches
        self._clock = clock
        self._batch = batch
        self._queue = queue
        self._wait_s = wait_s
        self._statement_s = wait_s / 2  # a stalled database leaves time for one more try
        self._pending: list[Pending] = []  # in the order in which they were queued
        self._storing: list[Pending] = []  # the batch that is being stored
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._connection: Connection | None = None
        self._statement: Any = None
        self._tasks = TaskSet()

    def __len__(self) -> int:
        """Messages that wait for a commit."""
        return len(self._pending)

    def start(self) -> None:
        """Begin to commit."""
        self._tasks.spawn(self._run(), name="committer")
        self._tasks.spawn(self._watch(), name="commit deadlines")

    async def close(self, timeout_s: float) -> None:
        """Commit what waits, for at most `timeout_s`; refuse the rest as unavailable."""
        try:
            await asyncio.wait_for(self._idle.wait(), timeout_s)
        except TimeoutError:
            log.warning("pending commits given up", messages=len(self._pending))
        await self._tasks.close()
        self._give_up(self._pending)
        await self._disconnect()

    def submit(self, pending: Pending) -> None:
        """Queue a message. Must not block; refuses at once when too many wait."""
        if len(self._pending) >= self._queue:
            refuse_unavailable(pending, "too many messages wait for storage; send again later with the same cid")
            return
        pending.queued = self._clock.monotonic()
        self._pending.append(pending)
        self._wake.set()
        self._idle.clear()

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            batch, self._pending = self._pending[: self._batch], self._pending[self._batch :]
            if not self._pending:
                self._wake.clear()
            self._storing = batch
            try:
                if batch:  # else all were given up while they waited
                    await self._settle(batch)
            except asyncio.CancelledError:
                self._give_up(batch)
                raise
            except Exception:
                log.exception("a batch could not be settled", messages=len(batch))
                for pending in batch:
                    pending.refuse(Code.INTERNAL, "the server made a mistake; it is logged")
            self._storing = []
            if not self._pending:
                self._idle.set()

    async def _watch(self) -> None:
        """Answer in time those whose batch does not get on."""
        while True:
            await asyncio.sleep(WATCH_S)
            self._storing = self._drop_expired(self._storing)
            self._pending = self._drop_expired(self._pending)

    async def _settle(self, batch: list[Pending]) -> None:
        """Store a batch, duplicates within it as one, and report every message of it."""
        unique: dict[tuple[int, int, int], Pending] = {}
        again: list[Pending] = []
        for pending in batch:
            key = (pending.chat, pending.device, pending.cid)
            if unique.setdefault(key, pending) is not pending:
                again.append(pending)
        await self._store(list(unique.values()))
        if again:  # rare: the same cid twice in one batch; the second asks what the first became
            await self._settle(again)

    async def _store(self, batch: list[Pending]) -> None:
        """Store messages and report those whose outcome is known then; the others were refused.

        An attempt whose outcome is unknown is settled by the next one, which finds what it stored. When some messages
        are not sent again, because their senders were told `unavailable`, its row of dispatch_log is left to recovery.
        """
        unknown: Dispatch | None = None
        while True:
            dispatch = self._dispatches.begin(unknown)
            try:
                await self._execute(batch, dispatch.number)
            except (ValueError, TypeError) as exc:  # a value that cannot be sent; before asyncpg's wider classes
                return await self._halve(batch, exc, dispatch)
            except UNAVAILABLE as exc:
                await self._disconnect()
                left = self._drop_expired(batch)
                self._pending = self._drop_expired(self._pending)
                unknown = dispatch if len(left) == len(batch) else None
                if unknown is None:
                    dispatch.release(ok=False)
                batch = left
                if not batch:
                    return None
                RETRIES.inc()
                log.warning("commit outcome unknown, trying again", error=type(exc).__name__, messages=len(batch))
                await asyncio.sleep(RETRY_PAUSE_S)
            except asyncpg.PostgresError as exc:
                return await self._halve(batch, exc, dispatch)
            except Exception:
                dispatch.release(ok=False)
                raise
            else:
                self._on_committed(batch, dispatch)
                return None

    async def _halve(self, batch: list[Pending], exc: Exception, dispatch: Dispatch) -> None:
        """One row spoils the batch: find it, so that only it fails."""
        dispatch.release(ok=False)
        if len(batch) == 1:
            log.error("message refused by the database", error=type(exc).__name__)
            if isinstance(exc, UNSTORABLE):
                MESSAGES.labels("refused").inc()
                batch[0].refuse(Code.BAD_FRAME, "the database cannot store this message")
            else:
                refuse_unavailable(batch[0], "storage is not in order; send again later with the same cid")
                await self._disconnect()  # a plan that outlived its function is no use, for one
            return
        middle = len(batch) // 2
        await self._store(batch[:middle])
        await self._store(batch[middle:])

    async def _execute(self, batch: list[Pending], number: int) -> None:
        started = self._clock.monotonic()
        if self._statement is None:
            async with asyncio.timeout(self._statement_s):
                connection = self._connection = await self._connect(PLANNER)
                self._statement = await connection.prepare(STATEMENT)
        done = self._dispatches.take_done()
        try:
            rows = await self._statement.fetch(
                self._dispatches.node,
                number,
                done,
                [p.chat for p in batch],
                [p.user for p in batch],
                [p.device for p in batch],
                [p.cid for p in batch],
                [p.body.text for p in batch],
                [None if p.body.extra is None else orjson.dumps(p.body.extra).decode() for p in batch],
                timeout=self._statement_s,
            )
        except BaseException:
            self._dispatches.forgotten(done, ok=False)
            raise
        self._dispatches.forgotten(done, ok=True)
        for ordinal, outcome, seq, at, kind, low, high, text, extra, concerned in rows:
            pending = batch[ordinal - 1]
            pending.outcome = outcome
            pending.seq = seq
            pending.at = at
            pending.kind = kind
            pending.low = low
            pending.high = high
            pending.concerned = concerned
            if outcome == DUPLICATE:
                pending.stored = None if text is None else Stored(text, extra)
        BATCH_SIZE.observe(len(batch))
        COMMIT_SECONDS.observe(self._clock.monotonic() - started)

    def _drop_expired(self, batch: list[Pending]) -> list[Pending]:
        """Refuse those that waited too long and return the others."""
        oldest = self._clock.monotonic() - self._wait_s
        if not batch or batch[0].queued > oldest:
            return batch
        late = [p for p in batch if p.queued <= oldest]
        self._give_up(late)
        return [p for p in batch if p.queued > oldest]

    def _give_up(self, batch: Sequence[Pending]) -> None:
        for pending in batch:
            refuse_unavailable(pending, "storage is away; send again with the same cid, it is never stored twice")

    async def _disconnect(self) -> None:
        connection, self._connection, self._statement = self._connection, None, None
        if connection is not None:
            connection.terminate()


def refuse_unavailable(pending: Pending, detail: str) -> None:
    """Answer NACK `unavailable`; the client sends again with the same cid."""
    if pending.refuse(Code.UNAVAILABLE, detail, retry_after_ms=1000):
        MESSAGES.labels("unavailable").inc()
