"""A run as one page for people, without anything beside it: plots, verdict, figures, and on what it was measured.

It asks for nothing from anywhere and its policy forbids it to: style and script are inside and named there by their
hashes, so nothing that a server, an option or a note says can become either.
"""

import base64
import hashlib
import re
import shlex
import statistics
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from xml.etree.ElementTree import Element

from loadtest.reports import plots
from loadtest.reports.latency import Latencies
from loadtest.reports.markup import element, html
from loadtest.reports.report import SHARES, Report, machine, short
from loadtest.reports.report_plots import plots_of
from mim import __version__

HERE: Final = Path(__file__).parent
CARDS: Final = 8
ROUNDS: Final = 12  # up to which each has a column
PART: Final = "of it "  # is in the names of figures that are in another one
SURROUNDINGS: Final = "share of a core"  # ends the names of figures about the measuring, not about the server
UNITS: Final = {"ms", "µs", "s", "KiB", "bytes", "min"}


def write(report: Report, folder: Path) -> Path:
    """`SCENARIO.html` in the folder, and `SCENARIO.jsonl` with the same for programs; returns the first."""
    folder.mkdir(parents=True, exist_ok=True)
    name = re.sub(r"[^\w.-]+", "-", report.scenario).strip(".-") or "report"
    lines = folder / f"{name}.jsonl"
    lines.write_text("".join(f"{line}\n" for line in report.json_lines()), "utf-8", errors="replace")
    command = shlex.join(["python", *sys.orig_argv[1:]])
    path = folder / f"{name}.html"
    path.write_text(render(report, command, datetime.now(UTC), lines.name), "utf-8")
    return path


def render(report: Report, command: str, at: datetime, lines: str) -> str:
    """The page; `lines` is the file that programs read."""
    style = plots.STYLE.read_text("utf-8") + (HERE / "page.css").read_text("utf-8")
    script = (HERE / "page.js").read_text("utf-8")
    policy = f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; base-uri 'none'"
    told = (f"mim {__version__}", f"{at:%Y-%m-%d %H:%M} UTC", machine())
    about = element("p", *(element("span", text) for text in told), class_="about")
    header = (element("p", "Load test", class_="kind"), element("h1", report.scenario), about, _verdict(report))
    return html(
        element(
            "html",
            element(
                "head",
                element("meta", charset="utf-8"),
                element("meta", http_equiv="Content-Security-Policy", content=policy),
                element("meta", name="viewport", content="width=device-width, initial-scale=1"),
                element("meta", name="color-scheme", content="light dark"),
                element("title", f"{report.scenario} – load test"),
                element("style", style),
            ),
            element(
                "body",
                element("header", *header),
                element("main", *_sections(report, command)),
                element("footer", "The same for programs, second by second: ", element("a", lines, href=f"./{lines}")),
                element("script", script),
            ),
            lang="en",
        )
    )  # fmt: skip


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _sections(report: Report, command: str) -> Iterator[Element]:
    if cards := list(_cards(report)):
        count = len(report.rounds)
        under = f"median of {count} rounds, with the least and the most" if count > 1 else None
        yield element("h2", "In short", element("span", under, class_="under") if under else None)
        yield element("dl", *cards, class_="cards")
    if found := plots_of(report):
        figures = [plots.figure(plot) for plot in found]
        if len(figures) % 2:
            figures[0].set("class", "plot wide")
        yield element("h2", "Plots")
        yield element("div", *figures, class_="plots")
    if report.rounds or report.latencies:
        yield element("h2", "Figures")
    if report.rounds:
        yield _rounds(report)
    if any(latencies.count for latencies in report.latencies.values()):
        yield _latencies(report)
    yield element("h2", "How it was measured")
    yield _settings({**report.settings, "machine": machine()}, command)
    if report.notes:
        yield element("h2", "Notes")
        yield element("ul", *(element("li", note) for note in report.notes), class_="notes")


def _verdict(report: Report) -> Element:
    """What the checks at the end of the run said."""
    checked = [element("li", text) for text in report.checked]
    if report.violations:
        count = len(report.violations)
        said, kind = f"✗ {count} broken {'promise' if count == 1 else 'promises'}", "verdict broken"
    elif checked:
        said, kind = "✓ Every promise was kept", "verdict"
    else:
        said, kind = "No promise was checked in this scenario", "verdict unknown"
    broken = [element("li", text, class_="violation") for text in report.violations]
    return element(
        "section", element("h2", said), element("ul", *broken, *checked) if broken or checked else None, class_=kind
    )


def _cards(report: Report) -> Iterator[Element]:
    """The figures that one looks for first: the first of the scenario, and the latencies."""
    named = [
        name for name in report.medians()
        if not name.startswith((" ", *report.latencies)) and not name.endswith(SURROUNDINGS) and PART not in name
    ]  # fmt: skip
    for name in named[:CARDS]:
        values = report.of(name)
        spread = f"{short(min(values))} – {short(max(values))}" if len(values) > 1 else ""
        label, unit = _split(name)
        yield _card(label, short(statistics.median(values)), unit, spread)
    for name, latencies in report.latencies.items():
        if latencies.count:
            tail = f"p99 {short(latencies.percentile(0.99))} · p99.9 {short(latencies.percentile(0.999))}"
            yield _card(f"{name}, p50", short(latencies.percentile(0.5)), "ms", tail)


def _split(name: str) -> tuple[str, str]:
    """The name without the unit at its end, and that: "CPU µs/message" is of CPU/message, in µs."""
    of, _, last = name.rpartition(" ")
    unit, slash, each = last.partition("/")
    return (of + slash + each, unit) if of and unit in UNITS else (name, "")


def _card(label: str, value: str, unit: str, spread: str) -> Element:
    return element(
        "div",
        element("dt", label),
        element("dd", value, element("span", f" {unit}", class_="unit") if unit else None, class_="value"),
        element("dd", spread, class_="spread") if spread else None,
        class_="card",
    )  # fmt: skip


def _rounds(report: Report) -> Element:
    count = len(report.rounds)
    each = range(count if 1 < count <= ROUNDS else 0)
    heads = ["median", "least", "most", *(f"round {number + 1}" for number in each)] if count > 1 else ["value"]
    return _table("Figures", ["figure", *heads], [_row(report, name, each) for name in report.medians()])


def _row(report: Report, name: str, each: Sequence[int]) -> Element:
    values = report.of(name)
    cells = [element("td", short(statistics.median(values)), class_="middle")]
    if len(report.rounds) > 1:
        cells += [element("td", short(value)) for value in (min(values), max(values))]
    for number in each:
        value = report.rounds[number].get(name)
        cells.append(element("td", "–" if value is None else short(value), class_="each"))
    head = element("th", name.strip(), scope="row")
    return element("tr", head, *cells, class_="part" if name.startswith(" ") else None)


def _latencies(report: Report) -> Element:
    rows = [
        element(
            "tr",
            element("th", name, scope="row"),
            *(element("td", short(latencies.percentile(share))) for share in SHARES.values()),
            *(element("td", text) for text in (short(latencies.most), short(latencies.mean), _counted(latencies))),
        )
        for name, latencies in report.latencies.items()
        if latencies.count
    ]
    return _table("Latency by percentile", ["latency, ms", *SHARES, "longest", "mean", "count"], rows)


def _counted(latencies: Latencies) -> str:
    outside = f", {latencies.clamped:,} of them outside of what is counted" if latencies.clamped else ""
    return f"{latencies.count:,}{outside}"


def _table(label: str, heads: Sequence[str], rows: Sequence[Element]) -> Element:
    """It scrolls by itself where it is too wide, with the keyboard too."""
    head = element("thead", element("tr", *(element("th", text, scope="col") for text in heads)))
    return element(
        "div", element("table", head, element("tbody", *rows)),
        class_="scroll", tabindex="0", role="region", aria_label=label,
    )  # fmt: skip


def _settings(settings: dict[str, Any], command: str) -> Element:
    pairs: list[Element] = []
    for name, value in settings.items():
        pairs += [element("dt", name.replace("_", " ")), element("dd", _said(value))]
    return element("dl", element("dt", "command"), element("dd", element("code", command)), *pairs, class_="settings")


def _said(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(_said, value))
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"{value:,.10g}"
    return str(value)
