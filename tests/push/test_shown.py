"""What is seen on the phone: the badge, the text or less of it, one notification for many, none of what is gone."""

import json

import pytest

from tests.harness import RunningServer, until
from tests.push.conftest import World
from tests.push.people import alert, away, chat_with, settled

GROUP_SIZE_SENDS = 30


async def test_the_badge_is_the_exact_number_of_unread_messages(server: RunningServer, world: World) -> None:
    jun = await away(server, "jun", "a1")
    async with server.phone("mina") as mina, server.phone("hana") as hana:
        one = await chat_with(mina, jun)
        other = await chat_with(hana, jun)
        for _ in range(3):
            await mina.sends(one, "하나")
        await settled(server)
        await hana.sends(other, "둘")
        await settled(server)
        assert world.apns.got[-1].content["aps"]["badge"] == 4
        async with server.phone("jun") as phone:
            await phone.says(3, one, 2)
            await phone.settles()
        await until(lambda: f"u:{jun}" not in server.node.context.bus._topics)  # type: ignore[attr-defined]
        while await server.node.context.pool.fetchval(
            "select min(read_seq) from member where user_id = $1 and chat_id = $2", jun, one
        ) != 2:  # fmt: skip
            await server.node.context.pool.execute("select pg_sleep(0.01)")
        await hana.sends(other, "셋")
        await settled(server)
    assert world.apns.got[-1].content["aps"]["badge"] == 3


@pytest.mark.parametrize(
    ("preview", "shown"),
    [
        ("full", {"title": "모임", "body": "Mina: 비밀 이야기"}),
        ("sender", {"title": "Mina", "body": "New message"}),
        ("none", {"body": "New message"}),
    ],
)
async def test_previews(server: RunningServer, world: World, preview: str, shown: dict[str, str]) -> None:
    async with server.phone("jun") as phone:
        assert (await phone.calls("push.settings", preview=preview))["preview"] == preview
    jun = await away(server, "jun", "a1")
    async with server.phone("mina") as mina:
        chat = await chat_with(mina, jun, title="모임")
        await mina.sends(chat, "비밀 이야기")
        await settled(server)
    [got] = world.apns.got
    assert alert(got) == shown
    if preview == "none":
        assert "sender" not in json.dumps(got.content)


async def test_texts_are_in_the_devices_language(server: RunningServer, world: World) -> None:
    jun = await away(server, "jun", "a1", locale="ko-KR")
    hana = await away(server, "hana", "b2", locale="en-US")
    async with server.phone("mina") as mina:
        chat = await chat_with(mina, jun, hana, title="모임")
        await mina.sends(chat, {"k": "photo", "t": "", "f": [{"id": "x"}]})
        await settled(server)
    assert {got.token: alert(got)["body"] for got in world.apns.got} == {"a1": "Mina: 사진", "b2": "Mina: Photo"}


async def test_a_busy_group_rings_a_phone_few_times(server: RunningServer, world: World) -> None:
    jun = await away(server, "jun", "a1")
    async with server.phone("mina") as mina:
        chat = await chat_with(mina, jun, title="모임")
        await mina.sends(chat, "시작")
        await settled(server)
        for number in range(GROUP_SIZE_SENDS):
            await mina.sends(chat, f"{number}")
        await settled(server)
    assert alert(world.apns.got[0])["body"] == "Mina: 시작"
    assert len(world.apns.got) <= 4
    counts = [got.content["mim"]["count"] for got in world.apns.got]
    assert sum(counts) == 1 + GROUP_SIZE_SENDS, "each message was told of once"
    assert alert(world.apns.got[-1])["body"] == f"{counts[-1]} new messages" or counts[-1] == 1
    assert len({got.headers["apns-collapse-id"] for got in world.apns.got}) == 1


async def test_edits_and_deletions_replace_what_is_shown(server: RunningServer, world: World) -> None:
    jun = await away(server, "jun", "a1")
    hana = await away(server, "hana", "b2", "fcm")
    async with server.phone("mina") as mina:
        chat = await chat_with(mina, jun, hana, title="모임")
        seq, _ = await mina.sends(chat, "오타다")
        await settled(server)
        await mina.calls("message.edit", chat=chat, seq=seq, body="오타")
        await settled(server)
        await mina.calls("message.delete", chat=chat, seq=seq, scope="everyone")
        await settled(server)
        await mina.calls("chat.send", chat=chat, cid=99, body="이제 됐다")
        await settled(server)
    assert [alert(got)["body"] for got in world.apns.got] == [
        "Mina: 오타다", "Mina: 오타", "This message was deleted", "Mina: 이제 됐다",
    ]  # fmt: skip
    assert ["sound" in got.content["aps"] for got in world.apns.got] == [True, False, False, True]
    assert [got.content["notification"]["body"] for got in world.fcm.got][2] == "This message was deleted"
    assert len({got.content["android"]["notification"]["tag"] for got in world.fcm.got}) == 1


async def test_what_was_deleted_before_it_went_out_is_never_told(server: RunningServer, world: World) -> None:
    jun = await away(server, "jun", "a1")
    async with server.phone("mina") as mina:
        chat = await chat_with(mina, jun)
        await mina.sends(chat, "하나")
        await settled(server)
        seq, _ = await mina.sends(chat, "보내지 말걸")  # waits for the gap of the chat
        await mina.calls("message.delete", chat=chat, seq=seq, scope="everyone")
        await settled(server)
    assert [alert(got)["body"] for got in world.apns.got] == ["하나"]
