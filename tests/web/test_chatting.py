"""Two people in their browsers: from the first sight of the page to reactions."""

import re

import pytest
from playwright.async_api import expect

from tests.web.conftest import Joins
from tests.web.person import DESKTOP, PHONE


@pytest.mark.parametrize(
    ("viewport", "locale", "title", "hint"),
    [(PHONE, "ko-KR", "채팅", "메시지"), (DESKTOP, "en-US", "Chats", "Message")],
    ids=["phone, Korean", "desktop, English"],
)
async def test_two_newcomers_meet(joins: Joins, viewport: dict[str, int], locale: str, title: str, hint: str) -> None:
    mina = await joins("민아", signed_in=False, viewport=viewport, locale=locale)
    jun = await joins("Jun", signed_in=False, viewport=viewport, locale=locale)
    await mina.types_code()
    await jun.types_code()
    await expect(mina.page.locator(".list h1")).to_have_text(title)
    await mina.starts_chat_with(jun)
    await expect(mina.page.locator(".composer-field")).to_have_attribute("placeholder", hint)
    await mina.says("안녕 준!")
    await mina.sees_unread("안녕 준!", 1)
    await jun.has_unread("민아", 1)
    await expect(jun.page).to_have_title("(1) mim")
    await expect(jun.page.locator("#favicon")).to_have_attribute("href", "/icons/icon-unread.svg")
    await jun.opens_chat("민아")
    await jun.sees("안녕 준!")
    await mina.sees_unread("안녕 준!", 0)
    await expect(jun.page).to_have_title("mim")
    await expect(jun.page.locator("#favicon")).to_have_attribute("href", "/icons/icon.svg")
    await jun.page.locator(".composer-field").press_sequentially("Hi")
    await expect(mina.page.locator(".typing")).to_contain_text("Jun")
    await jun.says("Hi, 민아")
    await mina.sees("Hi, 민아")
    await mina.sees_unread("Hi, 민아", 0)
    await jun.sees_unread("Hi, 민아", 0)
    narrow = viewport is PHONE
    await expect(mina.page.locator(".list")).to_be_visible(visible=not narrow)
    if narrow:
        await mina.goes_back()
        await expect(mina.chat("Jun")).to_be_visible()
        await expect(mina.page.locator(".room")).to_have_count(0)


async def test_reply_edit_react_delete(joins: Joins) -> None:
    mina, jun = await joins("Mina"), await joins("Jun")
    await mina.starts_chat_with(jun)
    await mina.says("Lunch?")
    await jun.opens_chat("Mina")
    await jun.sees("Lunch?")

    await jun.does("Lunch?", "Reply")
    await jun.says("Yes, gukbap")
    await expect(mina.message("Yes, gukbap").locator(".quote")).to_contain_text("Lunch?")

    await mina.does("Lunch?", "Edit")
    await mina.says("Lunch at noon?")
    await jun.sees("Lunch at noon?")
    await expect(jun.message("Lunch at noon?").locator(".edited")).to_be_visible()
    await expect(jun.message("Yes, gukbap").locator(".quote")).to_contain_text("Lunch at noon?")

    await jun.message("Lunch at noon?").locator(".bubble").click(button="right")
    await jun.page.locator(".reaction-choice").first.click()
    reaction = mina.message("Lunch at noon?").locator(".reaction")
    await expect(reaction).to_have_text("👍1")
    await reaction.click()
    await expect(jun.message("Lunch at noon?").locator(".reaction")).to_have_text("👍2")
    await expect(jun.message("Lunch at noon?").locator(".reaction")).to_have_attribute("aria-pressed", "true")
    await jun.message("Lunch at noon?").locator(".reaction").click()
    await expect(reaction).to_have_text("👍1")

    await jun.does("Lunch at noon?", "Delete for me")
    await jun.confirms()
    await expect(jun.message("Lunch at noon?")).to_have_count(0)
    await mina.sees("Lunch at noon?")
    await mina.does("Lunch at noon?", "Delete for everyone")
    await mina.confirms()
    await expect(mina.page.locator(".bubble-deleted")).to_have_count(1)
    await expect(mina.message("Yes, gukbap").locator(".quote")).to_have_count(0)


async def test_copy_puts_the_text_into_the_clipboard(joins: Joins) -> None:
    mina, jun = await joins("Mina", permissions=["clipboard-read", "clipboard-write"]), await joins("Jun")
    await mina.starts_chat_with(jun)
    await mina.says("<b>not bold</b>")
    await mina.does("<b>not bold</b>", "Copy")
    await expect(mina.page.locator(".toast")).to_have_text("Copied")
    assert await mina.page.evaluate("navigator.clipboard.readText()") == "<b>not bold</b>"


async def test_mute_pin_and_drafts(joins: Joins) -> None:
    mina, jun, sora = await joins("Mina"), await joins("Jun"), await joins("Sora")
    await mina.starts_chat_with(jun)
    await mina.says("first")
    await mina.starts_chat_with(sora)
    await mina.says("second")
    names = mina.page.locator(".chat-name")
    await expect(names).to_have_text(["Sora", "Jun"])
    await mina.chat("Jun").click(button="right")
    await mina.page.locator(".menu-item", has_text="Pin").click()
    await expect(names).to_have_text(["Jun", "Sora"])
    await mina.chat("Jun").click(button="right")
    await mina.page.locator(".menu-item", has_text="Mute").click()
    await expect(mina.chat("Jun").locator(".mark[title=Muted]")).to_be_visible()
    await sora.opens_chat("Mina")
    await mina.page.locator(".composer-field").fill("half a thought")
    await mina.opens_chat("Jun")
    await expect(mina.chat("Sora").locator(".chat-last")).to_have_text("Draft:half a thought")
    await jun.opens_chat("Mina")
    await jun.says("muted, so no number in the title")
    await mina.sees("muted, so no number in the title")
    await mina.opens(f"/#/{mina.user}")
    await mina.opens_chat("Sora")
    await expect(mina.page.locator(".composer-field")).to_have_value("half a thought")
    await jun.says("still muted")
    await mina.has_unread("Jun", 1)
    await expect(mina.page).to_have_title("mim")


async def test_a_line_shows_where_new_messages_begin(joins: Joins) -> None:
    mina, jun = await joins("Mina"), await joins("Jun")
    await mina.starts_chat_with(jun)
    for number in range(3):
        await mina.says(f"old {number}")
    await jun.opens_chat("Mina")
    await jun.sees("old 2")
    await mina.sees_unread("old 2", 0)
    await jun.opens(f"/#/{jun.user}")
    for number in range(40):
        await mina.says(f"new {number}")
    await jun.has_unread("Mina", 40)
    await jun.opens_chat("Mina")
    await jun.sees("new 0")
    line = jun.page.locator(".row", has=jun.page.locator(".new-from"))
    await expect(line).to_contain_text("New messages from here")
    await expect(line).to_contain_text("new 0")
    # What is below the view is not read yet, and the button says so.
    newest = jun.page.locator(".newest .badge")
    await expect(newest).to_have_text(re.compile(r"^\d+$"))
    await mina.sees_unread("new 39", 1)
    below = int(await newest.inner_text())
    assert 0 < below < 40
    await jun.page.locator(".newest").click()
    await jun.sees("new 39")
    await expect(jun.page.locator(".newest")).to_be_hidden()
    await mina.sees_unread("new 39", 0)
    await jun.has_unread("Mina", 0)


async def test_a_hidden_tab_reads_nothing(joins: Joins) -> None:
    mina, jun = await joins("Mina"), await joins("Jun")
    await mina.starts_chat_with(jun)
    await mina.says("seen")
    await jun.opens_chat("Mina")
    await mina.sees_unread("seen", 0)
    await jun.page.evaluate("""() => {
        Object.defineProperty(document, 'hidden', { get: () => window.away, configurable: true });
        window.away = true;
        document.dispatchEvent(new Event('visibilitychange'));
    }""")
    await mina.says("not seen")
    await jun.sees("not seen")
    await jun.has_unread("Mina", 1)
    await mina.sees_unread("not seen", 1)
    await jun.page.evaluate("() => { window.away = false; document.dispatchEvent(new Event('visibilitychange')); }")
    await mina.sees_unread("not seen", 0)
