"""A person at a browser: what they do and what they see, so that tests read as a transcript."""

import asyncio
import itertools
import re
from typing import Any

import httpx
from playwright.async_api import ConsoleMessage, Locator, Page, expect

PHONE = {"width": 390, "height": 844}
DESKTOP = {"width": 1280, "height": 800}
PATIENCE_MS = 20_000  # on a busy machine

ADOPT = "async (session) => (await import('/js/store/adopt.js')).adopt(session, session.phone)"

_numbers = itertools.count(1000)


def new_phone() -> str:
    """A phone number that no other test uses."""
    return f"010-2345-{next(_numbers):04}"


class Person:
    """One account in one browser window."""

    def __init__(self, page: Page, url: str, name: str) -> None:
        self.page = page
        self.url = url
        self.name = name
        self.phone = new_phone()
        self.user = 0
        self.session: dict[str, Any] = {}
        self.complaints: list[str] = []
        page.set_default_timeout(PATIENCE_MS)
        page.on("console", self._heard)
        page.on("pageerror", lambda error: self.complaints.append(f"{self.name}: {error}\n{error.stack}"))

    def _heard(self, message: ConsoleMessage) -> None:
        network = "WebSocket connection" in message.text or "Failed to load resource" in message.text
        if message.type in ("error", "warning") and not network:
            self.complaints.append(f"{self.name}: {message.type}: {message.text}")

    def _http(self) -> httpx.AsyncClient:
        """Without TLS there is nothing to verify, and reading the certificates takes long."""
        return httpx.AsyncClient(base_url=self.url, verify=False, timeout=30)

    # -- coming in

    async def signs_in(self) -> None:
        """Open the account without typing: the code by HTTP, the tokens where the page would have put them."""
        async with self._http() as http:
            code = (await http.post("/v1/auth/code", json={"phone": self.phone})).raise_for_status().json()["code"]
            device = {"name": "Test browser", "os": "web"}
            verified = await http.post("/v1/auth/verify", json={"phone": self.phone, "code": code, "device": device})
            self.session = {**verified.raise_for_status().json(), "phone": self.phone}
            self.user = self.session["user"]
            await self.calls("profile.update", name=self.name)
        await self.page.goto(self.url)
        await self.page.evaluate(ADOPT, self.session)
        await self.page.evaluate("user => { location.hash = `#/${user}`; }", self.user)
        await self.page.locator(".list").wait_for(state="attached")

    async def opens(self, path: str = "/") -> None:
        """Load an address anew and wait for the chats."""
        await self.page.goto("about:blank")
        await self.page.goto(self.url + path)
        await self.page.locator(".list").wait_for(state="attached")

    async def types_code(self) -> None:
        """The sign-in page, as a newcomer goes through it."""
        await self.page.goto(self.url)
        await self.page.locator("input[type=tel]").fill(self.phone)
        await self.page.keyboard.press("Enter")
        await self.page.locator(".told-code").click()
        await self.page.keyboard.press("Tab")
        await self.page.locator("form button.primary").click()
        await self.page.locator("dialog input[autocomplete=name]").fill(self.name)
        await self.page.locator("dialog form button.primary").click()
        await expect(self.page.locator("dialog")).to_have_count(0)
        self.user = int(await self.page.evaluate("sessionStorage.getItem('mim.account')"))

    async def posts(self, chat: int, texts: list[str]) -> None:
        """Messages beside the page, by a connection of their own; for many."""
        async with self._http() as http:
            headers = {"Authorization": f"Bearer {self.session['token']}"}
            for cid, text in enumerate(texts, 1_000_000):
                params = {"chat": chat, "cid": cid, "body": text}
                (await http.post("/v1/call/chat.send", json=params, headers=headers)).raise_for_status()

    async def calls(self, method: str, **params: Any) -> Any:
        """A method by HTTP, beside the page."""
        async with self._http() as http:
            headers = {"Authorization": f"Bearer {self.session['token']}"}
            answer = await http.post(f"/v1/call/{method}", json=params, headers=headers)
            return answer.raise_for_status().json()

    # -- chats

    async def starts_chat_with(self, other: "Person") -> None:
        """A new chat by phone, by the menu."""
        await self.page.locator(".list-head .icon-button").last.click()
        await self.page.locator(".menu-item").first.click()
        await self.page.locator("dialog input[type=tel]").fill(other.phone)
        await self.page.keyboard.press("Enter")
        await self.room_is_open(other.name)

    async def opens_chat(self, name: str) -> None:
        """Click a chat in the list."""
        await self.chat(name).click()
        await self.room_is_open(name)

    async def room_is_open(self, name: str) -> None:
        """Wait until the messages of this room are there."""
        await self.page.locator(
            ".room[data-ready]", has=self.page.get_by_role("heading", name=name, exact=True)
        ).wait_for()

    async def goes_back(self) -> None:
        """From the room to the list, on a phone."""
        await self.page.locator(".room-head .icon-back").click()

    def chat(self, name: str) -> Locator:
        """The row of a chat in the list."""
        return self.page.locator(".chat-row", has=self.page.get_by_text(name, exact=True))

    async def has_unread(self, name: str, number: int) -> None:
        """The badge beside a chat; 0 for none."""
        badge = self.chat(name).locator(".badge")
        await (expect(badge).to_have_text(str(number)) if number else expect(badge).to_have_count(0))

    async def is_online(self) -> None:
        """Until the session is open and synced."""
        await self.page.locator(".status[data-state=online]").wait_for(state="attached")

    async def until(self, script: str, argument: Any = None) -> None:
        """Until a function in the page says true. (Playwright's own polling uses eval, which the page forbids.)"""
        async with asyncio.timeout(PATIENCE_MS / 1000):
            while not await self.page.evaluate(script, argument):  # noqa: ASYNC110 - the page is another process
                await asyncio.sleep(0.02)

    # -- messages

    async def says(self, text: str) -> None:
        """Type and send."""
        field = self.page.locator(".composer-field")
        await field.fill(text)
        await field.press("Enter")

    def message(self, text: str) -> Locator:
        """The row of a message that is stored."""
        own_text = self.page.locator(".text", has_text=re.compile(f"^{re.escape(text)}$"))
        return self.page.locator(".row[data-seq]", has=own_text)

    async def sees(self, *texts: str) -> None:
        """Until these messages are in the room."""
        for text in texts:
            await expect(self.message(text)).to_be_visible(timeout=PATIENCE_MS)

    async def sees_unread(self, text: str, number: int) -> None:
        """The number beside a message of how many have not read it; 0 for none."""
        await expect(self.message(text)).to_have_attribute("data-unread", str(number))
        await expect(self.message(text).locator(".unread")).to_have_text([str(number)] if number else [])

    async def texts(self) -> list[str]:
        """What stands in the room, top to bottom."""
        return await self.page.locator(".row[data-seq] .bubble .text").all_inner_texts()

    async def does(self, text: str, action: str) -> None:
        """Open the menu of a message and choose by the words there."""
        await self.message(text).locator(".bubble").click(button="right")
        await self.page.locator(".menu-item", has_text=re.compile(f"^{re.escape(action)}$")).click()

    async def confirms(self) -> None:
        """Yes."""
        await self.page.locator("dialog .actions button").last.click()
