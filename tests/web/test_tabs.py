"""Several tabs of one account are one device; several accounts live side by side."""

import pytest
from playwright.async_api import expect

from tests.harness import RunningServer
from tests.web.conftest import Joins
from tests.web.person import Person


async def another_tab(person: Person) -> Person:
    """A second tab of the same browser, with the same account."""
    tab = Person(await person.page.context.new_page(), person.url, person.name)
    tab.user, tab.session = person.user, person.session
    await tab.opens(f"/#/{tab.user}")
    return tab


@pytest.mark.settings
async def test_tabs_agree_and_hand_over(joins: Joins, server: RunningServer) -> None:
    mina, jun = await joins("Mina"), await joins("Jun")
    await mina.starts_chat_with(jun)
    await mina.says("from the first tab")
    tab = await another_tab(mina)
    await tab.opens_chat("Jun")
    await tab.sees("from the first tab")
    await tab.says("from the second tab")
    await mina.sees("from the second tab")
    await jun.opens_chat("Mina")
    await jun.says("to both")
    await mina.sees("to both")
    await tab.sees("to both")
    assert len(server.node.gateway.connections) == 2  # one for each person

    await tab.does("from the second tab", "Edit")  # a call, carried out by the other tab
    await tab.says("from the second tab, edited")
    await mina.sees("from the second tab, edited")
    await tab.page.locator(".composer-field").fill("a draft")
    await expect(mina.page.locator(".composer-field")).to_have_value("a draft")

    await mina.page.close()  # it held the connection
    await tab.says("the second tab took over")
    await jun.sees("the second tab took over")
    await jun.says("good")
    await tab.sees("good")
    assert not tab.complaints


async def test_reading_in_one_tab_is_read_in_the_other(joins: Joins) -> None:
    mina, jun = await joins("Mina"), await joins("Jun")
    tab = await another_tab(mina)
    await jun.starts_chat_with(mina)
    await jun.says("hello")
    await mina.has_unread("Jun", 1)
    await tab.has_unread("Jun", 1)
    await tab.opens_chat("Jun")
    await mina.has_unread("Jun", 0)
    await jun.sees_unread("hello", 0)


@pytest.mark.settings
async def test_two_accounts_in_two_windows(joins: Joins, server: RunningServer) -> None:
    mina, jun = await joins("Mina"), await joins("Jun")
    window = await mina.page.context.new_page()
    work = Person(window, mina.url, "Mina at work")
    await work.signs_in()
    await jun.starts_chat_with(mina)
    await jun.says("private")
    await jun.starts_chat_with(work)
    await jun.says("business")
    await mina.has_unread("Jun", 1)
    await work.has_unread("Jun", 1)
    await mina.opens_chat("Jun")
    await mina.sees("private")
    await work.opens_chat("Jun")
    await work.sees("business")
    assert await mina.texts() == ["private"]
    await work.page.reload()  # each window keeps its account
    await expect(work.page.locator(".room .bubble .text")).to_have_text(["business"])
    await mina.opens("/")
    await expect(mina.page.locator(".chat-last")).to_have_text("private")
    assert len(server.node.gateway.connections) == 3
    assert not work.complaints
