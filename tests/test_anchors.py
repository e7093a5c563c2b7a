"""The texts and the code keep together: what code cites exists, and what pages link to exists."""

import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CITED = re.compile(r"\b((?:proto|docs)/[\w/-]+\.md)#([\w-]+)")
CITED_PAGE = re.compile(r"\b(proto/[\w/-]+\.md)\b")
LINK = re.compile(r"\[[^\]\n]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)

SOURCES = sorted(
    path
    for folder in ("mim", "tests", "loadtest")
    for suffix in ("*.py", "*.sql", "*.js", "*.html")
    for path in (ROOT / folder).rglob(suffix)
    if path != Path(__file__)
)
PAGES = sorted([*(ROOT / "proto").rglob("*.md"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md")])


def slug(heading: str) -> str:
    """The anchor that GitHub gives a heading: lower case, punctuation dropped, spaces to hyphens."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "")
    return re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-")


@cache
def anchors(page: Path) -> frozenset[str]:
    """Every anchor of a page; a heading that comes again gets -1, -2, ..."""
    found: set[str] = set()
    for heading in re.findall(r"^#{1,6} +(.+?) *#*$", FENCE.sub("", page.read_text("utf-8")), re.MULTILINE):
        base = name = slug(heading)
        number = 0
        while name in found:
            number += 1
            name = f"{base}-{number}"
        found.add(name)
    return frozenset(found)


@pytest.mark.parametrize(
    ("heading", "anchor"),
    [
        ("Body", "body"),
        ("Group commit", "group-commit"),
        ("1 HELLO", "1-hello"),
        ("chat.create", "chatcreate"),
        ("One message, one way", "one-message-one-way"),
        ("`message.edit` and [ACK](x.md#ack)", "messageedit-and-ack"),
    ],
)
def test_slug(heading: str, anchor: str) -> None:
    assert slug(heading) == anchor


def exists(page: str, anchor: str) -> bool:
    """Whether the page is there and, unless `anchor` is empty, has that heading."""
    path = ROOT / page
    return path.is_file() and (not anchor or anchor in anchors(path))


def test_sources_cite_headings_that_exist() -> None:
    dead: list[str] = []
    for source in SOURCES:
        text = source.read_text("utf-8")
        cited = [*CITED.findall(text), *((page, "") for page in CITED_PAGE.findall(text))]
        dead += [f"{source.relative_to(ROOT)}: {page}#{anchor}" for page, anchor in cited if not exists(page, anchor)]
    assert not dead, "\n".join(dead)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_of_pages_resolve(page: Path) -> None:
    dead = []
    for link in LINK.findall(FENCE.sub("", page.read_text("utf-8"))):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and (target.suffix != ".md" or anchor not in anchors(target))):
            dead.append(link)
    assert not dead, dead


def test_the_code_cites_the_protocol() -> None:
    """If this fails, the patterns above find nothing and prove nothing."""
    assert sum(len(CITED.findall(source.read_text("utf-8"))) for source in SOURCES) > 3
