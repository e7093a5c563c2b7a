"""Names, messages, links and lengths that mean harm are text, and stay in their place."""

from typing import Any

import pytest
from playwright.async_api import expect

from tests.web.conftest import Joins
from tests.web.person import DESKTOP, PHONE, Person

MARKUP = '<img src=x onerror="window.hacked=1"><script>window.hacked=2</script><b>bold</b>&amp;'
OVERRIDE = "abc\u202egpj.exe\u2066\u2067 שלום"
ZALGO = "Z" + "\u0301\u0323\u0489" * 150
LONG_WORD = "가" * 600

WATCH = """() => {
    window.violations = [];
    document.addEventListener('securitypolicyviolation', (event) => window.violations.push(event.violatedDirective));
}"""

OVERFLOWS = """() => [':root', '.scroller', '.list-scroll', '.sheet-body', '.room-head', '.composer']
    .flatMap((selector) => [...document.querySelectorAll(selector)].filter(
        (element) => element.scrollWidth > element.clientWidth + 1).map(() => selector))"""


async def unharmed(person: Person) -> None:
    """Nothing ran, nothing was loaded, nothing is wider than the window."""
    page = person.page
    assert await page.evaluate("window.hacked") is None
    assert await page.locator("#app img, #app script, #app b, #app iframe, dialog img, dialog b").count() == 0
    assert await page.evaluate("window.violations") == []
    assert await page.evaluate(OVERFLOWS) == []


@pytest.mark.settings(text_limit=50_000)
@pytest.mark.parametrize("viewport", [PHONE, DESKTOP], ids=["phone", "desktop"])
async def test_hostile_texts_are_text(joins: Joins, viewport: dict[str, int]) -> None:
    mina, mallory = await joins("Mina", viewport=viewport), await joins("Mallory")
    await mina.page.evaluate(WATCH)
    await mallory.calls(
        "profile.update", name=MARKUP[:64], status=OVERRIDE.replace("\u202e", ""), photo="javascript:alert(1)"
    )
    group = await mallory.calls("chat.create", kind="group", members=[mina.user], title=f"<script>{'x' * 90}")
    chat = group["chat"]
    bodies: list[Any] = [
        MARKUP, OVERRIDE, ZALGO, LONG_WORD,
        "javascript:alert(1) data:text/html,x https://example.com/a?b=<script> http://user@evil\u202emoc.elpmaxe/",
        "see https://example.com/path), mail me@example.com or mailto:you@example.com.",
        {"t": "an unknown kind", "k": "poll", "x": {"html": MARKUP}}, {"k": "photo", "f": [{"id": MARKUP}]},
        {"t": "@everyone", "m": [[0, 9, 424242]], "re": 9007199254740991}, {"t": "\u2028\u0085\ufeff\u200b"},
    ]  # fmt: skip
    for cid, body in enumerate(bodies, 1):
        await mallory.calls("chat.send", chat=chat, cid=cid, body=body)
    await mallory.calls("message.react", chat=chat, seq=1, reaction="<b>x</b>")
    await mallory.calls("chat.update", chat=chat, notice=f"{MARKUP}\n{OVERRIDE}")
    await mina.page.locator(".chat-row").click()
    await expect(mina.page.locator(".row[data-seq='9'] .text")).to_have_text("@everyone")
    await unharmed(mina)

    await mina.page.locator(".scroller").evaluate("e => { e.scrollTop = 0; }")
    await expect(mina.page.locator(".row[data-seq='1'] .text")).to_have_text(MARKUP)
    await expect(mina.page.locator(".row[data-seq='1'] .reaction bdi")).to_have_text("<b>x</b>")
    await unharmed(mina)
    # An override in a message turns nothing around it: name, time and the next row keep their direction.
    for part in (".sender bdi", ".text", ".chat-name bdi", ".room-name bdi"):
        bidi = await mina.page.locator(part).first.evaluate("e => getComputedStyle(e).unicodeBidi")
        assert bidi in ("isolate", "plaintext", "isolate-override"), part
    found = set()
    for seq in range(1, len(bodies) + 1):
        await mina.page.evaluate(
            "([user, chat, seq]) => { location.hash = `#/${user}/${chat}/${seq}`; }", [mina.user, chat, seq]
        )
        row = mina.page.locator(f".row[data-seq='{seq}']")
        await expect(row).to_be_in_viewport()
        found.update(await row.locator("a").evaluate_all("links => links.map((a) => `${a.href} ${a.rel}`)"))
        assert await row.evaluate("e => e.getBoundingClientRect().right <= innerWidth")
        await unharmed(mina)
    links = [
        "https://example.com/a?b=", "http://user@evil/", "https://example.com/path",
        "mailto:me@example.com", "mailto:you@example.com",
    ]  # fmt: skip
    assert found == {f"{link} noopener noreferrer nofollow" for link in links}

    await mallory.calls("chat.send", chat=chat, cid=100, body="long " * 10_000)
    fold = mina.page.locator(".fold").last
    await expect(fold).to_be_visible()
    height = "() => [...document.querySelectorAll('.row')].at(-1).getBoundingClientRect().height"
    assert await mina.page.evaluate(height) < 800
    await fold.click()
    await mina.until(f"() => ({height})() > 5000")
    await unharmed(mina)
    await mina.page.locator(".room-head .icon-menu").click()
    await expect(mina.page.locator("[data-test=members]")).to_contain_text("<img src=x")
    await unharmed(mina)


async def test_50000_characters_in_the_composer(joins: Joins) -> None:
    mina, jun = await joins("Mina"), await joins("Jun")
    await mina.starts_chat_with(jun)
    await mina.is_online()
    await mina.page.locator(".composer-field").fill("a" * 50_000)
    await expect(mina.page.locator(".counter")).to_have_text("40000 too many")
    await expect(mina.page.locator(".send")).to_be_disabled()
    await mina.page.locator(".composer-field").press("Enter")
    await expect(mina.page.locator(".row")).to_have_count(0)


async def test_the_page_forbids_code_and_markup(joins: Joins) -> None:
    mina = await joins("Mina", signed_in=False)
    await mina.page.goto(mina.url)
    await mina.page.evaluate(WATCH)
    tried = await mina.page.evaluate("""async () => {
        const refused = [];
        const attempt = (name, work) => { try { work(); } catch { refused.push(name); } };
        attempt('innerHTML', () => { document.createElement('p').innerHTML = '<b>x</b>'; });
        // What DevTools runs may use eval; what the page runs later may not.
        await new Promise((done) => setTimeout(() => {
            attempt('eval', () => (0, eval)('window.hacked = 1'));
            done();
        }));
        attempt('script', () => { document.createElement('script').src = 'https://example.com/x.js'; });
        const link = Object.assign(document.createElement('a'), { href: 'javascript:window.hacked=1' });
        document.body.append(link);
        link.click();
        const style = document.createElement('p');
        style.setAttribute('style', 'color: red');
        await fetch('https://example.com/').catch(() => refused.push('fetch'));
        return refused;
    }""")
    assert {"innerHTML", "eval", "script", "fetch"} <= set(tried)
    assert await mina.page.evaluate("window.hacked") is None
    assert await mina.page.evaluate("window.violations.length") >= 4
    mina.complaints.clear()  # the browser said what it refused
