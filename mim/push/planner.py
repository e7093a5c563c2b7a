"""Who is told of what was committed: decided after the commit and off the hot path, for many messages at a time.

`committed` and its like only note what there is to plan, in lists with a bound. One task takes what gathered, asks
Postgres once for the devices of all direct chats and once for those of as many groups as have together some thousand
members, asks the bus who is connected, and writes the rest into the outbox. All of it may be done twice: a device that
was told, or waits to be, is not told again.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
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
from mim.store.push_plan import CALL, MESSAGE, REVISED, Candidate, Entry, Said
from mim.tasks import TaskSet

log = structlog.get_logger("mim.push")

GATHER_S: Final = 0.05  # what is planned together costs less, and nobody notices this on a phone
ROUND: Final = 2000  # messages planned at a time
GROUP_MEMBERS: Final = 6000  # of groups in one query: two of the largest
SLICE: Final = 500  # devices that are decided on before the event loop has its turn
AWAY_S: Final = 1.0
REVISABLE_S: Final = 86_400.0  # how long after it was shown a notification is still replaced
UNHEARD_CHATS: Final = 500
NAMES: Final = {MESSAGE: "message", REVISED: "revised", CALL: "call"}

Planned = Callable[[], None]


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

    def __init__(self, first: Said) -> None:
        self.low, self.high = first.low, first.high
        self.seq, self.sender, self.other = first.seq, first.sender, 0
        self.committed = first.committed
        self.mentioned: set[int] = set()
        self.add(first)

    def add(self, said: Said) -> None:
        """Take in one more message of the chat, in any order."""
        if said.seq > self.seq:
            if said.sender != self.sender:
                self.other = self.seq
            self.seq, self.sender = said.seq, said.sender
        elif said.sender != self.sender:
            self.other = max(self.other, said.seq)
        self.committed = min(self.committed, said.committed)
        self.mentioned.update(mentions(said.extra))


class Planner:
    """Plans what it is told of. `on_due` hears that there is something to send."""

    def __init__(self, pool: Pool, bus: Bus, clock: Clock, policy: Policy, on_due: Callable[[], None]) -> None:
        self._pool = pool
        self._bus = bus
        self._clock = clock
        self._policy = policy
        self._on_due = on_due
        self._said: list[Said] = []
        self._planned: list[tuple[int, Planned]] = []  # (how many of _said come before it is so, whom to tell)
        self._recovered: list[tuple[int, int]] = []
        self._revised: list[tuple[int, int]] = []
        self._unheard: list[tuple[int, int, int]] = []
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._tasks = TaskSet()

    def __len__(self) -> int:
        """Messages, changes and devices that wait to be planned."""
        return len(self._said) + len(self._recovered) + len(self._revised) + len(self._unheard)

    def start(self) -> None:
        """Begin to plan."""
        self._tasks.spawn(self._run(), name="push planner")

    async def close(self, timeout_s: float) -> None:
        """Plan what waits, for at most `timeout_s`."""
        await asyncio.wait({self._tasks.spawn(self._idle.wait(), name="last plans")}, timeout=timeout_s)
        await self._tasks.close()
        if self:
            log.warning("push was not planned for everything at shutdown", count=len(self))

    # -- what there is to plan: nothing here blocks -------------------------------------------

    def committed(self, batch: Sequence[Pending], planned: Planned | None = None) -> bool:
        """A committed batch. `planned` is called when the outbox has it; False: too much waits, it will not be."""
        now = self._clock.now()
        fresh = [
            Said(p.chat, p.seq, p.user, p.low, p.high, p.body.extra, now) for p in batch if p.outcome == STORED
        ]  # fmt: skip
        if len(self) + len(fresh) > self._policy.queue:
            metrics.UNPLANNED.inc(len(fresh))
            return False
        self._said += fresh
        if planned is not None:
            self._planned.append((len(self._said), planned))
        self._stir()
        return True

    def recovered(self, chats: Sequence[int], seqs: Sequence[int]) -> bool:
        """Messages that a dead node committed: what it planned of them is not known. False: too much waits."""
        return self._note(self._recovered, list(zip(chats, seqs, strict=True)))

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
            while self or self._planned:
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
        said = self._said[:ROUND]
        if said:
            await self._plan(said)
        del self._said[: len(said)]
        self._tell_planned(len(said))
        if refs := self._recovered[:ROUND]:
            await self._plan(await push_plan.said(self._pool, *map(list, zip(*refs, strict=True))))
            del self._recovered[: len(refs)]
        if refs := self._revised[:ROUND]:
            chats, seqs = zip(*refs, strict=True)
            since = self._clock.now() - REVISABLE_S
            await self._put(await push_plan.revised(self._pool, chats, seqs, since), REVISED, self._clock.now())
            del self._revised[: len(refs)]
        if self._unheard:
            user, device, since_s = self._unheard[0]
            missed = await push_plan.unheard(self._pool, user, device, since_s, UNHEARD_CHATS)
            await self._put(missed, MESSAGE, self._clock.now())
            del self._unheard[0]

    def _tell_planned(self, count: int) -> None:
        """Tell those whose messages are all planned, now that `count` more are."""
        self._planned = [(left - count, planned) for left, planned in self._planned]
        while self._planned and self._planned[0][0] <= 0:
            self._planned.pop(0)[1]()

    def _forget(self) -> None:
        """Give up the round that cannot be planned; it would fail for ever."""
        metrics.UNPLANNED.inc(min(len(self._said), ROUND) + len(self._recovered) + len(self._revised))
        del self._said[:ROUND], self._recovered[:ROUND], self._revised[:ROUND], self._unheard[:1]
        self._tell_planned(ROUND)

    async def _plan(self, said: Sequence[Said]) -> None:
        calls = [one for one in said if is_call(one.extra)]
        await self._plan_kind([one for one in said if not is_call(one.extra)] if calls else said, MESSAGE)
        await self._plan_kind(calls, CALL)

    async def _plan_kind(self, said: Sequence[Said], kind: int) -> None:
        news: dict[int, News] = {}
        for one in said:
            if one.chat in news:
                news[one.chat].add(one)
            else:
                news[one.chat] = News(one)
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
                planned = await push_plan.put(self._pool, entries, self._policy.chat_gap_s)
                metrics.PLANNED.labels(NAMES[kind]).inc(planned)
                if planned < len(entries):
                    reasons["told"] += len(entries) - planned
                self._on_due()
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
            return await self._bus.listening(topics)
        except (ConnectionError, TimeoutError, OSError) as exc:
            log.warning("who is connected is not known", error=type(exc).__name__)
            return set()


def is_call(extra: dict[str, Any] | None) -> bool:
    """Whether a message calls rather than tells."""
    return extra is not None and extra.get("k") == "call"


def mentions(extra: dict[str, Any] | None) -> Iterator[int]:
    """The users whom a message mentions: `m` of its body, checked when it was taken in."""
    for mention in (extra or {}).get("m") or ():
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
