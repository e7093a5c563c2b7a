"""Deadlines by one timer: nobody is asked early, nobody is forgotten, and what is discarded is let go of at once."""

import gc
import weakref

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mim.clock import ManualClock
from mim.hub.wheel import TimingWheel


class Item:
    """Has a deadline that may move, and notes when it was asked."""

    def __init__(self, deadline: float | None = None) -> None:
        self.wheel_slot = 0
        self.deadline = deadline
        self.asked: list[float] = []

    def due(self, now: float) -> float | None:
        self.asked.append(now)
        return self.deadline if self.deadline is not None and self.deadline > now else None


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def wheel(clock: ManualClock) -> TimingWheel:
    return TimingWheel(clock)


def test_asked_at_the_deadline_and_at_most_a_slot_late(wheel: TimingWheel, clock: ManualClock) -> None:
    item = Item()
    wheel.add(item, clock.monotonic() + 2.5)
    for _ in range(5):
        clock.advance(0.5)
        wheel.turn()
    assert item.asked == []
    clock.advance(1)
    wheel.turn()
    assert item.asked == [clock.monotonic()]
    clock.advance(100)
    wheel.turn()
    assert len(item.asked) == 1  # None was said: forgotten
    assert not wheel._slots


def test_a_deadline_that_moved_is_asked_for_again(wheel: TimingWheel, clock: ManualClock) -> None:
    item = Item()
    wheel.add(item, clock.monotonic() + 2)
    item.deadline = clock.monotonic() + 10
    clock.advance(3)
    wheel.turn()
    assert len(item.asked) == 1
    clock.advance(6)
    wheel.turn()
    assert len(item.asked) == 1
    clock.advance(2)
    wheel.turn()
    assert len(item.asked) == 2
    assert not wheel._slots


def test_a_deadline_in_the_past_is_asked_at_the_next_turn(wheel: TimingWheel, clock: ManualClock) -> None:
    item = Item()
    wheel.add(item, clock.monotonic() - 500)
    clock.advance(1)
    wheel.turn()
    assert len(item.asked) == 1


def test_a_long_pause_misses_nobody(wheel: TimingWheel, clock: ManualClock) -> None:
    items = [Item() for _ in range(50)]
    for n, item in enumerate(items):
        wheel.add(item, clock.monotonic() + n * 7)
    clock.advance(10_000)
    wheel.turn()
    assert [len(item.asked) for item in items] == [1] * 50


def test_discard_lets_go_at_once(wheel: TimingWheel, clock: ManualClock) -> None:
    item = Item()
    gone = weakref.ref(item)
    wheel.add(item, clock.monotonic() + 1200)
    wheel.discard(item)
    assert not wheel._slots
    del item
    gc.collect()
    assert gone() is None


def test_discard_of_what_was_never_added_or_is_gone_does_nothing(wheel: TimingWheel, clock: ManualClock) -> None:
    item, other = Item(), Item()
    wheel.discard(item)
    for each in (item, other):
        wheel.add(each, clock.monotonic() + 3)
    wheel.discard(item)
    wheel.discard(item)
    clock.advance(5)
    wheel.turn()
    wheel.discard(other)
    assert (item.asked, len(other.asked)) == ([], 1)


def test_who_files_itself_anew_when_asked_stays_filed(wheel: TimingWheel, clock: ManualClock) -> None:
    """A connection that is closed when it is due is asked once more, whether the peer finished closing."""

    class Closing(Item):
        def due(self, now: float) -> None:
            self.asked.append(now)
            if len(self.asked) == 1:
                wheel.discard(self)
                wheel.add(self, now + 3)

    item = Closing()
    wheel.add(item, clock.monotonic() + 1)
    for _ in range(10):
        clock.advance(1)
        wheel.turn()
    assert len(item.asked) == 2
    assert 3 <= item.asked[1] - item.asked[0] <= 4


steps = st.one_of(
    st.tuples(st.just("add"), st.integers(0, 4), st.floats(-2, 30)),
    st.tuples(st.just("discard"), st.integers(0, 4), st.just(0.0)),
    st.tuples(st.just("turn"), st.just(0), st.floats(0, 12)),
)


@given(script=st.lists(steps, max_size=40))
def test_never_early_never_late_never_forgotten(script: list[tuple[str, int, float]]) -> None:
    clock = ManualClock()
    wheel = TimingWheel(clock)
    items = [Item() for _ in range(5)]
    due_at: dict[int, float] = {}
    filed_at: dict[int, float] = {}
    for what, which, seconds in script:
        item = items[which]
        if what == "add":
            wheel.discard(item)
            due_at[which] = clock.monotonic() + seconds
            filed_at[which] = clock.monotonic()
            wheel.add(item, due_at[which])
        elif what == "discard":
            wheel.discard(item)
            due_at.pop(which, None)
        else:
            clock.advance(seconds)
            wheel.turn()
            for n, each in enumerate(items):
                if each.asked:
                    assert due_at.pop(n) <= clock.monotonic()
                    each.asked.clear()
            # Two slots at the most after the deadline, or after it was filed with a deadline that was over.
            late = clock.monotonic() - 2
            assert all(max(deadline, filed_at[n]) > late for n, deadline in due_at.items())
        assert sum(len(slot) for slot in wheel._slots.values()) == len(due_at)
        assert all(wheel._slots.values())
