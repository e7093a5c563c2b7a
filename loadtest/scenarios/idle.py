"""What a connection costs that is signed in and silent: memory, and the CPU of keeping it alive."""

import asyncio
from typing import Final

from loadtest.client import LoadError
from loadtest.crowd import Crowd, close_all, few_at_a_time, wait_until
from loadtest.launch import allow_many_files
from loadtest.meter import OTHERS, Meter
from loadtest.report import Report
from loadtest.server import Target

SETTLE_S: Final = 2.0
SILENT_S: Final = 10.0
NEXT_S: Final = 240  # what a PING promises
PONG_S: Final = 30.0


async def run(target: Target, users: int) -> Report:
    """Open `users` connections and look at the server's resident memory before and after.

    Everybody signs in once before, a few at a time, so that new accounts and what the server allocates for its
    first connections are not counted. Memory that is freed may not go back to the system: only the first round
    sees fresh growth, so there is one round, and to repeat it means to start again.
    """
    if users + 100 > allow_many_files():
        raise LoadError(f"--users {users}: this process may open {allow_many_files()} files, see `ulimit -n`")
    report = Report("idle", {"users": users, **target.about})
    crowd = Crowd(target, users)

    async def visit(number: int) -> None:
        await (await crowd.connect(number)).close()

    await few_at_a_time(visit, range(users))
    await asyncio.sleep(SETTLE_S)
    before = (await target.memory()).server
    clients = await crowd.connect_all()
    await asyncio.sleep(SETTLE_S)
    grown = (await target.memory()).server - before
    figures = {"KiB/connection": grown / users}
    async with Meter(target) as silent:
        await asyncio.sleep(SILENT_S)
    figures["CPU ms/s of the server while all are silent"] = silent.used.server / silent.took_s * 1e3
    figures["CPU ms/s of its Postgres meanwhile"] = silent.used.postgres / silent.took_s * 1e3
    async with Meter(target) as pinging:
        for client in clients:
            client.write(8, NEXT_S)
        await wait_until(lambda: all(client.pongs for client in clients), PONG_S, "PONG for everybody")
    figures["CPU µs/keep-alive"] = pinging.used.total / users * 1e6
    figures |= {OTHERS: silent.surroundings()[OTHERS]}
    report.rounds.append(figures)
    lost = sum(client.lost.done() for client in clients)
    if lost:
        report.violations.append(f"{lost} of {users} idle connections were lost")
    report.checked.append(f"{users:,} connections stayed, and each was answered its PING")
    report.notes.append("the kernel's socket buffers are not in a process's resident memory; silent sockets hold none")
    await close_all(clients)
    return report
