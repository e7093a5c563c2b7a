"""What every bus must do, whatever carries it. A second adapter joins by its name in `params`."""

import math
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from mim.bus.local import LocalBus
from mim.bus.port import CloseDevice, Envelope, Join, Leave, Missed
from mim.bus.redis import RedisBus
from mim.clock import SystemClock
from tests.bus.conftest import MARKERS, Node
from tests.harness import until
from tests.redis_server import needs_redis


@pytest_asyncio.fixture(
    params=["local", pytest.param("redis", marks=needs_redis), pytest.param("cluster", marks=needs_redis)]
)
async def node(request: pytest.FixtureRequest, redis_url: str, cluster_url: str) -> AsyncIterator[Node]:
    """A started bus of each kind."""
    if request.param == "local":
        node = Node(LocalBus())
    else:
        node = Node(RedisBus(redis_url if request.param == "redis" else cluster_url, SystemClock()))
    await node.bus.start()
    yield node
    await node.bus.close()


async def test_what_is_published_after_subscribe_arrives_once_and_in_order(node: Node) -> None:
    await node.bus.subscribe(["c:1", "u:1"])
    for n in range(200):
        node.bus.publish("c:1" if n % 3 else "u:1", Envelope(b"%d" % n))
    await node.settles()
    assert node.bodies("c:1") == [b"%d" % n for n in range(200) if n % 3]
    assert node.bodies("u:1") == [b"%d" % n for n in range(0, 200, 3)]


async def test_other_topics_are_not_heard(node: Node) -> None:
    await node.bus.subscribe(["c:1"])
    for topic in ("c:2", "c:11", "c:", "u:1", "c:1 "):
        node.bus.publish(topic, Envelope(b"not for us"))
    await node.settles()
    assert {topic for topic, _ in node.heard} == set(MARKERS)


async def test_an_envelope_arrives_as_it_was_sent(node: Node) -> None:
    await node.bus.subscribe(["u:1"])
    sent = [
        Envelope(b""),
        Envelope(b"\x00\xff" * 40_000, origin=2**52, not_user=2**40, counted=True),
        Envelope(b"full", counted=True, about=7, hidden_frame=b"hidden"),
        Envelope(b"", control=Join(5, 17, 3)),
        Envelope(b"chat", control=Leave(5)),
        Envelope(b"", control=Missed([5, 6], 2**52, 1_700_000_000)),
        # Claims come by the bus itself, after what a node tells its own sockets at once.
        Envelope(b"", control=CloseDevice("replaced", 9)),
        Envelope(b"", control=CloseDevice("signed_out")),
        Envelope(b"", control=CloseDevice("replaced", 9, 1_700_000_000_000, ordered=False)),
    ]
    for envelope in sent:
        node.bus.publish("u:1", envelope)
    await node.settles()
    assert [envelope for topic, envelope in node.heard if topic == "u:1"] == sent


async def test_nothing_is_heard_after_unsubscribe_and_again_after_subscribe(node: Node) -> None:
    await node.bus.subscribe(["c:1", "c:2"])
    node.bus.publish("c:1", Envelope(b"before"))
    await node.settles()
    node.bus.unsubscribe(["c:1", "c:never"])
    await node.settles()
    node.bus.publish("c:1", Envelope(b"away"))
    node.bus.publish("c:2", Envelope(b"other"))
    await node.settles()
    await node.bus.subscribe(["c:1"])
    node.bus.publish("c:1", Envelope(b"again"))
    await node.settles()
    assert node.bodies("c:1") == [b"before", b"again"]
    assert node.bodies("c:2") == [b"other"]


async def test_unsubscribe_then_subscribe_at_once_leaves_it_subscribed(node: Node) -> None:
    await node.bus.subscribe(["c:1"])
    node.bus.unsubscribe(["c:1"])
    await node.bus.subscribe(["c:1"])
    await node.settles()
    node.bus.publish("c:1", Envelope(b"heard"))
    await node.settles()
    assert node.bodies("c:1") == [b"heard"]


async def test_a_topic_twice_is_heard_once(node: Node) -> None:
    for _ in range(3):
        await node.bus.subscribe(["c:1", "c:1"])
    node.bus.publish("c:1", Envelope(b"once"))
    await node.settles()
    assert node.bodies("c:1") == [b"once"]
    node.bus.unsubscribe(["c:1"])
    await node.settles()
    node.bus.publish("c:1", Envelope(b"away"))
    await node.settles()
    assert node.bodies("c:1") == [b"once"]


async def test_listening_tells_how_many_nodes_want_a_topic(node: Node) -> None:
    await node.bus.subscribe(["u:1", "u:2"])
    assert await node.bus.listening(["u:1", "u:2", "u:3"]) == {"u:1": 1, "u:2": 1}
    assert await node.bus.listening([]) == {}
    node.bus.unsubscribe(["u:1"])
    await node.settles()
    assert await node.bus.listening(["u:1", "u:2"]) == {"u:2": 1}


async def test_what_was_published_is_confirmed_in_order(node: Node) -> None:
    told: list[tuple[int, bool]] = []
    for number in range(50):
        node.bus.publish(f"u:{number}", Envelope(b"x"))
        node.bus.confirm(lambda ok, number=number: told.append((number, ok)))  # type: ignore[misc]
    await until(lambda: len(told) == 50)
    assert told == [(number, True) for number in range(50)]
    node.bus.confirm(lambda ok: told.append((50, ok)))
    assert told[-1] == (50, True)


async def test_a_bus_in_peace_is_whole(node: Node) -> None:
    if (first := node.bus.whole_until()) != math.inf:
        await until(lambda: node.bus.whole_until() > first)


async def test_nothing_is_delivered_after_close(node: Node) -> None:
    await node.bus.subscribe(["c:1"])
    await node.bus.close()
    node.bus.publish("c:1", Envelope(b"late"))
    assert node.heard == []
