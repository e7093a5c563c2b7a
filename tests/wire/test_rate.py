"""Buckets: never more than the burst at once, never more than the rate in the long run, and a true time to wait."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mim.wire.rate import RateLimiter, TokenBucket


def test_a_burst_then_the_rate() -> None:
    bucket = TokenBucket(rate=2, burst=3, now=100)
    assert [bucket.take(100) for _ in range(4)] == [0, 0, 0, 500]
    assert bucket.take(100.25) == 250
    assert bucket.take(100.5) == 0
    assert bucket.take(100.5) == 500


def test_a_pause_fills_no_more_than_the_burst() -> None:
    bucket = TokenBucket(rate=100, burst=2, now=0)
    assert [bucket.take(1_000_000) for _ in range(3)] == [0, 0, 10]


def test_a_cost_above_one() -> None:
    bucket = TokenBucket(rate=1, burst=10, now=0)
    assert bucket.take(0, 8) == 0
    assert bucket.take(0, 5) == 3000
    assert bucket.take(3, 5) == 0


@given(
    rate=st.floats(0.1, 1000), burst=st.integers(1, 50),
    pauses=st.lists(st.floats(0, 3), min_size=1, max_size=60),
)  # fmt: skip
def test_no_schedule_gets_more_than_burst_and_rate(rate: float, burst: int, pauses: list[float]) -> None:
    now, allowed = 1000.0, 0
    bucket = TokenBucket(rate, burst, now)
    for pause in pauses:
        now += pause
        allowed += bucket.take(now) == 0
    assert allowed <= burst + rate * (now - 1000) + 1e-6


@given(rate=st.floats(0.1, 1000), burst=st.integers(1, 20), pause=st.floats(0, 1))
def test_who_waits_as_told_is_let_in(rate: float, burst: int, pause: float) -> None:
    bucket = TokenBucket(rate, burst, 0)
    while not (wait_ms := bucket.take(pause)):
        pass
    assert wait_ms >= 1
    assert bucket.take(pause + wait_ms / 1000 + 1e-6) == 0


def test_keys_do_not_meet() -> None:
    limiter = RateLimiter(rate=1, burst=1)
    assert [limiter.take(key, 0) for key in ("a", "b", "a", 1, (1, 2))] == [0, 0, 1000, 0, 0]


def test_the_longest_unused_key_is_forgotten() -> None:
    limiter = RateLimiter(rate=1, burst=1, capacity=2)
    for key in ("a", "b"):
        limiter.take(key, 0)
    assert limiter.take("a", 0) == 1000  # used just now, though refused
    limiter.take("c", 0)  # puts out b
    assert limiter.take("a", 0) == 1000
    assert len(limiter._buckets) == 2
    assert limiter.take("b", 0) == 0


@pytest.mark.parametrize("keys", [10, 1000])
def test_memory_is_bounded_by_capacity(keys: int) -> None:
    limiter = RateLimiter(rate=1, burst=1, capacity=10)
    for key in range(keys):
        limiter.take(key, 0)
    assert len(limiter._buckets) == 10
