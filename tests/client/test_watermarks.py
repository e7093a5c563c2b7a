"""The number beside a message against the plain definition, whatever order READBY and CHANGE come in."""

from hypothesis import given
from hypothesis import strategies as st

from mim.client.models import Change
from mim.client.watermarks import Watermarks

CHAT = 7


def join(rev: int, *users: int, after: int) -> Change:
    return Change(CHAT, rev, "join", 1, 0, {"users": list(users), "after": after})


def leave(rev: int, user: int) -> Change:
    return Change(CHAT, rev, "leave", user, 0, {"after": 0})


@given(
    rows=st.dictionaries(st.integers(1, 6), st.integers(0, 20), min_size=1),
    moves=st.lists(st.tuples(st.integers(1, 6), st.integers(0, 20))),
    seq=st.integers(1, 20),
)
def test_it_counts_present_members_below_the_seq(rows: dict[int, int], moves: list[tuple[int, int]], seq: int) -> None:
    marks = Watermarks()
    marks.load(rows.items())
    for user, moved in moves:
        marks.saw(user, moved)
    expected = {u: max([s, *(m for v, m in moves if v == u)]) for u, s in rows.items()}
    assert marks.unread_by(seq) == sum(s < seq for s in expected.values())


def test_the_sender_is_not_counted() -> None:
    marks = Watermarks()
    marks.load([(1, 0), (2, 0), (3, 0)])
    marks.saw(1, 5)  # the MSG of user 1 with seq 5
    assert marks.unread_by(5) == 2


def test_joining_and_leaving_count() -> None:
    marks = Watermarks()
    marks.load([(1, 5), (2, 4)])
    marks.apply(join(1, 3, after=4))
    assert marks.unread_by(4) == 0  # who joins has read what was before
    assert marks.unread_by(5) == 2
    marks.apply(leave(2, 2))
    assert marks.unread_by(5) == 1
    marks.apply(Change(CHAT, 3, "kick", 1, 0, {"users": [3], "after": 5}))
    assert marks.unread_by(5) == 0


def test_a_late_readby_of_one_who_left_brings_no_ghost_back() -> None:
    marks = Watermarks()
    marks.load([(1, 5), (2, 4)])
    marks.apply(leave(1, 2))
    marks.saw(2, 4)
    assert marks.unread_by(5) == 0


def test_who_leaves_while_the_answer_is_on_its_way_is_out() -> None:
    marks = Watermarks()
    marks.loading()
    marks.apply(leave(1, 2))
    marks.apply(join(2, 4, after=5))
    marks.load([(1, 5), (2, 0), (3, 0)])
    assert marks.members == {1, 3, 4}
