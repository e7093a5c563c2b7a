"""What a sign-in costs the server, from the TCP connection to SYNCED and back to closed.

Three kinds: on first sight of user and device, with all chats (a new installation), and with a cursor after nothing
happened, which is what a phone does dozens of times a day.
"""

import time
from collections.abc import Awaitable, Callable

from loadtest.client import PATIENCE_S, Client, LoadError
from loadtest.crowd import Crowd, close_all, few_at_a_time, wait_until
from loadtest.meter import OTHERS, Meter
from loadtest.report import Report
from loadtest.scenarios.traffic import TEXT
from loadtest.server import Target


async def run(target: Target, users: int, chats: int, inflight: int, duration_s: float, rounds: int) -> Report:
    """Sign `users` with `chats` direct chats each in, `inflight` at a time."""
    if chats >= users:
        raise LoadError(f"--chats {chats}: with {users} users a user has at most {users - 1} direct chats")
    settings = {"users": users, "chats": chats, "inflight": inflight, "duration_s": duration_s, **target.about}
    report = Report("login", settings)
    crowd = Crowd(target, users)
    async with Meter(target) as meter:
        clients = await crowd.connect_all()
    first = {"first sight: CPU ms/login": meter.used.total / users * 1e3}
    await _befriend(clients, chats)
    await close_all(clients)
    clients = await crowd.connect_all()  # the cursors after everything
    cursors = [client.cursor for client in clients]
    told = {len(client.chats) for client in clients}
    if min(told) < chats - chats % 2:
        report.violations.append(f"a full sync told of {min(told)} chats instead of {chats}")
    await close_all(clients)

    async def full(number: int) -> None:
        await (await crowd.connect(number)).close()

    async def resumed(number: int) -> None:
        client = await crowd.connect(number, cursors[number])
        if not client.session["resumed"] or client.chats:
            raise LoadError(f"resuming with a fresh cursor told of {len(client.chats)} chats")
        await client.close()

    for _ in range(rounds):
        figures = await _measure(target, f"all {chats} chats", full, users, inflight, duration_s)
        figures |= await _measure(target, "with a cursor", resumed, users, inflight, duration_s)
        report.rounds.append(figures)
    report.rounds[0] |= first
    report.checked.append(f"every sign-in reached SYNCED, and full ones told of {min(told)} chats or more")
    return report


async def _befriend(clients: list[Client], chats: int) -> None:
    """Give user n direct chats with the next `chats / 2` users, one message in each."""
    users = len(clients)

    async def meet(number: int) -> None:
        for step in range(1, chats // 2 + 1):
            client = clients[number]
            peer = clients[(number + step) % users].user
            state = await client.call("chat.create", kind="direct", members=[peer])
            client.enter(state["chat"], TEXT)
            client.send()
        await wait_until(lambda: clients[number].acked == clients[number].sent, PATIENCE_S, "ACK of every message")

    if chats >= 2:
        await few_at_a_time(meet, range(users))


async def _measure(
    target: Target, kind: str, sign_in: Callable[[int], Awaitable[None]], users: int, inflight: int, duration_s: float
) -> dict[str, float]:
    """Workers with users of their own, so that nobody replaces a connection of the same device."""
    workers = min(inflight, users)
    turns = users // workers
    until = time.perf_counter() + duration_s

    async def work(worker: int) -> int:
        done = 0
        while time.perf_counter() < until:
            await sign_in(worker + done % turns * workers)
            done += 1
        return done

    async with Meter(target) as meter:
        done = sum(await few_at_a_time(work, range(workers), at_once=workers))
    return {
        f"{kind}: logins/s": done / meter.took_s,
        f"{kind}: CPU ms/login": meter.used.total / done * 1e3,
        f"{kind}: of it Postgres ms": meter.used.postgres / done * 1e3,
        f"{kind}: {OTHERS}": meter.surroundings()[OTHERS],
    }
