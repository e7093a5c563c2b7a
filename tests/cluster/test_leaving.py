"""Phones on bad networks, and nodes that come and go."""

import asyncio

import pytest

from mim.gateway import receipts
from mim.gateway.gateway import Gateway
from tests.cluster.conftest import two_nodes
from tests.harness import ACK, BYE, MSG, RECV, SEND, Phone, RunningServer, direct, running, until
from tests.redis_server import RedisServer


class Heard:
    """A push that remembers who did not hear."""

    def __init__(self, node: RunningServer, monkeypatch: pytest.MonkeyPatch) -> None:
        self.unheard: list[tuple[int, int, int]] = []
        monkeypatch.setattr(
            node.node.context.push, "unheard", lambda user, device, since: self.unheard.append((user, device, since))
        )


async def test_who_counts_nothing_is_half_open_and_push_is_told(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receipts, "HALF_OPEN_S", 1.0)
    async with (
        running(database_url) as server,
        server.phone("mina") as mina,
        server.phone("jun", recv=True) as jun,
        server.phone("hana", recv=True) as hana,
        server.phone("dae") as dae,  # does not count at all, and need not
    ):
        push = Heard(server, monkeypatch)
        for phone in (jun, hana, dae):
            await mina.sends(await direct(mina, phone), f"for {phone.user}")
        await hana.gets(MSG)
        await hana.says(RECV, 1)
        _, at = await mina.sends(await direct(mina, jun), "and another")
        bye = await jun.gets(BYE)
        assert bye[1] == "half_open"
        assert bye[3] > 0
        assert await jun.is_closed() == 4010
        await until(lambda: push.unheard)
        [(user, device, since)] = push.unheard
        assert (user, device) == (jun.user, jun.device)
        assert abs(since - at) <= 2
        await hana.settles()
        await dae.settles()


async def test_who_counts_on_stays(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receipts, "HALF_OPEN_S", 1.0)
    async with (
        running(database_url, send_rate=100_000.0, send_burst=100_000, request_rate=100_000.0) as server,
        server.phone("mina") as mina,
        server.phone("jun", recv=True, auth="upgrade") as jun,
    ):
        push = Heard(server, monkeypatch)
        chat = await direct(mina, jun)
        async with asyncio.timeout(20):
            began = asyncio.get_running_loop().time()
            count = 0
            while asyncio.get_running_loop().time() < began + 3:
                await mina.sends(chat, "on")
                await jun.gets(MSG)
                count += 1
                await jun.says(RECV, count)
        await jun.settles()
        assert push.unheard == []


async def test_a_node_that_ends_sends_its_clients_to_the_others(database_url: str, redis_server: RedisServer) -> None:
    async with running(database_url, redis_url=redis_server.url) as stays:
        async with running(database_url, redis_url=redis_server.url) as goes:
            phones = [goes.phone(f"user{number}") for number in range(60)]
            for phone in phones:
                await phone.connect()
                await phone.signs_in()
            chat = await direct(phones[0], phones[1])
            await phones[0].says(SEND, 77, chat, "the last one")
        assert await phones[0].gets(ACK, 77)
        for phone in phones:
            bye = await phone.gets(BYE)
            assert bye[1] == "moved"
            assert 0 <= bye[3] <= 100
            assert await phone.is_closed() == 4001
        async with stays.phone("user1", cursor=phones[1].cursor) as back:
            assert (await back.gets(MSG, chat))[5] == "the last one"


async def test_nodes_that_end_together_send_nobody_to_each_other(database_url: str, redis_server: RedisServer) -> None:
    async with two_nodes(database_url, redis_server.url) as (one, two):
        mina, jun = one.phone("mina"), two.phone("jun")
        for phone in (mina, jun):
            await phone.connect()
            await phone.signs_in()
        gateways: list[Gateway] = [node.node.gateway for node in (one, two)]
        await asyncio.gather(*(gateway.drain() for gateway in gateways))
        for phone in (mina, jun):
            await phone.settles()  # nobody was sent away: it is for the shutdown to tell
    for phone in (mina, jun):
        bye = await phone.gets(BYE)
        assert bye[1] == "shutting_down"


async def test_who_would_wait_too_long_is_turned_away_with_a_time(database_url: str) -> None:
    async with running(database_url) as server, server.phone("mina") as mina:
        turns = server.node.gateway._opening.turns
        turns.waiting, turns._mean_s = 10_000, 0.05
        late = Phone(server.ws, mina.token)
        with pytest.raises(Exception, match="503"):
            await late.connect()
        turns.waiting = 0
        async with server.phone("mina", "tablet"):
            pass
