"""What the planner keeps of messages, and that it never forgets one silently."""

from typing import cast

from hypothesis import given
from hypothesis import strategies as st

from mim.bus.local import LocalBus
from mim.clock import ManualClock
from mim.model import Stored
from mim.push.planner import Bulletin, Planner, Policy
from mim.store.committer import NOBODY, STORED, Pending
from mim.store.db import Pool
from mim.store.dispatch import Dispatches
from mim.store.push_plan import CALL, MESSAGE


@given(st.permutations(range(1, 13)), st.lists(st.integers(1, 3), min_size=12, max_size=12))
def test_the_newest_message_and_for_its_author_that_of_somebody_else(order: list[int], senders: list[int]) -> None:
    bulletin = Bulletin()
    for seq in order:
        bulletin.add(5, seq, senders[seq - 1], None, None, None, float(seq))
    new = bulletin.kinds[MESSAGE][5]
    author = senders[11]
    assert (new.seq, new.sender, new.committed) == (12, author, 1.0)
    assert new.other == max((seq for seq in order if senders[seq - 1] != author), default=0)


def test_calls_and_mentions() -> None:
    bulletin = Bulletin()
    bulletin.add(5, 1, 42, None, None, {"k": "call", "x": {}}, 0.0)
    bulletin.add(5, 2, 42, None, None, {"m": [[0, 3, 7], [4, 3, 8]]}, 0.0)
    bulletin.add(5, 3, 42, None, None, {"m": "not a list of mentions"}, 0.0)
    assert bulletin.kinds[CALL][5].seq == 1
    assert bulletin.kinds[MESSAGE][5].seq == 3
    assert bulletin.kinds[MESSAGE][5].mentioned == {7, 8}


def planner(queue: int) -> Planner:
    policy = Policy(frozenset({"apns"}), queue, 60.0, 60.0, 1.0, 1.0)
    return Planner(cast(Pool, None), LocalBus(), ManualClock(), policy, lambda: None)


def committed(seq: int) -> Pending:
    pending = Pending(NOBODY, 42, 1, 0, 5, seq, Stored("안녕"))
    pending.seq, pending.outcome = seq, STORED
    return pending


def test_a_full_planner_leaves_the_batch_to_recovery() -> None:
    dispatches = Dispatches(node=1)
    full = planner(queue=1)
    for seq, done in ((1, False), (2, True)):
        dispatch = dispatches.begin()
        full.committed([committed(seq)], dispatch)
        dispatch.release()  # its maker's hold
        newest, living = dispatches.living()
        assert newest == seq
        assert (seq not in living) is done, "held until it is planned; abandoned, to be recovered, when it will not be"
    assert len(full) == 1


def test_what_cannot_be_noted_is_refused() -> None:
    full = planner(queue=0)
    assert not full.revised(5, 1)
    assert not full.unheard(42, 1, 0)
    assert not full.recovered([5], [1])
    assert not full.recovered([5], [1])
    assert len(full) == 0
