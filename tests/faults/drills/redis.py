"""Faults of Redis: sends are acknowledged throughout, and when it is back, nodes tell what their clients missed."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

from mim.bus.redis_link import PATIENCE_S, PING_EVERY_S
from tests.faults.clients import Client
from tests.faults.crowd import Crowd
from tests.faults.stage import Stage

Step = Callable[[], Awaitable[object]]
SOON_S = 30.0
# An ACK that takes longer was kept waiting by the fault. Who comes back to a node whose Redis is silent waits until the
# node gives it up, and then has to open a session beside all others who do.
PATIENT_S = PATIENCE_S + PING_EVERY_S + 4.0
MOVER = 8  # every so many clients lose their connection during a fault
NEW_GROUP = 6
FETCHED_S = 1.0  # time for the gaps that clients see by themselves


async def kill(stage: Stage) -> float:
    """SIGKILL, away for a while, empty on return."""
    redis = stage.lab.redis

    async def die() -> None:
        redis.kill()

    return await _unnoticed(stage, die, redis.start)


async def freeze(stage: Stage) -> float:
    """Accepts, answers nothing."""
    redis = stage.lab.redis

    async def stop() -> None:
        redis.freeze()

    async def go_on() -> None:
        redis.thaw()

    return await _unnoticed(stage, stop, go_on)


async def flush(stage: Stage) -> float:
    """FLUSHALL, again and again."""

    async def flush_often() -> None:
        for _ in range(5):
            await stage.lab.redis.asks("FLUSHALL")
            await asyncio.sleep(stage.seconds / 10)

    return await _unnoticed(stage, flush_often, _nothing, loses=False)


async def kill_clients(stage: Stage) -> float:
    """CLIENT KILL of every connection, again and again."""

    async def kill_often() -> None:
        killed = 0
        for _ in range(5):
            killed += await (stage.lab.cluster or stage.lab.redis).kills_clients()
            await asyncio.sleep(stage.seconds / 10)
        assert killed, "no node was connected"

    return await _unnoticed(stage, kill_often, _nothing, loses=False)


async def empty_shard(stage: Stage) -> float:
    """A shard of a cluster is killed and comes back empty, with its slots."""
    cluster = stage.lab.cluster
    assert cluster is not None
    shard = cluster.masters[1]

    async def die() -> None:
        shard.kill()

    async def come_back() -> None:
        await shard.start()
        await cluster.is_whole()

    return await _unnoticed(stage, die, come_back)


async def replace_shard(stage: Stage) -> float:
    """A shard of a cluster is killed and its replica takes its slots."""
    cluster = stage.lab.cluster
    assert cluster is not None
    return await _unnoticed(stage, cluster.fails_over, _nothing, loses=False)


async def _nothing() -> None:
    """The fault is over by itself."""


async def _unnoticed(stage: Stage, begins: Step, ends: Step, *, loses: bool = True) -> float:
    """Talk through the fault, fall silent, end it: everything must arrive, though nobody sends or reconnects.

    During the fault a new group is made and talked in, and a few clients lose their connections and come back.
    `loses`: messages must be lacking when the fault ends, or the drill would show nothing.
    """
    people = stage.people
    connections = {client: client.connections for client in people.everyone}
    began = time.monotonic()
    await begins()
    movers = people.everyone[::MOVER]
    for client in movers:
        client.drops()
        connections[client] += 1
    await _meets(people, movers)
    await asyncio.sleep(max(0.0, began + stage.seconds - time.monotonic()))
    await people.is_back(SOON_S)
    during = sum(start >= began for client in people.clients for start, _ in client.waits)
    await people.stops_talking()
    slowest = max(end - start for client in people.clients for start, end in client.waits if start >= began)
    await asyncio.sleep(FETCHED_S)
    lacking = people.lacking()
    fetches = sum(client.fetches for client in people.everyone)
    assert lacking or not loses, "nothing was missing when Redis came back"
    ended = time.monotonic()
    await ends()
    await people.have_everything(SOON_S)
    back_s = time.monotonic() - ended
    stage.notes.append(
        f"{during} messages acknowledged during it, the slowest after {slowest:.1f} s; {lacking} deliveries came late, "
        f"{sum(client.fetches for client in people.everyone) - fetches} pages asked for"
    )
    assert slowest < PATIENT_S, f"an ACK took {slowest:.1f} s"
    again = sum(client.connections > connections[client] for client in people.everyone)
    assert not again, f"{again} clients had to reconnect"
    return back_s


async def _meets(people: Crowd, movers: Sequence[Client]) -> None:
    """A new group with members on every node, who have not heard of it if the bus is away, and its first messages."""
    creator, *others = [client for client in people.talkers if client not in movers][:NEW_GROUP]
    chat = await people.opens([creator, *others], kind="group")
    for text in ("here", "we", "meet"):
        await creator.sends(chat, text)
