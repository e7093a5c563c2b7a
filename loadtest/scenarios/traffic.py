"""Closed-loop traffic, in pairs or groups: each sender keeps a window of messages on the way.

A closed loop finds what the server can carry at saturation. It says little about latency: the window sets it.
"""

import asyncio
from collections.abc import Sequence
from typing import Final

from loadtest.client import Client, LoadError
from loadtest.crowd import Crowd, close_all, few_at_a_time, wait_until
from loadtest.meter import LOAD, Meter
from loadtest.report import Report, percentile
from loadtest.server import Target
from loadtest.tally import settle, tally

TEXT: Final = "x" * 64
WARM_UP_S: Final = 2.0
KNOWN_S: Final = 30.0  # until every member of a new chat has heard of it
BUSY: Final = 0.9  # share of a core above which the load test itself may be the limit


async def pairs(target: Target, users: int, inflight: int, duration_s: float, rounds: int) -> Report:
    """Direct chats of two, both sending."""
    report = Report("chat", {"users": users, "inflight": inflight, "duration_s": duration_s, **target.about})
    users += users % 2
    return await _run(report, target, users, 2, 2, inflight, duration_s, rounds)


async def groups(target: Target, users: int, size: int, inflight: int, duration_s: float, rounds: int) -> Report:
    """Groups of `size`, one member of each sending."""
    if not 2 <= size <= users:
        raise LoadError(f"--group-size {size}: 2 to as many as there are --users ({users})")
    users -= users % size
    settings = {"users": users, "group_size": size, "inflight": inflight, "duration_s": duration_s, **target.about}
    return await _run(Report("group", settings), target, users, size, 1, inflight, duration_s, rounds)


async def _run(
    report: Report, target: Target, users: int, size: int, senders: int, inflight: int, duration_s: float, rounds: int
) -> Report:
    """`users` in chats of `size`, of which `senders` send."""
    clients: list[Client] = await Crowd(target, users).connect_all()
    limit = clients[0].session["limits"]["inflight"]
    if inflight > limit:
        raise LoadError(f"--inflight {inflight}: the server takes {limit} unanswered messages of a connection")
    chats = [clients[start : start + size] for start in range(0, users, size)]
    await few_at_a_time(_open_chat, chats, at_once=10)
    sending = [client for chat in chats for client in chat[:senders]]
    for client in sending:
        client.run(inflight)
    await asyncio.sleep(WARM_UP_S)
    for _ in range(rounds):
        report.rounds.append(await _measure(target, clients, duration_s))
    for client in sending:
        client.stop()
    await settle(clients)
    verdict = await tally(clients)
    report.violations = verdict.sentences()
    messages, deliveries = verdict.acknowledged, verdict.received
    report.checked.append(
        f"{messages:,} messages acknowledged and {deliveries:,} deliveries: none lost, none twice, in order, "
        "no hole in any chat's seqs, watermarks exact"
        if not report.violations
        else f"{messages:,} messages and {deliveries:,} deliveries, with violations"
    )
    if any(figures[LOAD] > BUSY for figures in report.rounds):
        report.notes.append(
            "the load test had a core to itself and filled it: throughput may be its limit, not the server's"
        )
    await close_all(clients)
    return report


async def _open_chat(members: Sequence[Client]) -> None:
    first, *others = members
    kind = "direct" if len(members) == 2 else "group"
    state = await first.call("chat.create", kind=kind, members=[other.user for other in others])
    # They listen from then on.
    await wait_until(lambda: all(state["chat"] in other.chats for other in others), KNOWN_S, "CHAT for every member")
    for member in members:
        member.enter(state["chat"], TEXT)


async def _measure(target: Target, clients: Sequence[Client], duration_s: float) -> dict[str, float]:
    """One round: what happened between two readings of all counters."""
    for client in clients:
        del client.latencies[:]
    async with Meter(target) as meter:
        acked, heard = _counts(clients)
        await asyncio.sleep(duration_s)
        messages, deliveries = (now - then for now, then in zip(_counts(clients), (acked, heard), strict=True))
    if not messages or not deliveries:
        raise LoadError(f"nothing was acknowledged within {duration_s} s: {clients[0].problems}")
    used = meter.used
    latencies = [seconds for client in clients for seconds in client.latencies]
    return {
        "messages/s": messages / meter.took_s,
        "deliveries/s": deliveries / meter.took_s,
        "CPU µs/message": used.total / messages * 1e6,
        "  of it server µs": used.server / messages * 1e6,
        "  of it Postgres µs": used.postgres / messages * 1e6,
        "CPU µs/delivery": used.total / deliveries * 1e6,
        "send to ACK p50 ms": percentile(latencies, 0.5) * 1e3,
        "send to ACK p99 ms": percentile(latencies, 0.99) * 1e3,
        "server and Postgres, share of a core": used.total / meter.took_s,
        **meter.surroundings(),
    }


def _counts(clients: Sequence[Client]) -> tuple[int, int]:
    return sum(client.acked for client in clients), sum(client.heard for client in clients)
