"""What a run found, for people and for programs."""

import json
import platform
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from loadtest import proc
from loadtest.reports.latency import Latencies

SHARES: Final = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999, "p99.99": 0.9999}
SHOWN: Final = ("p50", "p99", "p99.9")  # in a terminal


class Point(NamedTuple):
    """What one second of a run looked like."""

    t_s: float  # since measuring began
    connected: int
    sent: float  # messages a second, as the next two
    acked: float
    delivered: float
    errors: int  # so far
    p50_ms: float
    p99_ms: float
    cpu: dict[str, float]  # share of a core, by part: server, postgres, redis, load
    memory: dict[str, float]  # KiB of resident memory, by part


@dataclass
class Report:
    """The figures of every round of a run; a name ends with its unit. `violations` are broken promises."""

    scenario: str
    settings: dict[str, Any]
    rounds: list[dict[str, float]] = field(default_factory=list)
    checked: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    series: list[Point] = field(default_factory=list)
    latencies: dict[str, Latencies] = field(default_factory=dict)

    def medians(self) -> dict[str, float]:
        """By figure, over the rounds that have it."""
        names = dict.fromkeys(name for figures in self.rounds for name in figures)
        return {name: statistics.median(self.of(name)) for name in names}

    def of(self, name: str) -> list[float]:
        """The values of a figure, one for each round that has it."""
        return [figures[name] for figures in self.rounds if name in figures]

    def table(self) -> str:
        """A small table: median, least and most of each figure, and the latencies of all rounds together."""
        said = "  ".join(f"{name}={value}" for name, value in self.settings.items())
        rows = [(name, middle, self.of(name)) for name, middle in self.medians().items()]
        width = max([len(name) for name, _, _ in rows], default=0)
        lines = [f"{self.scenario}: {said}"]
        if rows:
            lines.append(f"  {'':{width}}  {'median':>10}  {'least':>10}  {'most':>10}  rounds")
        lines += [
            f"  {name:{width}}  {short(middle):>10}  {short(min(all_)):>10}  {short(max(all_)):>10}  {len(all_)}"
            for name, middle, all_ in rows
        ]
        lines += self._latency_lines()
        lines += [f"  checked: {text}" for text in self.checked]
        lines += [f"  note: {text}" for text in self.notes]
        lines += [f"  VIOLATION: {text}" for text in self.violations]
        return "\n".join(lines)

    def _latency_lines(self) -> list[str]:
        counted = {name: latencies for name, latencies in self.latencies.items() if latencies.count}
        if not counted:
            return []
        width = max(map(len, counted))
        heads = "  ".join(f"{head:>10}" for head in (*SHOWN, "max", "count"))
        lines = [f"  {'latency, ms':{width}}  {heads}"]
        for name, latencies in counted.items():
            found = [*(latencies.percentile(SHARES[share]) for share in SHOWN), latencies.most, latencies.count]
            lines.append(f"  {name:{width}}  " + "  ".join(f"{short(value):>10}" for value in found))
        return lines

    def json_lines(self) -> Iterator[str]:
        """One line a second, one a round, then one with the medians and everything else."""
        for point in self.series:
            yield json.dumps(
                {"scenario": self.scenario, "second": round(point.t_s, 3), **seen(point)}, ensure_ascii=False
            )
        for number, figures in enumerate(self.rounds, 1):
            yield json.dumps({"scenario": self.scenario, "round": number, **rounded(figures)}, ensure_ascii=False)
        yield json.dumps(
            {
                "scenario": self.scenario,
                "median": rounded(self.medians()),
                "latency_ms": {name: percentiles(latencies) for name, latencies in self.latencies.items()},
                "settings": self.settings,
                "machine": machine(),
                "checked": self.checked,
                "notes": self.notes,
                "violations": self.violations,
            },
            ensure_ascii=False,
        )


def short(value: float) -> str:
    """Three digits are all that a measurement on a busy machine is worth."""
    if value >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.3g}"


def rounded(figures: dict[str, float]) -> dict[str, float]:
    """To digits that mean something."""
    return {name: round(value, 4) for name, value in figures.items()}


def seen(point: Point) -> dict[str, Any]:
    """A point without its time, to digits that mean something."""
    figures: dict[str, Any] = {name: value for name, value in point._asdict().items() if name != "t_s"}
    return {name: rounded(value) if isinstance(value, dict) else round(value, 4) for name, value in figures.items()}


def percentiles(latencies: Latencies) -> dict[str, float]:
    """The ones that are commonly compared, in ms, and how many were counted."""
    found = {name: latencies.percentile(share) for name, share in SHARES.items()}
    return {
        **found, "max": latencies.most, "mean": round(latencies.mean, 3),
        "count": latencies.count, "clamped": latencies.clamped,
    }  # fmt: skip


def machine() -> str:
    """On what it was measured."""
    model = platform.processor() or platform.machine()
    for line in (proc.PROC / "cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return f"{model}, Python {platform.python_version()}, Linux {platform.release()}"


def percentile(values: Sequence[float], share: float) -> float:
    """The value that `share` of them do not exceed; 0 when there are none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0
