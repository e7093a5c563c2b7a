"""The network and the server come and go; nothing is lost, nothing comes twice."""

import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import expect

from tests.faults.ports import Port
from tests.faults.process import ServerProcess
from tests.faults.proxy import Proxy
from tests.harness import RunningServer
from tests.web.conftest import LIFTED, Joins


@pytest_asyncio.fixture
async def process() -> AsyncIterator[ServerProcess]:
    """A server to be killed, always at the same address."""
    folder = Path(tempfile.mkdtemp(prefix="mim-web-"))
    folder.chmod(0o711)  # noqa: ASYNC240 - it returns at once; as root, Postgres runs as somebody else
    lifted = {f"MIM_{name.upper()}": str(value) for name, value in LIFTED.items()}
    port = Port()
    process = ServerProcess("server", folder, MIM_DEV="true", MIM_PORT=str(port.number), **lifted)
    try:
        await process.start()
        yield process
    finally:
        process.clean_up()
        port.close()
        shutil.rmtree(folder, ignore_errors=True)


async def test_the_server_is_killed_in_mid_conversation(process: ServerProcess, joins: Joins) -> None:
    mina, jun = await joins("Mina", url=process.url), await joins("Jun", url=process.url)
    await mina.starts_chat_with(jun)
    await mina.says("before")
    await jun.opens_chat("Mina")
    await jun.sees("before")

    process.kill()
    await expect(mina.page.locator(".status")).to_contain_text("Connecting")
    await mina.says("while the server was dead 1")
    await mina.says("while the server was dead 2")
    await expect(mina.page.locator(".row[data-cid]")).to_have_count(2)
    await jun.says("me too")
    await process.start()

    for person in (mina, jun):
        await person.sees("while the server was dead 1", "while the server was dead 2", "me too")
        await expect(person.page.locator(".row[data-cid]")).to_have_count(0)
        await expect(person.page.locator(".status")).to_be_empty()
    assert await mina.texts() == await jun.texts()
    assert len(await mina.texts()) == 4
    await mina.says("after")
    await jun.sees("after")
    await mina.sees_unread("after", 0)


@pytest_asyncio.fixture
async def network(server: RunningServer) -> AsyncIterator[tuple[Proxy, str]]:
    """A way to the server that can be taken away, and its URL. A browser's own offline mode lets sockets through."""
    held = Port()
    try:
        async with Proxy(("127.0.0.1", int(server.http.rpartition(":")[2])), ("127.0.0.1", held.number)) as way:
            yield way, f"http://127.0.0.1:{held.number}"
    finally:
        held.close()


async def test_offline_opens_from_what_is_stored_and_sends_once(joins: Joins, network: tuple[Proxy, str]) -> None:
    way, url = network
    mina, jun = await joins("Mina", url=url), await joins("Jun")
    await mina.starts_chat_with(jun)
    await mina.says("one")
    await jun.opens_chat("Mina")
    await jun.says("two")
    await mina.sees("two")
    await mina.page.evaluate("navigator.serviceWorker.ready.then(() => true)")

    await way.refuse()
    await mina.page.context.set_offline(True)
    await mina.opens(f"/#/{mina.user}")  # the worker has the page, the database the messages
    await mina.opens_chat("Jun")
    await mina.sees("one", "two")
    await mina.says("written offline 1")
    await mina.says("written offline 2")
    await expect(mina.page.locator(".row[data-cid]")).to_have_count(2)
    await expect(mina.page.locator(".status")).to_contain_text("Offline")
    await mina.opens(f"/#/{mina.user}")  # what waits survives closing the page
    await mina.opens_chat("Jun")
    await expect(mina.page.locator(".row[data-cid]")).to_have_count(2)
    await jun.says("written meanwhile")
    await jun.sees("written meanwhile")

    await way.restore()
    await mina.page.context.set_offline(False)
    await mina.sees("written meanwhile", "written offline 1", "written offline 2")
    await jun.sees("written offline 1", "written offline 2")
    assert await jun.texts() == ["one", "two", "written meanwhile", "written offline 1", "written offline 2"]
    await expect(mina.page.locator(".row[data-cid]")).to_have_count(0)
    assert await mina.texts() == await jun.texts()


async def test_gaps_and_changes_of_the_time_away_are_filled(joins: Joins) -> None:
    mina, jun = await joins("Mina"), await joins("Jun")
    await mina.starts_chat_with(jun)
    for text in ("stays", "to edit", "to delete", "to like"):
        await mina.says(text)
    await mina.sees("to like")
    await jun.opens_chat("Mina")
    await jun.sees("stays", "to like")
    chat = int(await mina.page.locator(".chat-row").get_attribute("data-chat") or 0)
    await jun.page.goto("about:blank")

    await mina.posts(chat, [f"missed {number}" for number in range(300)])  # the sync brings the newest 50
    await mina.calls("message.edit", chat=chat, seq=2, body="edited")
    await mina.calls("message.delete", chat=chat, seq=3, scope="everyone")
    await mina.calls("message.react", chat=chat, seq=4, reaction="❤️")

    await jun.opens(f"/#/{jun.user}/{chat}")
    await jun.room_is_open("Mina")
    for _ in range(40):  # wheel up to the top: every row on the way is there
        await jun.page.locator(".scroller").evaluate("e => { e.scrollTop -= 2000; }")
        await expect(jun.page.locator(".placeholder")).to_have_count(0)
        if await jun.page.locator(".scroller").evaluate("e => e.scrollTop") == 0:
            break
    await jun.sees("stays", "edited", "to like", "missed 0")
    await expect(jun.page.locator(".bubble-deleted")).to_have_count(1)
    await expect(jun.message("to like").locator(".reaction")).to_have_text("❤️1")
    stored = await jun.page.evaluate(
        """async ([user, chat]) => {
            const { openDatabase, all, seqs } = await import('/js/store/database.js');
            const db = await openDatabase(user);
            return (await all(db, 'messages', seqs(chat, 0, Infinity))).map(({ seq }) => seq);
        }""",
        [jun.user, chat],
    )
    assert stored == list(range(1, 305))


@pytest.mark.settings(text_limit=20)
async def test_what_the_server_refuses_can_be_sent_again_or_deleted(joins: Joins) -> None:
    mina, jun = await joins("Mina"), await joins("Jun")
    await mina.starts_chat_with(jun)
    await mina.is_online()
    await mina.page.locator(".composer-field").fill("x" * 21)
    await expect(mina.page.locator(".counter")).to_have_text("1 too many")
    await expect(mina.page.locator(".send")).to_be_disabled()
    await mina.page.locator(".composer-field").fill("")
    # Past the composer, as an older page would: the server has the last word.
    chat = int(await mina.page.locator(".chat-row").get_attribute("data-chat") or 0)
    await mina.page.evaluate(
        """async ([user, chat, text]) => {
            const { openDatabase, queueMessage } = await import('/js/store/database.js');
            await queueMessage(await openDatabase(user), { chat, body: text });
        }""",
        [mina.user, chat, "y" * 21],
    )
    await mina.opens(f"/#/{mina.user}/{chat}")
    failed = mina.page.locator(".failed")
    await expect(failed).to_contain_text("Not sent")
    await failed.click()
    await expect(mina.page.locator("dialog")).to_contain_text("too long")
    await mina.page.get_by_role("button", name="Send again").click()
    await expect(failed).to_have_count(1)
    await failed.click()
    await mina.page.get_by_role("button", name="Delete").click()
    await expect(mina.page.locator(".row[data-cid]")).to_have_count(0)
    await mina.says("fits")
    await mina.sees_unread("fits", 1)
