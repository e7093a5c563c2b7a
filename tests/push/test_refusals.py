"""Providers that refuse, put off or do not answer: who is given up, who is tried again, and nobody else waits."""

import json
import time

import pytest
from prometheus_client import REGISTRY

from mim.push import lane
from tests.harness import RunningServer, until
from tests.push.conftest import World
from tests.push.ends import google_error, refusal
from tests.push.h2server import Response
from tests.push.people import away, chat_with, settled


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
