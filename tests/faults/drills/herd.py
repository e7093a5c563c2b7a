"""Faults of clients: all of them gone and back at once, or one that reads nothing."""

import asyncio
import time
from collections import Counter

import httpx

from loadtest.proc import rss_kib
from tests.faults.crowd import eventually
from tests.faults.stage import Stage

ALL_BACK_S = 60.0  # within which all clients of a herd must be synced again
ATTEMPTS = 3.0  # failed attempts of a client on average, above which a return is a storm
BOUND_KIB = 48 * 1024  # memory that one slow reader may cost its node: 1 MiB unsent, and what garbage lies about
LARGE = "가" * 9000  # 27 KB
SLOW_S = 60.0


async def drop_all(stage: Stage) -> float:
    """The network goes away under all clients at once."""
    began = time.monotonic()
    for client in stage.people.everyone:
        client.drops()
    return await _all_return(stage, began)


async def restart_all(stage: Stage) -> float:
    """All nodes are killed at once and started again."""
    began = time.monotonic()
    for node in stage.lab.nodes:
        node.kill()
    await asyncio.gather(*(node.start() for node in stage.lab.nodes))
    return await _all_return(stage, began)


async def _all_return(stage: Stage, began: float) -> float:
    """Seconds from `began`, the fault, until everybody is back: some may be before the last node has started."""
    people = stage.people
    before = Counter(error for client in people.everyone for error in client.errors)
    await eventually(lambda: not any(client.is_synced and client.synced_at < began for client in people.everyone), 5)
    await people.is_back(ALL_BACK_S)
    back_s = time.monotonic() - began
    waits = sorted(client.synced_at - began for client in people.everyone)
    kinds = Counter(error for client in people.everyone for error in client.errors) - before
    errors = kinds.total()
    stage.notes.append(
        f"{len(waits)} connections: half were back after {waits[len(waits) // 2]:.1f} s, the last after "
        f"{waits[-1]:.1f} s; {errors} failed attempts {dict(kinds) or ''}"
    )
    assert errors < ATTEMPTS * len(waits), f"{errors} failed attempts of {len(waits)} clients"
    await people.is_served()
    return back_s


async def read_nothing(stage: Stage) -> float:
    """A client stops reading while its group talks."""
    people = stage.people
    slow = people.talkers[0]
    await people.stops_talking()
    await people.have_everything()
    group = people.chats[slow][1]
    others = [client for client in people.members(group) if client.record.user != slow.record.user]
    node = next(node for node in stage.lab.nodes if node.ws == slow.url)
    connections, memory, closed = slow.connections, rss_kib(node.pid), await _closed_as_slow(node.url)
    highest = memory
    slow.stops_reading()
    async with asyncio.timeout(SLOW_S):
        while await _closed_as_slow(node.url) == closed:
            await asyncio.gather(*(client.sends(group, LARGE) for client in others))
            highest = max(highest, rss_kib(node.pid))
    for client in others:
        await client.settles()
    sent = people.heads()[group]
    began = time.monotonic()
    slow.reads_on()
    await people.have_everything()
    back_s = time.monotonic() - began
    stage.notes.append(
        f"its node grew by {(highest - memory) / 1024:.0f} MiB and closed it; it came back and had all {sent} messages"
    )
    assert slow.connections > connections, "it was not closed"
    assert highest - memory < BOUND_KIB, f"the node grew by {(highest - memory) / 1024:.0f} MiB"
    return back_s


async def _closed_as_slow(url: str) -> float:
    """How many connections a node has closed as slow."""
    async with httpx.AsyncClient() as http:
        answer = await http.get(f"{url}/metrics")
    slow = [line for line in answer.text.splitlines() if line.startswith('mim_closes_total{reason="slow"')]
    return sum(float(line.split()[-1]) for line in slow)
