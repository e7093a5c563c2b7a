"""`python -m loadtest scale`: the series as a table, and as plots and a table in the docs."""

import math
import re
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Final

import typer
import uvloop

from loadtest.launch import allow_many_files
from loadtest.load.client import LoadError
from loadtest.load.many import first_of
from loadtest.options import Core
from loadtest.reports.axes import Axis
from loadtest.reports.plots import Line, Plot, document
from loadtest.reports.report import machine
from loadtest.running import BROKEN, leave_core, refuse
from loadtest.scale.rovers import WrongCount
from loadtest.scale.series import SERIES, STORED, Effort, Point, Series, measure_all
from loadtest.server import ServerError

SHORT_S: Final = 12 * 60
LONG_S: Final = 60 * 60
BEGIN: Final = "<!-- scale:begin -->"
END: Final = "<!-- scale:end -->"
PLOTS: Final = "plots"
PAGE: Final = "performance.md"


def scale(
    short: Annotated[bool, typer.Option("--short", help="Fewer and shorter rounds.")] = False,
    most: Annotated[int, typer.Option(min=STORED[0], help="Most messages stored before.")] = STORED[-1],
    into: Annotated[
        str | None, typer.Option(metavar="DIR", help=f"Write plots into DIR/{PLOTS} and the table into DIR/{PAGE}.")
    ] = None,
    only: Annotated[list[str] | None, typer.Option(help=f"Of {', '.join(SERIES)}: these alone.")] = None,
    core: Core = 0,
) -> None:
    """Messages/s and CPU per message as connections, chats, stored messages and nodes grow, each alone.

    When the time is up, sizes that were not begun are left out, and the table says which. All messages are counted at
    every size: acknowledged, heard and stored must be the same.
    """
    page = Path(into) / PAGE if into else None
    if page is not None and not (page.is_file() and BEGIN in page.read_text("utf-8")):
        refuse(f"--into {into}: {page} has no {BEGIN}")
    for name in only or ():
        if name not in SERIES:
            refuse(f"--only {name}: one of {', '.join(SERIES)}")
    leave_core(core, private=True)
    allow_many_files()
    bound = SHORT_S if short else LONG_S
    effort = Effort(rounds=2 if short else 3, duration_s=3.0 if short else 5.0, ends=time.monotonic() + bound)
    try:
        found = uvloop.run(measure_all(core, effort, most, only or ()))
    except* WrongCount as group:
        sys.stderr.write(f"loadtest: {first_of(group)}\n")
        sys.exit(BROKEN)
    except* (ServerError, LoadError, OSError, TimeoutError) as group:
        refuse(str(first_of(group)) or type(first_of(group)).__name__)
    text = "\n".join(_tables(found, effort))
    print(text)  # noqa: T201
    if page is not None:
        write(page, found, text)


def _tables(found: Sequence[Series], effort: Effort) -> Iterator[str]:
    yield f"{machine()}; medians of {effort.rounds} rounds of {effort.duration_s:g} s."
    for series in found:
        yield ""
        yield f"| {series.grows} | messages/s | CPU µs a message | server | Postgres | Redis | stored at the end |"
        yield "|" + "---|" * 7
        for point in series.points:
            yield _row(point)
        if series.left_out:
            yield ""
            yield f"Left out, for time or by --most: {', '.join(f'{size:,}' for size in series.left_out)}."
    others = max((point.others for series in found for point in series.points), default=0.0)
    yield ""
    yield f"Others on the machine used up to {others:.2f} of a core meanwhile."


def _row(point: Point) -> str:
    redis = f"{point.redis_us:.1f}" if point.redis_us else "–"
    return (
        f"| {point.size:,} | {point.messages_s:,.0f} | {point.cpu_us:.1f} | {point.server_us:.1f} "
        f"| {point.postgres_us:.1f} | {redis} | {point.stored:,} |"
    )


def write(page: Path, found: Sequence[Series], tables: str) -> None:
    """Plots beside the page, and what is between the marks of the page anew."""
    folder = page.parent / PLOTS
    folder.mkdir(exist_ok=True)
    shown = []
    for series in found:
        for name, plot in _plots(series):
            (folder / name).write_text(document(plot), "utf-8")
            shown.append(f"![{plot.title}]({PLOTS}/{name})")
    text = page.read_text("utf-8")
    between = f"{BEGIN}\n{tables}\n\n" + "\n".join(shown) + f"\n{END}"
    page.write_text(re.sub(f"{re.escape(BEGIN)}.*{re.escape(END)}", lambda _: between, text, flags=re.DOTALL), "utf-8")


def _plots(series: Series) -> Iterator[tuple[str, Plot]]:
    """Cost by part, and what one core carried."""
    kind = (
        Axis(series.grows, _whole, "linear", tight=True) if series.name == "nodes" else Axis(series.grows, kind="log")
    )
    parts = (("all", "cpu_us"), ("server", "server_us"), ("Postgres", "postgres_us"), ("Redis", "redis_us"))
    lines = [
        Line(name, [(point.size, getattr(point, part)) for point in series.points])
        for name, part in parts
        if any(getattr(point, part) for point in series.points)
    ]
    yield f"scale-{series.name}-cpu.svg", Plot("CPU of a message", lines, kind, Axis("µs"))
    carried = [(point.size, point.messages_s) for point in series.points if math.isfinite(point.messages_s)]
    rate = Plot("Messages a second", [Line("one core for everything", carried)], kind, Axis("messages/s"))
    yield f"scale-{series.name}-rate.svg", rate


def _whole(value: float) -> str:
    """There is no half a node."""
    return f"{value:.0f}" if value == int(value) else ""
