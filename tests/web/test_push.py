"""Notifications of the closed client: from the switch in the settings to the service worker.

The push service of a browser is out of reach here. In its place stands the far end of tests/push: it takes what the
server sends and decrypts it with the keys of the page; what it got is handed to the real service worker.
"""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest_asyncio
import trustme
from playwright.async_api import expect

from mim.push.service import Push
from tests.harness import RunningServer, running, until
from tests.push.conftest import World, far_ends, new_keys
from tests.web.conftest import LIFTED, Joins

SUBSCRIBE = """(subscription) => {
  const made = {toJSON: () => subscription, unsubscribe: async () => { current = null; return true; }};
  let current = localStorage.getItem('test.subscribed') ? made : null;
  PushManager.prototype.getSubscription = async () => current;
  PushManager.prototype.subscribe = async (options) => {
    if (!options.userVisibleOnly) throw new TypeError('not user visible');
    localStorage.setItem('test.subscribed', options.applicationServerKey);
    current = made;
    return made;
  };
}"""


@pytest_asyncio.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with far_ends(tmp_path, trustme.CA(), new_keys()) as world:
        yield world


@pytest_asyncio.fixture
async def server(database_url: str, world: World) -> AsyncIterator[RunningServer]:
    async with running(database_url, **{**world.settings, **LIFTED}) as server:
        push = server.node.context.push
        assert isinstance(push, Push)
        world.webpush.server_key = await push.public_key()
        yield server


async def test_a_closed_client_is_told(server: RunningServer, world: World, joins: Joins) -> None:
    mina, jun = await joins("Mina"), await joins("Jun")
    subscription = json.loads(world.webpush.subscribe("page"))
    context = jun.page.context
    await context.grant_permissions(["notifications"])
    await context.add_init_script(f"({SUBSCRIBE})({json.dumps(subscription)})")
    await jun.page.reload()
    await jun.page.evaluate("navigator.serviceWorker.ready.then(() => true)")
    await jun.page.locator(".self").click()
    switch = jun.page.locator("[data-test=push] [role=switch]")
    await switch.click()
    await expect(switch).to_have_attribute("aria-checked", "true")
    assert await jun.page.evaluate("localStorage.getItem('test.subscribed')") == world.webpush.server_key
    await jun.page.keyboard.press("Escape")

    await mina.starts_chat_with(jun)
    await mina.says("open")
    await jun.opens_chat("Mina")
    await jun.sees("open")
    assert not world.webpush.got, "a connected page is not told"
    origin = await jun.page.evaluate("location.origin")
    blank = await context.new_page()
    await blank.goto(f"{origin}/icons/icon.svg")  # of the same origin, without the client
    await jun.page.close()
    user = await server.node.context.pool.fetchval("select id from account where name = 'Jun'")
    await until(lambda: f"u:{user}" not in server.node.context.bus._topics)  # type: ignore[attr-defined]
    await mina.says("closed")
    await until(lambda: world.webpush.got)
    note = world.webpush.got[0].content
    assert (note["title"], note["body"], note["user"]) == ("Mina", "closed", user)

    shown = await delivered(blank, origin, note)
    assert [(one["title"], one["body"], one["tag"]) for one in shown] == [("Mina", "closed", note["tag"])]
    shown = await delivered(blank, origin, {**note, "style": "quiet", "body": "edited"})
    assert [(one["body"], one["silent"]) for one in shown] == [("edited", True)]


async def delivered(page: Any, origin: str, note: dict[str, Any]) -> list[dict[str, Any]]:
    """Hand a message to the service worker as the browser does; what is shown afterwards."""
    session = await page.context.new_cdp_session(page)
    registrations: list[str] = []
    session.on("ServiceWorker.workerRegistrationUpdated", lambda event: registrations.extend(
        one["registrationId"] for one in event["registrations"] if one["scopeURL"] == f"{origin}/"))  # fmt: skip
    await session.send("ServiceWorker.enable")
    await until(lambda: registrations)
    await session.send(
        "ServiceWorker.deliverPushMessage",
        {"origin": origin, "registrationId": registrations[0], "data": json.dumps(note)},
    )
    found: list[dict[str, Any]] = await page.evaluate(
        """async (body) => {
            const registration = await navigator.serviceWorker.getRegistration('/');
            for (let tries = 0; tries < 200; tries++) {
              const shown = await registration.getNotifications();
              if (shown.some((one) => one.body === body)) {
                return shown.map(({title, body, tag, silent}) => ({title, body, tag, silent}));
              }
              await new Promise((done) => setTimeout(done, 20));
            }
            return [];
        }""",
        note["body"],
    )
    return found
