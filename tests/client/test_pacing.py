"""Delays of reconnecting and the interval of pings."""

from hypothesis import given
from hypothesis import strategies as st

from mim.client.pacing import Backoff, KeepAlive


def latest(_: float, high: float) -> float:
    return high


def earliest(low: float, _: float) -> float:
    return low


def test_the_delay_doubles_up_to_its_cap_with_full_jitter() -> None:
    late, early = Backoff(uniform=latest), Backoff(uniform=earliest)
    assert [late.next_s() for _ in range(8)] == [0.5, 1, 2, 4, 8, 16, 30, 30]
    assert {early.next_s() for _ in range(8)} == {0}
    late.reset()
    assert late.next_s() == 0.5


def test_a_time_from_the_server_is_kept() -> None:
    backoff = Backoff(uniform=earliest)
    assert backoff.next_s(5000) == 5.0
    assert Backoff(uniform=latest).next_s(45_000) <= 46.0


@given(low=st.integers(1, 60), span=st.integers(0, 600), steps=st.lists(st.booleans(), max_size=40))
def test_the_interval_stays_within_the_bounds(low: int, span: int, steps: list[bool]) -> None:
    keepalive = KeepAlive()
    keepalive.bounds(low, low + span)
    for answered in steps:
        assert low <= keepalive.interval_s <= low + span
        keepalive.held() if answered else keepalive.failed()


def test_it_stretches_while_pings_are_answered_and_does_not_try_again_what_failed() -> None:
    keepalive = KeepAlive()
    keepalive.bounds(10, 240)
    assert keepalive.interval_s == 60
    keepalive.held()
    assert keepalive.interval_s == 90
    keepalive.failed()
    assert keepalive.interval_s == 45
    for _ in range(20):
        keepalive.held()
    assert keepalive.interval_s == 67
