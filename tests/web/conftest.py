"""One headless Chromium for the session; a server and separate browsers for each test."""

import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, async_playwright, expect

from tests.conftest import execute, unique, with_database
from tests.harness import RunningServer, running
from tests.web.person import DESKTOP, PATIENCE_MS, Person

ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
             "--disable-component-update", "--disable-sync"]  # fmt: skip
LIFTED: dict[str, Any] = {
    "code_per_address_hour": 100_000, "code_per_phone_hour": 100_000, "find_per_hour": 100_000,
    "request_rate": 1_000_000, "request_burst": 1_000_000, "send_rate": 1_000_000, "send_burst": 1_000_000,
}  # fmt: skip

Joins = Callable[..., Awaitable[Person]]

expect.set_options(timeout=PATIENCE_MS)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def chromium() -> AsyncIterator[Browser]:
    """The system's Chromium."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no Chromium is installed: apt-get install chromium")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        await browser.close()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def shared_server(postgres: str, template: str) -> AsyncIterator[RunningServer]:
    """A development node for all tests that need nothing special: every test brings people of its own."""
    name = unique("web")
    await execute(postgres, f"create database {name} template {template}")
    try:
        async with running(with_database(postgres, name), dev=True, **LIFTED) as server:
            yield server
    finally:
        await execute(postgres, f"drop database if exists {name} with (force)")


@pytest_asyncio.fixture
async def own_server(request: pytest.FixtureRequest, database_url: str) -> AsyncIterator[RunningServer]:
    """A node of the test's own, with the settings of its mark."""
    marker = request.node.get_closest_marker("settings")
    assert marker is not None
    async with running(database_url, dev=True, **LIFTED, **marker.kwargs) as server:
        yield server


@pytest.fixture
def server(request: pytest.FixtureRequest) -> RunningServer:
    """The shared node, or with the mark `settings` one of the test's own."""
    own = request.node.get_closest_marker("settings") is not None
    server: RunningServer = request.getfixturevalue("own_server" if own else "shared_server")
    return server


@pytest_asyncio.fixture
async def browsers(chromium: Browser) -> AsyncIterator[Callable[..., Awaitable[BrowserContext]]]:
    """Makes browsers that know nothing of one another: `await browsers(viewport=PHONE, locale="ko-KR")`."""
    contexts: list[BrowserContext] = []

    async def make(**options: Any) -> BrowserContext:
        context = await chromium.new_context(**{"locale": "en-US", "viewport": DESKTOP, **options})
        contexts.append(context)
        return context

    yield make
    for context in contexts:
        await context.close()


@pytest_asyncio.fixture
async def joins(server: RunningServer, browsers: Callable[..., Awaitable[BrowserContext]]) -> AsyncIterator[Joins]:
    """`await joins("Mina", viewport=PHONE)`: somebody signed in, in a browser of their own. No page may complain."""
    people: list[Person] = []

    async def join(name: str, *, signed_in: bool = True, url: str | None = None, **options: Any) -> Person:
        context = await browsers(**options)
        person = Person(await context.new_page(), url or server.http, name)
        people.append(person)
        if signed_in:
            await person.signs_in()
        return person

    yield join
    complaints = [complaint for person in people for complaint in person.complaints]
    assert not complaints, "\n".join(complaints)
