"""A crew that lives by a :mod:`loadtest.phones.plan`: phones sleep, wake, write, read and type as it says.

Nothing waits for the server: what is due on a phone that does not get its connection waits on the phone, and is late
from then on.
"""

import asyncio
import heapq
import time
from array import array
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import httpx

from loadtest.load.crew import Place
from loadtest.load.crews import Crews
from loadtest.phones.crew import PhoneCrew, gather
from loadtest.phones.outbox import text_of
from loadtest.phones.phone import Phone
from loadtest.phones.plan import Do, Event, Plan, chats_of
from loadtest.reports.latency import Latencies
from loadtest.running import Run
from loadtest.server import Target

BEDTIME_S: Final = 0.02  # between two looks at who puts the phone away
UNANSWERED_S: Final = 0.2  # a phone with a SEND on its way is put away later
AGAIN_S: Final = 1.0
GLANCED: Final = 5  # chats that are read at a glance
PLATFORM: Final = "fcm"
PUSHES: Final = {
    "notifications planned": "mim_push_planned_total", "devices not told": "mim_push_suppressed_total"
}  # fmt: skip
START_S: Final = 0.5  # from the word to the beginning, for all processes alike


class PeopleCrew(PhoneCrew):
    """People who are mostly away."""

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self._until: dict[int, float] = {}  # when each puts the phone away, perf_counter
        self._beds: list[tuple[float, int]] = []  # the same, perhaps outdated, the earliest first
        self._late = array("d")  # seconds by which this process was behind its plan
        self._living: list[asyncio.Task[None]] = []
        self._going: set[asyncio.Task[None]] = set()

    async def live(self, users: int, seed: int, duration_s: float, compress: float, began: float) -> None:
        """Do what the plan says, from `began` on (perf_counter); returns at once."""
        plan = Plan(self.chats, users, seed, duration_s, compress)
        loop = asyncio.get_running_loop()
        self._living = [
            loop.create_task(self._follow(plan, began), name="follow a plan"),
            loop.create_task(self._puts_away(), name="put phones away"),
        ]

    async def rest(self) -> None:
        """Nobody does anything any more; phones stay as they are."""
        for task in self._living:
            task.cancel()
        await asyncio.gather(*self._living, *self._going, return_exceptions=True)
        self._living = []

    async def close(self) -> None:
        await self.rest()
        await super().close()

    async def lateness(self) -> Latencies:
        """How far this process itself was behind its plan, since the last call."""
        late = Latencies()
        late.extend(self._late)
        self._late = array("d")
        return late

    async def lose(self, share: float) -> int:
        """So many of the connected phones lose their network for a moment; returns how many."""
        awake = [phone for phone in self.phones.values() if phone.is_synced]
        lost = awake[: max(1, round(share * len(awake)))] if awake else []
        for phone in lost:
            phone.drop(reset=True)
        return len(lost)

    async def _follow(self, plan: Plan, began: float) -> None:
        for event in plan:
            if (phone := self.phones.get(event.user)) is not None:
                due = began + event.at
                if (early := due - time.perf_counter()) > 0:
                    await asyncio.sleep(early)
                self._late.append(time.perf_counter() - due)
                DOES[event.do](self, phone, event, began)

    async def _puts_away(self) -> None:
        while True:
            await asyncio.sleep(BEDTIME_S)
            now = time.perf_counter()
            while self._beds and self._beds[0][0] <= now:
                _, user = heapq.heappop(self._beds)
                phone, until = self.phones[user], self._until[user]
                if until <= now and phone.outbox:
                    until = self._until[user] = now + UNANSWERED_S
                if until > now:
                    heapq.heappush(self._beds, (until, user))
                elif phone.is_awake:
                    task = asyncio.get_running_loop().create_task(phone.sleep(), name="a phone goes to sleep")
                    self._going.add(task)
                    task.add_done_callback(self._going.discard)

    def _uses(self, phone: Phone, event: Event, began: float) -> None:
        self._hold(phone, began + event.value)

    def _hold(self, phone: Phone, until: float) -> None:
        """Take the phone in hand, until then at least."""
        until = max(until, self._until.get(phone.number, 0.0))
        if not phone.is_awake:
            heapq.heappush(self._beds, (until, phone.number))
            phone.wake()
        self._until[phone.number] = until

    def _types(self, phone: Phone, event: Event, began: float) -> None:
        phone.type(self.ids[event.chat])

    def _sends(self, phone: Phone, event: Event, began: float) -> None:
        if not phone.is_awake:  # this process is late itself, and the phone was put away meanwhile
            self._hold(phone, time.perf_counter() + AGAIN_S)
        phone.send(self.ids[event.chat], text_of(int((began + event.at) * 1e9), int(event.value)))

    def _reads(self, phone: Phone, event: Event, began: float) -> None:
        phone.read(self.ids[event.chat])

    def _glances(self, phone: Phone, event: Event, began: float) -> None:
        for chat in phone.unread_chats(GLANCED):
            phone.read(chat)


DOES: Final[dict[Do, Callable[[PeopleCrew, Phone, Event, float], None]]] = {
    Do.USE: PeopleCrew._uses,  # noqa: SLF001 - a table of the module's own class
    Do.TYPE: PeopleCrew._types,  # noqa: SLF001
    Do.SEND: PeopleCrew._sends,  # noqa: SLF001
    Do.READ: PeopleCrew._reads,  # noqa: SLF001
    Do.GLANCE: PeopleCrew._glances,  # noqa: SLF001
}


async def settle_in(run: Run, crews: Crews[PeopleCrew], users: int, chats: int, seed: int) -> None:
    """Everybody has their chats and a device that takes notifications, and goes to sleep."""
    await gather(run, crews, chats_of(users, chats, seed))
    refused = [said for part in await crews.all(PeopleCrew.register, PLATFORM) for said in part]
    if refused:
        run.report.notes.append(f"{len(refused)} phones take no notifications: {refused[0]}")
    await crews.all(PeopleCrew.sleep_all)


async def begin(crews: Crews[PeopleCrew], users: int, seed: int, duration_s: float, compress: float) -> None:
    """The plan begins, in all processes at the same moment; returns when it has."""
    began = time.perf_counter() + START_S
    await crews.all(PeopleCrew.live, users, seed, duration_s, compress, began)
    await asyncio.sleep(max(0.0, began - time.perf_counter()))


async def lateness(crews: Crews[PeopleCrew]) -> Latencies:
    """How far the load processes were behind their plan, since the last call."""
    late = Latencies()
    for part in await crews.all(PeopleCrew.lateness):
        late.add(part)
    return late


async def pushes(target: Target) -> Counter[str]:
    """Notifications that were planned so far, and those held back, by all nodes; none where /metrics is not told."""
    found: Counter[str] = Counter()
    async with httpx.AsyncClient(verify=target.ssl or True) as http:
        for host, port in target.addresses:
            with suppress(httpx.HTTPError):
                answer = await http.get(f"{'http' if target.ssl is None else 'https'}://{host}:{port}/metrics")
                for name, counter in PUSHES.items():
                    found[name] += round(sum(samples(answer.text, counter)))
    return found


def samples(text: str, name: str) -> list[float]:
    """The values of a metric in what /metrics answers, one for each set of labels."""
    return [float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith((name + " ", name + "{"))]


def per_second(counts: Counter[str], took_s: float) -> dict[str, float]:
    """Rates of what was counted."""
    return {f"{name}/s": count / took_s for name, count in counts.items()}
