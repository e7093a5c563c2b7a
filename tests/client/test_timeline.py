"""The ordering law: whatever comes in whatever order and however often, each is released once and in order."""

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from mim.client.models import Change, Chat, Message
from mim.client.timeline import Timeline

CHAT = 7


def message(seq: int) -> Message:
    return Message(CHAT, seq, sender=1, at=0, body=str(seq))


def change(rev: int, after: int) -> Change:
    return Change(CHAT, rev, "edit", 1, 0, {"after": after})


def state(**fields: int) -> Chat:
    return Chat(CHAT, "group", **fields)  # type: ignore[arg-type]


@dataclass
class Truth:
    """What the server has: `messages` of them, and the `after` of each change."""

    messages: int
    afters: list[int]
    released: list[Message | Change] = field(default_factory=list)

    def item(self, index: int) -> Message | Change:
        if index < self.messages:
            return message(index + 1)
        rev = index - self.messages + 1
        return change(rev, self.afters[rev - 1])

    def __len__(self) -> int:
        return self.messages + len(self.afters)


@st.composite
def truths(draw: st.DrawFn) -> Truth:
    count = draw(st.integers(0, 30))
    return Truth(count, sorted(draw(st.lists(st.integers(0, count), max_size=8))))


def offer(timeline: Timeline, item: Message | Change, released: list[Message | Change]) -> None:
    timeline.offer(item)
    released.extend(timeline.take())


def repair(timeline: Timeline, truth: Truth, page: int = 4) -> None:
    """Answer what the timeline asks for, as a server does by FETCH and CHANGES."""
    for _ in range(len(truth) + 1):
        missing = timeline.missing()
        if missing is None:
            return
        assert missing.what != "state"
        last, base = (truth.messages, 0) if missing.what == "messages" else (len(truth.afters), truth.messages)
        for number in range(missing.after + 1, min(missing.after + page, last) + 1):
            offer(timeline, truth.item(base + number - 1), truth.released)
    raise AssertionError("never filled")


@given(data=st.data(), truth=truths(), limit=st.integers(1, 40))
def test_any_interleaving_and_duplication_is_released_once_in_order(
    data: st.DataObject, truth: Truth, limit: int
) -> None:
    timeline = Timeline(saved=(0, 0), limit=limit)
    deliveries = data.draw(st.lists(st.integers(0, max(0, len(truth) - 1)), max_size=80)) if len(truth) else []
    for index in deliveries:
        offer(timeline, truth.item(index), truth.released)
    timeline.expect(head=truth.messages, rev=len(truth.afters))
    truth.released.extend(timeline.take())
    repair(timeline, truth)

    seqs = [item.seq for item in truth.released if isinstance(item, Message)]
    revs = [item.rev for item in truth.released if isinstance(item, Change)]
    assert seqs == list(range(1, truth.messages + 1))
    assert revs == list(range(1, len(truth.afters) + 1))
    assert (len(timeline.messages), len(timeline.changes)) == (0, 0)  # duplicates are not kept
    position = 0
    for item in truth.released:
        if isinstance(item, Message):
            position = item.seq
        else:
            assert item.after <= position


@given(start=st.integers(0, 20), order=st.permutations(range(1, 21)))
def test_messages_below_the_start_are_ignored(start: int, order: list[int]) -> None:
    timeline = Timeline()
    released: list[Message | Change] = []
    timeline.open(state(head=start, first=start + 1, read=start))
    for seq in order:
        offer(timeline, message(seq), released)
    assert [item.seq for item in released if isinstance(item, Message)] == list(range(start + 1, 21))


def test_a_chat_met_for_the_first_time_is_told_from_what_is_unread() -> None:
    timeline = Timeline(backlog=50)
    timeline.offer(message(9))  # live, before its CHAT
    assert timeline.take() == []
    missing = timeline.missing()
    assert missing is not None
    assert missing.what == "state"
    timeline.open(state(head=9, read=7, rev=3))
    timeline.offer(message(7))
    timeline.offer(message(8))
    assert [item.seq for item in timeline.take() if isinstance(item, Message)] == [8, 9]
    assert timeline.missing() is None


def test_a_long_absence_is_told_from_the_backlog_on() -> None:
    timeline = Timeline(backlog=50)
    timeline.open(state(head=5000, read=10))
    missing = timeline.missing()
    assert missing is not None
    assert (missing.what, missing.after) == ("messages", 4950)


def test_what_was_said_while_out_of_the_chat_is_not_told() -> None:
    timeline = Timeline(saved=(5, 2))
    timeline.open(Chat(CHAT, "left"))
    timeline.offer(message(6))
    assert timeline.take() == []
    timeline.open(state(head=9, first=10, read=9, rev=6))
    timeline.offer(message(10))
    timeline.offer(change(7, after=10))
    assert timeline.take() == [message(10), change(7, after=10)]
    assert timeline.missing() is None


def test_what_never_comes_is_skipped_in_the_end() -> None:
    timeline = Timeline(saved=(1, 0))
    timeline.offer(message(3))
    assert timeline.take() == []
    timeline.skip()
    assert timeline.take() == [message(3)]
    timeline.expect(head=9)
    timeline.skip()
    assert timeline.missing() is None
