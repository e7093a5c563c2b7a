"""Who hears what: topics, origins, hidden changes, joins and leaves; and nothing stays of a listener that is gone."""

import json
from dataclasses import dataclass, field
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mim.bus.local import LocalBus
from mim.bus.port import NODES, CloseDevice, Envelope, Join, Leave, Missed, chat_topic, device_topic, user_topic
from mim.hub.hub import Hub


@dataclass(eq=False)
class Socket:
    """A listener that remembers what it was offered."""

    id: int
    user: int
    device: int
    text: bool = False
    opened: int = 0
    claimed: bool = False
    offered: list[tuple[bytes, bool]] = field(default_factory=list)
    evicted: list[str] = field(default_factory=list)

    def offer(self, message: bytes, *, counted: bool) -> None:
        self.offered.append((message, counted))

    def evict(self, reason: str) -> None:
        self.evicted.append(reason)

    def heard(self) -> list[Any]:
        """The frames offered, decoded by other implementations."""
        found = []
        for message, _ in self.offered:
            head, size = message[0], message[1]
            payload = message[2:] if size < 126 else message[4:] if size == 126 else message[10:]
            assert head == (0x81 if self.text else 0x82)
            found.append(json.loads(payload) if self.text else msgpack.unpackb(payload))
        self.offered.clear()
        return found


@pytest.fixture
def bus() -> LocalBus:
    return LocalBus()


@pytest.fixture
def hub(bus: LocalBus) -> Hub:
    return Hub(bus)


async def opens(hub: Hub, socket: Socket, groups: dict[int, int] | None = None) -> Socket:
    """What opening a session does."""
    await hub.attach(socket, {device_topic(socket.device): 1, user_topic(socket.user): 1})
    await hub.join(socket, groups or {})
    return socket


def frame(*fields: Any) -> bytes:
    return bytes(msgpack.packb(fields))


def assert_empty(hub: Hub, bus: LocalBus) -> None:
    assert (hub._topics, hub._topics_of, hub._told, bus._topics, len(hub)) == ({}, {}, {}, set(), 0)


async def test_a_topic_reaches_its_listeners_only(hub: Hub, bus: LocalBus) -> None:
    mina, jun = (
        await opens(hub, Socket(1, 10, 100), {5: 1}),
        await opens(hub, Socket(2, 20, 200, text=True), {5: 1, 6: 1}),
    )
    bus.publish(chat_topic(5), Envelope(frame(18, 5, 1, 10, 0, "both"), counted=True))
    bus.publish(chat_topic(6), Envelope(frame(18, 6, 1, 20, 0, "jun")))
    bus.publish(user_topic(10), Envelope(frame(28, "k", {})))
    bus.publish(chat_topic(7), Envelope(frame(18, 7, 1, 10, 0, "nobody")))
    assert [counted for _, counted in mina.offered] == [True, False]
    assert mina.heard() == [[18, 5, 1, 10, 0, "both"], [28, "k", {}]]
    assert jun.heard() == [[18, 5, 1, 10, 0, "both"], [18, 6, 1, 20, 0, "jun"]]
    assert hub.deliveries == 4


@pytest.mark.parametrize("size", [1, 100, 125, 126, 200, 65_500, 65_535, 65_536, 70_000])
async def test_messages_of_every_size_keep_their_bytes(hub: Hub, bus: LocalBus, size: int) -> None:
    binary, text = await opens(hub, Socket(1, 10, 100)), await opens(hub, Socket(2, 10, 200, text=True))
    bus.publish(user_topic(10), Envelope(frame("가" * (size // 3) + "x" * (size % 3))))
    assert binary.heard() == text.heard() == [["가" * (size // 3) + "x" * (size % 3)]]


async def test_neither_back_to_its_origin_nor_to_the_typist(hub: Hub, bus: LocalBus) -> None:
    one, two, jun = [await opens(hub, Socket(n, user, n), {5: 1}) for n, user in ((1, 10), (2, 10), (3, 20))]
    bus.publish(chat_topic(5), Envelope(frame(1), origin=1))
    assert [socket.heard() for socket in (one, two, jun)] == [[], [[1]], [[1]]]
    bus.publish(chat_topic(5), Envelope(frame(2), not_user=10))
    assert [socket.heard() for socket in (one, two, jun)] == [[], [], [[2]]]


async def test_a_change_about_a_message_before_first_is_hidden(hub: Hub, bus: LocalBus) -> None:
    early, late, text = [
        await opens(hub, Socket(n, n, n, text=n == 3), {5: first}) for n, first in ((1, 1), (2, 8), (3, 9))
    ]
    envelope = Envelope(frame("full"), counted=True, about=7, hidden_frame=frame("hidden"))
    bus.publish(chat_topic(5), envelope)
    assert [socket.heard() for socket in (early, late, text)] == [[["full"]], [["hidden"]], [["hidden"]]]
    envelope.about = 8
    bus.publish(chat_topic(5), envelope)
    assert [socket.heard() for socket in (early, late, text)] == [[["full"]], [["full"]], [["hidden"]]]
    envelope.about = 0  # about no message
    bus.publish(chat_topic(5), envelope)
    assert [socket.heard() for socket in (early, late, text)] == [[["full"]]] * 3


async def test_join_and_leave_reach_every_socket_of_the_user(hub: Hub, bus: LocalBus) -> None:
    phone, tablet = [await opens(hub, Socket(n, 10, n)) for n in (1, 2)]
    bus.publish(user_topic(10), Envelope(frame("chat"), control=Join(5, 3)))
    bus.publish(chat_topic(5), Envelope(frame("in"), about=2, hidden_frame=frame("hidden")))
    bus.publish(user_topic(10), Envelope(frame("left"), control=Leave(5)))
    bus.publish(chat_topic(5), Envelope(frame("out")))
    for socket in (phone, tablet):
        assert socket.heard() == [["chat"], ["hidden"], ["left"]]
    assert bus._topics == {user_topic(10), device_topic(1), device_topic(2)}
    bus.publish(user_topic(10), Envelope(b"", control=Leave(5)))  # twice does no harm


async def test_the_last_claim_on_a_device_stays(hub: Hub, bus: LocalBus) -> None:
    old, new, other = [await opens(hub, Socket(n, 10, device)) for n, device in ((1, 7), (2, 7), (3, 8))]
    bus.publish(device_topic(7), Envelope(b"", control=CloseDevice("replaced", keep=1)))
    assert [socket.evicted for socket in (old, new, other)] == [[], [], []]  # the claim of `new` is still to come
    bus.publish(device_topic(7), Envelope(b"", control=CloseDevice("replaced", keep=2)))
    assert [socket.evicted for socket in (old, new, other)] == [["replaced"], [], []]
    bus.publish(device_topic(7), Envelope(b"", control=CloseDevice("signed_out")))
    assert [socket.evicted for socket in (old, new, other)] == [["replaced", "signed_out"], ["signed_out"], []]
    assert old.offered == []


async def test_a_claim_without_order_is_good_against_older_sockets(hub: Hub, bus: LocalBus) -> None:
    older, claimant, newer = [await opens(hub, Socket(n, 10, 7, opened=n * 1000)) for n in (1, 2, 3)]
    older.claimed = newer.claimed = True
    bus.publish(device_topic(7), Envelope(b"", control=CloseDevice("replaced", 2, 2000, ordered=False)))
    assert [socket.evicted for socket in (older, claimant, newer)] == [["replaced"], [], []]


async def test_groups_that_are_read_anew_replace_those_known(hub: Hub, bus: LocalBus) -> None:
    socket = await opens(hub, Socket(1, 10, 100), {5: 1, 6: 1})
    hub.reads_groups(socket)
    bus.publish(user_topic(10), Envelope(b"", control=Join(8, 1)))  # after the rows were read
    await hub.join(socket, {6: 1, 7: 1})
    for chat in (5, 6, 7, 8):
        bus.publish(chat_topic(chat), Envelope(frame(chat)))
    assert socket.heard() == [[6], [7], [8]]
    assert hub.groups() == [6, 8, 7]


@dataclass
class Told:
    """A recovery that remembers what it was told."""

    events: list[Any] = field(default_factory=list)

    def restored(self, since: float) -> None:
        self.events.append(since)

    def missed(self, missed: Missed) -> None:
        self.events.append(missed)

    def joined(self, chat: int, rev: int) -> None:
        self.events.append((chat, rev))


async def test_what_is_for_every_node_goes_to_the_recovery(hub: Hub, bus: LocalBus) -> None:
    told = Told()
    await hub.start(told)
    missed = Missed([5], 77, 1_700_000_000)
    bus.publish(NODES, Envelope(b"", control=missed))
    assert told.events == [missed]


async def test_what_happens_while_groups_are_read_wins_over_what_was_read(hub: Hub, bus: LocalBus) -> None:
    socket = Socket(1, 10, 100)
    await hub.attach(socket, {user_topic(10): 1})
    bus.publish(user_topic(10), Envelope(b"", control=Leave(5)))  # kicked after the rows were read
    bus.publish(user_topic(10), Envelope(b"", control=Join(6, 40)))  # joined
    bus.publish(user_topic(10), Envelope(b"", control=Leave(7)))
    bus.publish(user_topic(10), Envelope(b"", control=Join(7, 30)))  # out and in again
    await hub.join(socket, {5: 1, 7: 2, 8: 1})
    for chat in (5, 6, 7, 8):
        bus.publish(chat_topic(chat), Envelope(frame(chat), about=10, hidden_frame=frame(chat, "hidden")))
    assert socket.heard() == [[6, "hidden"], [7, "hidden"], [8]]
    hub.detach(socket)
    assert_empty(hub, bus)


async def test_a_listener_that_never_was_is_detached_in_peace(hub: Hub, bus: LocalBus) -> None:
    hub.detach(Socket(1, 10, 100))
    await hub.attach(Socket(2, 20, 200), {user_topic(20): 1})
    assert len(hub) == 1


class World:
    """A hub, four sockets of two users, and a model of who should hear what."""

    def __init__(self) -> None:
        self.bus = LocalBus()
        self.hub = Hub(self.bus)
        self.sockets = [Socket(n + 1, n % 2 + 1, n + 1) for n in range(4)]
        self.hears: dict[Socket, set[int]] = {}  # attached sockets: chats
        self.told: dict[Socket, dict[int, bool]] = {}  # those that read their groups: what they joined and left since

    async def attach(self, who: int, _: int) -> None:
        socket = self.sockets[who]
        await self.hub.attach(socket, {user_topic(socket.user): 1, device_topic(socket.device): 1})
        self.hears.setdefault(socket, set())
        self.told[socket] = {}

    async def join(self, who: int, chat: int) -> None:
        socket = self.sockets[who]
        if socket in self.hears:
            await self.hub.join(socket, {chat: 1})
            told = self.told.pop(socket, {})
            kept = {known for known in self.hears[socket] if known == chat or told.get(known)}
            self.hears[socket] = kept | ({chat} - told.keys())

    async def detach(self, who: int, _: int) -> None:
        self.hub.detach(self.sockets[who])
        self.hears.pop(self.sockets[who], None)
        self.told.pop(self.sockets[who], None)

    async def told_to_join(self, who: int, chat: int) -> None:
        user = self.sockets[who].user
        self.bus.publish(user_topic(user), Envelope(b"", control=Join(chat, 1)))
        for socket in self.hears:
            if socket.user == user:
                self.hears[socket].add(chat)
                if socket in self.told:
                    self.told[socket][chat] = True

    async def told_to_leave(self, who: int, chat: int) -> None:
        user = self.sockets[who].user
        self.bus.publish(user_topic(user), Envelope(b"", control=Leave(chat)))
        for socket in self.hears:
            if socket.user == user:
                self.hears[socket].discard(chat)
                if socket in self.told:
                    self.told[socket][chat] = False

    async def say(self, _: int, chat: int) -> None:
        self.bus.publish(chat_topic(chat), Envelope(frame(chat)))
        for socket in self.sockets:
            assert socket.heard() == ([[chat]] if chat in self.hears.get(socket, ()) else [])


STEPS = (World.attach, World.join, World.detach, World.told_to_join, World.told_to_leave, World.say)


@given(script=st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 3), st.integers(1, 3)), max_size=40))
async def test_any_life_leaves_nothing_behind(script: list[tuple[Any, int, int]]) -> None:
    """The hub never keeps a topic without listeners, nor the bus one without a hub."""
    world = World()
    for step, who, chat in script:
        await step(world, who, chat)
        assert len(world.hub) == len(world.hears)
        assert set(world.hub._topics) == world.bus._topics
        assert all(world.hub._topics.values())
    for socket in world.sockets:
        world.hub.detach(socket)
    assert_empty(world.hub, world.bus)
