"""Plots as SVG that needs nothing else: lines or stacked areas over linear, logarithmic and percentile axes.

`figure` is a part of a page: text keeps its size whatever the width, since all places are in percent and only the
lines are stretched; colours are those of the page's style sheet (plots.css), so a dark page has a dark plot.
`document` is a file of its own, with the same style sheet inside. Lines differ by dashes too, not by colour alone, and
a description says in words what is seen. An undefined value (`math.nan`) is a gap.
"""

import json
import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple
from xml.etree.ElementTree import Element

from loadtest.reports.axes import Axis, Scale
from loadtest.reports.markup import element, xml

STYLE: Final = Path(__file__).with_name("plots.css")
MOST_POINTS: Final = 500  # of a line that are drawn
FEW: Final = 24  # points up to which each gets a dot
STRETCHED: Final = 1000  # the square in which lines are drawn, before they are stretched
COLOURS: Final = 6

HEAD: Final = 64  # px of a document above its plot, and so on
FOOT: Final = 34
LEFT: Final = 64
RIGHT: Final = 24
LETTER: Final = 7.2  # about as wide


class Line(NamedTuple):
    """What has one colour. The points go from left to right; `colour` 1 to 6 is by its order when it is 0."""

    name: str
    points: Sequence[tuple[float, float]]
    colour: int = 0


@dataclass(frozen=True)
class Plot:
    """Lines over common axes. Areas that are `stacked` have a value for every x of the first."""

    title: str
    lines: Sequence[Line]
    x: Axis = field(default_factory=Axis)
    y: Axis = field(default_factory=Axis)
    stacked: bool = False
    marks: Sequence[tuple[float, str]] = ()  # upright lines, each with a word: (x, word)

    @property
    def subtitle(self) -> str:
        """What the axes are."""
        return ", ".join(
            filter(None, (f"{self.y.label}{' (log scale)' if self.y.kind == 'log' else ''}", self.x.label))
        )

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to draw."""
        return not any(math.isfinite(y) for line in self.lines for _, y in line.points)

    def summary(self) -> str:
        """In words, for those who do not see it."""
        return " ".join(filter(None, (_in_words(line, self.y) for line in self.lines))) or "There is nothing to show."


class _Drawn(NamedTuple):
    """A line as it is drawn: `low` is what it stands on, `values` what it shows."""

    name: str
    colour: int
    xs: list[float]
    values: list[float]
    low: list[float]
    high: list[float]


def figure(plot: Plot) -> Element:
    """For a page, with heading, legend, and what a pointer needs to be told the values below it."""
    drawn = _drawn(plot)
    x, y = _scales(plot, drawn)
    legend = element(
        "ul", *(element("li", _swatch(line.colour, plot.stacked), line.name) for line in drawn), class_="legend"
    )  # fmt: skip
    return element(
        "figure",
        element("figcaption", element("h3", plot.title), element("p", plot.subtitle), legend if drawn else None),
        element("div", _picture(plot, *_parts(plot, drawn, x, y)), class_="area"),
        class_="plot", data_hover=json.dumps(_hover(plot, drawn, x, y), ensure_ascii=False, separators=(",", ":")),
    )  # fmt: skip


def document(plot: Plot, width: int = 760, height: int = 380) -> str:
    """As a file: `Path("plot.svg").write_text(document(plot))`."""
    drawn = _drawn(plot)
    x, y = _scales(plot, drawn)
    heading = element(
        "text", plot.title, element("tspan", plot.subtitle, dx=10, class_="sub"), x=LEFT, y=26, class_="head"
    )
    legend, left = [], float(LEFT)
    for line in drawn:
        legend.append(element("svg", _swatch(line.colour, plot.stacked), x=left, y=40, width=26, height=12))
        legend.append(element("text", line.name, x=left + 26, y=50, class_="name"))
        left += 26 + LETTER * len(line.name) + 18
    return xml(
        element(
            "svg",
            element("title", plot.title),
            element("desc", plot.summary()),
            element("style", STYLE.read_text("utf-8")),
            element("rect", width="100%", height="100%", rx=8, class_="paper"),
            heading,
            *legend,
            element(
                "svg", *_parts(plot, drawn, x, y),
                x=LEFT, y=HEAD, width=width - LEFT - RIGHT, height=height - HEAD - FOOT, overflow="visible",
            ),
            xmlns="http://www.w3.org/2000/svg", role="img", class_="plot", width=width, height=height,
            view_box=f"0 0 {width} {height}",
        )
    )  # fmt: skip


def _picture(plot: Plot, *parts: Element) -> Element:
    return element(
        "svg", element("desc", plot.summary()), *parts, role="img", aria_label=f"{plot.title}. {plot.summary()}"
    )


def _in_words(line: Line, axis: Axis) -> str:
    values = [y for _, y in line.points if math.isfinite(y)]
    if not values:
        return ""
    least, middle, most = (axis.text(value) for value in (min(values), statistics.median(values), max(values)))
    return f"{line.name}: {least} to {most}, median {middle}."


def _swatch(colour: int, stacked: bool) -> Element:
    line = element("line", x1=1, x2=21, y1=6, y2=6, class_=f"line c{colour}")
    area = element("rect", x=5, y=0, width=12, height=12, rx=3, class_=f"fill c{colour}")
    return element("svg", area if stacked else line, width=22, height=12, aria_hidden="true")


def _drawn(plot: Plot) -> list[_Drawn]:
    """The lines with so many points that a page can carry them, on top of each other where they are stacked."""
    lines = [line for line in plot.lines if line.points]
    if plot.stacked and len({tuple(x for x, _ in line.points) for line in lines}) > 1:
        raise ValueError(f"{plot.title}: stacked areas need values for the same x")
    drawn: list[_Drawn] = []
    for number, line in enumerate(lines):
        xs, values = [x for x, _ in line.points], [y for _, y in line.points]
        low = drawn[-1].high if plot.stacked and drawn else [0.0] * len(xs)
        high = [below + value for below, value in zip(low, values, strict=True)] if plot.stacked else values
        drawn.append(_Drawn(line.name, line.colour or number % COLOURS + 1, xs, values, low, high))
    if plot.stacked and drawn:
        kept = _kept(drawn[-1].high)
        return [_only(line, kept) for line in drawn]
    return [_only(line, _kept(line.high)) for line in drawn]


def _only(line: _Drawn, kept: Sequence[int]) -> _Drawn:
    lists = ([values[index] for index in kept] for values in line[2:])
    return _Drawn(line.name, line.colour, *lists)


def _kept(values: Sequence[float]) -> Sequence[int]:
    """Which of too many points are drawn: of each stretch the least and the most, so that no spike is lost."""
    if len(values) <= MOST_POINTS:
        return range(len(values))
    size = math.ceil(len(values) / (MOST_POINTS // 2 - 1))
    kept = {0, len(values) - 1}
    for start in range(0, len(values), size):
        stretch = range(start, min(start + size, len(values)))
        gaps = [index for index in stretch if not math.isfinite(values[index])]
        there = [index for index in stretch if math.isfinite(values[index])]
        kept.update(gaps[:1], (f(there, key=values.__getitem__) for f in (min, max)) if there else ())
    return sorted(kept)


def _scales(plot: Plot, drawn: Sequence[_Drawn]) -> tuple[Scale, Scale]:
    shown = [(x, y) for line in drawn for x, y in zip(line.xs, line.high, strict=True) if math.isfinite(y)]
    marked = [x for x, _ in plot.marks]
    return plot.x.over([*(x for x, _ in shown), *marked]), plot.y.over([y for _, y in shown])


def _percent(place: float) -> str:
    return f"{place * 100:.2f}%"


def _parts(plot: Plot, drawn: Sequence[_Drawn], x: Scale, y: Scale) -> list[Element]:
    """All that is inside the axes and beside them."""
    if plot.is_empty:
        return [element("text", "nothing was measured", x="50%", y="50%", class_="nothing")]
    shapes = [shape for line in drawn for shape in _shapes(line, x, y, stacked=plot.stacked)]
    stretched = element(
        "svg", *shapes, view_box=f"0 0 {STRETCHED} {STRETCHED}", preserve_aspect_ratio="none", width="100%",
        height="100%", overflow="visible",
    )  # fmt: skip
    return [*_grid(plot, x, y), stretched, *_dots(drawn, x, y), *_mark_lines(plot, x)]


def _grid(plot: Plot, x: Scale, y: Scale) -> Iterator[Element]:
    for value in y.ticks:
        at = _percent(1 - y.at(value))
        yield element("line", x1="0", x2="100%", y1=at, y2=at, class_="grid")
        yield element("text", plot.y.text(value), x=-8, y=at, dy="0.35em", class_="tick y")
    for number, value in enumerate(x.ticks):
        at = _percent(x.at(value))
        yield element("line", x1=at, x2=at, y1="0", y2="100%", class_="grid")
        yield element(
            "text", plot.x.text(value), x=at, y="100%", dy="1.7em", class_="tick odd" if number % 2 else "tick"
        )
    yield element("line", x1="0", x2="100%", y1="100%", y2="100%", class_="base")


def _mark_lines(plot: Plot, x: Scale) -> Iterator[Element]:
    for value, word in plot.marks:
        at = _percent(x.at(value))
        yield element("line", x1=at, x2=at, y1="0", y2="100%", class_="mark")
        yield element("text", word, x=at, y=-4, class_="tick word")


def _shapes(line: _Drawn, x: Scale, y: Scale, *, stacked: bool) -> Iterator[Element]:
    for run in _runs(line):
        top = [_place(x.at(line.xs[index]), y.at(line.high[index])) for index in run]
        if stacked:
            foot = [_place(x.at(line.xs[index]), y.at(line.low[index])) for index in reversed(run)]
            yield element("path", d=f"M{'L'.join(top + foot)}Z", class_=f"fill c{line.colour}")
        yield element("path", d="M" + "L".join(top), class_=f"line c{line.colour}{' top' if stacked else ''}")


def _place(across: float, up: float) -> str:
    return f"{across * STRETCHED:.1f} {(1 - up) * STRETCHED:.1f}"


def _runs(line: _Drawn) -> Iterator[list[int]]:
    """The indexes of points between gaps."""
    run: list[int] = []
    for index, value in enumerate(line.high):
        if math.isfinite(value):
            run.append(index)
        elif run:
            yield run
            run = []
    if run:
        yield run


def _dots(drawn: Sequence[_Drawn], x: Scale, y: Scale) -> Iterator[Element]:
    """Where they do not crowd, and where a point alone would not be seen."""
    for line in drawn:
        for run in _runs(line):
            for index in run if len(line.xs) <= FEW or len(run) == 1 else ():
                cx, cy = _percent(x.at(line.xs[index])), _percent(1 - y.at(line.high[index]))
                yield element("circle", cx=cx, cy=cy, r=3, class_=f"dot c{line.colour}")


def _hover(plot: Plot, drawn: Sequence[_Drawn], x: Scale, y: Scale) -> list[dict[str, object]]:
    """By line: where its points are, and what is to be said there."""
    found = []
    for line in drawn:
        at = [index for index, value in enumerate(line.high) if math.isfinite(value)]
        found.append({
            "name": line.name,
            "colour": line.colour,
            "x": [round(x.at(line.xs[index]), 4) for index in at],
            "y": [round(1 - y.at(line.high[index]), 4) for index in at],
            "at": [plot.x.text(line.xs[index]) for index in at],
            "is": [plot.y.text(line.values[index]) for index in at],
        })  # fmt: skip
    return found
