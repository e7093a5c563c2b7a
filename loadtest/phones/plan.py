"""Who does what and when: the day of people with phones, as a list of events that is fixed before the run begins.

Arrivals are open: an event has its time from a seeded random alone, and no slow server puts it off. Everything here is
pure, and the same seed makes the same plan in every process; each takes its own users out of it.

A **talk** is a burst of some messages in one chat. Its first speaker opens the app and writes. The others are told,
open theirs after a while, and from then on read and write, with time for thinking, reading and typing; one speaks
rarely twice in a row. Besides, everybody has a **glance** at the phone now and then and reads what is new. Between
all that phones sleep, so most of them are asleep at a time.

An hour that is played in a minute is compressed sixty times: every pause of people is sixty times shorter, so that the
mix of work for each message stays the same. What the server times, such as READs gathered for 100 ms, is not.
"""

import heapq
import random
from collections.abc import Iterator, Sequence
from enum import IntEnum
from itertools import pairwise
from typing import Final, NamedTuple

DIRECT: Final = "direct"
GROUP: Final = "group"

MESSAGES_A_DAY: Final = 83.0
BUSY_HOUR: Final = 0.1  # of a day's messages
HOUR_S: Final = 3600.0

# A share of a user's chats are groups, of these sizes. Families and friends are many, classes and clubs few.
GROUPS_OF_CHATS: Final = 0.4
SIZES: Final = (3, 4, 5, 6, 8, 10, 15, 20, 30, 50, 100)
SIZE_WEIGHTS: Final = (20, 20, 15, 12, 10, 8, 6, 4, 3, 1.5, 0.5)

TALK_MESSAGES: Final = 6.0  # on average
MOST_MESSAGES: Final = 60
TALKERS: Final = 4  # of a group at most
GLANCES_A_DAY: Final = 40.0

# Seconds of people.
LEAD_S: Final = 3.0  # from opening the app to the first message
HEED_S: Final = 10.0  # from a notification to opening the app
THINK_S: Final = 8.0  # between two messages
TYPE_S: Final = 3.0
LOOK_S: Final = 2.0  # from a message on the screen to having read it
LINGER_S: Final = 30.0  # until the phone is put away
GLANCE_S: Final = 15.0
TYPING: Final = 0.8  # of all messages are announced by TYPING

SHORTEST_LEAD_S: Final = 0.5  # however compressed: signing in is not
TEXT_MEAN: Final = 3.2  # of the logarithm of a text's length: half are shorter than 25 characters
TEXT_SPREAD: Final = 0.8
TEXT_SIZES: Final = (16, 400)


class Do(IntEnum):
    """What a user does."""

    USE = 0  # the phone is in use until `value`, seconds
    TYPE = 1
    SEND = 2  # a text of `value` characters
    READ = 3
    GLANCE = 4  # and reads what is new, in a few chats


class Event(NamedTuple):
    """User number `user` does something, `at` seconds after the beginning. `chat` is an index, -1 for none."""

    at: float
    user: int
    do: Do
    chat: int = -1
    value: float = 0.0


class Chat(NamedTuple):
    """A chat of a plan; `members` are user numbers, the first creates it."""

    kind: str
    members: tuple[int, ...]


def chats_of(users: int, each: int, seed: int) -> list[Chat]:
    """Direct chats and groups in which everybody is in `each` chats, or a few less where it does not come out even."""
    rng = random.Random(f"{seed}/chats")  # noqa: S311
    each = min(each, 2 * (users - 1))
    groups = int(each * GROUPS_OF_CHATS) if users > 2 else 0
    return [*_pairs(users, each - groups, rng), *_groups(users, groups, rng)]


def _pairs(users: int, each: int, rng: random.Random) -> list[Chat]:
    """Everybody with the nearest neighbours on a ring of random order, alternating who begins."""
    ring = list(range(users))
    rng.shuffle(ring)
    found: dict[tuple[int, int], Chat] = {}
    for step in range(1, min(each, users - 1) // 2 + 1):
        for place, one in enumerate(ring):
            other = ring[(place + step) % users]
            pair = (one, other) if place % 2 else (other, one)
            found.setdefault((min(pair), max(pair)), Chat(DIRECT, pair))
    return list(found.values())


def _groups(users: int, each: int, rng: random.Random) -> list[Chat]:
    """Cut a shuffled list, in which everybody is `each` times, into groups."""
    slots = [user for user in range(users) for _ in range(each)]
    rng.shuffle(slots)
    found, place = [], 0
    while place < len(slots):
        size = min(rng.choices(SIZES, SIZE_WEIGHTS)[0], users)
        members = tuple(dict.fromkeys(slots[place : place + size]))
        if len(members) > 2:
            found.append(Chat(GROUP, members))
        place += size
    return found


class Plan:
    """The events of `users` with these chats, for `duration_s` seconds, `compress` seconds of people in each.

    `messages_a_day` is each user's, of which a busy hour has BUSY_HOUR; the plan is made of busy hours.
    """

    def __init__(
        self, chats: Sequence[Chat], users: int, seed: int, duration_s: float, compress: float,
        messages_a_day: float = MESSAGES_A_DAY,
    ) -> None:  # fmt: skip
        self.duration_s = duration_s
        self.compress = compress
        busy = users * BUSY_HOUR / HOUR_S * compress  # of what each has once a day, a second
        self.messages_per_s = busy * messages_a_day
        self._glances_per_s = busy * GLANCES_A_DAY
        self._chats = chats
        self._users = users
        self._seed = seed
        self._of: list[list[int]] = [[] for _ in range(users)]  # indices of chats by user, the dearest first
        for index, chat in enumerate(chats):
            for member in chat.members:
                self._of[member].append(index)
        rng = random.Random(f"{seed}/dear")  # noqa: S311
        for own in self._of:
            rng.shuffle(own)

    def __iter__(self) -> Iterator[Event]:
        """The events in the order of their times."""
        return heapq.merge(self._talks(), self._glances())

    # -- glances ---------------------------------------------------------------------------

    def _glances(self) -> Iterator[Event]:
        rng = random.Random(f"{self._seed}/glances")  # noqa: S311
        waiting: list[Event] = []
        for at in self._arrivals(rng, self._glances_per_s):
            user = rng.randrange(self._users)
            seen = at + self._lead_s
            heapq.heappush(waiting, Event(at, user, Do.USE, value=seen + GLANCE_S / self.compress))
            heapq.heappush(waiting, Event(seen, user, Do.GLANCE))
            while waiting[0].at <= at:
                yield heapq.heappop(waiting)
        yield from self._rest(waiting)

    # -- talks -----------------------------------------------------------------------------

    def _talks(self) -> Iterator[Event]:
        rng = random.Random(f"{self._seed}/talks")  # noqa: S311
        waiting: list[Event] = []
        for at in self._arrivals(rng, self.messages_per_s / TALK_MESSAGES):
            while waiting and waiting[0].at <= at:
                yield heapq.heappop(waiting)
            for event in self._talk(rng, at):
                heapq.heappush(waiting, event)
        yield from self._rest(waiting)

    def _talk(self, rng: random.Random, at: float) -> Iterator[Event]:
        """One talk that begins at `at`, in any order."""
        first = rng.randrange(self._users)
        if not (own := self._of[first]):
            return
        index = rng.choices(own, [1 / rank for rank in range(1, len(own) + 1)])[0]
        others = [member for member in self._chats[index].members if member != first]
        others = rng.sample(others, min(len(others), rng.randint(1, TALKERS - 1)))
        linger = LINGER_S / self.compress
        said = at + self._lead_s
        joins = {first: at} | {other: said + self._after(rng, HEED_S) for other in others}
        times = [said]
        for _ in range(self._length(rng) - 1):
            times.append(times[-1] + self._after(rng, THINK_S))
        for other in others:  # who comes when all is said has it read all the same
            look = joins[other] + self._lead_s
            yield Event(joins[other], other, Do.USE, value=look + linger)
            yield Event(look, other, Do.READ, index)
        speaker = first
        for before, when in pairwise([at, *times]):
            there = [user for user, joined in joins.items() if joined + self._lead_s <= when]
            speaker = self._next(rng, speaker, there) if before > at else first
            yield Event(max(before, joins[speaker]), speaker, Do.USE, value=when + linger)
            if rng.random() < TYPING:
                begun = max(before, joins[speaker] + self._lead_s / 2, when - TYPE_S / self.compress)
                yield Event(begun, speaker, Do.TYPE, index)
            yield Event(when, speaker, Do.SEND, index, self._text_size(rng))
            for reader in there:
                if reader != speaker:
                    read = when + self._after(rng, LOOK_S)
                    yield Event(when, reader, Do.USE, value=read + linger)
                    yield Event(read, reader, Do.READ, index)

    @staticmethod
    def _next(rng: random.Random, last: int, there: Sequence[int]) -> int:
        others = [user for user in there if user != last]
        return rng.choice(others) if others and rng.random() < 0.7 else last

    @staticmethod
    def _length(rng: random.Random) -> int:
        """Messages of a talk: one, and another with a chance that makes TALK_MESSAGES on average."""
        length = 1
        while length < MOST_MESSAGES and rng.random() < 1 - 1 / TALK_MESSAGES:
            length += 1
        return length

    @staticmethod
    def _text_size(rng: random.Random) -> int:
        least, most = TEXT_SIZES
        return min(most, max(least, int(rng.lognormvariate(TEXT_MEAN, TEXT_SPREAD))))

    @property
    def _lead_s(self) -> float:
        return max(LEAD_S / self.compress, SHORTEST_LEAD_S)

    def _after(self, rng: random.Random, mean_s: float) -> float:
        return rng.expovariate(1 / mean_s) / self.compress

    def _arrivals(self, rng: random.Random, per_s: float) -> Iterator[float]:
        at = rng.expovariate(per_s)
        while at < self.duration_s:
            yield at
            at += rng.expovariate(per_s)

    def _rest(self, waiting: list[Event]) -> Iterator[Event]:
        while waiting and waiting[0].at < self.duration_s:
            yield heapq.heappop(waiting)
