"""The page of a run: complete by itself, readable for everybody, and never more than text where text was given."""

import json
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser

from loadtest.reports import page
from loadtest.reports.latency import Latencies
from loadtest.reports.report import Point, Report

HOSTILE = "</script></style><img src=x onerror='window.pwned=1'><script>window.pwned=1</script>\" & \x00 \ud800"


def second(number: int) -> Point:
    """One of a run that goes well."""
    return Point(
        t_s=float(number), connected=100, sent=20_000.0 + number, acked=20_000.0, delivered=19_999.0, errors=0,
        p50_ms=1.5, p99_ms=4.0 + number % 5, cpu={"server": 0.6, "postgres": 0.3, "redis": 0.0, "load": 0.7},
        memory={"server": 50_000.0, "postgres": 180_000.0, "redis": 0.0},
    )  # fmt: skip


def measured(**changed: Any) -> Report:
    """A report with everything in it."""
    latencies = Latencies()
    latencies.extend(number / 1e5 for number in range(1, 2001))
    report = Report(
        "chat",
        {"users": 1000, "addresses": ["127.0.0.1:8080", "127.0.0.1:8081"]},
        rounds=[
            {"messages/s": 20_000.0 + number, "CPU µs/message": 33.0, "  of it server µs": 21.0} for number in range(3)
        ],
        checked=["60,000 messages: none lost"],
        notes=["a busy machine"],
        series=[second(number) for number in range(1, 61)],
        latencies={"send to ACK": latencies},
    )
    for name, value in changed.items():
        setattr(report, name, value)
    return report


class Reader(HTMLParser):
    """Notes what a page would fetch, and tags that do not close."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.open: list[str] = []
        self.wrong: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag != "meta":  # the only one here that never closes
            self.open.append(tag)
        self.fetched += [
            value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "srcset", "action")
        ]

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)


def test_it_needs_nothing_from_anywhere(tmp_path: Path) -> None:
    text = page.write(measured(), tmp_path).read_text("utf-8")
    reader = Reader(text)
    assert reader.fetched == ["./chat.jsonl"]
    assert (reader.open, reader.wrong) == ([], [])
    assert not [word for word in ("url(", "@import", "http:", "https:") if word in text]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["chat.html", "chat.jsonl"]


def test_the_lines_beside_it_are_for_programs(tmp_path: Path) -> None:
    page.write(measured(), tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "chat.jsonl").read_text("utf-8").splitlines()]
    assert [line["second"] for line in lines if "second" in line] == list(range(1, 61))
    assert lines[-1]["latency_ms"]["send to ACK"]["count"] == 2000


def headings(text: str) -> Iterator[str]:
    """What its sections and plots are called."""
    for part in text.split("<h")[1:]:
        if part[0] in "23":
            yield part[part.index(">") + 1 : part.index("</h")].partition("<")[0]


def test_it_has_a_plot_for_what_was_measured(tmp_path: Path) -> None:
    assert list(headings(page.write(measured(), tmp_path).read_text("utf-8"))) == [
        "✓ Every promise was kept", "In short", "Plots", "Latency by percentile", "Latency over time", "Throughput",
        "CPU", "Memory", "Connections", "Figures", "How it was measured", "Notes",
    ]  # fmt: skip


def test_and_none_for_what_was_not(tmp_path: Path) -> None:
    report = Report("wire", {}, rounds=[{"bytes of a SEND": 75.0}])
    assert list(headings(page.write(report, tmp_path).read_text("utf-8"))) == [
        "No promise was checked in this scenario", "In short", "Figures", "How it was measured",
    ]  # fmt: skip
    assert list(headings(page.write(Report("idle", {}), tmp_path).read_text("utf-8")))[1:] == ["How it was measured"]


def test_broken_promises_come_first(tmp_path: Path) -> None:
    text = page.write(measured(violations=["seq 7 is lost", "seq 9 came twice"]), tmp_path).read_text("utf-8")
    assert "✗ 2 broken promises" in text
    assert "Every promise was kept" not in text
    assert text.index("seq 7 is lost") < text.index("60,000 messages: none lost") < text.index("In short")


def test_a_series_whose_clock_begins_anew_goes_on(tmp_path: Path) -> None:
    twice = [second(number) for number in (1, 2, 3)] * 2
    text = page.write(measured(series=twice), tmp_path).read_text("utf-8")
    assert ">round 2<" in text
    assert "6 s" in text


def test_a_name_never_leads_out_of_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "reports"
    for scenario in ("../../chat", "/etc/chat", "..", "", "a b"):
        assert page.write(measured(scenario=scenario), folder).parent == folder
    assert [path.name for path in tmp_path.iterdir()] == ["reports"]


async def test_hostile_text_is_text(chromium: Browser, tmp_path: Path) -> None:
    latencies = Latencies()
    latencies.record(0.001)
    report = measured(
        scenario=HOSTILE, settings={HOSTILE: HOSTILE, "list": [HOSTILE]}, rounds=[{HOSTILE: 1.0}, {HOSTILE: 2.0}],
        checked=[HOSTILE], notes=[HOSTILE], violations=[HOSTILE], latencies={HOSTILE: latencies},
        series=[second(number)._replace(cpu={HOSTILE: 0.5}, memory={HOSTILE: 1.0}) for number in range(3)],
    )  # fmt: skip
    context = await chromium.new_context()
    shown = await context.new_page()
    errors, asked = [], []
    shown.on("pageerror", lambda error: errors.append(str(error)))
    shown.on("console", lambda message: errors.append(message.text))
    shown.on("request", lambda request: asked.append(request.url))
    path = page.write(report, tmp_path)
    await shown.goto(path.as_uri())
    await shown.locator("figure").nth(2).hover()
    assert await shown.locator(".tip:visible").count() == 1
    assert await shown.evaluate("window.pwned") is None
    assert await shown.locator("img").count() == 0
    assert await shown.locator(".notes li").inner_text() == HOSTILE.replace("\x00", "\ufffd").replace(
        "\ud800", "\ufffd"
    )
    assert (errors, asked) == ([], [path.as_uri()])
    await context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
async def test_axe_finds_nothing_and_nothing_is_cut_off(
    chromium: Browser, tmp_path: Path, width: int, scheme: Any
) -> None:
    context = await chromium.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
    shown = await context.new_page()
    for violations in ([], ["seq 7 is lost"]):
        await shown.goto(page.write(measured(violations=violations), tmp_path).as_uri())
        results = await Axe().run(shown)
        assert [f"{found['id']}: {found['nodes'][0]['html'][:200]}" for found in results.response["violations"]] == []
        assert await shown.evaluate("document.documentElement.scrollWidth") == width
    await context.close()
