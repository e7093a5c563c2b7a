"""What a connection costs that is signed in and silent: memory, and the CPU of keeping it alive."""

import asyncio
from typing import Final

from loadtest.checks.invariants import Verdict
from loadtest.load.crew import Crew
from loadtest.load.many import few_at_a_time, wait_until
from loadtest.meter import OTHERS
from loadtest.options import Users
from loadtest.running import Run, scenario

SETTLE_S: Final = 2.0
SILENT_S: Final = 10.0
NEXT_S: Final = 240  # what a PING promises
PONG_S: Final = 30.0


class IdleCrew(Crew):
    """Users who are there."""

    async def visit(self) -> None:
        """Sign everybody in and out."""

        async def visit(number: int) -> None:
            await (await self.sign_in(number)).close()

        await few_at_a_time(visit, self.place.numbers)

    async def ping(self) -> None:
        """Have every connection answered a keep-alive."""
        before = [client.pongs for client in self.clients]
        for client in self.clients:
            client.keep_alive(NEXT_S)
        await wait_until(
            lambda: all(client.pongs > pongs for client, pongs in zip(self.clients, before, strict=True)),
            PONG_S, "PONG for everybody",
        )  # fmt: skip


@scenario
async def idle(run: Run, users: Users = 3000) -> None:
    """Silent connections: KiB each, and CPU of keeping them alive.

    Everybody signs in once before, a few at a time, so that new accounts and what the server allocates for its
    first connections are not counted. Memory that is freed may not go back to the system: only the first round
    sees fresh growth, so there is one round, and to repeat it means to start again.
    """
    report, target = run.report, run.target
    async with run.crews(IdleCrew, users) as crews:
        run.watch.doing = "everybody's first visit"
        await crews.all(IdleCrew.visit)
        await asyncio.sleep(SETTLE_S)
        before = await target.memory()
        run.watch.doing = "connecting"
        await crews.all(IdleCrew.connect)
        await asyncio.sleep(SETTLE_S)
        grown = (await target.memory()).since(before)
        figures = {"KiB/connection": grown.server / users}
        run.watch.doing = "silent"
        async with run.watch.round() as silent:
            await asyncio.sleep(SILENT_S)
        figures["CPU ms/s of the server while all are silent"] = silent.used.server / silent.took_s * 1e3
        figures["CPU ms/s of its Postgres meanwhile"] = silent.used.postgres / silent.took_s * 1e3
        run.watch.doing = "keep-alives"
        async with run.watch.round() as pinging:
            await crews.all(IdleCrew.ping)
        figures["CPU µs/keep-alive"] = pinging.used.total / users * 1e6
        figures["CPU ms/s of 1,000 connections that keep alive"] = figures["CPU µs/keep-alive"] / NEXT_S
        report.rounds.append(figures | {OTHERS: silent.surroundings()[OTHERS]})
        verdict = Verdict()
        connected = (await crews.progress()).connected
        if connected < users:
            verdict.broken("everybody has everything", f"{users - connected} of {users} idle connections were lost")
        report.violations += verdict.sentences()
        report.checked.append(f"{users:,} connections stayed, and each was answered its PING")
        report.notes.append("the kernel's socket buffers are not in a process's memory; silent sockets hold none")
        await crews.all(IdleCrew.close)
