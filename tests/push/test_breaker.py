"""The circuit breaker, with a clock that is turned by hand."""

import pytest

from mim.clock import ManualClock
from mim.push.breaker import THRESHOLD, Breaker


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def breaker(clock: ManualClock) -> Breaker:
    return Breaker(clock.monotonic, first_s=1.0, longest_s=8.0, jitter=lambda: 1.0)


def test_it_opens_after_failures_in_a_row_and_lets_one_probe_through(breaker: Breaker, clock: ManualClock) -> None:
    for _ in range(THRESHOLD - 1):
        breaker.failed()
    breaker.succeeded()
    for _ in range(THRESHOLD):
        assert breaker.allow()
        breaker.failed()
    assert not breaker.allow()
    assert breaker.wait_s() == 1.0
    clock.advance(1.0)
    assert breaker.allow()
    assert not breaker.allow(), "one probe at a time"
    breaker.succeeded()
    assert breaker.allow()
    assert breaker.allow()


def test_every_failed_probe_doubles_the_pause_up_to_a_bound(breaker: Breaker, clock: ManualClock) -> None:
    for _ in range(THRESHOLD):
        breaker.failed()
    pauses = []
    for _ in range(5):
        pauses.append(breaker.wait_s())
        clock.advance(breaker.wait_s())
        assert breaker.allow()
        breaker.failed()
    assert pauses == [1.0, 2.0, 4.0, 8.0, 8.0]


def test_those_that_were_on_their_way_do_not_prolong_it(breaker: Breaker) -> None:
    for _ in range(100):
        breaker.failed()
    assert breaker.wait_s() == 1.0


def test_a_provider_that_says_when_is_believed_at_once(breaker: Breaker) -> None:
    breaker.failed(retry_after_s=30.0)
    assert breaker.wait_s() == 30.0


def test_a_probe_that_was_not_sent_leaves_room_for_the_next(breaker: Breaker, clock: ManualClock) -> None:
    for _ in range(THRESHOLD):
        breaker.failed()
    clock.advance(1.0)
    assert breaker.allow()
    breaker.abandoned()
    assert breaker.allow()
