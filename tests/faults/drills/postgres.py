"""Faults of Postgres: `unavailable` in between, nothing stored twice, and the synchronous standby has everything."""

import asyncio
import time

from tests.faults.crowd import eventually
from tests.faults.stage import Stage

EVERY_S = 0.3


async def kill(stage: Stage) -> float:
    """SIGKILL of all its processes, away for a while, started again on its files."""
    primary = stage.lab.primary
    primary.kill()
    await _is_refused(stage)
    await primary.is_gone()
    await primary.start()
    return await stage.people.is_served()


async def stall(stage: Stage) -> float:
    """Connections stay, nothing moves."""
    proxy = stage.lab.database_proxy
    proxy.stall()
    await _is_refused(stage)
    await proxy.restore()
    return await stage.people.is_served()


async def _is_refused(stage: Stage) -> None:
    """The fault lasts its time and at least until senders were told `unavailable`."""
    people, began = stage.people, time.monotonic()
    before = sum(len(client.nacks) for client in people.clients)
    await asyncio.sleep(stage.seconds)
    await eventually(lambda: sum(len(client.nacks) for client in people.clients) > before)
    refused = [nack for client in people.clients for nack in client.nacks]
    codes = {nack[2] for nack in refused}
    assert codes == {"unavailable"}, f"refused with {codes}"
    stage.notes.append(f"{len(refused) - before} times `unavailable` in {time.monotonic() - began:.0f} s")


async def cut(stage: Stage) -> float:
    """Connections are cut, most of them between a commit and its answer."""
    proxy = stage.lab.database_proxy
    before, ends = proxy.unknown, time.monotonic() + stage.seconds
    while time.monotonic() < ends:
        proxy.cut_answers(1 + stage.rng.randrange(3))
        await asyncio.sleep(EVERY_S)
        if stage.rng.random() < 0.3:
            proxy.cut()
    await proxy.restore()
    assert proxy.unknown > before, "no commit was cut from its answer"
    stage.notes.append(f"{proxy.unknown - before} commits cut from their answers")
    return await stage.people.is_served()


async def fail_over(stage: Stage) -> float:
    """The primary is lost for good, the standby is promoted."""
    began = time.monotonic()
    stage.lab.primary.kill()
    await asyncio.sleep(stage.seconds)
    await stage.lab.fails_over()
    promoted = time.monotonic() - began
    back_s = await stage.people.is_served()
    stage.notes.append(f"promoted {promoted:.1f} s after the loss")
    return promoted + back_s
