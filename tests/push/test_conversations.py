"""Who is told, of what, and who is not: a server, phones that went away, and the far ends of their platforms."""

import json
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
import pytest_asyncio
from prometheus_client import REGISTRY

from mim.push import lane
from mim.push.service import Push
from tests.harness import Phone, Refused, RunningServer, direct, group, running, until
from tests.push.conftest import World
from tests.push.ends import Got, google_error, refusal
from tests.push.h2server import Response

GROUP_SIZE_SENDS = 30
RATES = ("request_rate", "request_burst", "send_rate", "send_burst")


@pytest_asyncio.fixture
async def server(database_url: str, world: World) -> AsyncIterator[RunningServer]:
    """A node whose providers are the far ends."""
    rates: dict[str, Any] = dict.fromkeys(RATES, 1_000_000)
    async with running(database_url, **world.settings, **rates) as server:
        world.webpush.server_key = await push_of(server).public_key()
        yield server


def push_of(server: RunningServer) -> Push:
    push = server.node.context.push
    assert isinstance(push, Push)
    return push


def suppressed(reason: str) -> float:
    """How many devices were not told for this reason, since the process began."""
    return REGISTRY.get_sample_value("mim_push_suppressed_total", {"reason": reason}) or 0.0


async def settled(server: RunningServer) -> None:
    """Nothing waits to be planned or sent any more."""
    pool = server.node.context.pool
    push = push_of(server)
    assert push.planner is not None
    await until(lambda: not push.planner and push.planner._idle.is_set())  # type: ignore[union-attr]
    while await pool.fetchval("select count(*) from push_outbox"):
        await pool.execute("select pg_sleep(0.01)")


async def registers(phone: Phone, token: str, platform: str = "apns", **more: Any) -> None:
    await phone.calls("device.push", platform=platform, token=token, **more)


async def away(server: RunningServer, name: str, token: str, platform: str = "apns", **more: Any) -> int:
    """A person whose phone takes notifications and is not connected; returns the user's id."""
    async with server.phone(name) as phone:
        await registers(phone, token, platform, **more)
        user = phone.user
    await until(lambda: f"u:{user}" not in server.node.context.bus._topics)  # type: ignore[attr-defined]
    return user


async def chat_with(mina: Phone, *users: int, title: str | None = None) -> int:
    kind = "direct" if title is None else "group"
    return int((await mina.calls("chat.create", kind=kind, members=list(users), title=title))["chat"])


def alert(got: Got) -> Any:
    return got.content["aps"]["alert"]


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


async def test_a_mute_silences_all_but_mentions_and_calls(server: RunningServer, world: World) -> None:
    jun = await away(server, "jun", "a1")
    async with server.phone("mina") as mina:
        chat = await chat_with(mina, jun, title="모임")
        async with server.phone("jun") as phone:
            await phone.calls("chat.settings", chat=chat, muted=True)
        await until(lambda: f"u:{jun}" not in server.node.context.bus._topics)  # type: ignore[attr-defined]
        before = suppressed("muted")
        await mina.sends(chat, "조용히")
        await settled(server)
        assert suppressed("muted") == before + 1
        assert not world.apns.tries
        await mina.sends(chat, {"t": "@Jun 봐", "m": [[0, 4, jun]]})
        await settled(server)
        assert alert(world.apns.got[0])["body"] == "2 new messages"
        assert world.apns.got[0].content["aps"]["interruption-level"] == "time-sensitive"
        await mina.sends(chat, {"t": "", "k": "call", "x": {"room": 1}})
        await settled(server)
        assert alert(world.apns.got[1])["body"] == "Incoming call"
        async with server.phone("jun") as phone:
            wishes = await phone.calls("push.settings", mentions=False, calls=False)
            assert (wishes["mentions"], wishes["calls"]) == (False, False)
        await until(lambda: f"u:{jun}" not in server.node.context.bus._topics)  # type: ignore[attr-defined]
        await mina.sends(chat, {"t": "@Jun 봐", "m": [[0, 4, jun]]})
        await mina.sends(chat, {"t": "", "k": "call", "x": {"room": 2}})
        await settled(server)
    assert len(world.apns.got) == 2


async def test_a_call_rings_by_voip(server: RunningServer, world: World) -> None:
    jun = await away(server, "jun", "a1", voip="c0ffee")
    async with server.phone("mina") as mina:
        chat = await chat_with(mina, jun)
        await mina.sends(chat, {"t": "", "k": "call", "x": {"room": 1}})
        await settled(server)
    [got] = world.apns.got
    assert (got.token, got.headers["apns-push-type"]) == ("c0ffee", "voip")
    assert int(got.headers["apns-expiration"]) - time.time() < 60


async def test_quiet_hours(server: RunningServer, world: World) -> None:
    async with server.phone("jun") as phone:
        now = datetime.now(UTC)
        hours = {"start": f"{now.hour:02}:00", "end": f"{(now.hour + 2) % 24:02}:00", "zone": "UTC"}
        assert (await phone.calls("push.settings", quiet=hours))["quiet"] == hours
    jun = await away(server, "jun", "a1")
    before = suppressed("quiet_hours")
    async with server.phone("mina") as mina:
        chat = await chat_with(mina, jun)
        await mina.sends(chat, "자니?")
        await settled(server)
        assert suppressed("quiet_hours") == before + 1
        async with server.phone("jun") as phone:
            assert (await phone.calls("push.settings", quiet=None))["quiet"] is None
        await until(lambda: f"u:{jun}" not in server.node.context.bus._topics)  # type: ignore[attr-defined]
        await mina.sends(chat, "일어났니?")
        await settled(server)
    assert len(world.apns.got) == 1


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


@pytest.mark.parametrize(
    ("platform", "answer"),
    [
        ("apns", refusal(410, "Unregistered")),
        ("apns", refusal(400, "BadDeviceToken")),
        ("fcm", google_error(404, "NOT_FOUND", "UNREGISTERED")),
        ("webpush", Response(410)),
        ("webhook", Response(410)),
    ],
    ids=["410", "BadDeviceToken", "UNREGISTERED", "webpush", "webhook"],
)
async def test_a_dead_token_is_forgotten(server: RunningServer, world: World, platform: str, answer: Response) -> None:
    token = world.webpush.subscribe("page") if platform == "webpush" else "a1"
    jun = await away(server, "jun", token, platform)
    world.ends[platform].answers["page" if platform == "webpush" else "a1"] = answer
    async with server.phone("mina") as mina:
        chat = await chat_with(mina, jun)
        await mina.sends(chat, "하나")
        await settled(server)
        await mina.sends(chat, "둘")
        await settled(server)
    assert sum(world.ends[platform].tries.values()) == 1
    assert await server.node.context.pool.fetchval("select count(*) from device where push_token is not null") == 0


async def test_a_token_that_was_registered_after_its_death_lives(
    server: RunningServer, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lane, "BACKOFF_S", 0.2)
    jun = await away(server, "jun", "a1")
    body = json.dumps({"reason": "Unregistered", "timestamp": int((time.time() - 3600) * 1000)}).encode()
    answers = [Response(410, body)]
    world.apns.answers["a1"] = lambda: answers.pop() if answers else None
    async with server.phone("mina") as mina:
        chat = await chat_with(mina, jun)
        await mina.sends(chat, "하나")
        await settled(server)
    assert world.apns.tokens() == {"a1": 1}


async def test_what_a_provider_puts_off_is_tried_again_and_arrives_once(
    server: RunningServer, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lane, "BACKOFF_S", 0.2)
    jun = await away(server, "jun", "a1")
    answers = [refusal(429, "TooManyRequests"), refusal(429, "TooManyRequests")]
    world.apns.answers["a1"] = lambda: answers.pop() if answers else None
    async with server.phone("mina") as mina:
        chat = await chat_with(mina, jun)
        await mina.sends(chat, "하나")
        await settled(server)
    assert world.apns.tries["a1"] == 3
    assert len(world.apns.got) == 1


async def test_what_is_refused_is_given_up_and_counted(server: RunningServer, world: World) -> None:
    labels = {"provider": "apns", "reason": "BadMessageId"}
    before = REGISTRY.get_sample_value("mim_push_dead_letters_total", labels) or 0.0
    jun = await away(server, "jun", "a1")
    world.apns.answers["a1"] = refusal(400, "BadMessageId")
    async with server.phone("mina") as mina:
        chat = await chat_with(mina, jun)
        await mina.sends(chat, "하나")
        await settled(server)
    assert world.apns.tries["a1"] == 1
    assert REGISTRY.get_sample_value("mim_push_dead_letters_total", labels) == before + 1


async def test_one_providers_outage_does_not_delay_another(server: RunningServer, world: World) -> None:
    users = [await away(server, f"a{n}", f"a{n}") for n in range(5)]
    users += [await away(server, f"f{n}", f"f{n}", "fcm") for n in range(5)]
    world.apns.down = refusal(503, "ServiceUnavailable")
    async with server.phone("mina") as mina:
        chat = await chat_with(mina, *users, title="모임")
        await mina.sends(chat, "하나")
        await until(lambda: len(world.fcm.got) == 5)
        await until(lambda: REGISTRY.get_sample_value("mim_push_breaker_open", {"provider": "apns"}) == 1)
        world.apns.down = None
        await settled(server)
    assert world.apns.tokens() == {f"a{n}": 1 for n in range(5)}
    assert REGISTRY.get_sample_value("mim_push_breaker_open", {"provider": "apns"}) == 0


async def test_one_push_services_outage_does_not_delay_another_page(server: RunningServer, world: World) -> None:
    """Pages of many services share the lane of Web Push; here one answers nothing at all."""
    jun = await away(server, "jun", world.webpush.subscribe("dead"), "webpush")
    hana = await away(server, "hana", world.webpush.subscribe("alive"), "webpush")
    world.webpush.answers["dead"] = Response(hang=True)
    async with server.phone("mina") as mina:
        chat = await chat_with(mina, jun, hana, title="모임")
        await mina.sends(chat, "하나")
        await until(lambda: world.webpush.tokens()["alive"] == 1, 1.5)
        del world.webpush.answers["dead"]
        await settled(server)
    assert world.webpush.tokens() == {"alive": 1, "dead": 1}


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


async def test_registering(server: RunningServer, world: World) -> None:
    async with server.phone("jun") as jun:
        config = await jun.calls("push.config")
        assert config["platforms"] == ["apns", "apns_sandbox", "fcm", "webhook", "webpush"]
        assert config["vapid"] == world.webpush.server_key
        for platform, token, code in [
            ("apns", "not hexadecimal/../", "bad_frame"),
            ("webpush", "no json", "bad_frame"),
            ("webpush", '{"endpoint": "https://localhost/x", "keys": {"p256dh": "AA", "auth": "AA"}}', "bad_frame"),
            ("webpush", world.webpush.subscribe("x").replace("localhost", "10.0.0.1"), "forbidden"),
            ("webpush", world.webpush.subscribe("x").replace("https:", "http:"), "forbidden"),
        ]:  # fmt: skip
            with pytest.raises(Refused) as refused:
                await registers(jun, token, platform)
            assert refused.value.code == code, (platform, token)
        await registers(jun, "a1")
        await jun.calls("device.push", platform="apns", token=None)
        assert (
            await server.node.context.pool.fetchval("select push_token from device where id = $1", jun.device) is None
        )


async def test_settings_keep_what_is_left_out_and_forget_what_is_null(server: RunningServer) -> None:
    async with server.phone("jun") as jun:
        plain = {"preview": None, "quiet": None, "reading": True, "mentions": True, "calls": True}
        assert await jun.calls("push.settings") == plain
        hours = {"start": "22:00", "end": "07:30", "zone": "Asia/Seoul"}
        await jun.calls("push.settings", preview="none", quiet=hours, reading=False)
        assert await jun.calls("push.settings", calls=False) == {
            "preview": "none", "quiet": hours, "reading": False, "mentions": True, "calls": False,
        }  # fmt: skip
        for wrong in (
            {"preview": "half"},
            {"quiet": {**hours, "zone": "Asia/Nowhere"}},
            {"quiet": {**hours, "start": "24:00"}},
            {"quiet": {"start": "22:00"}},
            {"reading": 1},
        ):
            with pytest.raises(Refused) as refused:
                await jun.calls("push.settings", **wrong)
            assert refused.value.code == "bad_frame", wrong
        assert await jun.calls("push.settings", preview=None, quiet=None, reading=None, calls=None) == plain
