"""The plots of a report, of what it has: latencies by percentile, and everything second by second."""

import math
from collections.abc import Callable, Mapping
from typing import Final

from loadtest.reports.axes import Axis, kibibytes, milliseconds, nines, seconds
from loadtest.reports.plots import Line, Plot
from loadtest.reports.report import Point, Report

COLOURS: Final = {"server": 1, "postgres": 2, "redis": 3, "load": 5}  # of a part, the same in every plot
NAMES: Final = {"server": "server", "postgres": "Postgres", "redis": "Redis", "load": "load test"}
TIME: Final = Axis("", seconds, "time")
WIDE: Final = 30.0  # times the least value, from which on an axis of latencies is logarithmic


def plots_of(report: Report) -> list[Plot]:
    """In the order in which they are read, without those that would be empty."""
    times, breaks = _times(report.series)
    over_time = _OverTime(report.series, times, [(at, f"round {number}") for number, at in enumerate(breaks, 2)])
    plots = [
        _by_percentile(report),
        over_time.latency(),
        over_time.plot("Throughput", Axis("messages a second"), {
            "sent": lambda point: point.sent,
            "acknowledged": lambda point: point.acked,
            "delivered": lambda point: point.delivered,
        }),
        over_time.by_part("CPU", Axis("cores in use"), lambda point: point.cpu, stacked=True),
        over_time.by_part("Memory", Axis("resident", kibibytes, "size"), lambda point: point.memory, stacked=False),
        over_time.plot("Connections", Axis("open"), {"connected": lambda point: float(point.connected)}),
        over_time.plot("Errors", Axis("so far"), {"errors": lambda point: float(point.errors)}),
    ]  # fmt: skip
    return [plot for plot in plots if not plot.is_empty]


def _times(series: list[Point]) -> tuple[list[float], list[float]]:
    """When each point was, one clock for all; and where that of the points began anew."""
    times: list[float] = []
    breaks: list[float] = []
    before, offset = 0.0, 0.0
    for point in series:
        if point.t_s < before:
            offset += before
            breaks.append(offset)
        before = point.t_s
        times.append(offset + point.t_s)
    return times, breaks


def _by_percentile(report: Report) -> Plot:
    lines = [Line(name, latencies.curve()) for name, latencies in report.latencies.items() if latencies.count]
    return Plot(
        "Latency by percentile", lines, x=Axis("by the share that is not slower", nines, "tail"),
        y=Axis("latency", milliseconds, "log"),
    )  # fmt: skip


class _OverTime:
    """Plots of a series."""

    def __init__(self, series: list[Point], times: list[float], marks: list[tuple[float, str]]) -> None:
        self._series = series
        self._times = times
        self._marks = marks

    def plot(self, title: str, axis: Axis, of: Mapping[str, Callable[[Point], float]]) -> Plot:
        """A line for each of them that was ever more than 0."""
        lines = [self._line(name, value, 0) for name, value in of.items()]
        return Plot(title, self._seen(lines), TIME, axis, marks=self._marks)

    def by_part(self, title: str, axis: Axis, of: Callable[[Point], Mapping[str, float]], *, stacked: bool) -> Plot:
        """A line or an area for each part, those that nobody has named before last."""
        found = {part for point in self._series for part in of(point)}
        parts = [part for part in COLOURS if part in found] + sorted(found - COLOURS.keys())

        def line(part: str) -> Line:
            return self._line(NAMES.get(part, part), lambda point: of(point).get(part, 0.0), COLOURS.get(part, 0))

        lines = list(map(line, parts))
        return Plot(title, self._seen(lines), TIME, axis, stacked=stacked, marks=self._marks)

    def latency(self) -> Plot:
        """The middle and the tail of each second; a second in which none was counted is a gap."""
        lines = [
            self._line("p50", lambda point: point.p50_ms or math.nan, 0),
            self._line("p99", lambda point: point.p99_ms or math.nan, 0),
        ]
        values = [value for line in lines for _, value in line.points if value > 0]
        is_wide = bool(values) and max(values) > WIDE * min(values)
        axis = Axis("p50 and p99 of each second", milliseconds, "log" if is_wide else "linear")
        return Plot("Latency over time", list(self._seen(lines)), TIME, axis, marks=self._marks)

    def _line(self, name: str, value: Callable[[Point], float], colour: int) -> Line:
        return Line(name, list(zip(self._times, map(value, self._series), strict=True)), colour)

    @staticmethod
    def _seen(lines: list[Line]) -> list[Line]:
        return [line for line in lines if any(value > 0 for _, value in line.points)]
