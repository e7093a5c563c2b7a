"""For everybody: screen readers (axe-core), the keyboard alone, large text, little motion."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import expect

from tests.web.conftest import Joins
from tests.web.person import DESKTOP, PHONE, Person
from tests.web.test_groups import makes_group
from tests.web.test_hostile import OVERFLOWS


async def findings(person: Person) -> list[str]:
    """What axe-core calls serious or critical, on the page as it stands."""
    results = await Axe().run(person.page)
    found: list[dict[str, Any]] = results.response["violations"]
    return [
        f"{violation['id']}: {node['html'][:200]} {node['failureSummary']}"
        for violation in found if violation["impact"] in ("serious", "critical") for node in violation["nodes"]
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("viewport", "scheme", "locale"),
    [(PHONE, "dark", "ko-KR"), (DESKTOP, "light", "en-US")],
    ids=["phone, dark, Korean", "desktop, light, English"],
)
async def test_axe_finds_nothing_serious(joins: Joins, viewport: dict[str, int], scheme: str, locale: str) -> None:
    mina = await joins("Mina", signed_in=False, viewport=viewport, color_scheme=scheme, locale=locale)
    jun, sora = await joins("Jun"), await joins("Sora")
    page = mina.page
    seen: dict[str, list[str]] = {}

    async def look(name: str) -> None:
        seen[name] = await findings(mina)

    async def dialog(name: str, *path: Callable[[], Awaitable[Any]], holds: str = "") -> None:
        for step in path:
            await step()
        await page.locator(f"dialog[open] {holds}").last.wait_for()
        await look(name)
        if "search" in name:
            await page.keyboard.press("Escape")  # the first one empties the field
        await page.keyboard.press("Escape")
        await expect(page.locator("dialog")).to_have_count(0)

    await page.goto(mina.url)
    await page.locator("input[type=tel]").wait_for()
    await look("sign-in")
    await mina.signs_in()
    await mina.page.locator(".empty-list").wait_for()
    await look("no chats")
    await makes_group(mina, "점심", jun, sora)
    await mina.says("hello https://example.com")
    await mina.sees("hello https://example.com")
    await jun.opens_chat("점심")
    await jun.says("안녕")
    await jun.does("안녕", "Reply")
    await jun.says("answer")
    await mina.sees("answer")
    await page.locator(".row[data-seq='2'] .bubble").click(button="right")
    await page.locator(".reaction-choice").nth(1).click()
    await expect(page.locator(".reaction")).to_be_visible()
    await look("room")
    more = page.locator(".row[data-seq='2'] .bubble")
    await dialog("message menu", lambda: more.click(button="right"))
    await dialog("about", page.locator(".room-head .icon-menu").click)
    await dialog(
        "search here",
        page.locator(".room-head .icon-search").click,
        lambda: page.locator("dialog input").fill("hello"),
        holds="mark",
    )
    if viewport is PHONE:
        await mina.goes_back()
    await look("list")
    await dialog("settings", page.locator(".self").click)
    await dialog("new chat", page.locator(".list-head .icon-add").click, page.locator(".menu-item").first.click)
    await dialog("new group", page.locator(".list-head .icon-add").click, page.locator(".menu-item").last.click)
    assert {name: found for name, found in seen.items() if found} == {}
    assert len(seen) == 10


async def test_by_keyboard_alone(joins: Joins) -> None:
    mina, jun = await joins("Mina", signed_in=False), await joins("Jun")
    page, keys = mina.page, mina.page.keyboard

    async def tab_to(label: str) -> None:
        for _ in range(40):
            await keys.press("Tab")
            focused = "document.activeElement.getAttribute('aria-label') ?? document.activeElement.textContent"
            if label in await page.evaluate(focused):
                return
        raise AssertionError(f"Tab does not reach {label}")

    await page.goto(mina.url)
    await expect(page.locator("input[type=tel]")).to_be_focused()
    await keys.type(mina.phone)
    await keys.press("Enter")
    await expect(page.locator("input.code")).to_be_focused()
    await keys.type(await page.locator(".told-code").inner_text())
    await keys.press("Enter")
    await expect(page.locator("dialog input").first).to_be_focused()
    await keys.type("Mina")
    await keys.press("Enter")
    await expect(page.locator("dialog")).to_have_count(0)

    await tab_to("New")
    await keys.press("Enter")
    await expect(page.locator(".menu-item").first).to_be_focused()
    await keys.press("Enter")  # a new chat
    await expect(page.locator("dialog input[type=tel]")).to_be_focused()
    await keys.type(jun.phone)
    await keys.press("Enter")
    await expect(page.locator(".composer-field")).to_be_focused()
    await keys.type("first line")
    await keys.press("Shift+Enter")
    await keys.type("second line")
    await keys.press("Enter")
    await expect(page.locator(".row[data-seq='1'] .text")).to_have_text("first line\nsecond line")
    await keys.type("another")
    await keys.press("Enter")
    await mina.sees("another")

    await keys.press("ArrowUp")  # in the empty field: edit the last
    await expect(page.locator(".composer-field")).to_have_value("another")
    await keys.type("!")
    await keys.press("Enter")
    await mina.sees("another!")

    await page.locator(".scroller").focus()
    await keys.press("ArrowUp")
    await keys.press("ArrowUp")
    await expect(page.locator(".row[data-seq='1']")).to_be_focused()
    await keys.press("Enter")
    await expect(page.locator("dialog.menu button").first).to_be_focused()
    await keys.press("ArrowDown")
    for _ in range(8):
        if await page.evaluate("document.activeElement.textContent") == "Reply":
            break
        await keys.press("ArrowDown")
    await keys.press("Enter")
    await expect(page.locator(".composer-field")).to_be_focused()
    await keys.type("a reply")
    await keys.press("Enter")
    await expect(mina.message("a reply").locator(".quote")).to_be_visible()
    await keys.type("x")
    await keys.press("Backspace")
    assert await page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


async def test_new_messages_are_announced(joins: Joins) -> None:
    mina, jun = await joins("Mina"), await joins("Jun")
    await mina.starts_chat_with(jun)
    await mina.says("hello")
    await jun.opens_chat("Mina")
    await jun.sees("hello")
    await jun.says("for your ears")
    await expect(mina.page.locator("#announcer")).to_have_text("Jun: for your ears")


@pytest.mark.parametrize("viewport", [PHONE, DESKTOP], ids=["phone", "desktop"])
async def test_large_text_and_little_motion(joins: Joins, viewport: dict[str, int]) -> None:
    mina = await joins("Mina", viewport=viewport, reduced_motion="reduce")
    jun = await joins("A person with a rather long name, as some have")
    await mina.starts_chat_with(jun)
    await mina.says("a message of some length, so that it has to be broken into lines in a large type")
    await mina.page.evaluate("document.documentElement.style.fontSize = '200%'")
    assert await mina.page.evaluate(OVERFLOWS) == []
    for part in (".composer-field", ".send", ".room-head .icon-menu", ".row[data-seq='1'] .text"):
        await expect(mina.page.locator(part)).to_be_in_viewport(ratio=0.9)
    await mina.page.evaluate("document.body.append(Object.assign(document.createElement('p'), { className: 'toast' }))")
    assert await mina.page.locator("p.toast").evaluate("e => getComputedStyle(e).animationName") == "none"
