"""A plan is fixed by its seed, and nobody in it does what the protocol or common sense forbids."""

import math
from collections import defaultdict
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from loadtest.phones.plan import DIRECT, Do, Plan, chats_of

users_of = st.integers(2, 60)
seeds = st.integers(0, 1 << 32)
compressions = st.sampled_from([1.0, 30.0, 600.0])


def made(users: int, seed: int, compress: float, duration_s: float = 20.0) -> Plan:
    return Plan(chats_of(users, 50, seed), users, seed, duration_s, compress)


@given(users_of, st.integers(2, 60), seeds)
def test_chats_have_members_that_differ_and_every_pair_one_direct_chat(users: int, each: int, seed: int) -> None:
    chats = chats_of(users, each, seed)
    pairs = [frozenset(chat.members) for chat in chats if chat.kind == DIRECT]
    assert len(set(pairs)) == len(pairs)
    assert all(len(pair) == 2 for pair in pairs)
    for chat in chats:
        assert len(set(chat.members)) == len(chat.members) >= 2
        assert set(chat.members) <= set(range(users))
    assert all(len(chat.members) > 2 for chat in chats if chat.kind != DIRECT)


def test_most_users_have_nearly_all_their_chats() -> None:
    counts: defaultdict[int, int] = defaultdict(int)
    for chat in chats_of(500, 50, 7):
        for member in chat.members:
            counts[member] += 1
    assert max(counts.values()) <= 50
    assert sorted(counts.values())[25] >= 45


@given(users_of, seeds, compressions)
def test_the_same_seed_makes_the_same_plan_in_the_order_of_time(users: int, seed: int, compress: float) -> None:
    events = list(made(users, seed, compress))
    assert events == list(made(users, seed, compress))
    assert all(before.at <= after.at for before, after in pairwise(events))
    assert all(0 <= event.at < 20.0 for event in events)


@given(users_of, seeds, compressions)
def test_only_members_act_in_a_chat_and_only_with_the_phone_in_hand(users: int, seed: int, compress: float) -> None:
    chats = chats_of(users, 50, seed)
    until: defaultdict[int, float] = defaultdict(lambda: -1.0)
    for event in made(users, seed, compress):
        if event.do is Do.USE:
            until[event.user] = max(until[event.user], event.value)
            assert event.value > event.at
            continue
        assert event.at <= until[event.user], event
        if event.do is not Do.GLANCE:
            assert event.user in chats[event.chat].members


def test_the_mix_is_what_it_says() -> None:
    plan = made(400, 3, 60.0, 300.0)
    events = list(plan)
    sends = [event for event in events if event.do is Do.SEND]
    assert 0.85 < len(sends) / (plan.messages_per_s * plan.duration_s) < 1.1
    assert math.isclose(plan.messages_per_s, 400 * 83 * 0.1 / 60)
    in_hand = defaultdict(list)
    for event in events:
        if event.do is Do.USE:
            in_hand[event.user].append((event.at, event.value))
    awake = sum(_covered(spans) for spans in in_hand.values()) / (400 * plan.duration_s)
    assert 0.05 < awake < 0.4, "most phones are asleep at a time"


def _covered(spans: list[tuple[float, float]]) -> float:
    total = end = 0.0
    for start, stop in sorted(spans):
        total += max(0.0, stop - max(start, end))
        end = max(end, stop)
    return total
