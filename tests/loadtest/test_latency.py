"""Histograms against sorted lists of the same durations."""

import math
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest.reports.latency import Latencies

seconds = st.floats(1e-6, 100)
lists = st.lists(seconds, min_size=1, max_size=200)
LAW = settings(max_examples=15, deadline=None)  # the package goes through 18,000 counters at each question


def counted(durations: list[float]) -> Latencies:
    """All of them, in one go."""
    latencies = Latencies()
    latencies.extend(durations)
    return latencies


def figures(latencies: Latencies) -> object:
    """All that can be asked."""
    return latencies.count, latencies.clamped, latencies.curve()


@LAW
@given(lists, st.floats(0, 1))
def test_percentiles_are_those_of_the_sorted_list_to_three_digits(durations: list[float], share: float) -> None:
    found = counted(durations).percentile(share)
    ordered = sorted(round(duration * 1e6) / 1e3 for duration in durations)
    rank = share * len(ordered)
    below = ordered[max(math.floor(rank), 1) - 1]
    above = ordered[min(max(math.ceil(rank), 1), len(ordered)) - 1]
    assert below * 0.999 <= found <= above * 1.001


@LAW
@given(lists)
def test_most_and_mean_are_those_of_the_list(durations: list[float]) -> None:
    latencies = counted(durations)
    assert latencies.count == len(durations)
    assert latencies.most == pytest.approx(max(durations) * 1e3, rel=1e-3, abs=1e-3)
    assert latencies.mean == pytest.approx(sum(durations) / len(durations) * 1e3, rel=1e-3, abs=1e-3)
    assert latencies.percentile(1) == latencies.most


@LAW
@given(lists)
def test_one_by_one_is_the_same_as_all_at_once(durations: list[float]) -> None:
    latencies = Latencies()
    for duration in durations:
        latencies.record(duration)
    assert figures(latencies) == figures(counted(durations))


@LAW
@given(st.lists(seconds), st.lists(seconds))
def test_what_several_counted_adds_up(mine: list[float], others: list[float]) -> None:
    latencies = counted(mine)
    latencies.add(pickle.loads(pickle.dumps(counted(others))))
    assert figures(latencies) == figures(counted(mine + others))


@LAW
@given(st.lists(seconds), seconds)
def test_a_pickled_one_is_the_same_and_counts_on(durations: list[float], another: float) -> None:
    latencies = counted(durations)
    copy = pickle.loads(pickle.dumps(latencies))
    assert figures(copy) == figures(latencies)
    for each in (latencies, copy):
        each.record(another)
    assert figures(copy) == figures(latencies)


def test_it_pickles_small() -> None:
    latencies = counted([number / 1000 for number in range(1, 10_000)])
    assert len(pickle.dumps(latencies)) < 10_000


@LAW
@given(lists)
def test_the_curve_rises_from_the_fastest_to_the_slowest(durations: list[float]) -> None:
    latencies = counted(durations)
    curve = latencies.curve()
    assert curve == sorted(curve)
    assert curve[-1] == (1.0, latencies.most)


def test_none_at_all() -> None:
    latencies = Latencies()
    assert figures(latencies) == (0, 0, [])
    assert (latencies.percentile(0.5), latencies.most, latencies.mean) == (0.0, 0.0, 0.0)


def test_what_does_not_fit_is_clamped_and_counted() -> None:
    latencies = counted([-1.0, 0.0, 0.001, 1e9])
    assert (latencies.count, latencies.clamped) == (4, 3)
    assert latencies.percentile(0.25) == 0.001
    assert latencies.most == pytest.approx(100_000, rel=1e-3)
    latencies.add(counted([1e6]))
    assert pickle.loads(pickle.dumps(latencies)).clamped == 4
