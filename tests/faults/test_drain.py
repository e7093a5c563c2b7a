"""SIGTERM with traffic under way: what was taken is answered, everybody hears BYE, and the process ends in time."""

import asyncio
import time
from collections.abc import Callable

import pytest

from loadtest.checks.invariants import check
from loadtest.checks.stored import Stored, read_stored
from mim import app
from mim.chat import reading
from tests.faults.clients import Client
from tests.faults.crowd import crowd, new_seed
from tests.faults.process import ServerProcess
from tests.faults.proxy import PostgresProxy
from tests.harness import ACK, BYE, NACK, READ, SEND, direct, running

PEOPLE = 60
DRAIN_S = 10
LITTLE_S = 5  # to stop Postgres, which writes a checkpoint, on a busy machine


async def test_sigterm_in_the_middle_of_traffic(processes: Callable[..., ServerProcess]) -> None:
    server = processes(MIM_DRAIN_S=str(DRAIN_S), MIM_SEND_RATE="1000", MIM_SEND_BURST="1000")
    await server.start()
    async with crowd(lambda: [server.ws], PEOPLE, new_seed(), window=16) as people:
        people.starts_talking()
        await people.talks_on(1000)
        for client in people.clients:
            client.come_back = False
        server.terminate()
        assert await server.ends(within_s=DRAIN_S + LITTLE_S) == 0
        await server.is_gone(within_s=1)
        await people.are_disconnected()

        check_farewells(people.clients)
        assert server.complaints() == []

        await server.start()
        check_nothing_unsaid(people.clients, await read_stored(server.database_url))
        await people.returns()
        await people.stops_talking()
        await people.catches_up()
        verdict = check([client.record for client in people.clients], await read_stored(server.database_url))
        print(verdict)
        verdict.raise_if_broken()
    server.terminate()
    assert await server.ends(within_s=DRAIN_S + LITTLE_S) == 0
    await server.is_gone(within_s=1)


def check_farewells(clients: list[Client]) -> None:
    """Everybody heard BYE once, was closed with 4000 and knows when to come back, not all at once."""
    assert [[bye[1] for bye in client.byes] for client in clients] == [["shutting_down"]] * len(clients)
    assert {code for client in clients for code in client.close_codes} == {4000}
    pauses = [client.byes[0][3] for client in clients]
    assert all(0 < pause <= 10_200 for pause in pauses)
    assert len(set(pauses)) > len(pauses) / 2
    assert max(pauses) - min(pauses) > 3_000  # of a span of 10 s


def check_nothing_unsaid(clients: list[Client], stored: Stored) -> None:
    """Every message that was stored got its ACK before the BYE."""
    said = {(client.record.device, cid) for client in clients for cid in client.record.acknowledged_cids}
    assert {(row.device, row.cid) for rows in stored.messages.values() for row in rows} == said


async def test_an_idle_server_ends_at_once(processes: Callable[..., ServerProcess]) -> None:
    server = processes(MIM_DRAIN_S=str(DRAIN_S))
    await server.start()
    server.terminate()
    assert await server.ends(within_s=3) == 0
    await server.is_gone(within_s=1)
    assert server.complaints() == []


async def test_a_commit_under_way_is_acknowledged_before_the_bye(proxy: PostgresProxy) -> None:
    node = running(proxy.url)
    server = await node.__aenter__()
    async with server.phone("mina") as mina, server.phone("jun") as jun:
        chat = await direct(mina, jun)
        proxy.stall()
        for cid in (101, 102, 103):
            await mina.says(SEND, cid, chat, f"late {cid}")
        await mina.settles()
        closing = asyncio.get_running_loop().create_task(node.__aexit__(None, None, None))
        assert await jun.is_closed() == 4000  # nothing was pending for him
        assert not [frame for frame in mina.inbox if frame[0] == ACK]
        began = time.monotonic()
        await proxy.restore()
        assert await mina.is_closed() == 4000
        farewell = [frame[:3] for frame in mina.inbox if frame[0] in (ACK, BYE)]
        assert farewell[:-1] == [[ACK, 101, 1], [ACK, 102, 2], [ACK, 103, 3]]
        assert farewell[-1][:2] == [BYE, "shutting_down"]
        await closing
    assert time.monotonic() - began < 2, "it waited for a socket whose farewell was said"


async def test_a_stalled_postgres_does_not_keep_a_server_from_ending(
    proxy: PostgresProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module, name in ((app, "PART_CLOSE_S"), (app, "POOL_CLOSE_S"), (reading, "CLOSE_S")):
        monkeypatch.setattr(module, name, 0.5)  # each is waited out
    node = running(proxy.url, drain_s=1)
    server = await node.__aenter__()
    async with server.phone("mina") as mina, server.phone("jun") as jun:
        chat = await direct(mina, jun)
        await mina.sends(chat, "in time")
        proxy.stall()
        await mina.says(SEND, 101, chat, "late")
        await mina.settles()
        await jun.says(READ, chat, 1)
        await jun.settles()
        began = time.monotonic()
        closing = asyncio.get_running_loop().create_task(node.__aexit__(None, None, None))
        assert await mina.is_closed() == 4000
        farewell = [frame for frame in mina.inbox if frame[0] in (NACK, BYE)]
        assert [frame[:3] for frame in farewell[:-1]] == [[NACK, 101, "unavailable"]]
        assert farewell[-1][1] == "shutting_down"
        await closing
    assert time.monotonic() - began < 16  # they take five together, and a query on its way would take ten more
