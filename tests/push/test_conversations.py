"""Who is told and who is not: a server, phones that went away, and the far ends of their platforms."""

import json
import time
from typing import Any

import pytest

from tests.harness import RunningServer, direct, group, until
from tests.push.conftest import World
from tests.push.people import alert, away, chat_with, push_of, registers, settled, suppressed


@pytest.mark.parametrize("platform", ["apns", "fcm", "webpush", "webhook"])
async def test_a_phone_that_is_away_is_told_once(server: RunningServer, world: World, platform: str) -> None:
    token = world.webpush.subscribe("page") if platform == "webpush" else "a1"
    jun = await away(server, "jun", token, platform)
    async with server.phone("mina") as mina:
        chat = await chat_with(mina, jun)
        seq, _ = await mina.sends(chat, "점심 먹을래?")
    await settled(server)
    [got] = world.ends[platform].got
    text = json.dumps(got.content, ensure_ascii=False)
    assert "점심 먹을래?" in text
    assert "Mina" in text
    assert f'"chat": {chat}' in text or f'"chat": "{chat}"' in text
    assert f'"seq": {seq}' in text or f'"seq": "{seq}"' in text


async def test_a_connected_device_is_not_told_and_the_sender_neither(server: RunningServer, world: World) -> None:
    before = suppressed("connected")
    async with server.phone("mina") as mina, server.phone("jun") as jun:
        await registers(mina, "a1")
        await registers(jun, "b2")
        chat = await direct(mina, jun)
        await mina.sends(chat, "여기 있지?")
        await settled(server)
    assert not world.apns.tries
    assert suppressed("connected") == before + 1


async def test_the_phone_is_told_while_the_desktop_listens_unless_it_reads(server: RunningServer, world: World) -> None:
    before = suppressed("read")
    async with server.phone("jun", "phone") as phone:
        await registers(phone, "a1")
    async with server.phone("mina") as mina, server.phone("jun", "desktop") as desktop:
        chat = await direct(mina, desktop)
        seq, _ = await mina.sends(chat, "읽어 봐")
        while not await server.node.context.pool.fetchval("select count(*) from push_outbox"):
            await server.node.context.pool.execute("select pg_sleep(0.01)")
        await desktop.says(3, chat, seq)  # READ, within the grace
        await settled(server)
        assert not world.apns.tries
        assert suppressed("read") == before + 1
        await mina.sends(chat, "읽지 마")
        await settled(server)
        assert [alert(got)["body"] for got in world.apns.got] == ["읽지 마"]
        await desktop.calls("push.settings", reading=False)
        started = time.monotonic()
        await mina.sends(chat, "바로")
        await until(lambda: world.apns.got[1:])
        assert alert(world.apns.got[1])["body"] == "바로"
        assert time.monotonic() - started < 3


async def test_who_joins_or_leaves_is_told_of_nothing_else(server: RunningServer, world: World) -> None:
    jun = await away(server, "jun", "a1")
    async with server.phone("mina") as mina, server.phone("hana") as hana:
        chat = await group(mina, hana)
        await mina.sends(chat, "전에")
        await settled(server)
        await mina.calls("chat.invite", chat=chat, users=[jun])
        await mina.sends(chat, "같이")
        await settled(server)
        assert [alert(got)["body"] for got in world.apns.got] == ["Mina: 같이"]
        assert world.apns.got[0].content["aps"]["badge"] == 1
        await mina.calls("chat.kick", chat=chat, users=[jun])
        await mina.sends(chat, "우리끼리")
        await settled(server)
    assert len(world.apns.got) == 1


async def test_a_half_open_device_is_told_what_it_did_not_hear(server: RunningServer, world: World) -> None:
    jun = await away(server, "jun", "a1")
    push = push_of(server)
    assert push.planner is not None
    async with server.phone("mina") as mina:
        chat = await chat_with(mina, jun)
        listening = push.planner._bus
        push.planner._bus = Everybody()  # type: ignore[assignment]  # as the bus says of a phone that is half open
        _, at = await mina.sends(chat, "들리니?")
        await settled(server)
        assert not world.apns.tries
        push.planner._bus = listening
        device = await server.node.context.pool.fetchval("select id from device where user_id = $1", jun)
        assert push.planner.unheard(jun, device, at)
        await settled(server)
    assert [alert(got)["body"] for got in world.apns.got] == ["들리니?"]


class Everybody:
    """A bus that says of everyone to be connected."""

    async def listening(self, topics: Any) -> set[str]:
        return set(topics)


async def test_a_bus_that_does_not_answer_tells_everybody(server: RunningServer, world: World) -> None:
    push = push_of(server)
    assert push.planner is not None

    class Away:
        async def listening(self, topics: Any) -> set[str]:
            raise ConnectionError

    async with server.phone("mina") as mina, server.phone("jun") as jun:
        await registers(jun, "b2")
        chat = await direct(mina, jun)
        push.planner._bus = Away()  # type: ignore[assignment]
        for lane in push.lanes:
            lane._bus = Away()  # type: ignore[assignment]
        await mina.sends(chat, "여기 있지?")
        await settled(server)
    assert world.apns.tokens() == {"b2": 1}


async def test_messages_of_a_dead_node_are_planned_once(server: RunningServer, world: World) -> None:
    jun = await away(server, "jun", "a1")
    hana = await away(server, "hana", "b2")
    push = push_of(server)
    assert push.planner is not None
    async with server.phone("mina") as mina:
        chat = await chat_with(mina, jun, hana, title="모임")
        seq, _ = await mina.sends(chat, "하나")
        await settled(server)
        await server.node.context.pool.execute("delete from push_told where device_id = (select id from device where "
                                               "push_token = 'b2')")  # fmt: skip
        world.apns.got.clear()
        assert not push.planner.recovered([chat], [seq]), "not planned yet: who asks keeps it"
        await settled(server)
        assert push.planner.recovered([chat], [seq])
        assert not push.planner.recovered([chat], [seq]), "asked for anew"
        await settled(server)
    assert world.apns.tokens() == {"b2": 1}, "who was told already is not told again"
