"""Every way in which a session ends has a face that says what now; and signing out leaves nothing behind."""

import time
from typing import Any

import httpx
import pytest
from playwright.async_api import expect

from mim.auth.keys import ServerKeys
from mim.auth.tokens import issue
from tests.harness import Phone, RunningServer
from tests.web.conftest import Joins
from tests.web.person import Person

WHAT_IS_KEPT = """async () => ({
    databases: (await indexedDB.databases()).map(({ name }) => name),
    local: Object.values(localStorage).join(), session: Object.values(sessionStorage).join(), cookies: document.cookie,
    caches: (await Promise.all((await caches.keys()).map(async (name) =>
        (await (await caches.open(name)).keys()).map(({ url }) => new URL(url).pathname)))).flat(),
})"""

SPOIL = """async ([user, change]) => {
    const { openDatabase, get, put } = await import('/js/store/database.js');
    const db = await openDatabase(user);
    await put(db, 'meta', { ...await get(db, 'meta', 'session'), ...change }, 'session');
}"""


def face(person: Person, name: str) -> Any:
    return person.page.locator(f"dialog.face[data-face={name}]")


async def settings(person: Person) -> None:
    await person.page.locator(".self").click()


async def test_replaced_and_taken_back(joins: Joins, server: RunningServer) -> None:
    mina = await joins("Mina")
    await mina.is_online()
    async with Phone(server.ws, mina.session["token"]) as copy:
        await expect(face(mina, "replaced")).to_contain_text("Open somewhere else")
        await mina.page.get_by_role("button", name="Use it here").click()
        assert await copy.is_closed() == 4501
    await mina.is_online()
    await expect(face(mina, "replaced")).to_have_count(0)


async def test_a_token_that_ends_is_refreshed_unseen(joins: Joins, server: RunningServer) -> None:
    mina, jun = await joins("Mina"), await joins("Jun")
    await mina.starts_chat_with(jun)
    keys = await ServerKeys(server.node.context.pool).load()
    ending = issue(keys.access, mina.user, mina.session["device"], int(time.time()), ttl_s=3)
    await mina.page.evaluate(SPOIL, [mina.user, {"token": ending}])
    await mina.opens(f"/#/{mina.user}")  # the token ends within the session, or before it on a slow machine
    await mina.opens_chat("Jun")
    await mina.until(
        """async ([user, token]) => {
            const { openDatabase, get } = await import('/js/store/database.js');
            const db = await openDatabase(user);
            const session = await get(db, 'meta', 'session');
            db.close();
            return session.token !== token;
        }""",
        [mina.user, ending],
    )
    await mina.says("with a new token")
    await mina.sees_unread("with a new token", 1)
    await expect(mina.page.locator("dialog")).to_have_count(0)


async def test_an_expired_session_asks_to_sign_in_and_keeps_the_messages(joins: Joins) -> None:
    mina, jun = await joins("Mina"), await joins("Jun")
    await mina.starts_chat_with(jun)
    await mina.says("still here")
    await mina.sees_unread("still here", 1)
    await mina.page.evaluate(SPOIL, [mina.user, {"token": "spoilt", "refresh": "spoilt"}])
    await mina.opens(f"/#/{mina.user}")
    await expect(face(mina, "expired")).to_contain_text("session has ended")
    await mina.page.get_by_role("button", name="Sign in again").click()
    await expect(mina.page.locator("input[type=tel]")).to_have_value(mina.phone)
    await mina.page.locator("form button.primary").click()
    await mina.page.locator(".told-code").click()
    await mina.page.locator("form button.primary").click()
    await mina.opens_chat("Jun")
    await mina.sees("still here")


@pytest.mark.settings(min_app_version="web=99.0.0", store_link="https://example.com/mim")
async def test_update_required(joins: Joins) -> None:
    mina = await joins("Mina")
    await expect(face(mina, "update")).to_contain_text("Please update")
    await expect(face(mina, "update").locator("a")).to_have_attribute("href", "https://example.com/mim")


async def test_offline_has_a_face(joins: Joins) -> None:
    mina = await joins("Mina")
    await mina.is_online()
    await mina.page.evaluate("navigator.serviceWorker.ready.then(() => true)")
    await mina.page.context.set_offline(True)
    await mina.opens(f"/#/{mina.user}")
    await expect(mina.page.locator(".status")).to_contain_text("Offline")
    await mina.page.context.set_offline(False)
    await mina.is_online()
    await expect(mina.page.locator(".status")).to_be_empty()


async def test_sessions_are_listed_and_revoked(joins: Joins) -> None:
    mina = await joins("Mina")
    other = await joins("Mina", signed_in=False)
    other.phone = mina.phone
    await other.signs_in()
    await settings(other)
    devices = other.page.locator("[data-test=devices] li")
    await expect(devices).to_have_count(2)
    await expect(devices.filter(has_text="This device")).to_have_count(1)
    await devices.locator(".icon-leave").click()
    await other.confirms()
    await expect(devices).to_have_count(1)
    await expect(face(mina, "signed_out")).to_contain_text("was signed out")
    await mina.until("() => indexedDB.databases().then((list) => list.length === 0)")
    await mina.page.get_by_role("button", name="Sign in again").click()
    await expect(mina.page.locator("input[type=tel]")).to_have_value(mina.phone)


async def test_signing_out_leaves_nothing(joins: Joins, server: RunningServer) -> None:
    mina, jun = await joins("Mina"), await joins("Jun")
    await mina.starts_chat_with(jun)
    await mina.says("a secret")
    await mina.sees_unread("a secret", 1)
    kept = await mina.page.evaluate(WHAT_IS_KEPT)
    token = mina.session["token"]
    assert kept["databases"] == [f"mim-{mina.user}"]
    assert token not in kept["local"] + kept["session"] + kept["cookies"]

    await settings(mina)
    await mina.page.locator("dialog").get_by_text("Sign out", exact=True).click()
    await mina.confirms()
    await expect(mina.page.locator("input[type=tel]")).to_be_visible()
    await mina.until("() => indexedDB.databases().then((list) => list.length === 0)")
    kept = await mina.page.evaluate(WHAT_IS_KEPT)
    assert (kept["local"], kept["session"], kept["cookies"]) == ("[]", "", "")
    assert not [path for path in kept["caches"] if path.startswith("/v1")]
    async with httpx.AsyncClient(base_url=server.http) as http:
        answer = await http.post("/v1/call/profile.get", headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == 401
        answer = await http.post("/v1/auth/refresh", json={"refresh": mina.session["refresh"]})
        assert answer.status_code == 401


async def test_a_wrong_code_is_told(joins: Joins) -> None:
    mina = await joins("Mina", signed_in=False)
    await mina.page.goto(mina.url)
    await mina.page.locator("input[type=tel]").fill("12")
    await mina.page.keyboard.press("Enter")
    await expect(mina.page.locator(".problem")).to_contain_text("no phone number")
    await mina.page.locator("input[type=tel]").fill(mina.phone)
    await mina.page.keyboard.press("Enter")
    told = await mina.page.locator(".told-code").inner_text()
    await mina.page.locator("input.code").fill("000000" if told != "000000" else "111111")
    await mina.page.keyboard.press("Enter")
    await expect(mina.page.locator(".problem")).to_contain_text("not right")
