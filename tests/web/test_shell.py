"""The files themselves: how they are served, how much they are, and that they are whole."""

import json
import re
from pathlib import Path

import httpx
import pytest
from playwright.async_api import expect

from mim.rest.web import assets
from tests.harness import RunningServer
from tests.web.conftest import Joins

WEB = Path(__file__).parents[2] / "mim" / "web"
FIRST_LOAD = 150_000
MODULES = sorted(WEB.rglob("*.js"))


async def get(server: RunningServer, path: str, **headers: str) -> httpx.Response:
    async with httpx.AsyncClient(base_url=server.http) as client:
        return await client.get(path, headers=headers)


async def test_served_strictly(server: RunningServer) -> None:
    answer = await get(server, "/")
    policy = answer.headers["content-security-policy"]
    assert answer.status_code == 200
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert not re.search(r"<script(?![^>]* src=)|<style|style=|\son\w+=", answer.text)
    assert not re.search(r"(?:src|href)=\"(?!/)", answer.text), "nothing comes from elsewhere"
    for path, media_type in (
        ("/js/main.js", "text/javascript"),
        ("/css/base.css", "text/css"),
        ("/icons/icon.svg", "image/svg+xml"),
    ):
        part = await get(server, path)
        assert part.headers["content-type"].startswith(media_type)
        assert part.headers["content-security-policy"] == policy


async def test_asked_again_it_is_not_sent_again(server: RunningServer) -> None:
    first = await get(server, "/js/main.js", **{"accept-encoding": "identity"})
    assert first.headers["cache-control"] == "no-cache"
    again = await get(server, "/js/main.js", **{"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    packed = await get(server, "/js/views/room.js", **{"accept-encoding": "gzip"})
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.content == (WEB / "js/views/room.js").read_bytes()


@pytest.mark.parametrize(
    "path", ["/js/../../config.py", "/js/%2e%2e/%2e%2e/config.py", "/js", "/js/", "/index.html", "/.git"]
)
async def test_nothing_else_is_served(server: RunningServer, path: str) -> None:
    assert (await get(server, path)).status_code == 404


async def test_other_addresses_stay(server: RunningServer) -> None:
    for path in ("/docs", "/openapi.json", "/healthz", "/readyz", "/metrics"):
        assert (await get(server, path)).status_code == 200, path


async def test_the_worker_changes_with_every_file(server: RunningServer) -> None:
    text = (await get(server, "/sw.js")).text
    shell = json.loads(text.removeprefix("self.SHELL = ").partition(";\n")[0])
    on_disk = {f"/{path.relative_to(WEB)}" for path in WEB.rglob("*") if path.is_file() and path.suffix != ".png"}
    assert set(shell["files"]) == on_disk - {"/index.html", "/sw.js"} | {"/"}
    assert set(shell["files"]) < set(assets())
    assert re.fullmatch(r"[0-9a-f]{16}", shell["version"])


async def test_first_load_is_small(joins: Joins) -> None:
    """Bytes before compression of a first look, and of a visit that goes on to an open room."""
    mina, jun = await joins("Mina", signed_in=False), await joins("Jun")
    files, paths = assets(), set()
    mina.page.on("request", lambda request: paths.add(request.url.removeprefix(mina.url).partition("#")[0]))

    def total() -> int:
        return sum(len(files[path].body) for path in paths if path in files)

    await mina.page.goto(mina.url)
    await mina.page.locator("input[type=tel]").wait_for()
    assert 10_000 < total() < 50_000
    await mina.types_code()
    await mina.starts_chat_with(jun)
    await mina.says("hello")
    await mina.sees("hello")
    paths.clear()
    await mina.page.reload()
    await mina.sees("hello")
    assert 50_000 < total() < FIRST_LOAD, sorted((len(files[path].body), path) for path in paths if path in files)


async def test_installable_and_without_a_network(joins: Joins) -> None:
    mina = await joins("Mina")
    await mina.page.evaluate("navigator.serviceWorker.ready.then(() => true)")
    session = await mina.page.context.new_cdp_session(mina.page)
    problems = (await session.send("Page.getInstallabilityErrors"))["installabilityErrors"]
    assert [problem["errorId"] for problem in problems if problem["errorId"] != "in-incognito"] == []
    manifest = await session.send("Page.getAppManifest")
    assert manifest["errors"] == []
    await mina.page.context.set_offline(True)
    await mina.opens("/")
    await expect(mina.page.locator(".list h1")).to_have_text("Chats")
    await mina.page.locator(".self").click()  # a part that was never loaded before
    await expect(mina.page.locator("dialog")).to_contain_text("Settings")
    await mina.page.context.set_offline(False)


def keys(*files: str) -> set[str]:
    texts = [(WEB / "js" / "i18n" / f"{name}.js").read_text("utf-8") for name in files]
    return {key for text in texts for key in re.findall(r"(?:^ *|, )([a-z_]+): (?=['\"`(])", text, re.MULTILINE)}


def test_both_languages_say_everything() -> None:
    assert keys("en") == keys("ko")
    assert keys("en-more") == keys("ko-more")
    assert not keys("en") & keys("en-more")
    assert len(keys("en", "en-more")) > 200


@pytest.mark.parametrize("module", MODULES, ids=lambda module: str(module.relative_to(WEB)))
def test_modules_are_small_and_set_text_only(module: Path) -> None:
    text = module.read_text("utf-8")
    assert len(text.splitlines()) < 400
    for word in (
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "new Function",
        "DOMParser",
    ):
        assert word not in text
    used = {key for key in re.findall(r"\bt\('([a-z_]+)'", text) if not key.endswith("_")}
    later = "overlays.js'" in text or "more()" in text  # these load the other words first
    assert used <= keys("en", *(["en-more"] if later else []))
