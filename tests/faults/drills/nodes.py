"""Faults of nodes: killed, frozen, restarted one after the other, dead between a commit and its publication."""

import asyncio
import time

from tests.faults.crowd import eventually
from tests.faults.stage import Stage

SOON_S = 30.0
LATE_S = 1.0


async def kill_one(stage: Stage) -> float:
    """SIGKILL of a node."""
    stage.lab.nodes[0].kill()
    return await stage.people.is_served()


async def kill_two(stage: Stage) -> float:
    """SIGKILL of two of three at once."""
    for node in stage.lab.nodes[:2]:
        node.kill()
    return await stage.people.is_served()


async def freeze(stage: Stage) -> float:
    """SIGSTOP: its clients hear nothing more and go elsewhere while it is frozen."""
    node = stage.lab.nodes[0]
    node.freeze()
    ends = time.monotonic() + stage.seconds
    back_s = await stage.people.is_served()
    assert time.monotonic() < ends, f"its clients were not served elsewhere within {stage.seconds:.0f} s"
    await asyncio.sleep(ends - time.monotonic())
    node.thaw()
    return back_s


async def restart_in_turn(stage: Stage) -> float:
    """A rolling restart: SIGTERM, wait for the end, start, the next."""
    longest, first = 0.0, time.monotonic()
    for node in stage.lab.nodes:
        began = time.monotonic()
        node.terminate()
        served = asyncio.get_running_loop().create_task(stage.people.is_served())
        assert await node.ends(within_s=SOON_S) == 0, node.log()
        ended = time.monotonic() - began
        longest = max(longest, await served)
        await node.start()
        stage.tell(f"{node.name} drained within {ended:.1f} s")
    await stage.lab.is_ready()
    delays = stage.people.delays(first)
    late = sum(delay > LATE_S for delay in delays)
    stage.notes.append(
        f"{len(delays)} deliveries meanwhile: half within {1000 * delays[len(delays) // 2]:.0f} ms, {late} after more "
        f"than {LATE_S:.0f} s, the last after {delays[-1]:.1f} s"
    )
    return longest


async def die_untold(stage: Stage) -> float:
    """A node dies after a commit and before it told anybody; the sender stays away."""
    people, node = stage.people, stage.lab.nodes[0]
    node.kill()
    node.module = ("tests.faults.crashing",)
    await node.start()
    await people.is_served()
    while not (there := [c for c in people.talkers if c.url == node.ws and c.is_synced]):
        people.clients[0].drops()  # until somebody is there
        await asyncio.sleep(0.5)
    await people.stops_talking()
    await people.have_everything()
    sender, group = there[0], people.chats[there[0]][1]
    away = [client for client in people.everyone if client.url == node.ws]
    listeners = [c for c in people.members(group) if c not in away]
    assert listeners, "nobody of the group is on another node"
    for client in away:
        client.come_back = False
    before = people.heads()[group]
    (node.folder / "crash").touch()
    await sender.sends(group, "told by nobody who saw it stored")
    assert await node.ends(within_s=SOON_S) < 0, "the node did not die"
    began, place = time.monotonic(), (group, before + 1)
    stored = await people.stored(stage.lab.database_url)
    assert stored.heads[group] == before + 1, "it died before the commit"
    early = [c for c in listeners if place in c.arrivals and c.arrivals[place][0] < began]
    assert not early, "it was told before the crash"
    fetches = sum(client.fetches for client in listeners)
    await eventually(lambda: all(c.views[group].have > before for c in listeners), SOON_S)
    back_s = time.monotonic() - began
    ways = {c.arrivals[place][1] for c in listeners}
    assert ways == {"live"}, f"it came by {ways}"
    assert sum(client.fetches for client in listeners) == fetches
    (node.folder / "crash").unlink()
    node.module = ("mim",)
    for client in away:
        client.come_back = True
    await people.returns(away)
    return back_s
