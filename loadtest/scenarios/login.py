"""What a sign-in costs the server, from the TCP connection to SYNCED and back to closed.

Three kinds: on first sight of user and device, with all chats (a new installation), and with a cursor after nothing
happened, which is what a phone does dozens of times a day.
"""

import time
from collections.abc import Sequence
from typing import Final

from loadtest.load.client import PATIENCE_S, TEXT, Client, LoadError
from loadtest.load.crew import Crew
from loadtest.load.crews import Crews
from loadtest.load.many import few_at_a_time, wait_until
from loadtest.meter import OTHERS
from loadtest.options import Chats, Duration, Inflight, Rounds, Users
from loadtest.reports.latency import Latencies
from loadtest.running import Run, scenario

ALL: Final = "all chats"
CURSOR: Final = "with a cursor"


class LoginCrew(Crew):
    """Users who come and go."""

    def __init__(self, *args: object) -> None:
        super().__init__(*args)  # type: ignore[arg-type]
        self._cursors: dict[int, str] = {}

    async def befriend(self, chats: int, ids: Sequence[int]) -> None:
        """Give user n direct chats with the next `chats / 2` users of the run, one message in each."""

        async def meet(client: Client) -> None:
            for step in range(1, chats // 2 + 1):
                client.enter(await client.create_chat("direct", [ids[(client.number + step) % len(ids)]]), TEXT)
                client.send()
            await wait_until(lambda: client.acked == client.sent, PATIENCE_S, "ACK of every message")

        await few_at_a_time(meet, self.clients)

    async def leave(self) -> int:
        """Hang up, keeping the cursors; returns the least number of chats that anyone was told of."""
        self._cursors = {client.number: client.cursor for client in self.clients}
        least = min(len(client.chats) for client in self.clients)
        await self.close()
        return least

    async def come_and_go(self, kind: str, inflight: int, duration_s: float) -> tuple[int, Latencies]:
        """Sign in and out again, `inflight` at a time; returns how often, and how long each took to SYNCED.

        Each worker has users of its own, so that nobody replaces a connection of the same device.
        """
        numbers = self.place.numbers
        workers = min(inflight, len(numbers))
        turns = len(numbers) // workers
        until = time.perf_counter() + duration_s
        times = Latencies()

        async def work(worker: int) -> int:
            done = 0
            while time.perf_counter() < until:
                began = time.perf_counter()
                client = await self._returns(kind, numbers[worker + done % turns * workers])
                times.record(time.perf_counter() - began)
                await client.close()
                done += 1
            return done

        return sum(await few_at_a_time(work, range(workers), at_once=workers)), times

    async def _returns(self, kind: str, number: int) -> Client:
        if kind == ALL:
            return await self.sign_in(number)
        client = await self.sign_in(number, self._cursors[number])
        if not client.session["resumed"] or client.chats:
            raise LoadError(f"resuming with a fresh cursor told of {len(client.chats)} chats")
        return client


@scenario
async def login(
    run: Run, users: Users = 200, chats: Chats = 50, inflight: Inflight = 20, duration: Duration = 5.0,
    rounds: Rounds = 3,
) -> None:  # fmt: skip
    """Connect, READY, SYNCED, close: on first sight, with all chats, and with a cursor."""
    if chats >= users:
        raise LoadError(f"--chats {chats}: with {users} users a user has at most {users - 1} direct chats")
    run.lasts(2 * rounds * duration)
    report = run.report
    async with run.crews(LoginCrew, users) as crews:
        run.watch.doing = "first sight"
        async with run.watch.round() as first:
            ids = [user for part in await crews.all(LoginCrew.connect) for user in part]
        run.watch.doing = "opening chats"
        await crews.all(LoginCrew.befriend, chats, ids)
        await crews.all(LoginCrew.close)
        await crews.all(LoginCrew.connect)  # the cursors after everything
        told = min(await crews.all(LoginCrew.leave))
        if told < chats - chats % 2:
            report.violations.append(f"a full sync told of {told} chats instead of {chats}")
        for number in range(1, rounds + 1):
            run.watch.doing = f"round {number} of {rounds}"
            figures: dict[str, float] = {}
            for kind in (ALL, CURSOR):
                figures |= await _measure(run, crews, kind, inflight, duration)
            report.rounds.append(figures)
        report.rounds[0]["first sight: CPU ms/login"] = first.used.total / users * 1e3
        report.checked.append(f"every sign-in reached SYNCED, full ones told of {told} chats or more, others of none")


async def _measure(run: Run, crews: Crews[LoginCrew], kind: str, inflight: int, duration_s: float) -> dict[str, float]:
    share = max(1, inflight // len(crews))
    async with run.watch.round() as measured:
        answers = await crews.all(LoginCrew.come_and_go, kind, share, duration_s)
    done = sum(part for part, _ in answers)
    for _, times in answers:
        run.report.latencies.setdefault(f"connect to SYNCED, {kind}", Latencies()).add(times)
    return {
        f"{kind}: logins/s": done / measured.took_s,
        f"{kind}: CPU ms/login": measured.used.total / done * 1e3,
        f"{kind}: of it Postgres ms": measured.used.postgres / done * 1e3,
        f"{kind}: {OTHERS}": measured.surroundings()[OTHERS],
    }
