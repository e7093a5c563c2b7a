"""Axes of plots: where a value is, which values get a tick, and how they are written.

A place on an axis is a share of its length, 0 to 1. Three kinds of scale serve: linear; logarithmic, for what spans
orders of magnitude; and the tail, for shares of a whole near 1, where each nine gets as much room as the one before.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol

TICKS: Final = 6  # about as many
DECADES: Final = 9
LEAST: Final = 1e-9  # that a logarithmic axis shows; of a linear one the share that is told apart
TIMES_S: Final = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400, 21_600, 43_200, 86_400)
PREFIXES: Final = ((1e9, "G"), (1e6, "M"), (1e3, "k"))
DURATIONS_MS: Final = ((1e3, "s"), (1.0, "ms"), (1e-3, "µs"))
SIZES_KIB: Final = ((float(1 << 20), "GiB"), (float(1 << 10), "MiB"), (1.0, "KiB"))
SPANS_S: Final = ((3600.0, "h"), (60.0, "min"), (1.0, "s"))


def plain(value: float) -> str:
    """12k, 0.5."""
    for unit, prefix in PREFIXES:
        if abs(value) >= 10 * unit or (abs(value) >= unit and value % (unit / 10) == 0):
            return f"{digits(value / unit)}{prefix}"
    return digits(value)


def milliseconds(value: float) -> str:
    """1.5 ms, 20 s, 300 µs; of ms."""
    return _in_units(value, DURATIONS_MS)


def kibibytes(value: float) -> str:
    """1.5 GiB; of KiB."""
    return _in_units(value, SIZES_KIB)


def seconds(value: float) -> str:
    """90 s, 10 min, 1.5 h; of s."""
    return next(
        (f"{digits(value / size)} {unit}" for size, unit in SPANS_S if value >= 2 * size and value * 10 % size == 0),
        f"{digits(value)} s",
    )


def nines(share: float) -> str:
    """50%, 99.9%, 99.999%."""
    return f"{round(share * 100, 7):.10g}%"


def digits(value: float) -> str:
    """Three that count; whole numbers whole."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _in_units(value: float, units: Sequence[tuple[float, str]]) -> str:
    size, unit = next((pair for pair in units if abs(value) >= pair[0]), units[-1])
    return f"{digits(value / size)} {unit}" if value else "0"


@dataclass(frozen=True)
class Axis:
    """What is on an axis. A linear one begins at 0 unless it is `tight`, one of time (in s) where the values begin, and
    one of sizes (in KiB) has round numbers of KiB, MiB or GiB."""

    label: str = ""
    text: Callable[[float], str] = plain
    kind: Literal["linear", "time", "size", "log", "tail"] = "linear"
    tight: bool = False

    def over(self, values: Iterable[float]) -> "Scale":
        """The scale on which all of them have their place."""
        finite = [value for value in values if math.isfinite(value)]
        if self.kind == "tail":
            return Tail(finite)
        if self.kind == "log":
            return Log([value for value in finite if value >= LEAST])
        is_time = self.kind == "time"
        return Linear(finite, self.tight or is_time, TIMES_S if is_time else (), 1024 if self.kind == "size" else 0)


class Scale(Protocol):
    """From values to places."""

    ticks: list[float]

    def at(self, value: float) -> float:
        """Its place, 0 to 1; outside of that for values beyond the ends."""


class Linear:
    """Equal steps of 1, 2 or 5 times a power of ten, of what people count time in, or of a power of `base`."""

    def __init__(self, values: Sequence[float], tight: bool, steps: Sequence[float], base: int) -> None:
        low, high = min(values, default=0.0), max(values, default=0.0)
        if not tight:
            low, high = min(low, 0.0), max(high, 0.0)
        if high - low <= max(abs(high), LEAST) * LEAST:
            high = low + (abs(low) if abs(low) > LEAST else 1.0)
        unit = float(base) ** math.floor(math.log(max(high, 1), base)) if base else 1.0
        step = self._step((high - low) / unit / TICKS, steps) * unit
        if not tight:
            low, high = math.floor(low / step) * step, math.ceil(high / step) * step
        self._low, self._length = low, high - low
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        self.ticks = [number * step for number in range(first, last + 1)]

    @staticmethod
    def _step(least: float, steps: Sequence[float]) -> float:
        if least > 0.5:
            for step in steps:
                if step >= least:
                    return step
        power = 10.0 ** math.floor(math.log10(least))
        return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= least * 0.999)

    def at(self, value: float) -> float:
        return (value - self._low) / self._length


class Log:
    """Equal factors. What is below LEAST, 0 above all, lies at the lower end."""

    def __init__(self, values: Sequence[float]) -> None:
        low, high = min(values, default=1.0), max(values, default=10.0)
        if high < 2 * low:
            low, high = low / 2, high * 2
        decades = math.log10(high / low)
        factors = (1, 2, 5) if decades < 2.5 else (1,)
        candidates = [
            factor * 10.0**power
            for power in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
            for factor in factors
        ]
        low = max(candidate for candidate in candidates if candidate <= low * 1.000001)
        high = min((candidate for candidate in candidates if candidate >= high * 0.999999), default=high)
        self._low, self._length = math.log10(low), math.log10(high / low)
        inside = [candidate for candidate in candidates if low * 0.999 <= candidate <= high * 1.001]
        every = math.ceil(len(inside) / (TICKS + 2))
        self.ticks = inside[::every]

    def at(self, value: float) -> float:
        place = (math.log10(value) - self._low) / self._length if value >= LEAST else 0.0
        return min(max(place, 0.0), 1.0)


class Tail:
    """Shares from 0 on; each decade of what is left to 1 takes the same room. 1 itself lies at the end."""

    def __init__(self, shares: Sequence[float]) -> None:
        rest = min((1 - share for share in shares if share < 1), default=0.01)
        self._length = min(max(2.0, math.log10(1 / rest) + 0.1), DECADES)
        self.ticks = [0.0, 0.5] + [1 - 10.0**-nine for nine in range(1, math.floor(self._length) + 1)]

    def at(self, value: float) -> float:
        return min(math.log10(1 / (1 - value)) / self._length, 1.0) if value < 1 else 1.0
