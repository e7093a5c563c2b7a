"""Durations, counted in a high dynamic range histogram.

The counters are as wide as a thousandth of what they count, from 1 µs to 100 s, so every percentile is right to three
digits, histograms of several processes add up to that of the whole run, and the tail, which a mean or a reservoir of
samples hides, is all there. Figures come in ms.
"""

from collections import Counter
from collections.abc import Iterable
from typing import Final

try:
    from hdrh.histogram import HdrHistogram
except ModuleNotFoundError as exc:
    raise ModuleNotFoundError("load tests need hdrhistogram: `make load`, or pip install -e '.[load]'") from exc

LEAST_US: Final = 1
MOST_US: Final = 100_000_000
DIGITS: Final = 3
STEPS: Final = 5  # of a curve, each time the share that is slower halves


class Latencies:
    """A histogram of durations; 150 kB of memory, a few kB when pickled."""

    def __init__(self, encoded: bytes = b"", clamped: int = 0) -> None:
        self._histogram = HdrHistogram(LEAST_US, MOST_US, DIGITS)
        self.clamped = clamped  # counted as the least or the most that fits, since they were outside
        if encoded:
            self._histogram.decode_and_add(encoded)

    def record(self, seconds: float) -> None:
        """Count one. Costs about 1.4 µs of CPU: on a path hotter than that keep an array and give it to `extend`."""
        self._count(round(seconds * 1e6), 1)

    def extend(self, seconds: Iterable[float]) -> None:
        """Count all of them, for about 1 µs of CPU each, and half of that where many are alike."""
        for us, count in Counter([round(duration * 1e6) for duration in seconds]).items():
            self._count(us, count)

    def _count(self, us: int, count: int) -> None:
        if not LEAST_US <= us <= MOST_US:
            us = min(max(us, LEAST_US), MOST_US)
            self.clamped += count
        self._histogram.record_value(us, count)

    def add(self, other: "Latencies") -> None:
        """Count what another has counted."""
        self._histogram.add(other._histogram)  # noqa: SLF001 - of the same class
        self.clamped += other.clamped

    @property
    def count(self) -> int:
        """How many were counted."""
        return int(self._histogram.get_total_count())

    @property
    def most(self) -> float:
        """The longest in ms; 0 when there are none."""
        return float(self._histogram.get_max_value()) / 1e3

    @property
    def mean(self) -> float:
        """In ms; 0 when there are none."""
        return float(self._histogram.get_mean_value()) / 1e3

    def percentile(self, share: float) -> float:
        """The ms that `share` of them do not exceed; 0 when there are none."""
        return float(self._histogram.get_value_at_percentile(share * 100)) / 1e3

    def curve(self) -> list[tuple[float, float]]:
        """(share, ms) from the fastest to the slowest, denser the fewer are slower: what a plot by percentile needs."""
        steps = self._histogram.get_percentile_iterator(STEPS)
        return [(step.percentile_level_iterated_to / 100, step.value_iterated_to / 1e3) for step in steps]

    def __reduce__(self) -> tuple[type["Latencies"], tuple[bytes, int]]:
        return Latencies, (self._histogram.encode(), self.clamped)
