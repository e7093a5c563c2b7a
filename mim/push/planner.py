"""Who is told of what was committed: decided after the commit and off the hot path, for many messages at a time.

`committed` and its like only note what there is to plan, with a bound: of messages the newest of each chat. One task
takes what gathered, asks
Postgres once for the devices of all direct chats and once for those of as many groups as have together some thousand
members, asks the bus who is connected, and writes the rest into the outbox. All of it may be done twice: a device that
was told, or waits to be, is not told again.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any, Final

import structlog
from msgspec import Struct

from mim.bus.port import Bus, device_topic, user_topic
from mim.clock import Clock
from mim.push import metrics
from mim.push.quiet import is_quiet
from mim.store import push_plan
from mim.store.committer import STORED, Pending
from mim.store.db import UNAVAILABLE, Pool
from mim.store.dispatch import Dispatch
from mim.store.push_plan import CALL, MESSAGE, REVISED, Candidate, Entry
from mim.tasks import TaskSet

log = structlog.get_logger("mim.push")

GATHER_S: Final = 0.1  # what is planned together costs less, and nobody notices this on a phone
ROUND: Final = 2000  # messages planned at a time
GROUP_MEMBERS: Final = 3000  # of groups in one query: the largest
SLICE: Final = 200  # devices that are decided on at a time
REST_S: Final = 0.02  # the longest pause after one; it is as long as the work was, so that live messages have half
AWAY_S: Final = 1.0
REVISABLE_S: Final = 86_400.0  # how long after it was shown a notification is still replaced
UNHEARD_CHATS: Final = 500
NAMES: Final = {MESSAGE: "message", REVISED: "revised", CALL: "call"}

RECOVERED: Final = 100_000  # messages remembered as planned until whoever asks for them has heard it


class Policy(Struct, frozen=True):
    """What planning is bound by; docs/settings.md tells them as push_*."""

    platforms: frozenset[str]
    queue: int
    age_s: float
    call_age_s: float
    chat_gap_s: float
    reading_grace_s: float


class News:
    """What is new in one chat: the newest message, and the newest that its author did not write."""

    __slots__ = ("committed", "high", "low", "mentioned", "other", "sender", "seq")

    def __init__(self, seq: int, sender: int, low: int | None, high: int | None, committed: float) -> None:
        self.low, self.high = low, high  # the peers of a direct chat
        self.seq, self.sender, self.other = seq, sender, 0
        self.committed = committed
        self.mentioned: set[int] = set()

    def add(self, seq: int, sender: int, committed: float) -> None:
        """Take in one more message of the chat, in any order."""
        if seq > self.seq:
            if sender != self.sender:
                self.other = self.seq
            self.seq, self.sender = seq, sender
        elif sender != self.sender and seq > self.other:
            self.other = seq
        if committed < self.committed:
            self.committed = committed


class Bulletin:
    """The news of many messages, by kind and chat, and the dispatches that wait for their being planned."""

    def __init__(self) -> None:
        self.kinds: dict[int, dict[int, News]] = {MESSAGE: {}, CALL: {}}
        self.messages = 0
        self.dispatches: list[Dispatch] = []

    def add(
        self, chat: int, seq: int, sender: int, low: int | None, high: int | None, extra: dict[str, Any] | None,
        committed: float,
    ) -> None:  # fmt: skip
        """Take in one message. Runs for every message there is."""
        news = self.kinds[MESSAGE if extra is None or extra.get("k") != "call" else CALL]
        new = news.get(chat)
        if new is None:
            new = news[chat] = News(seq, sender, low, high, committed)
        else:
            new.add(seq, sender, committed)
        if extra is not None:
            new.mentioned.update(mentions(extra))
        self.messages += 1


class Planner:
    """Plans what it is told of. `on_due` hears that there is something to send."""

    def __init__(self, pool: Pool, bus: Bus, clock: Clock, policy: Policy, on_due: Callable[[], None]) -> None:
        self._pool = pool
        self._bus = bus
        self._clock = clock
        self._policy = policy
        self._on_due = on_due
        self._gathering = Bulletin()
        self._planning: Bulletin | None = None  # gathered before; stays until it is planned
        self._recovered: dict[tuple[int, int], None] = {}
        self._recovered_planned: dict[tuple[int, int], None] = {}
        self._revised: list[tuple[int, int]] = []
        self._unheard: list[tuple[int, int, int]] = []
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._tasks = TaskSet()

    def __len__(self) -> int:
        """Messages, changes and devices that wait to be planned."""
        waiting = self._gathering.messages + (self._planning.messages if self._planning else 0)
        return waiting + len(self._recovered) + len(self._revised) + len(self._unheard)

    def start(self) -> None:
        """Begin to plan."""
        self._tasks.spawn(self._run(), name="push planner")

    async def close(self, timeout_s: float) -> None:
        """Plan what waits, for at most `timeout_s`."""
        await asyncio.wait({self._tasks.spawn(self._idle.wait(), name="last plans")}, timeout=timeout_s)
        await self._tasks.close()
        if self:
            log.warning("push was not planned for everything at shutdown", count=len(self))

    # -- what there is to plan (chat.push_port): nothing here blocks ----------------------------

    def committed(self, batch: Sequence[Pending], dispatch: Dispatch) -> None:
        """A committed batch, whose dispatch is held until the outbox has it. When too much waits it is let go as not
        done: then recovery brings the messages again.
        """
        dispatch.hold()
        if len(self) + len(batch) > self._policy.queue:
            metrics.UNPLANNED.inc(len(batch))
            dispatch.release(False)
            return
        add, now = self._gathering.add, self._clock.now()
        for p in batch:
            if p.outcome == STORED:
                add(p.chat, p.seq, p.user, p.low, p.high, p.body.extra, now)
        self._gathering.dispatches.append(dispatch)
        self._stir()

    def recovered(self, chats: Sequence[int], seqs: Sequence[int]) -> bool:
        """Messages that a dead node committed: what it planned of them is not known. True once they are planned: until
        then whoever asks keeps them, for this node may die too.
        """
        wanted = dict.fromkeys(zip(chats, seqs, strict=True))
        missing = [ref for ref in wanted if ref not in self._recovered_planned]
        if missing:
            new = [ref for ref in missing if ref not in self._recovered]
            if len(self) + len(new) <= self._policy.queue:
                self._recovered.update(dict.fromkeys(new))
                self._stir()
            return False
        for ref in wanted:
            del self._recovered_planned[ref]
        return True

    def revised(self, chat: int, seq: int) -> bool:
        """A message was edited or deleted for everyone. False: too much waits."""
        return self._note(self._revised, [(chat, seq)])

    def unheard(self, user: int, device: int, since: int) -> bool:
        """A connected device heard nothing from second `since` on and was closed. False: too much waits."""
        return self._note(self._unheard, [(user, device, since)])

    def _note(self, waiting: list[Any], new: list[Any]) -> bool:
        if len(self) + len(new) > self._policy.queue:
            metrics.UNPLANNED.inc(len(new))
            return False
        waiting += new
        self._stir()
        return True

    def _stir(self) -> None:
        self._idle.clear()
        self._wake.set()

    # -- planning ----------------------------------------------------------------------------

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            await asyncio.sleep(GATHER_S)
            self._wake.clear()
            while self or self._gathering.dispatches:
                try:
                    await self._round()
                except UNAVAILABLE as exc:
                    log.warning("push planning waits for storage", error=type(exc).__name__, count=len(self))
                    await asyncio.sleep(AWAY_S)
                except Exception:
                    log.exception("push could not be planned", count=len(self))
                    self._forget()
            self._idle.set()

    async def _round(self) -> None:
        """Plan some of everything; what fails stays to be planned again."""
        if self._planning is None and self._gathering.dispatches:
            self._planning, self._gathering = self._gathering, Bulletin()
        if self._planning is not None:
            await self._plan(self._planning)
            done, self._planning = self._planning, None
            for dispatch in done.dispatches:
                dispatch.release()
        if refs := list(islice(self._recovered, ROUND)):
            bulletin = Bulletin()
            for one in await push_plan.said(self._pool, [chat for chat, _ in refs], [seq for _, seq in refs]):
                bulletin.add(one.chat, one.seq, one.sender, one.low, one.high, one.extra, one.committed)
            await self._plan(bulletin)
            self._settle_recovered(refs)
        if refs := self._revised[:ROUND]:
            now = self._clock.now()
            shown = await push_plan.revised(
                self._pool, [chat for chat, _ in refs], [seq for _, seq in refs], now - REVISABLE_S
            )
            await self._put(shown, REVISED, now)
            del self._revised[: len(refs)]
        if self._unheard:
            user, device, since_s = self._unheard[0]
            missed = await push_plan.unheard(self._pool, user, device, since_s, UNHEARD_CHATS)
            await self._put(missed, MESSAGE, self._clock.now())
            del self._unheard[0]

    def _settle_recovered(self, refs: Sequence[tuple[int, int]]) -> None:
        """Note that these messages are planned, for whoever asks for them again."""
        for ref in refs:
            del self._recovered[ref]
            self._recovered_planned[ref] = None
        while len(self._recovered_planned) > RECOVERED:
            del self._recovered_planned[next(iter(self._recovered_planned))]

    def _forget(self) -> None:
        """Give up the round that cannot be planned: it would fail for ever."""
        given_up, self._planning = self._planning or Bulletin(), None
        refs = list(islice(self._recovered, ROUND))
        metrics.UNPLANNED.inc(given_up.messages + len(refs) + len(self._revised[:ROUND]))
        for dispatch in given_up.dispatches:
            dispatch.release()
        self._settle_recovered(refs)
        del self._revised[:ROUND], self._unheard[:1]

    async def _plan(self, bulletin: Bulletin) -> None:
        for kind, news in bulletin.kinds.items():
            if news:
                await self._plan_kind(news, kind)

    async def _plan_kind(self, news: dict[int, News], kind: int) -> None:
        direct = {chat: new for chat, new in news.items() if new.low is not None}
        if direct:
            await self._put(await push_plan.peers(self._pool, list(_peers(direct))), kind, None, direct)
        groups = {chat: new for chat, new in news.items() if new.low is None}
        for part in await self._parts(groups):
            heads = [(chat, new.seq) for chat, new in part.items()]
            own = [(chat, new.sender, new.other) for chat, new in part.items()]
            await self._put(await push_plan.members(self._pool, heads, own), kind, None, part)

    async def _parts(self, groups: dict[int, News]) -> list[dict[int, News]]:
        """The groups in parts that have no more than GROUP_MEMBERS together, or one group each."""
        if not groups:
            return []
        sizes = await push_plan.sizes(self._pool, list(groups))
        parts: list[dict[int, News]] = [{}]
        members = 0
        for chat, new in groups.items():
            if parts[-1] and members + sizes.get(chat, 0) > GROUP_MEMBERS:
                parts.append({})
                members = 0
            parts[-1][chat] = new
            members += sizes.get(chat, 0)
        return parts

    async def _put(
        self, found: Sequence[Candidate], kind: int, committed: float | None, news: dict[int, News] | None = None
    ) -> None:
        """Decide on devices and write the outbox."""
        if not found:
            return
        connected = await self._connected(found)
        reasons: Counter[str] = Counter()
        for start in range(0, len(found), SLICE):
            entries = []
            for one in found[start : start + SLICE]:
                new = news[one.chat] if news else None
                loud = self._is_loud(one, kind, new)
                if reason := self._silenced(one, kind, loud, connected):
                    reasons[reason] += 1
                    continue
                entries.append(self._entry(one, kind, loud, new.committed if new else committed or 0.0, connected))
            if entries:
                started = self._clock.monotonic()
                planned = await push_plan.put(self._pool, entries, self._policy.chat_gap_s)
                metrics.PLANNED.labels(NAMES[kind]).inc(planned)
                if planned < len(entries):
                    reasons["told"] += len(entries) - planned
                self._on_due()
                await asyncio.sleep(min(self._clock.monotonic() - started, REST_S))
        for reason, count in reasons.items():
            metrics.SUPPRESSED.labels(reason).inc(count)

    def _is_loud(self, one: Candidate, kind: int, new: News | None) -> bool:
        """Whether it may pass a mute."""
        if kind == CALL:
            return one.calls
        return one.mentions and new is not None and one.user in new.mentioned

    def _silenced(self, one: Candidate, kind: int, loud: bool, connected: set[str]) -> str | None:
        """Why a device is not told, as the word of the metric. A blocked sender would be one more reason."""
        if one.platform not in self._policy.platforms:
            return "no_provider"
        if device_topic(one.device) in connected:
            return "connected"
        if one.muted and not loud:
            return "muted"
        if kind != REVISED and is_quiet(one, self._clock.now()):
            return "quiet_hours"
        return None

    def _entry(self, one: Candidate, kind: int, loud: bool, committed: float, connected: set[str]) -> Entry:
        now = self._clock.now()
        reads_elsewhere = kind == MESSAGE and one.reading and user_topic(one.user) in connected
        due = now + self._policy.reading_grace_s if reads_elsewhere else now
        expires = committed + (self._policy.call_age_s if kind == CALL else self._policy.age_s)
        return Entry(
            one.device, one.chat, kind, one.user, one.platform, one.seq, loud, due, expires, committed
        )  # fmt: skip

    async def _connected(self, found: Sequence[Candidate]) -> set[str]:
        """The topics of these devices and users to which some node listens. When the bus is away, none: then a device
        is told once too often rather than not at all."""
        topics = {device_topic(one.device) for one in found} | {user_topic(one.user) for one in found}
        try:
            return set(await self._bus.listening(topics))
        except (ConnectionError, TimeoutError, OSError) as exc:
            log.warning("who is connected is not known", error=type(exc).__name__)
            return set()


def mentions(extra: dict[str, Any]) -> Iterator[int]:
    """The users whom a message mentions: `m` of its body, checked when it was taken in."""
    for mention in extra.get("m") or ():
        if isinstance(mention, list) and len(mention) == 3 and isinstance(mention[2], int):
            yield mention[2]


def _peers(direct: dict[int, News]) -> Iterator[tuple[int, int, int]]:
    """(chat, user, seq) for both sides of direct chats: the newest message that the other one wrote."""
    for chat, new in direct.items():
        other = new.high if new.sender == new.low else new.low
        if other is not None:
            yield chat, other, new.seq
        if new.other:
            yield chat, new.sender, new.other
