"""A room of 10,000 messages: only what is seen is in the page, and nothing jumps."""

import asyncio
import re

from playwright.async_api import expect

from tests.harness import ACK, SEND, RunningServer
from tests.web.conftest import Joins
from tests.web.person import Person

MANY = 10_000
WINDOW = 128

MOST_ROWS = 120  # about three screens of short messages


async def fill(server: RunningServer, mina: Person, name: str = "jun") -> int:
    """Somebody who wrote Mina ten thousand messages; returns the chat."""
    async with server.phone(name) as jun:
        chat = int((await jun.calls("chat.create", kind="direct", members=[mina.user]))["chat"])
        for number in range(1, MANY + 1):
            words = " ".join(["word"] * (number * 7 % 23)) if number % 3 else ""
            await jun.says(SEND, number, chat, f"message {number} {words}".strip())
            if number > WINDOW:
                await jun.gets(ACK, number - WINDOW)
        await jun.gets(ACK, MANY)
    return chat


async def rows(mina: Person) -> list[int]:
    """The seqs that are in the page."""
    return [
        int(seq) for seq in await mina.page.locator(".row").evaluate_all("rows => rows.map((row) => row.dataset.seq)")
    ]


async def places(mina: Person) -> dict[str, float]:
    """Where the rows are that are seen: the top of each, by seq."""
    found: dict[str, float] = await mina.page.evaluate("""() => {
        const box = document.querySelector('.scroller').getBoundingClientRect();
        return Object.fromEntries([...document.querySelectorAll('.row')]
            .map((row) => [row.dataset.seq, row.getBoundingClientRect()])
            .filter(([, { top, bottom }]) => bottom > box.top && top < box.bottom)
            .map(([seq, { top }]) => [seq, top]));
    }""")
    return found


# Reads of messages from the browser's database that begin while `window.held` is a list end when it is told to.
HOLD_READS = """() => {
    const { getAll } = IDBObjectStore.prototype;
    IDBObjectStore.prototype.getAll = function (range) {
        const request = getAll.call(this, range);
        const { held } = window;
        if (!held || this.name !== 'messages') return request;
        const late = {};
        request.onsuccess = () => held.push(() => {
            late.result = request.result;
            late.onsuccess();
        });
        return late;
    };
}"""


async def test_ten_thousand_messages(joins: Joins, server: RunningServer) -> None:
    mina = await joins("Mina")
    chat = await fill(server, mina)
    page = mina.page
    await page.evaluate("([user, chat]) => { location.hash = `#/${user}/${chat}`; }", [mina.user, chat])
    await mina.room_is_open("Jun")
    scroller = page.locator(".scroller")
    await expect(page.locator(f".row[data-seq='{MANY}']")).to_be_in_viewport()
    await mina.has_unread("Jun", 0)
    assert len(await rows(mina)) < MOST_ROWS

    # Up by the wheel: history comes, the rows in view move by what the wheel said and by nothing else.
    for _ in range(12):
        moved = await page.evaluate("""async () => {
            const scroller = document.querySelector('.scroller');
            const frame = () => new Promise(requestAnimationFrame);
            const middle = scroller.getBoundingClientRect().top + scroller.clientHeight / 2;
            const rows = [...document.querySelectorAll('.row')];
            const row = rows.find((one) => one.getBoundingClientRect().bottom > middle);
            const seq = row.dataset.seq;
            const before = row.getBoundingClientRect().top;
            scroller.scrollTop -= 300;
            for (let count = 0; count < 12; count++) await frame();
            const now = document.querySelector(`.row[data-seq="${seq}"]`);
            return now ? now.getBoundingClientRect().top - before : null;
        }""")
        assert moved is not None
        assert abs(moved - 300) <= 2, moved
    assert len(await rows(mina)) < MOST_ROWS

    # To the very top, far from anything that is stored, and what is there is the beginning.
    await scroller.evaluate("e => { e.scrollTop = 0; }")
    await expect(page.locator(".row[data-seq='1'] .text")).to_have_text(re.compile("^message 1 word"))
    await expect(page.locator(".placeholder")).to_have_count(0)
    assert (await rows(mina))[0] == 1
    assert len(await rows(mina)) < MOST_ROWS

    # A look at a place from which the bar is dragged on before it is read: that read ends at the very end.
    await page.evaluate(HOLD_READS)
    await scroller.evaluate("e => { window.held = []; e.scrollTop = e.scrollHeight / 6; }")
    await mina.until("() => held.length")
    await page.evaluate("() => { window.late = held; window.held = null; }")

    # Dragging the bar through the whole room: no frame without rows, and where it stops everything is there.
    blank = await page.evaluate("""async () => {
        const scroller = document.querySelector('.scroller');
        let blank = 0;
        for (let step = 0; step <= 60; step++) {
            scroller.scrollTop = scroller.scrollHeight * step / 60;
            await new Promise(requestAnimationFrame);
            await new Promise(requestAnimationFrame);
            const box = scroller.getBoundingClientRect();
            const seen = document.elementFromPoint(box.left + box.width / 2, box.top + box.height / 2)?.closest('.row');
            if (!seen) blank++;
        }
        return blank;
    }""")
    assert blank == 0
    await scroller.evaluate("e => { e.scrollTop = e.scrollHeight / 2; }")
    await mina.until("""() => {
        const seq = document.querySelector('.row')?.dataset.seq;
        return 3000 < seq && seq < 7000 && !document.querySelector('.placeholder');
    }""")
    seqs = await rows(mina)
    assert seqs == list(range(seqs[0], seqs[-1] + 1))

    # A new message at the other end moves nothing here, and takes nothing away for a moment.
    before = await places(mina)
    assert len(before) > 3
    await page.evaluate("""() => {
        late.forEach((end) => end());
        window.blank = 0;
        new MutationObserver(() => { blank += document.querySelectorAll('.placeholder').length; })
            .observe(document.querySelector('.rows'), { childList: true });
    }""")
    async with server.phone("jun") as jun:
        await jun.sends(chat, "the newest", cid=MANY + 1)
    await expect(page.locator(".newest .badge")).to_have_text("1")
    after = await places(mina)
    assert await page.evaluate("blank") == 0
    assert after.keys() == before.keys()
    assert all(abs(after[seq] - before[seq]) <= 1 for seq in before), (before, after)
    await page.locator(".newest").click()
    await mina.sees("the newest")
    await asyncio.gather(
        *(expect(page.locator(f".row[data-seq='{MANY + back}']")).to_be_visible() for back in (1, 0, -1))
    )
