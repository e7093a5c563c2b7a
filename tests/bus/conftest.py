"""Nodes on a bus, and the Redis servers that carry it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from mim.bus.port import Bus, CloseDevice, Envelope
from tests.faults.redis_server import RedisCluster
from tests.harness import until
from tests.redis_server import PROGRAM, RedisServer

# One for each third of a cluster's slots, so that a marker passes by every server.
MARKERS = ["marker", "marker:0", "marker:9"]


class Node:
    """A bus and what it delivered."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus
        self.heard: list[tuple[str, Envelope]] = []
        self.restored: list[float] = []
        bus.listen(lambda topic, envelope: self.heard.append((topic, envelope)), self.restored.append)

    def bodies(self, topic: str) -> list[bytes]:
        """Frames heard on a topic, in order."""
        return [envelope.frame for where, envelope in self.heard if where == topic]

    async def hears_all_of(self, speaker: "Node") -> None:
        """Everything that `speaker` published before has been delivered: markers behind it have come.

        They are claims, which pass through Redis even for the node that makes them.
        """
        await self.bus.subscribe(MARKERS)
        before = [len(self.bodies(topic)) for topic in MARKERS]
        for topic in MARKERS:
            speaker.bus.publish(topic, Envelope(b"marker", control=CloseDevice("marker")))
        await until(lambda: all(len(self.bodies(topic)) > n for topic, n in zip(MARKERS, before, strict=True)))
        self.bus.unsubscribe(MARKERS)

    async def settles(self) -> None:
        """Everything published by this node before has been delivered to it."""
        await self.hears_all_of(self)


@pytest.fixture(scope="package")
async def redis_url() -> AsyncIterator[str]:
    """A Redis that nobody kills; "" where none is installed."""
    if PROGRAM is None:
        yield ""
        return
    server = RedisServer()
    try:
        await server.start()
        yield server.url
    finally:
        server.clean_up()


@pytest.fixture(scope="package")
async def cluster_url(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """A cluster of three that nobody touches; "" where no Redis is installed."""
    if PROGRAM is None:
        yield ""
        return
    async with cluster(tmp_path_factory.mktemp("cluster")) as servers:
        yield servers.url


@asynccontextmanager
async def cluster(folder: Path) -> AsyncIterator[RedisCluster]:
    """Three shards, the first with a replica."""
    servers = RedisCluster(folder)
    try:
        await servers.start()
        yield servers
    finally:
        servers.clean_up()
