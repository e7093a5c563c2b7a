"""Whatever happens between nodes: everybody has everything soon, without doing anything for it."""

import asyncio
from collections.abc import AsyncIterator
from typing import TypeAlias

import pytest

from mim.bus import redis_link
from mim.chat import freshness
from mim.chat.altering import Alteration
from tests.cluster.conftest import two_nodes
from tests.harness import (
    BYE,
    CHAT,
    MSG,
    PING,
    PONG,
    READ,
    READBY,
    SEND,
    SYNCED,
    Phone,
    Refused,
    RunningServer,
    direct,
    group,
    until,
)
from tests.redis_server import RedisServer

Nodes: TypeAlias = tuple[RunningServer, RunningServer]


@pytest.fixture
async def nodes(database_url: str, redis_server: RedisServer) -> AsyncIterator[Nodes]:
    """Two nodes; what changes their temper is named by `usefixtures`, which comes before them."""
    async with two_nodes(database_url, redis_server.url) as nodes:
        yield nodes


@pytest.fixture
async def mina(nodes: Nodes) -> AsyncIterator[Phone]:
    """On the first node."""
    async with nodes[0].phone("mina") as mina:
        yield mina


@pytest.fixture
async def jun(nodes: Nodes) -> AsyncIterator[Phone]:
    """On the second."""
    async with nodes[1].phone("jun") as jun:
        yield jun


@pytest.fixture
async def hana(nodes: Nodes) -> AsyncIterator[Phone]:
    """On the second, with 준."""
    async with nodes[1].phone("hana") as hana:
        yield hana


def is_whole(*nodes: RunningServer) -> bool:
    """Whether the nodes have their bus."""
    return all(node.node.context.bus._gap_since is None for node in nodes)  # type: ignore[attr-defined]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Redis that is silent is given up soon."""
    monkeypatch.setattr(redis_link, "PATIENCE_S", 0.3)
    monkeypatch.setattr(redis_link, "PING_EVERY_S", 0.1)
    monkeypatch.setattr(redis_link, "CONNECT_S", 0.3)


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fresh cursors are offered as often as can be."""
    monkeypatch.setattr(freshness, "EVERY_S", 0.05)
    monkeypatch.setattr(freshness, "SAFE_AFTER_S", 0.0)
    monkeypatch.setattr(redis_link, "PING_EVERY_S", 0.05)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("fault", ["killed", "stalled", "connections"])
async def test_what_was_said_while_redis_was_away_comes_by_itself(
    nodes: Nodes, mina: Phone, jun: Phone, redis_server: RedisServer, fault: str
) -> None:
    one, two = nodes
    async with one.phone("hana") as hana:
        chat, club = await direct(mina, jun), await group(mina, hana, jun)
        await mina.sends(club, "before")
        await jun.gets(MSG, club)
        if fault == "killed":
            redis_server.kill()
        elif fault == "stalled":
            redis_server.freeze()
        else:
            await redis_server.kills_clients()
        try:
            for number in range(5):
                await mina.sends(chat, f"direct {number}")  # acknowledged throughout
                await mina.sends(club, f"club {number}")
            heard = [(await hana.gets(MSG, club, number + 2))[5] for number in range(5)]
            assert heard == [f"club {number}" for number in range(5)]
            await hana.says(READ, club, 6)
            if fault != "connections":
                await until(lambda: not is_whole(one, two))
        finally:
            if fault == "killed":
                await redis_server.start()
            elif fault == "stalled":
                redis_server.thaw()
        for number in range(5):
            assert (await jun.gets(MSG, chat, number + 1))[5] == f"direct {number}"
            assert (await jun.gets(MSG, club, number + 2))[5] == f"club {number}"
        await jun.gets(READBY, club)  # whether it was said again or read from storage
        await until(lambda: is_whole(one, two))
        await mina.sends(club, "after")
        assert (await jun.gets(MSG, club, 7))[5] == "after"


async def test_a_membership_that_changed_while_redis_was_away_is_kept(
    nodes: Nodes, mina: Phone, jun: Phone, hana: Phone, redis_server: RedisServer
) -> None:
    one, two = nodes
    club = await group(mina, jun)
    await mina.sends(club, "before")
    await jun.gets(MSG, club)
    redis_server.kill()
    await until(lambda: not is_whole(one) and not is_whole(two))
    await mina.calls("chat.kick", chat=club, users=[jun.user])
    await mina.calls("chat.invite", chat=club, users=[hana.user])
    await redis_server.start()
    while (await jun.gets(CHAT, club))[2]["kind"] != "left":
        pass  # of the group's making, on its way between the nodes until now
    assert (await hana.gets(CHAT, club))[2]["kind"] == "group"
    await until(lambda: is_whole(one, two))
    await mina.sends(club, "for those inside")
    await hana.gets(MSG, club, 2)
    heard = [frame[5] for frame in await jun.settles() if frame[0] == MSG]
    assert set(heard) <= {"before"}  # which a node that listened late to the group tells once more


async def test_a_device_revoked_while_redis_was_away_is_signed_out(
    nodes: Nodes, mina: Phone, redis_server: RedisServer
) -> None:
    one, two = nodes
    async with two.phone("mina", "tablet") as tablet:
        redis_server.kill()
        await until(lambda: not is_whole(one) and not is_whole(two))
        await mina.calls("device.revoke", device=tablet.device)
        await redis_server.start()
        assert (await tablet.gets(BYE))[1] == "signed_out"


async def test_of_a_device_that_opened_on_both_sides_the_newer_stays(nodes: Nodes, redis_server: RedisServer) -> None:
    one, two = nodes
    async with nodes[0].phone("mina") as old:
        redis_server.kill()
        await until(lambda: not is_whole(one) and not is_whole(two))
        async with two.phone("mina") as new:
            await old.settles()
            await redis_server.start()
            assert await old.is_closed() == 4501
            await new.settles()


@pytest.mark.usefixtures("eager")
async def test_no_fresh_cursor_passes_over_what_is_missing(
    nodes: Nodes, mina: Phone, jun: Phone, redis_server: RedisServer
) -> None:
    two = nodes[1]
    chat = await direct(mina, jun)
    await mina.sends(chat, "heard")
    await jun.gets(MSG, chat)

    async def cursor() -> str:
        while True:
            await jun.says(PING, 600)
            await jun.gets(PONG)
            if fresh := [frame[1] for frame in jun.inbox if frame[0] == SYNCED]:
                jun.inbox.clear()
                return str(fresh[-1])

    jun.inbox.clear()
    async with asyncio.timeout(10):
        await cursor()
    redis_server.kill()
    await until(lambda: not is_whole(two))
    await mina.sends(chat, "missed")
    horizons = len(two.node.gateway.freshness._read)
    await until(lambda: len(two.node.gateway.freshness._read) > min(horizons + 2, 15))
    two.node.gateway.connections.copy().pop().stale = True
    assert not [frame for frame in await jun.settles() if frame[0] == SYNCED]
    await redis_server.start()
    assert (await jun.gets(MSG, chat, 2))[5] == "missed"
    assert await jun.gets(SYNCED)


async def test_what_a_node_committed_and_could_not_tell_is_told_by_another(
    nodes: Nodes, mina: Phone, jun: Phone, hana: Phone, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = nodes[0]
    chat, club = await direct(mina, jun), await group(mina, jun, hana)
    recovery = one.node.recovery
    # The node dies right after the commit: it says nothing more, and its lock falls.
    monkeypatch.setattr(one.node.context.committer, "_on_committed", lambda batch, dispatch: None)
    await mina.says(SEND, 1, chat, "direct")
    await mina.says(SEND, 2, club, "club")
    await recovery._tasks.close()
    recovery._disconnect()
    assert (await jun.gets(MSG, chat))[5] == "direct"
    assert (await jun.gets(MSG, club))[5] == "club"
    assert (await hana.gets(MSG, club))[5] == "club"


async def test_dispatch_log_is_empty_in_peace(nodes: Nodes, mina: Phone, jun: Phone) -> None:
    one = nodes[0]
    chat = await direct(mina, jun)
    for number in range(20):
        await mina.sends(chat, f"{number}")
    club = await group(mina, jun)
    await mina.calls("chat.update", chat=club, title="다른 이름", notice="알림")
    await mina.calls("message.react", chat=chat, seq=1, reaction="👍")
    await mina.calls("chat.settings", chat=club, muted=True)
    await mina.calls("chat.leave", chat=club)
    pool = one.node.context.pool
    async with asyncio.timeout(10):
        while await pool.fetchval("select count(*) from dispatch_log"):  # noqa: ASYNC110 - in the database
            await asyncio.sleep(0.05)
    await jun.settles()
    assert len([frame for frame in jun.inbox if frame[0] == CHAT and frame[1] == chat]) <= 1  # nobody was caught up


async def test_a_kick_that_a_node_could_not_tell_is_told_by_another(
    nodes: Nodes, mina: Phone, jun: Phone, hana: Phone, monkeypatch: pytest.MonkeyPatch
) -> None:
    club = await group(mina, jun, hana)

    async def dies(_: Alteration) -> None:
        raise RuntimeError("the node dies between commit and publish")

    monkeypatch.setattr(Alteration, "tell", dies)
    with pytest.raises(Refused, match="internal"):
        await mina.calls("chat.kick", chat=club, users=[jun.user])
    monkeypatch.undo()
    while (await jun.gets(CHAT, club))[2]["kind"] != "left":
        pass
    while (await hana.gets(CHAT, club))[2]["rev"] != 1:  # it asks CHANGES for the rest
        pass
    await mina.sends(club, "secret")
    await hana.gets(MSG, club)
    assert not [frame for frame in await jun.settles() if frame[0] == MSG]
