"""A lane: the outbox rows of one provider on their way out. Lanes share nothing but the database, so a provider that is
away holds up only itself.

A row is taken for `lease_s`, judged once more (is it still unread? is the device connected by now?), rendered and
sent, and what became of it is stored in batches. A lane that dies leaves its rows to come due again. A failure of the
provider itself does not count as an attempt of the row: only its age bounds how often that is tried.
"""

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Final

import structlog
from msgspec import Struct

from mim.bus.port import Bus, device_topic
from mim.clock import Clock
from mim.push import metrics
from mim.push.breaker import Breaker
from mim.push.notice import Answer, Notice, Provider, Verdict
from mim.push.render import render, shows_text, suppressed
from mim.store import push_outbox
from mim.store.db import UNAVAILABLE, Pool
from mim.store.push_outbox import Again, Due, Finished
from mim.store.push_plan import CALL
from mim.tasks import TaskSet

log = structlog.get_logger("mim.push")

POLL_S: Final = 1.0  # how soon rows of other processes, and those that come due, are seen
TAKE: Final = 50
REST_S: Final = 0.02
SETTLE_S: Final = 0.03
SETTLE: Final = 500
AWAY_S: Final = 1.0  # Postgres is: look again after
LAST_S: Final = 3.0
BACKOFF_S: Final = 2.0
LONGEST_BACKOFF_S: Final = 900.0


class Limits(Struct, frozen=True):
    """Bounds of sending; docs/settings.md tells them as push_*."""

    preview: str
    concurrency: int
    attempts: int
    lease_s: float
    chat_gap_s: float
    device_per_minute: int


class Results:
    """What became of rows, until it is stored."""

    def __init__(self) -> None:
        self.finished: list[Finished] = []
        self.again: list[Again] = []
        self.dead: list[Due] = []

    def __len__(self) -> int:
        return len(self.finished) + len(self.again)


class Lane:
    """Sends what is due for one provider. `bus` tells who is connected; None: nobody can be asked. `shares`: live
    messages are carried by this process, too.
    """

    def __init__(
        self, provider: Provider, pool: Pool, bus: Bus | None, clock: Clock, limits: Limits, *, shares: bool = True
    ) -> None:
        self._shares = shares
        self._provider = provider
        self._pool = pool
        self._bus = bus
        self._clock = clock
        self._limits = limits
        self._breaker = Breaker(clock.monotonic)
        self._order = list(provider.platforms)
        self._results = Results()
        self._sending = TaskSet()
        self._taking = TaskSet()
        self._settling = TaskSet()
        self._wake = asyncio.Event()
        self._freed = asyncio.Event()
        self._done = asyncio.Event()

    @property
    def platforms(self) -> tuple[str, ...]:
        """Whose rows these are."""
        return self._provider.platforms

    @property
    def inflight(self) -> int:
        """Notifications that wait for an answer."""
        return len(self._sending)

    def start(self) -> None:
        """Begin to send."""
        self._taking.spawn(self._run(), name=f"push to {self._provider.name}")
        self._settling.spawn(self._settle_loop(), name=f"settle push to {self._provider.name}")

    def wake(self) -> None:
        """There is something due."""
        self._wake.set()

    async def close(self) -> None:
        """Finish what is on its way, for at most LAST_S, store what became of it, stop."""
        await self._taking.close()
        deadline = self._clock.monotonic() + LAST_S
        while self._sending and self._clock.monotonic() < deadline:
            self._freed.clear()
            await _wait(self._freed, 0.1)
        await self._sending.close()
        await self._settling.close()
        if len(self._results):
            last = self._settling.spawn(self._settle(), name="last push results")
            await asyncio.wait({last}, timeout=LAST_S)
        await self._settling.close()
        await self._provider.close()

    # -- taking ----------------------------------------------------------------------------

    async def _run(self) -> None:
        while True:
            room = self._limits.concurrency - len(self._sending)
            if (pause := self._breaker.wait_s()) > 0:
                await asyncio.sleep(min(pause, POLL_S))
                continue
            if self._breaker.is_open:
                room = 1 if self._breaker.allow() else 0
            if room < 1 or len(self._results) >= SETTLE:
                self._freed.clear()
                await _wait(self._freed, POLL_S)
                continue
            self._wake.clear()
            started = self._clock.monotonic()
            if not await self._take(room):
                await _wait(self._wake, POLL_S)
            elif self._shares:  # as much time as this took is left to live messages
                await asyncio.sleep(min(self._clock.monotonic() - started, REST_S))

    async def _take(self, room: int) -> bool:
        """Take rows and send them; False when there were none, or Postgres is away."""
        now = self._clock.now()
        sent = 0
        rows: list[Due] = []
        try:
            self._order.reverse()  # so that one platform's backlog is not before the other's for ever
            for platform in self._order:
                left = min(room, TAKE) - len(rows)
                rows += await push_outbox.take(self._pool, platform, now, self._limits.lease_s, left) if left else []
        except UNAVAILABLE as exc:
            log.warning("push waits for storage", provider=self._provider.name, error=type(exc).__name__)
            if not rows:
                self._breaker.abandoned()
                await asyncio.sleep(AWAY_S)
                return False
        connected = await listening(self._bus, [row.device for row in rows])
        for row in rows:
            notice = self._judge(row, now, connected)
            if notice is not None:
                sent += 1
                self._sending.spawn(self._send(row, notice), name="push")
        if not sent:
            self._breaker.abandoned()
        return bool(rows)

    def _judge(self, row: Due, now: float, connected: set[int]) -> Notice | None:
        """The notification to send now, or None when the row was settled otherwise."""
        reason = "connected" if row.device in connected else suppressed(row, now)
        if reason is not None:
            self._drop(row, reason)
            return None
        if row.recent >= self._limits.device_per_minute and row.kind != CALL:
            metrics.SUPPRESSED.labels("limited").inc()
            self._put_back(row, now + self._limits.chat_gap_s * (1 + random.random()), counted=False)  # noqa: S311
            return None
        notice = render(row, self._limits.preview)
        if notice is None:
            self._drop(row, "not_shown")
        return notice

    def _drop(self, row: Due, reason: str) -> None:
        if reason == "expired":
            metrics.DEAD.labels(self._provider.name, reason).inc()
        else:
            metrics.SUPPRESSED.labels(reason).inc()
        self._finish(Finished(row))

    # -- sending ---------------------------------------------------------------------------

    async def _send(self, row: Due, notice: Notice) -> None:
        try:
            answer = await self._provider.send(notice)
        except asyncio.CancelledError:
            self._put_back(row, self._clock.now(), counted=False)
            raise
        except Exception:
            log.exception("a notification could not be made", provider=self._provider.name)
            answer = Answer(Verdict.REFUSED, "internal")
        self._weigh(answer)
        self._conclude(row, notice, answer)
        self._freed.set()

    def _weigh(self, answer: Answer) -> None:
        was = self._breaker.is_open
        if answer.verdict is Verdict.TROUBLE:
            self._breaker.failed(answer.retry_after_s)
        else:
            self._breaker.succeeded()
        if was != self._breaker.is_open:
            metrics.OPEN.labels(self._provider.name).set(int(self._breaker.is_open))
            event = "push provider is back" if was else "push provider fails; it is not called for a while"
            log.warning(event, provider=self._provider.name, reason=answer.reason)

    def _conclude(self, row: Due, notice: Notice, answer: Answer) -> None:
        name, now = self._provider.name, self._clock.now()
        if answer.verdict is Verdict.ACCEPTED:
            metrics.SENT.labels(name).inc()
            metrics.SECONDS.labels(name).observe(max(0.0, now - row.committed))
            shown = shows_text(row, self._limits.preview)
            self._finish(Finished(row, row.seq if row.kind != CALL else 0, shown))
            return
        metrics.FAILED.labels(name, answer.reason).inc()
        if answer.verdict is Verdict.GONE and answer.gone_at >= row.since:
            metrics.TOKENS.labels(name).inc()
            self._results.dead.append(row)
            self._finish(Finished(row))
        elif answer.verdict in {Verdict.TROUBLE, Verdict.AWAY}:
            pause = max(answer.retry_after_s, self._breaker.wait_s(), 0.2)
            self._put_back(row, now + pause * (1 + 0.2 * random.random()), counted=False)  # noqa: S311
        elif answer.verdict in {Verdict.LATER, Verdict.GONE} and row.attempts < self._limits.attempts:
            pause = max(answer.retry_after_s, backoff_s(row.attempts))
            self._put_back(row, now + pause, counted=True)
        else:
            reason = answer.reason if answer.verdict is Verdict.REFUSED else "attempts"
            metrics.DEAD.labels(name, reason).inc()
            log.warning("a notification was given up", provider=name, reason=answer.reason, device=row.device)
            self._finish(Finished(row))

    def _finish(self, result: Finished) -> None:
        self._results.finished.append(result)
        self._done.set()

    def _put_back(self, row: Due, due: float, *, counted: bool) -> None:
        self._results.again.append(Again(row, due, counted))
        self._done.set()

    # -- settling --------------------------------------------------------------------------

    async def _settle_loop(self) -> None:
        while True:
            await self._done.wait()
            await asyncio.sleep(SETTLE_S)
            self._done.clear()
            try:
                await self._settle()
            except UNAVAILABLE as exc:
                # What was sent and cannot be noted comes due again when its lease ends, and replaces itself.
                log.warning("push results wait for storage", provider=self._provider.name, error=type(exc).__name__)
                self._done.set()
                await asyncio.sleep(AWAY_S)
            self._freed.set()

    async def _settle(self) -> None:
        results, self._results = self._results, Results()
        try:
            await push_outbox.settle(
                self._pool, results.finished, results.again, results.dead, self._clock.now(), self._limits.chat_gap_s
            )
        except BaseException:
            results.finished += self._results.finished
            results.again += self._results.again
            results.dead += self._results.dead
            self._results = results
            raise


async def listening(bus: Bus | None, devices: Sequence[int]) -> set[int]:
    """Which devices are connected to any node. When nobody can be asked, none: one push too many rather than one too
    few.
    """
    if bus is None or not devices:
        return set()
    topics = {device_topic(device): device for device in devices}
    try:
        return {topics[topic] for topic in await bus.listening(topics)}
    except (ConnectionError, TimeoutError, OSError) as exc:
        log.warning("who is connected is not known", error=type(exc).__name__)
        return set()


def backoff_s(attempts: int, jitter: Callable[[], float] = random.random) -> float:
    """The pause after so many attempts: doubling, between a half and the whole of it."""
    longest = min(BACKOFF_S * 2.0 ** min(attempts - 1, 20), LONGEST_BACKOFF_S)
    return longest * (0.5 + jitter() / 2)


async def _wait(event: asyncio.Event, timeout_s: float) -> None:
    """Wait for an event, or no longer than `timeout_s`."""
    try:
        async with asyncio.timeout(timeout_s):
            await event.wait()
    except TimeoutError:
        pass
