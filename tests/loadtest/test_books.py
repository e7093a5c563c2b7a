"""The books of phones: what may happen is no breach, and what must not is one.

A small model of a server and one phone makes histories in which everything is right, with sleep, resume, repetition and
gaps; the books must accept all of them. Then one thing is spoilt.
"""

import random
from array import array
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.checks.invariants import Verdict
from loadtest.phones.books import Account, Books, merged

CHAT = 5
SYNCED_AT_MOST = 50


def state(head: int, read: int, first: int = 1) -> dict[str, Any]:
    return {"chat": CHAT, "kind": "direct", "head": head, "read": read, "first": first}


class Server:
    """One chat; the phone is user 1, somebody else is user 2."""

    def __init__(self) -> None:
        self.senders: list[int] = []  # of seq 1, 2, ...
        self.read = 0
        self.acked: list[int] = []  # seqs of the other one

    @property
    def head(self) -> int:
        return len(self.senders)

    def stores(self, sender: int) -> int:
        self.senders.append(sender)
        if sender == 1:
            self.read = self.head
        else:
            self.acked.append(self.head)
        return self.head


class Story:
    """A phone with its books, told what a right server tells."""

    def __init__(self) -> None:
        self.server = Server()
        self.books = Books(1)
        self.cursor = 0  # everything up to here was there when the last sync was complete
        self.connected = False
        self.lost: list[int] = []  # own messages whose ACK did not come
        self.connects()

    def connects(self) -> None:
        if self.connected:
            return
        self.connected = True
        books, server = self.books, self.server
        books.connects()
        if not books.chats or server.head > self.cursor:
            books.hears_chat(CHAT, state(server.head, server.read), in_doubt=bool(self.lost))
            for seq in range(max(self.cursor, server.head - SYNCED_AT_MOST) + 1, server.head + 1):
                books.hears(CHAT, seq, own=server.senders[seq - 1] == 1)
        books.synced()
        self.cursor = server.head
        for after, before in [books.gaps.pop(CHAT)] if books.gaps else []:
            for seq in range(after + 1, before):
                books.hears(CHAT, seq, own=server.senders[seq - 1] == 1, page=True)
        for seq in self.lost:  # sent again, with the same cid
            books.acknowledged(CHAT, seq, once=False)
        self.lost.clear()

    def sleeps(self) -> None:
        if self.connected:
            self.books.ends()
        self.connected = False

    def hears(self) -> None:
        seq = self.server.stores(2)
        if self.connected:
            assert self.books.hears(CHAT, seq, own=False)

    def sends(self) -> None:
        if self.connected:
            self.books.acknowledged(CHAT, self.server.stores(1), once=True)

    def sends_in_vain(self) -> None:
        """It is stored, and the connection breaks before the ACK."""
        if self.connected:
            self.lost.append(self.server.stores(1))
            self.sleeps()

    def reads(self) -> None:
        if self.connected and (seq := self.books.reads(CHAT)):
            self.server.read = seq

    def ends(self, *, in_order: bool = True) -> Verdict:
        self.connects()
        return verdict_of(self.books, self.server, in_order=in_order)


def verdict_of(books: Books, server: Server, *, in_order: bool = True) -> Verdict:
    account = Account()
    account.add(books, {CHAT: state(server.head, server.read)})
    other = Books(2)
    other.hears_chat(CHAT, state(server.head, server.head))
    for seq in server.acked:
        other.acknowledged(CHAT, seq, once=True)
    for seq in range(1, server.head + 1):
        if server.senders[seq - 1] == 1:
            other.hears(CHAT, seq, own=False)
    last = max(server.acked, default=0)
    rest = Account()
    rest.add(other, {CHAT: state(server.head, last)})
    rest.broken = []  # its story is not told in full
    rest.breaches = {}
    return merged([account, rest], in_order=in_order)


STEPS = (Story.hears, Story.hears, Story.sends, Story.sleeps, Story.connects, Story.reads, Story.sends_in_vain)


@given(st.lists(st.sampled_from(STEPS), max_size=60), st.integers(0, 120))
def test_a_right_server_breaks_nothing(steps: list[Any], absent: int) -> None:
    story = Story()
    for step in steps:
        step(story)
    story.sleeps()
    for _ in range(absent):  # more than a sync tells: the phone fetches the rest
        story.hears()
    verdict = story.ends()
    verdict.raise_if_broken()
    assert story.books.unread(CHAT) == story.server.head - story.server.read


@given(st.integers(0, 1 << 32), st.integers(2, 30))
def test_live_frames_may_swap_between_nodes_and_nowhere_else(seed: int, count: int) -> None:
    rng = random.Random(seed)
    story = Story()
    order = list(range(1, count + 1))
    place = rng.randrange(count - 1)
    order[place], order[place + 1] = order[place + 1], order[place]
    for _ in order:
        story.server.stores(2)
    for seq in order:
        story.books.hears(CHAT, seq, own=False)
    assert set(story.ends().violations) == {"live messages come in order"}
    story.ends(in_order=False).raise_if_broken()


def test_a_message_that_is_passed_over_is_missed_even_when_the_resume_brings_it() -> None:
    story = Story()
    for seq in (1, 3):
        story.books.hears(CHAT, seq, own=False)
    story.server.senders, story.server.acked = [2, 2, 2], [1, 2, 3]
    story.sleeps()
    verdict = story.ends()
    assert set(verdict.violations) == {"everybody has everything"}
    assert "did not come live" in verdict.sentences()[0]


def test_an_own_message_shows_that_one_before_it_is_late() -> None:
    story = Story()
    story.server.stores(2)
    story.sends()  # the first thing that this connection tells of the chat
    story.books.hears(CHAT, 1, own=False)
    assert set(story.ends().violations) == {"live messages come in order"}


def test_the_last_message_is_missed_too() -> None:
    story = Story()
    story.hears()
    story.server.stores(2)
    assert "everybody has everything" in story.ends().violations


def test_twice_on_a_connection_is_a_breach_unless_its_sender_sent_it_again() -> None:
    story = Story()
    story.hears()
    story.books.hears(CHAT, 1, own=False)
    assert set(story.ends().violations) == {"nothing is delivered twice"}

    sender = Books(2)
    sender.resent.add((CHAT, 1))
    account, other = Account(), Account()
    account.add(story.books, {CHAT: state(1, 0)})
    other.add(sender, {})
    other.acked[CHAT] = array("Q", [1])
    merged([account, other]).raise_if_broken()


def test_a_repetition_across_connections_is_counted_apart() -> None:
    story = Story()
    story.hears()
    story.cursor = 0  # the sync tells once more what came live before
    story.sleeps()
    story.connects()
    verdict = story.ends()
    verdict.raise_if_broken()
    assert verdict.repeats == 1


@pytest.mark.parametrize(
    ("read", "head", "invariant"),
    [(2, 2, "unread counts are exact"), (0, 3, "everybody has everything"), (0, 1, "clients show what is stored")],
)
def test_what_the_server_tells_otherwise_is_found(read: int, head: int, invariant: str) -> None:
    books = Books(1)
    books.connects()
    books.hears_chat(CHAT, state(0, 0))
    books.synced()
    books.hears(CHAT, 1, own=False)
    books.hears(CHAT, 2, own=False)
    assert invariant in {found for found, _, _ in books.differs({CHAT: state(head, read)})}


def test_a_seq_for_two_messages_and_one_that_nobody_sent_are_found() -> None:
    one, other = Books(1), Books(2)
    for books in (one, other):
        books.hears_chat(CHAT, state(0, 0))
        books.acknowledged(CHAT, 1, once=True)
    account = Account()
    for books in (one, other):
        account.add(books, {CHAT: state(2, 1)})
    account.broken = []
    assert set(merged([account]).violations) == {"answers agree with each other", "nothing is stored that nobody sent"}


def test_a_senders_order_is_kept_on_a_connection() -> None:
    books = Books(1)
    books.connects()
    books.synced()
    books.acknowledged(CHAT, 2, once=True)
    books.acknowledged(CHAT, 1, once=True)
    assert [invariant for invariant, _ in books.breaches.said] == ["a sender's order is kept"]
