"""The checker finds what it is made for: every invariant is broken once on purpose."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from loadtest.checks.invariants import COLUMN, Verdict, check
from loadtest.checks.record import Record
from loadtest.checks.stored import Row, Stored

CHAT, MINA, JUN = 1, 10, 20


def talk() -> tuple[Record, Record, Stored]:
    """Mina sends three messages, the second again over a new connection; Jun answers and has read the first two."""
    mina, jun = Record(MINA, 100), Record(JUN, 200)
    rows = [Row(CHAT, seq, MINA, 100, seq, 1000 + seq, f"m{seq}") for seq in (1, 2, 3)]
    rows.append(Row(CHAT, 4, JUN, 200, 1, 1004, {"t": "j", "x": {"n": 1}}))
    first = mina.connects()
    mina.sends(first, CHAT, 1, "m1")
    mina.sends(first, CHAT, 2, "m2")
    mina.acknowledged(1, 1, 1001)
    second = mina.connects()
    mina.sends(second, CHAT, 2, "m2")
    mina.sends(second, CHAT, 3, "m3")
    mina.acknowledged(2, 2, 1002)
    mina.acknowledged(3, 3, 1003)
    jun.sends(jun.connects(), CHAT, 1, rows[3].body)
    jun.acknowledged(1, 4, 1004)
    for row in rows[:3]:
        jun.receives(CHAT, row.seq, MINA, row.body)
    jun.says_read(CHAT, 2, certain=True)
    mina.receives(CHAT, 4, JUN, rows[3].body)
    mina.shows[CHAT], jun.shows[CHAT] = (4, 3), (4, 4)
    mina.changes.update({(CHAT, 1), (CHAT, 2)})
    jun.changes.update({(CHAT, 1), (CHAT, 2)})
    return mina, jun, Stored({CHAT: rows}, {CHAT: 4}, {(CHAT, MINA): (1, 3), (CHAT, JUN): (1, 4)}, {CHAT: 2})


def test_a_sound_talk_passes() -> None:
    mina, jun, stored = talk()
    verdict = check([mina, jun], stored)
    verdict.raise_if_broken()
    assert (verdict.messages, verdict.acknowledged, verdict.received) == (4, 4, 4)
    assert "every invariant holds" in str(verdict)


def rows_of(stored: Stored) -> list[Row]:
    """The stored rows, to be altered in place."""
    rows = stored.messages[CHAT]
    assert isinstance(rows, list)
    return rows


def lose(mina: Record, jun: Record, stored: Stored) -> None:
    del rows_of(stored)[2]


def double(mina: Record, jun: Record, stored: Stored) -> None:
    rows_of(stored)[2] = replace(rows_of(stored)[1], seq=3)


def invent(mina: Record, jun: Record, stored: Stored) -> None:
    del mina.sent[3]


def alter(mina: Record, jun: Record, stored: Stored) -> None:
    rows_of(stored)[0] = replace(rows_of(stored)[0], body="m0")


def swap(mina: Record, jun: Record, stored: Stored) -> None:
    mina.sent[2].seq, mina.sent[3].seq = 3, 2


def swap_over_connections(mina: Record, jun: Record, stored: Stored) -> None:
    mina.sent[1].seq, mina.sent[3].seq = 3, 1


def turn_back_time(mina: Record, jun: Record, stored: Stored) -> None:
    rows_of(stored)[1] = replace(rows_of(stored)[1], at=900)


def contradict(mina: Record, jun: Record, stored: Stored) -> None:
    mina.acknowledged(2, 3, 1002)


def refuse_late(mina: Record, jun: Record, stored: Stored) -> None:
    mina.refused(2, "unavailable")


def deliver_wrongly(mina: Record, jun: Record, stored: Stored) -> None:
    jun.received[CHAT, 1] = (MINA, "another")


def deliver_late(mina: Record, jun: Record, stored: Stored) -> None:
    del jun.received[CHAT, 2]
    jun.receives(CHAT, 2, MINA, "m2")


def not_deliver(mina: Record, jun: Record, stored: Stored) -> None:
    del jun.received[CHAT, 2]


def leave_in_doubt(mina: Record, jun: Record, stored: Stored) -> None:
    mina.sends(2, CHAT, 9, "m9")


def drift(mina: Record, jun: Record, stored: Stored) -> None:
    members = stored.members
    assert isinstance(members, dict)
    members[CHAT, MINA] = (1, 2)


def run_ahead(mina: Record, jun: Record, stored: Stored) -> None:
    members = stored.members
    assert isinstance(members, dict)
    members[CHAT, MINA] = (1, 4)


def show_less(mina: Record, jun: Record, stored: Stored) -> None:
    jun.shows[CHAT] = (3, 3)


def show_more(mina: Record, jun: Record, stored: Stored) -> None:
    mina.shows[CHAT] = (4, 4)


def not_deliver_a_change(mina: Record, jun: Record, stored: Stored) -> None:
    jun.changes.discard((CHAT, 2))


@pytest.mark.parametrize(
    ("break_it", "invariant"),
    [
        (lose, "nothing acknowledged is lost"),
        (lose, "seq runs 1 to head"),
        (double, "nothing is stored twice"),
        (invent, "nothing is stored that nobody sent"),
        (alter, "what is stored is what was acknowledged"),
        (swap, "a sender's order is kept"),
        (swap_over_connections, "a sender's order is kept"),
        (turn_back_time, "time does not go back"),
        (contradict, "answers agree with each other"),
        (refuse_late, "answers agree with each other"),
        (deliver_wrongly, "what is received is what is stored"),
        (deliver_late, "live messages come in order"),
        (not_deliver, "everybody has everything"),
        (leave_in_doubt, "every message is acknowledged in the end"),
        (drift, "unread counts are exact"),
        (run_ahead, "unread counts are exact"),
        (show_less, "clients show what is stored"),
        (show_more, "clients show what is stored"),
        (not_deliver_a_change, "everybody has every change"),
    ],
)
def test_what_is_broken_is_told(break_it: Callable[[Record, Record, Stored], None], invariant: str) -> None:
    mina, jun, stored = talk()
    break_it(mina, jun, stored)
    verdict = check([mina, jun], stored)
    assert invariant in verdict.violations
    assert verdict.counts[COLUMN[invariant]] >= 1
    with pytest.raises(AssertionError, match=invariant):
        verdict.raise_if_broken()


def test_counts_are_of_messages_and_add_up() -> None:
    mina, jun, stored = talk()
    for seq in (1, 2):
        del jun.received[CHAT, seq]
    verdict = Verdict()
    for _ in range(2):
        verdict.add(check([mina, jun], stored))
    assert verdict.counts == {"lost": 4}
    assert (verdict.messages, verdict.acknowledged, verdict.received) == (8, 8, 4)
    assert len(verdict.sentences()) == 2
