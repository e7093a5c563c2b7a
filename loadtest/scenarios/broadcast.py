"""One who writes and many who follow: how long until the last one has it.

The group is the largest that a server takes, 3,000, and stands for a channel.
"""

import asyncio
import random
import time
from contextlib import suppress
from typing import Annotated, Final

import typer

from loadtest.load.client import LoadError
from loadtest.load.crew import Place
from loadtest.load.many import wait_until
from loadtest.options import Duration, Rounds, Users
from loadtest.phones.crew import PhoneCrew, check, gather
from loadtest.phones.outbox import due_of, text_of
from loadtest.phones.phone import Phone
from loadtest.phones.plan import GROUP, Chat
from loadtest.reports.latency import Latencies
from loadtest.running import Run, scenario

TEXT_SIZE: Final = 64
LARGEST: Final = 3000
ARRIVE_S: Final = 30.0
READERS: Final = 0.1
WARM_UP: Final = 3  # messages


class BroadcastCrew(PhoneCrew):
    """Followers of one group, and in one crew its writer, user 0."""

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self.receipts: dict[int, tuple[int, int]] = {}  # due: how many have the message, and when the last one got it
        for phone in self.phones.values():
            phone.on_message = self._got

    def _got(self, phone: Phone, chat: int, seq: int, text: str) -> None:
        due_ns = due_of(text)
        count, _ = self.receipts.get(due_ns, (0, 0))
        self.receipts[due_ns] = (count + 1, time.perf_counter_ns())

    async def write(self, rate: float, count: int) -> list[int]:
        """`count` messages, `rate` a second, if the writer is here; when they were due."""
        if (writer := self.phones.get(0)) is None:
            return []
        began = time.perf_counter_ns()
        dues = [began + int(number * 1e9 / rate) for number in range(count)]
        for due_ns in dues:
            await asyncio.sleep(max(0.0, (due_ns - time.perf_counter_ns()) / 1e9))
            writer.send(self.ids[0], text_of(due_ns, TEXT_SIZE))
        return dues

    async def arrive(self, count: int) -> dict[int, tuple[int, int]]:
        """Wait until every follower here has `count` messages; the receipts since the last call."""
        followers = len(self.phones) - (0 in self.phones)
        wanted = count * followers
        with suppress(LoadError):  # who lacks what is told by the check
            await wait_until(lambda: sum(n for n, _ in self.receipts.values()) >= wanted, ARRIVE_S, "the last message")
        receipts, self.receipts = self.receipts, {}
        return receipts

    async def some_read(self) -> None:
        """A few followers have read it all."""
        for number, phone in self.phones.items():
            if random.Random(f"reader/{number}").random() < READERS:  # noqa: S311
                phone.read(self.ids[0])


@scenario
async def broadcast(
    run: Run, users: Users = LARGEST,
    rate: Annotated[float, typer.Option(min=0.01, help="Messages a second.")] = 1.0,
    duration: Duration = 10.0, rounds: Rounds = 3,
) -> None:  # fmt: skip
    """One member of a group writes, everybody else listens: time until the last one has it."""
    count = max(1, round(rate * duration))
    run.lasts(rounds * duration)
    chats = [Chat(GROUP, tuple(range(users)))]
    async with run.crews(BroadcastCrew, users) as crews:
        await gather(run, crews, chats)
        await crews.all(BroadcastCrew.write, rate, WARM_UP)
        await crews.all(BroadcastCrew.arrive, WARM_UP)
        last = Latencies()
        for number in range(1, rounds + 1):
            run.watch.doing = f"round {number} of {rounds}"
            async with run.watch.round() as measured:
                dues = [due for part in await crews.all(BroadcastCrew.write, rate, count) for due in part]
                receipts = await crews.all(BroadcastCrew.arrive, count)
            to_last = Latencies()
            for due_ns in dues:
                got = [part[due_ns] for part in receipts if due_ns in part]
                if sum(times for times, _ in got) == users - 1:
                    to_last.record((max(at for _, at in got) - due_ns) / 1e9)
            last.add(to_last)
            run.report.rounds.append(
                {
                    "messages/s": measured.acked / measured.took_s,
                    "deliveries/s": measured.heard / measured.took_s,
                    "CPU µs/delivery": measured.used.total / max(1, measured.heard) * 1e6,
                    "to every follower p50 ms": measured.delivery_times.percentile(0.5),
                    "to every follower p99 ms": measured.delivery_times.percentile(0.99),
                    "to the last follower p50 ms": to_last.percentile(0.5),
                    "to the last follower p99 ms": to_last.percentile(0.99),
                    "to the last follower max ms": to_last.most,
                    **measured.surroundings(),
                }
            )
        run.report.latencies["send to the last follower"] = last
        await crews.all(BroadcastCrew.some_read)
        await check(run, crews, in_order=len(run.target.addresses) == 1)
        await crews.all(BroadcastCrew.close)
