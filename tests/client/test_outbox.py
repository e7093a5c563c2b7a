"""The outbox against a server that loses answers and connections: nothing is forgotten, one cid each."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mim.client.errors import OutboxFull
from mim.client.outbox import Outbox


class Network:
    """An outbox, and a server that takes what it sends; answers may be lost, refused or late."""

    def __init__(self, inflight: int) -> None:
        self.outbox = Outbox(limit=1000)
        self.inflight = inflight
        self.now = 0.0
        self.cid = 0
        self.stored: set[int] = set()
        self.answers: list[int] = []  # cids taken on this connection, to be answered in order

    def add(self) -> None:
        self.cid += 1
        self.outbox.add(self.cid, 1, "hello")

    def send(self) -> None:
        due = [item.cid for item in self.outbox.due(self.now, self.inflight)]
        assert due == sorted(due)
        assert self.outbox.under_way <= self.inflight
        self.stored.update(due)
        self.answers.extend(due)

    def ack(self) -> None:
        if self.answers:
            self.outbox.ack(self.answers.pop(0))

    def refuse(self) -> None:
        if self.answers:
            cid = self.answers.pop(0)
            self.stored.discard(cid)
            self.outbox.postpone(cid, self.now, 100)

    def cut(self) -> None:
        self.answers.clear()
        self.outbox.connection_lost()

    def wait(self) -> None:
        self.now += 1.0

    def settle(self) -> None:
        """At last the network holds."""
        for _ in range(2 * self.cid + 2):
            self.wait()
            self.send()
            while self.answers:
                self.ack()


STEPS = [Network.add, Network.send, Network.ack, Network.refuse, Network.cut, Network.wait]


@given(steps=st.lists(st.sampled_from(STEPS), max_size=80), inflight=st.integers(1, 4))
def test_no_message_is_forgotten_whatever_the_network_does(
    steps: list[Callable[[Network], None]], inflight: int
) -> None:
    network = Network(inflight)
    for step in steps:
        step(network)
    network.settle()
    assert len(network.outbox) == 0
    assert network.outbox.under_way == 0
    assert network.stored == set(range(1, network.cid + 1))


def test_after_a_lost_connection_all_go_out_again_in_order_under_their_cids() -> None:
    outbox = Outbox()
    for cid in (1, 2, 3):
        outbox.add(cid, 1, "x")
    assert [item.cid for item in outbox.due(0.0, 10)] == [1, 2, 3]
    outbox.ack(2)
    outbox.connection_lost()
    assert [item.cid for item in outbox.due(0.0, 10)] == [1, 3]


def test_a_passing_refusal_holds_back_what_comes_after_it() -> None:
    outbox = Outbox()
    outbox.add(1, 1, "x")
    outbox.due(0.0, 10)
    assert outbox.postpone(1, 0.0, 1500) == 1.5
    outbox.add(2, 1, "y")
    assert outbox.due(1.4, 10) == []
    assert [item.cid for item in outbox.due(1.5, 10)] == [1, 2]


def test_without_a_time_the_delay_doubles() -> None:
    outbox = Outbox()
    outbox.add(1, 1, "x")
    assert [outbox.postpone(1, 0.0, None) for _ in range(8)] == [0.5, 1, 2, 4, 8, 16, 30, 30]
    assert outbox.postpone(99, 0.0, None) is None


def test_a_message_that_the_server_stumbles_over_is_given_up_in_the_end() -> None:
    outbox = Outbox()
    outbox.add(1, 1, "x")
    tries = 0
    while outbox.may_pass(1, "internal", None):
        outbox.postpone(1, 0.0, None)
        tries += 1
    assert tries == 5
    assert outbox.may_pass(1, "unavailable", None)
    assert outbox.may_pass(1, "full", 500)
    assert not outbox.may_pass(1, "forbidden", None)


def test_it_is_bounded() -> None:
    outbox = Outbox(limit=1)
    outbox.add(1, 1, "x")
    with pytest.raises(OutboxFull):
        outbox.add(2, 1, "y")
