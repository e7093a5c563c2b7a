"""Where values lie on an axis, and what is written beside it."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.reports.axes import Axis, kibibytes, milliseconds, nines, plain, seconds

AXES = {
    "linear": Axis(), "tight": Axis(tight=True), "time": Axis(kind="time"), "size": Axis(kind="size"),
    "log": Axis(kind="log"), "tail": Axis(kind="tail"),
}  # fmt: skip
CLOSE = 1e-6


@pytest.mark.parametrize("axis", AXES.values(), ids=AXES)
@given(st.lists(st.floats(0, 1e12), max_size=20))
def test_every_value_has_a_place_in_order_and_ticks_are_few(axis: Axis, values: list[float]) -> None:
    if axis.kind == "tail":
        values = [value / 1e12 for value in values]
    scale = axis.over(values)
    places = [scale.at(value) for value in sorted(values)]
    assert places == sorted(places)
    assert all(-CLOSE <= place <= 1 + CLOSE for place in places)
    ticks = [scale.at(tick) for tick in scale.ticks]
    assert 1 <= len(ticks) <= 12
    assert all(before < after for before, after in itertools.pairwise(ticks))
    assert all(-CLOSE <= place <= 1 + CLOSE for place in ticks)


@pytest.mark.parametrize(
    ("axis", "values", "ticks"),
    [
        (Axis(), [3, 28_000], ["0", "5k", "10k", "15k", "20k", "25k", "30k"]),
        (Axis(), [-2, 2], ["-2", "-1", "0", "1", "2"]),
        (Axis(), [], ["0", "0.2", "0.4", "0.6", "0.8", "1"]),
        (Axis("", seconds, "time"), [1, 3599], ["10 min", "20 min", "30 min", "40 min", "50 min"]),
        (Axis("", kibibytes, "size"), [212 * 1024], ["0", "50 MiB", "100 MiB", "150 MiB", "200 MiB", "250 MiB"]),
        (Axis("", milliseconds, "log"), [0.3, 900], ["100 µs", "1 ms", "10 ms", "100 ms", "1 s"]),
        (Axis("", milliseconds, "log"), [1.1, 9], ["1 ms", "2 ms", "5 ms", "10 ms"]),
        (Axis("", nines, "tail"), [0, 0.9995, 1], ["0%", "50%", "90%", "99%", "99.9%"]),
        (Axis(kind="log"), [100, 10_000_000], ["100", "1k", "10k", "100k", "1M", "10M"]),
    ],
)  # fmt: skip
def test_ticks_are_round(axis: Axis, values: list[float], ticks: list[str]) -> None:
    assert [axis.text(tick) for tick in axis.over(values).ticks] == ticks


def test_each_nine_takes_the_same_room() -> None:
    scale = Axis(kind="tail").over([0.99999])
    rooms = [scale.at(high) - scale.at(low) for low, high in itertools.pairwise([0, 0.9, 0.99, 0.999, 0.9999])]
    assert rooms == pytest.approx([rooms[0]] * 4)


def test_numbers_are_written_short() -> None:
    assert [plain(value) for value in (0, 0.123456, 12.5, 1234, 1500, 28_900, 1e7)] == [
        "0", "0.123", "12.5", "1,234", "1.5k", "28.9k", "10M",
    ]  # fmt: skip
    assert [milliseconds(value) for value in (0, 0.0042, 1.234, 1500)] == ["0", "4.2 µs", "1.23 ms", "1.5 s"]
    assert [seconds(value) for value in (0, 12.34, 90, 120, 7200)] == ["0 s", "12.3 s", "90 s", "2 min", "2 h"]
    assert [kibibytes(value) for value in (8.7, 51_200, 3 * 1024 * 1024)] == ["8.7 KiB", "50 MiB", "3 GiB"]
