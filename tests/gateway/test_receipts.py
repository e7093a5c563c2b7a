"""Whether a client that counts is still there."""

from hypothesis import given
from hypothesis import strategies as st

from mim.gateway.receipts import HALF_OPEN_S, Receipts


def test_nothing_outstanding_has_no_deadline() -> None:
    receipts = Receipts()
    assert receipts.deadline == float("inf")
    assert receipts.send(100.0)
    assert not receipts.send(101.0)  # the deadline is there already
    assert receipts.deadline == 100.0 + HALF_OPEN_S
    receipts.receive(2, 102.0)
    assert receipts.deadline == float("inf")
    assert receipts.outstanding_since is None


def test_progress_gives_time_and_standing_still_does_not() -> None:
    receipts = Receipts()
    for _ in range(10):
        receipts.send(100.0)
    receipts.receive(4, 110.0)
    assert receipts.deadline == 110.0 + HALF_OPEN_S
    for count in (4, 3, 0, 11, 2**52):  # again, back, more than there was
        receipts.receive(count, 120.0)
    assert receipts.deadline == 110.0 + HALF_OPEN_S
    receipts.receive(10, 124.0)
    assert receipts.deadline == float("inf")


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 30)), max_size=60))
def test_any_counts_keep_the_books(events: list[tuple[bool, int]]) -> None:
    receipts, sent, received = Receipts(), 0, 0
    for now, (sends, count) in enumerate(events):
        if sends:
            sent += 1
            receipts.send(float(now))
        else:
            receipts.receive(count, float(now))
            if received < count <= sent:
                received = count
        assert (receipts.outstanding_since is None) == (received == sent)
