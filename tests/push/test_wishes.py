"""What the owner of a phone asked for: where to be told, and when to be left in peace."""

import time
from datetime import UTC, datetime

import pytest

from tests.harness import Refused, RunningServer, until
from tests.push.conftest import World
from tests.push.people import alert, away, chat_with, registers, settled, suppressed


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
