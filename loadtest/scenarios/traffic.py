"""What `chat` and `group` share: users in chats of one size, some of whom send.

A closed loop (`--inflight`) finds what the server can carry at saturation. It says little about latency: the window
sets it. An open loop (`--rate`) sends when a message is due, whatever is answered, and counts from then on: what a slow
moment of the server delays is counted for all that it delays.
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from loadtest.checks.invariants import Verdict
from loadtest.checks.tally import settle, tally
from loadtest.load.client import TEXT, Client, LoadError
from loadtest.load.crew import Crew
from loadtest.load.crews import Crews
from loadtest.load.many import few_at_a_time, wait_until
from loadtest.meter import LOAD
from loadtest.progress import Round
from loadtest.running import Run

WARM_UP_S: Final = 2.0
KNOWN_S: Final = 30.0  # until every member of a new chat has heard of it
FULL: Final = 0.9  # share of its core above which a load process may itself be the limit


class TrafficCrew(Crew):
    """Users who talk, each in one chat."""

    def __init__(self, *args: object) -> None:
        super().__init__(*args)  # type: ignore[arg-type]
        self._senders: list[Client] = []
        self._clock: asyncio.Task[None] | None = None

    async def create(self, size: int, ids: Sequence[int]) -> dict[int, int]:
        """Open the chats of `size` whose first member is here; `ids` are those of all users of the run. Returns the
        chats' ids by the first member's number."""
        firsts = [client for client in self.clients if client.number % size == 0]

        async def open_chat(first: Client) -> tuple[int, int]:
            others = ids[first.number + 1 : first.number + size]
            return first.number, await first.create_chat("direct" if size == 2 else "group", others)

        return dict(await few_at_a_time(open_chat, firsts, at_once=10))

    async def enter(self, size: int, senders: int, chats: Mapping[int, int]) -> None:
        """Wait until everybody has heard of their chat, and enter it. The first `senders` of each will send."""
        places = [(client, chats[client.number // size * size]) for client in self.clients]
        await wait_until(
            lambda: all(client.number % size == 0 or client.knows(chat) for client, chat in places),
            KNOWN_S, "CHAT for every member",
        )  # fmt: skip
        for client, chat in places:
            client.enter(chat, TEXT)
        self._senders = [client for client in self.clients if client.number % size < senders]

    async def run(self, inflight: int) -> None:
        """Send, `inflight` unanswered messages each."""
        for client in self._senders:
            client.run(inflight)

    async def run_at(self, rate: float, seed: str) -> None:
        """Send `rate` messages a second together, evenly spaced, by turns in an order of chance."""
        if self._senders:
            self._clock = asyncio.get_running_loop().create_task(self._keeps_time(rate, random.Random(seed)))  # noqa: S311

    async def _keeps_time(self, rate: float, chance: random.Random) -> None:
        began, gap = time.perf_counter_ns(), 1e9 / rate
        for sent, sender in enumerate(_turns(self._senders, chance)):
            due = began + int(sent * gap)
            if (early := due - time.perf_counter_ns()) > 0:
                await asyncio.sleep(early / 1e9)
            sender.send_due(due)

    async def stop(self) -> dict[int, int]:
        """Send no more; returns how many messages were sent in each chat."""
        if self._clock is not None:
            self._clock.cancel()
        sent: Counter[int] = Counter()
        for client in self.clients:
            client.stop()
            sent[client.chat] += client.sent
        return dict(sent)

    async def settle(self, sent: Mapping[int, int]) -> None:
        """Wait until it is all acknowledged and delivered, or long enough."""
        await settle(self.clients, sent)

    async def tally(self) -> Verdict:
        """What is to be said about it."""
        return await tally(self.clients)


def _turns(senders: Sequence[Client], chance: random.Random) -> Iterator[Client]:
    order = list(senders)
    while True:
        chance.shuffle(order)
        yield from order


async def talk(
    run: Run, users: int, size: int, senders: int, inflight: int, rate: float, duration_s: float, rounds: int
) -> None:
    """`users` in chats of `size`, of which `senders` send."""
    report = run.report
    run.lasts(rounds * duration_s)
    async with run.crews(TrafficCrew, users) as crews:
        run.watch.doing = "connecting"
        ids = [user for part in await crews.all(TrafficCrew.connect) for user in part]
        limit = (await crews.all(TrafficCrew.limits))[0].get("inflight", inflight)
        if inflight > limit:
            raise LoadError(f"--inflight {inflight}: the server takes {limit} unanswered messages of a connection")
        run.watch.doing = "opening chats"
        created = await crews.all(TrafficCrew.create, size, ids)
        chats = {first: chat for part in created for first, chat in part.items()}
        await crews.all(TrafficCrew.enter, size, senders, chats)
        run.watch.doing = "warming up"
        if rate:
            share = rate / len(crews)
            await crews.all(TrafficCrew.run_at, share, run.name)
        else:
            await crews.all(TrafficCrew.run, inflight)
        await asyncio.sleep(WARM_UP_S)
        for number in range(1, rounds + 1):
            run.watch.doing = f"round {number} of {rounds}"
            async with run.watch.round() as measured:
                await asyncio.sleep(duration_s)
            if not measured.acked or not measured.heard:
                problems = [problem for part in await crews.all(TrafficCrew.problems) for problem in part]
                raise LoadError(f"nothing was acknowledged within {duration_s} s: {problems}")
            report.rounds.append(_figures(measured))
        run.watch.doing = "checking"
        await _check(run, crews)
        await crews.all(TrafficCrew.close)
    if not rate and any(figures[LOAD] > FULL * len(crews) for figures in report.rounds):
        report.notes.append("the load filled its processes: throughput may be its limit, not the server's")
    if rate and report.medians()["messages/s"] < 0.98 * rate:
        report.notes.append("the server did not keep up with the rate: latencies are those of a queue that grows")


async def _check(run: Run, crews: Crews[TrafficCrew]) -> None:
    sent: Counter[int] = Counter()
    for part in await crews.all(TrafficCrew.stop):
        sent.update(part)
    await crews.all(TrafficCrew.settle, dict(sent))
    verdict = Verdict()
    for found in await crews.all(TrafficCrew.tally):
        verdict.add(found)
    run.report.violations += verdict.sentences()
    counts = f"{verdict.acknowledged:,} messages acknowledged and {verdict.received:,} deliveries"
    run.report.checked.append(
        f"{counts}, with violations"
        if run.report.violations
        else f"{counts}: none lost, none twice, in order, no hole in any chat's seqs, watermarks exact"
    )


def _figures(measured: Round) -> dict[str, float]:
    """One round's."""
    used, messages, deliveries = measured.used, measured.acked, measured.heard
    figures = {
        "messages/s": messages / measured.took_s,
        "deliveries/s": deliveries / measured.took_s,
        "CPU µs/message": used.total / messages * 1e6,
        "  of it server µs": used.server / messages * 1e6,
        "  of it Postgres µs": used.postgres / messages * 1e6,
        "  of it Redis µs": used.redis / messages * 1e6,
        "CPU µs/delivery": used.total / deliveries * 1e6,
        "server's side, share of a core": used.total / measured.took_s,
        **measured.surroundings(),
    }
    if not used.redis:
        del figures["  of it Redis µs"]
    for name, times in (("send to ACK", measured.ack_times), ("send to delivery", measured.delivery_times)):
        if times.count:
            figures |= {f"{name} {said} ms": times.percentile(share) for said, share in SHARES}
    return figures


SHARES: Final = (("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999))
