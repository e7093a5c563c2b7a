"""A crew of phones: what all scenarios with phones share, up to the check at their end."""

import asyncio
import time
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import chain
from typing import Any, Final, TypeVar, cast

from loadtest.load.client import PATIENCE_S, LoadError
from loadtest.load.crew import Crew, Place, Snapshot
from loadtest.load.crews import Crews
from loadtest.load.many import few_at_a_time, wait_until
from loadtest.phones.books import Account, merged
from loadtest.phones.line import Line
from loadtest.phones.phone import Phone
from loadtest.phones.plan import Chat
from loadtest.reports.latency import Latencies
from loadtest.running import Run

TICK_S: Final = 0.5
SETTLE_S: Final = 30.0  # for answers, and for what must have come by itself
LOOK_S: Final = 0.25  # between two looks at what the server has
PAGE: Final = 200
CREATE_AT_ONCE: Final = 10
PUSH_TOKEN: Final = "a phone of a load test"  # noqa: S105

C = TypeVar("C", bound="PhoneCrew")


class PhoneCrew(Crew):
    """Users with a phone each."""

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self.phones = {number: Phone(number, self.token(number), self._line, place.run) for number in place.numbers}
        self.chats: list[Chat] = []
        self.ids: list[int] = []  # of these chats
        self._ticking: asyncio.Task[None] | None = None

    async def _line(self, number: int, make: Callable[[], Line]) -> Line:
        return cast(Line, await self.reach(number, make))

    # -- the beginning ---------------------------------------------------------------------

    async def connect(self) -> list[int]:
        """Wake everybody; returns their ids, in the order of their numbers."""
        await self.wake_all()
        self._ticking = asyncio.get_running_loop().create_task(self._ticks(), name="ticks of phones")
        return [phone.user for phone in self.phones.values()]

    async def register(self, platform: str) -> list[str]:
        """Every phone takes notifications; returns what was said to those that cannot."""

        async def register(phone: Phone) -> str:
            try:
                await phone.call("device.push", platform=platform, token=PUSH_TOKEN)
            except LoadError as exc:
                return str(exc)
            return ""

        return [said for said in await few_at_a_time(register, self.phones.values()) if said]

    async def open_chats(self, chats: Sequence[Chat], users: Sequence[int]) -> dict[int, int]:
        """Create those whose first member is here; `users` are the ids of all users. Returns chat ids by index."""

        async def create(item: tuple[int, Chat]) -> tuple[int, int]:
            index, chat = item
            first, *others = chat.members
            state = await self.phones[first].call(
                "chat.create", kind=chat.kind, members=[users[other] for other in others]
            )
            return index, state["chat"]

        mine = [(index, chat) for index, chat in enumerate(chats) if chat.members[0] in self.phones]
        return dict(await few_at_a_time(create, mine, CREATE_AT_ONCE))

    async def know(self, chats: Sequence[Chat], ids: Sequence[int]) -> None:
        """Wait until everybody was told of all of their chats, whose ids are these."""
        self.chats, self.ids = list(chats), list(ids)
        wanted = [
            (self.phones[member].books.chats, ids[index])
            for index, chat in enumerate(chats)
            for member in chat.members
            if member in self.phones
        ]
        await wait_until(lambda: all(chat in known for known, chat in wanted), PATIENCE_S, "CHAT for every member")

    # -- all at once -----------------------------------------------------------------------

    async def wake_all(self) -> None:
        """Everybody connects."""

        async def wake(phone: Phone) -> None:
            phone.wake()
            await phone.until_synced()

        await few_at_a_time(wake, self.phones.values())

    async def sleep_all(self) -> None:
        """Everybody hangs up."""
        await few_at_a_time(Phone.sleep, self.phones.values())

    async def close(self) -> None:
        """The run is over."""
        if self._ticking is not None:
            self._ticking.cancel()
            await asyncio.gather(self._ticking, return_exceptions=True)
        await self.sleep_all()

    async def _ticks(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            now = time.monotonic()
            for phone in self.phones.values():
                phone.tick(now)

    # -- what is told ----------------------------------------------------------------------

    async def refusals(self) -> Counter[str]:
        """How often the server or the network said no, by its words."""
        said: Counter[str] = Counter()
        for phone in self.phones.values():
            said.update(phone.refusals)
        return said

    async def done(self) -> Counter[str]:
        """What was done beside messages: sign-ins that came to SYNCED, READ and TYPING."""
        phones = self.phones.values()
        return Counter(
            {
                "logins": sum(phone.syncs for phone in phones),
                "READs": sum(phone.reads for phone in phones),
                "TYPINGs": sum(phone.typings for phone in phones),
                "messages again after a resume": sum(phone.books.repeats for phone in phones),
            }
        )

    async def problems(self) -> list[str]:
        """What went wrong so far."""
        said = (sentence for phone in self.phones.values() for _, sentence in phone.books.breaches.said)
        return list(chain(said, (f"{word}: {count}" for word, count in (await self.refusals()).items())))[:10]

    def timed(self) -> Iterable[Phone]:
        """Those whose latencies count."""
        return self.phones.values()

    async def snapshot(self) -> Snapshot:
        """How far they are, and the latencies since the last one."""
        phones = self.phones.values()
        ack_times, delivery_times = Latencies(), Latencies()
        for phone in self.timed():
            ack_times.extend(phone.outbox.ack_times)
            delivery_times.extend(phone.delivery_times)
        for phone in phones:
            phone.outbox.ack_times, phone.delivery_times = array("d"), array("d")
        return Snapshot(
            connected=sum(phone.is_synced for phone in phones),
            sent=sum(phone.outbox.sent for phone in phones),
            acked=sum(phone.outbox.acked for phone in phones),
            heard=sum(phone.heard for phone in phones),
            errors=sum(phone.refusals.total() + phone.books.breaches.count["said"] for phone in phones),
            ack_times=ack_times,
            delivery_times=delivery_times,
        )

    # -- the end ---------------------------------------------------------------------------

    async def settle(self) -> None:
        """Wait until everything has its answer, or long enough."""
        with suppress(LoadError):
            await wait_until(lambda: not any(phone.outbox for phone in self.phones.values()), SETTLE_S, "ACK")

    async def account(self) -> Account:
        """Everybody compares what they have with what the server tells. What differs is given a while to come."""
        deadline = time.monotonic() + SETTLE_S
        account = Account()

        async def compare(phone: Phone) -> None:
            states: dict[int, Any] | None = None
            looks = 0
            while looks < 2 or time.monotonic() < deadline:  # READs are stored some 100 ms after they were said
                looks += 1
                with suppress(LoadError, TimeoutError):
                    states = await _states(phone)
                    if not phone.books.differs(states):
                        break
                await asyncio.sleep(LOOK_S)
            for out in phone.outbox:
                where = f"chat {out.chat}: a message without an answer, sent {out.tries} times"
                phone.books.says("every message is acknowledged in the end", where)
            if states is None:
                phone.books.says("everybody has everything", "its chats cannot be asked for")
            account.add(phone.books, states)

        await few_at_a_time(compare, self.phones.values())
        return account


async def _states(phone: Phone) -> dict[int, Mapping[str, Any]]:
    """The user's chats as the server has them."""
    found: dict[int, Mapping[str, Any]] = {}
    before: dict[str, int] = {}
    while True:
        page = await phone.call("chat.list", limit=PAGE, **before)
        found.update((state["chat"], state) for state in page)
        if len(page) < PAGE:
            return found
        before = {"before": page[-1]["chat"]}


async def gather(run: Run, crews: Crews[C], chats: Sequence[Chat]) -> list[int]:
    """Everybody signs in and has their chats; the ids of the users."""
    run.watch.doing = "connecting"
    users = [user for part in await crews.all(PhoneCrew.connect) for user in part]
    run.watch.doing = "opening chats"
    created: dict[int, int] = {}
    for part in await crews.all(PhoneCrew.open_chats, chats, users):
        created |= part
    await crews.all(PhoneCrew.know, chats, [created[index] for index in range(len(chats))])
    return users


async def refused(crews: Crews[C]) -> Counter[str]:
    """Refusals by their words, of all crews so far."""
    return sum(await crews.all(PhoneCrew.refusals), Counter())


async def done(crews: Crews[C]) -> Counter[str]:
    """What was done beside messages, by all crews so far."""
    return sum(await crews.all(PhoneCrew.done), Counter())


async def check(run: Run, crews: Crews[C], *, in_order: bool) -> None:
    """The end of a run: everybody connects, everything settles, and the books must be right."""
    run.watch.doing = "checking"
    await crews.all(PhoneCrew.wake_all)
    await crews.all(PhoneCrew.settle)
    verdict = merged(await crews.all(PhoneCrew.account), in_order=in_order)
    run.report.violations += verdict.sentences()
    counts = (
        f"{verdict.acknowledged:,} messages acknowledged, {verdict.received:,} deliveries, {verdict.repeats:,} of them "
        "again after a resume"
    )
    order = "live ones in order, " if in_order else ""
    run.report.checked.append(
        f"{counts}, with violations"
        if verdict.violations
        else f"{counts}: everybody has every message, {order}none acknowledged twice or by nobody, unread counts exact"
    )
