"""A group: who is in it, who may what, what all see of it; and searching."""

import re

from playwright.async_api import expect

from tests.web.conftest import Joins
from tests.web.person import PHONE, Person


async def makes_group(owner: Person, title: str, *others: Person) -> None:
    """The new-group dialog."""
    await owner.page.locator(".list-head .icon-button").last.click()
    await owner.page.locator(".menu-item").last.click()
    dialog = owner.page.locator("dialog")
    await dialog.locator("label input").fill(title)
    for number, other in enumerate(others, 1):
        await dialog.locator("input[type=tel]").fill(other.phone)
        await owner.page.keyboard.press("Enter")
        await expect(dialog.locator(".chips button")).to_have_count(number)
    await dialog.locator(".actions button").click()
    await owner.room_is_open(title)


async def about(person: Person) -> None:
    """Open the page about the open chat."""
    await person.page.locator(".room-head .icon-menu").click()


async def closes(person: Person) -> None:
    await person.page.keyboard.press("Escape")
    await expect(person.page.locator("dialog")).to_have_count(0)


async def test_unread_numbers_go_down_to_zero(joins: Joins) -> None:
    mina, jun, sora = await joins("Mina"), await joins("Jun", viewport=PHONE), await joins("소라", locale="ko-KR")
    await makes_group(mina, "점심 모임", jun, sora)
    await mina.says("국밥?")
    await mina.sees_unread("국밥?", 2)
    await jun.opens_chat("점심 모임")
    await mina.sees_unread("국밥?", 1)
    await jun.sees_unread("국밥?", 1)
    await sora.opens_chat("점심 모임")
    for person in (mina, jun, sora):
        await person.sees_unread("국밥?", 0)
    await jun.says("좋아요")
    await mina.sees("좋아요")
    await mina.sees_unread("좋아요", 0)
    await expect(sora.message("좋아요").locator(".sender")).to_have_text("Jun")


async def test_members_roles_title_notice(joins: Joins) -> None:
    mina, jun, sora = await joins("Mina"), await joins("Jun"), await joins("Sora")
    await makes_group(mina, "Lunch", jun)
    await mina.says("before Sora")
    await jun.opens_chat("Lunch")
    await jun.sees("before Sora")

    await about(mina)
    members = mina.page.locator("[data-test=members] li")
    await expect(members).to_have_count(2)
    await expect(members.first).to_contain_text("Owner")
    await mina.page.get_by_role("button", name="Invite").click()
    await mina.page.locator("dialog").last.locator("input[type=tel]").fill(sora.phone)
    await mina.page.keyboard.press("Enter")
    await mina.page.locator("dialog").last.locator(".actions button").click()
    await expect(members).to_have_count(3)
    await expect(jun.page.locator(".change-line")).to_have_text("Mina invited Sora")

    await mina.page.get_by_role("button", name="Change name").click()
    await mina.page.locator("dialog").last.locator("input").fill("Late lunch")
    await mina.page.keyboard.press("Enter")
    await expect(jun.page.locator(".room h1")).to_have_text("Late lunch")
    await mina.page.get_by_role("button", name="Change notice").click()
    await mina.page.locator("dialog").last.locator("textarea").fill("Bring cash\nat noon")
    await mina.page.locator("dialog").last.locator("button.primary").click()
    await expect(jun.page.locator(".notice")).to_contain_text("Bring cash")

    await members.filter(has_text="Jun").locator(".icon-more").click()
    await mina.page.locator(".menu-item", has_text="Hand over the group").click()
    await mina.confirms()
    await expect(members.filter(has_text="Jun")).to_contain_text("Owner")
    await expect(members.filter(has_text="Mina")).to_contain_text("Manager")
    await closes(mina)

    await sora.opens_chat("Late lunch")
    await sora.says("hi all")
    await expect(sora.message("before Sora")).to_have_count(0)
    await about(jun)
    await jun.page.locator("[data-test=members] li", has_text="Sora").locator(".icon-more").click()
    await jun.page.locator(".menu-item", has_text="Remove from group").click()
    await jun.confirms()
    await expect(sora.page.locator(".chat-row")).to_have_count(0)
    await expect(sora.page.locator(".room")).to_have_count(0)
    await expect(mina.page.locator(".change-line").last).to_have_text("Jun removed Sora")
    await closes(jun)

    await mina.chat("Late lunch").click(button="right")
    await mina.page.locator(".menu-item", has_text="Leave chat").click()
    await mina.confirms()
    await expect(mina.page.locator(".chat-row")).to_have_count(0)
    await expect(jun.page.locator(".change-line").last).to_have_text("Mina left")
    await expect(jun.page.locator(".room-name .faint")).to_have_text("1 member")


async def test_mention_with_completion(joins: Joins) -> None:
    mina, jun, sora = await joins("Mina"), await joins("Jun"), await joins("소라 김")
    await makes_group(mina, "Friends", jun, sora)
    field = mina.page.locator(".composer-field")
    await field.press_sequentially("hey @소")
    await expect(mina.page.locator(".choice")).to_have_text([re.compile("소라 김")])
    await field.press("Enter")
    await expect(field).to_have_value("hey @소라 김 ")
    await field.press_sequentially("look 👀")
    await field.press("Enter")
    await sora.opens_chat("Friends")
    await expect(sora.page.locator(".mention-me")).to_have_text("@소라 김")
    await jun.opens_chat("Friends")
    await expect(jun.page.locator(".mention")).to_have_text("@소라 김")
    await expect(jun.page.locator(".mention-me")).to_have_count(0)


async def test_search_finds_two_syllables_and_jumps_there(joins: Joins) -> None:
    mina, jun, sora = await joins("Mina"), await joins("Jun"), await joins("Sora")
    await mina.starts_chat_with(jun)
    await mina.says("내일 순대국밥 먹으러 가자")
    await mina.sees_unread("내일 순대국밥 먹으러 가자", 1)
    chat = int(await mina.page.locator(".chat-row").get_attribute("data-chat") or 0)
    await mina.posts(chat, [f"filler {number}" for number in range(120)])
    await mina.calls("chat.send", chat=chat, cid=2000, body={"t": "as said above", "re": 1})
    await mina.sees("as said above")
    await expect(mina.message("내일 순대국밥 먹으러 가자")).to_have_count(0)  # far up, not in the page
    await mina.message("as said above").locator(".quote").click()
    await expect(mina.message("내일 순대국밥 먹으러 가자")).to_be_in_viewport()
    await mina.starts_chat_with(sora)
    await mina.says("국밥은 역시 소라네")

    await mina.page.locator(".list-head .icon-search").click()
    await mina.page.locator("dialog input").fill("국밥")
    hits = mina.page.locator("dialog .entry")
    await expect(hits).to_have_count(2)
    await expect(hits.locator("mark")).to_have_text(["국밥", "국밥"])
    await hits.filter(has_text="순대").click()
    await mina.sees("내일 순대국밥 먹으러 가자")
    await expect(mina.page.locator(".room h1")).to_have_text("Jun")
    await expect(mina.page.locator(".newest")).to_be_visible()

    await mina.page.locator(".room-head .icon-search").click()
    await mina.page.locator("dialog input").fill("국밥")
    await expect(hits).to_have_count(1)
    await mina.page.locator("dialog input").fill("없는말")
    await expect(mina.page.locator("dialog [role=status]")).to_have_text("Nothing found")
