"""Plots of little, of much and of nothing."""

import json
import math
from xml.etree import ElementTree

import pytest

from loadtest.reports import plots
from loadtest.reports.markup import html
from loadtest.reports.plots import Line, Plot

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = '</svg><script>alert(1)</script> & "quoted" \x00\x1b \ud800'


def drawing(plot: Plot) -> ElementTree.Element:
    """The file, read again; what is no XML fails here."""
    return ElementTree.fromstring(plots.document(plot).encode())


def paths(plot: Plot, kind: str = "line") -> list[str]:
    """What is drawn of lines or areas."""
    return [path.get("d", "") for path in drawing(plot).iter(f"{SVG}path") if kind in path.get("class", "").split()]


def texts(plot: Plot) -> list[str | None]:
    """What is written."""
    return [text.text for text in drawing(plot).iter(f"{SVG}text")]


@pytest.mark.parametrize("stacked", [False, True])
@pytest.mark.parametrize("lines", [[], [Line("a", [])], [Line("a", [(0, math.nan), (1, math.inf)])]])
def test_nothing_is_said_to_be_nothing(lines: list[Line], stacked: bool) -> None:
    plot = Plot("Throughput", lines, stacked=stacked)
    assert plot.is_empty
    assert "nothing was measured" in texts(plot)
    assert plot.summary() == "There is nothing to show."
    assert "nothing was measured" in html(plots.figure(plot))


@pytest.mark.parametrize("stacked", [False, True])
def test_one_point_is_seen(stacked: bool) -> None:
    plot = Plot("Throughput", [Line("sent", [(5.0, 10.0)])], stacked=stacked)
    assert [circle.get("cy") for circle in drawing(plot).iter(f"{SVG}circle")] == ["0.00%"]


def test_a_gap_parts_a_line() -> None:
    plot = Plot("Latency", [Line("p50", [(0, 1), (1, 1), (2, math.nan), (3, 1), (4, 1)])])
    (first, second) = paths(plot)
    assert (first.count("L"), second.count("L")) == (1, 1)


def test_areas_stand_on_each_other() -> None:
    lines = [Line("server", [(0, 1.0), (1, 2.0)]), Line("Postgres", [(0, 3.0), (1, 2.0)])]
    plot = Plot("CPU", lines, stacked=True)
    assert paths(plot, "fill") == ["M0.0 750.0L1000.0 500.0L1000.0 1000.0L0.0 1000.0Z",
                                   "M0.0 0.0L1000.0 0.0L1000.0 500.0L0.0 750.0Z"]  # fmt: skip
    hover = json.loads(plots.figure(plot).get("data-hover", ""))
    assert [line["is"] for line in hover] == [["1", "2"], ["3", "2"]]  # each for itself, whatever it stands on


def test_areas_over_different_times_are_refused() -> None:
    with pytest.raises(ValueError, match="same x"):
        plots.figure(Plot("CPU", [Line("a", [(0, 1)]), Line("b", [(1, 1)])], stacked=True))


@pytest.mark.parametrize("stacked", [False, True])
def test_of_a_day_every_spike_is_kept_and_the_page_stays_small(stacked: bool) -> None:
    day = [(float(second), 10_000.0 if second == 54_321 else 100.0 + second % 7) for second in range(86_400)]
    plot = Plot("Latency", [Line("p99", day), Line("p50", day)], stacked=stacked)
    drawn = paths(plot)
    assert max(path.count("L") for path in drawn) <= plots.MOST_POINTS
    assert " 0.0L" in drawn[-1]  # the spike reaches the top of the plot
    assert "10k" in plots.figure(plot).get("data-hover", "")
    assert len(html(plots.figure(plot))) < 100_000


def test_it_says_in_words_what_is_seen() -> None:
    plot = Plot("Throughput", [Line("sent", [(0, 5), (1, 30), (2, 20)])])
    assert plot.summary() == "sent: 5 to 30, median 20."
    assert drawing(plot).findtext(f"{SVG}desc") == plot.summary()
    image = plots.figure(plot).find("div/svg")
    assert image is not None
    assert image.get("role") == "img"
    assert plot.summary() in image.get("aria-label", "")


def test_names_are_text_whatever_they_say() -> None:
    plot = Plot(HOSTILE, [Line(HOSTILE, [(0, 1), (1, 2)])], marks=[(0.5, HOSTILE)])
    drawn = drawing(plot)
    assert not list(drawn.iter(f"{SVG}script"))
    assert drawn.findtext(f"{SVG}title") == HOSTILE.translate(dict.fromkeys((0, 0x1B, 0xD800), "\ufffd"))
    assert "<script>" not in html(plots.figure(plot))
