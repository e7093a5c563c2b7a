"""The web client in a real browser: bytes of a first load, time to an open room with a long history, memory.

Everything is measured in headless Chromium, driven by Playwright (`pip install -e '.[dev]'`).
"""

import asyncio
import shutil
import statistics
from typing import Annotated, Any, Final

import httpx
import typer

from loadtest.load.client import Client, LoadError
from loadtest.load.crew import Crew
from loadtest.load.many import wait_until
from loadtest.options import Rounds
from loadtest.running import Run, scenario

ARGUMENTS: Final = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
OPENINGS: Final = 7  # of each kind a round
WINDOW: Final = 128  # messages of the other side on the way
PAGE: Final = 200
CHATS: Final = 6  # the open room and others, as an evening has
PATIENCE_S: Final = 120.0
MIB: Final = 1 << 20

ADOPT: Final = "async (session) => (await import('/js/store/adopt.js')).adopt(session, '')"

# The time at which a room is there, in the page's own clock, which begins with the navigation or is set by `mark`.
WATCH: Final = """() => {
    let begun = 0;
    window.mark = () => { begun = performance.now(); window.opened = null; };
    new MutationObserver(() => {
        if (window.opened || !document.querySelector('.room[data-ready] .bubble')) return;
        requestAnimationFrame(() => requestAnimationFrame(() => { window.opened ??= performance.now() - begun; }));
    }).observe(document, { subtree: true, childList: true, attributes: true, attributeFilter: ['data-ready'] });
}"""

# A second engine of the same account asks the first for every page of the chat, so that all of it is stored.
STORE: Final = """async ([user, chat, page]) => {
    const { Engine } = await import('/js/connection/engine.js');
    const { seqs, result } = await import('/js/store/database.js');
    const engine = await Engine.open(user);
    const { head } = engine.model.chats.get(chat);
    for (let from = 0; from < head; from += page) await engine.ask('fetch', chat, from, page);
    const store = engine.db.transaction('messages').objectStore('messages');
    const stored = await result(store.count(seqs(chat, 0, Infinity)));
    engine.close();
    return stored;
}"""

SHOWN: Final = """last => [...document.querySelectorAll('.bubble .text')]
    .some(({ textContent: text }) => text === last || text.startsWith(`${last} `))"""


@scenario
async def web(
    run: Run,
    messages: Annotated[int, typer.Option(min=200, help="Stored messages of the room that is opened.")] = 10_000,
    traffic: Annotated[int, typer.Option(min=0, help="Messages that come in while memory is watched.")] = 3600,
    rounds: Rounds = 3,
) -> None:
    """The web client in headless Chromium: bytes of a first load, time to an open room, memory after traffic.

    One person is in a browser, and another wrote `messages` to them before and writes `traffic` more.
    """
    run.lasts(120)
    report, target = run.report, run.target
    try:
        from playwright.async_api import async_playwright
    except ImportError:
        raise LoadError("this scenario drives a browser: pip install playwright") from None
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        raise LoadError("this scenario needs Chromium: apt-get install chromium")
    crew = Crew(run.place(2))
    me, other = await crew.sign_in(0), await crew.sign_in(1)
    await me.call("profile.update", name="Reader")
    chats = [await _chat(me, other, number) for number in range(CHATS)]
    await _write(other, chats[:1], messages)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        report.settings["browser"] = f"Chromium {browser.version}"
        context = await browser.new_context(locale="en-US", viewport={"width": 1280, "height": 800})
        page = await context.new_page()
        view = View(page, f"http://{target.host}:{target.port}", me.user, chats[0])
        figures = await view.first_load()
        await view.sign_in(crew.token(0), me.session["device"])
        await me.close()  # the browser is this device from here on
        stored = await view.store()
        if stored < messages:
            report.violations.append(f"{stored} of {messages} messages are stored in the browser")
        figures |= await view.load_into_room()
        report.rounds = [{**(figures if not number else {}), **await view.openings()} for number in range(rounds)]
        before = await view.memory()
        await view.traffic(other, chats, traffic)
        after = await view.memory()
        report.rounds[0] |= {f"{name} before": value for name, value in before.items()}
        report.rounds[0] |= {f"{name} after": value for name, value in after.items()}
        await browser.close()
    report.checked.append(
        f"all {messages:,} messages were stored in the browser, and all {traffic:,} of the traffic arrived"
    )
    report.notes.append(
        f"the traffic is {traffic:,} messages in {CHATS} chats as fast as they are acknowledged, not over an hour"
    )
    await other.close()


async def _chat(me: Client, other: Client, number: int) -> int:
    """The first is the two people's own chat, the others are groups."""
    kind = {"kind": "group", "title": f"Group {number}"} if number else {"kind": "direct"}
    state: dict[str, Any] = await me.call("chat.create", members=[other.user], **kind)
    return int(state["chat"])


async def _write(writer: Client, chats: list[int], count: int) -> None:
    """Texts of several lengths, in turns to the chats, each sent after the one `WINDOW` before is acknowledged."""
    first = writer.sent
    for number in range(first + 1, first + count + 1):
        text = f"message {number} " + "some words more " * (number * 7 % 11)
        writer.write(2, number, chats[number % len(chats)], text.strip())
        writer.sent = number
        if number % WINDOW == 0:
            await wait_until(lambda: writer.acked >= writer.sent - WINDOW, PATIENCE_S, "ACK")
    await wait_until(lambda: writer.acked >= writer.sent, PATIENCE_S, "ACK for everything")


class View:
    """The browser's window, and what is measured in it."""

    def __init__(self, page: Any, url: str, user: int, chat: int) -> None:
        self._page = page
        self._url = url
        self._user = user
        self._chat = chat
        page.set_default_timeout(PATIENCE_S * 1000)

    async def _weigh(self, load: Any, seen: str) -> tuple[int, int]:
        """Requests and uncompressed bytes until an element is there."""
        answers: list[Any] = []

        def answered(answer: Any) -> None:
            answers.append(answer)

        self._page.on("response", answered)
        await load
        await self._page.locator(seen).first.wait_for()
        self._page.remove_listener("response", answered)
        found = [answer.url for answer in answers if answer.url.startswith(self._url) and "/v1/" not in answer.url]
        async with httpx.AsyncClient() as http:  # asked for anew: a 304 has no body
            bodies = [(await http.get(url)).content for url in found]
        return len(bodies), sum(map(len, bodies))

    async def first_load(self) -> dict[str, float]:
        """A newcomer's page, up to the field for the phone number."""
        requests, size = await self._weigh(self._page.goto(self._url), "input[type=tel]")
        return {"first load bytes": size, "first load requests": requests}

    async def sign_in(self, token: str, device: int) -> None:
        """With a token of an app; nothing is typed."""
        session = {"token": token, "refresh": "", "user": self._user, "device": device}
        await self._page.evaluate(ADOPT, session)
        await self._page.add_init_script(f"({WATCH})()")

    async def store(self) -> int:
        """Have the whole chat stored in the browser; returns how many messages are."""
        await self._open(f"#/{self._user}")
        await self._page.locator(".status[data-state=online]").wait_for(state="attached")
        return int(await self._page.evaluate(STORE, [self._user, self._chat, PAGE]))

    async def load_into_room(self) -> dict[str, float]:
        """Bytes of a visit that goes right to a room, by a browser that has none of the files."""
        await self._page.evaluate("""async () => {
            for (const name of await caches.keys()) await caches.delete(name);
            for (const worker of await navigator.serviceWorker.getRegistrations()) await worker.unregister();
        }""")
        requests, size = await self._weigh(self._open(f"#/{self._user}/{self._chat}"), ".room[data-ready] .bubble")
        return {"first load into a room bytes": size, "first load into a room requests": requests}

    async def _open(self, path: str) -> None:
        await self._page.goto("about:blank")
        await self._page.goto(f"{self._url}/{path}")

    async def openings(self) -> dict[str, float]:
        """From the navigation, and from the click on the chat, to two frames after the messages are in the page."""
        loads, clicks = [], []
        for _ in range(OPENINGS):
            await self._open(f"#/{self._user}/{self._chat}")
            loads.append(await self._opened())
            await self._page.evaluate("user => { location.hash = `#/${user}`; }", self._user)
            await self._page.locator(".room").wait_for(state="detached")
            await self._page.evaluate(
                "chat => { mark(); document.querySelector(`[data-chat='${chat}']`).click(); }", self._chat
            )
            clicks.append(await self._opened())
        return {"page to open room ms": statistics.median(loads), "click to open room ms": statistics.median(clicks)}

    async def _opened(self) -> float:
        async with asyncio.timeout(PATIENCE_S):
            while not (took := await self._page.evaluate("window.opened")):  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.01)
        return float(took)

    async def memory(self) -> dict[str, float]:
        """After a garbage collection."""
        session = await self._page.context.new_cdp_session(self._page)
        await session.send("HeapProfiler.collectGarbage")
        await session.send("Performance.enable")
        found = {row["name"]: row["value"] for row in (await session.send("Performance.getMetrics"))["metrics"]}
        await session.detach()
        return {
            "JS heap MiB": found["JSHeapUsedSize"] / MIB,
            "DOM nodes": found["Nodes"],
            "listeners": found["JSEventListeners"],
        }

    async def traffic(self, other: Client, chats: list[int], count: int) -> None:
        """Messages in every chat, with the room open and read; then wait until the last one is shown."""
        await _write(other, chats, count)
        last = f"message {other.sent - (other.sent % len(chats))}"
        async with asyncio.timeout(PATIENCE_S):
            while not await self._page.evaluate(SHOWN, last):  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.05)
