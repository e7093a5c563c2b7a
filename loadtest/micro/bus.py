"""What a message on the bus costs in Python: publishing and receiving, without sockets of clients or a database.

Against a private Redis, plain redis-py is compared with the bus of a node. Only the CPU time of the event loop's thread
is counted, user and system. What stands on the other side, a listener that counts or a feeder that has its commands
ready as bytes, runs in a thread of its own on a raw socket.
"""

import asyncio
import shutil
import socket
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final
from urllib.parse import unquote

import msgspec
import redis.asyncio

from loadtest.load.client import TEXT
from loadtest.reports.report import Report
from mim.bus.port import Deliver, Envelope, user_topic
from mim.bus.redis import HEAD, TOLD, RedisBus
from mim.clock import SystemClock
from mim.embedded_redis import EmbeddedRedis

TOPIC: Final = user_topic(1_000_001)
ENVELOPE: Final = Envelope(
    msgspec.msgpack.encode([18, 500_001, 12_345, 1_000_001, 1_790_000_000_000, TEXT]), counted=True
)
PAYLOAD: Final = TOLD + bytes(HEAD - len(TOLD)) + msgspec.msgpack.encode(ENVELOPE)  # as another node publishes it
BATCH: Final = 100
PATIENCE_S: Final = 60.0


async def run(messages: int, rounds: int) -> Report:
    """`rounds` rounds of `messages` for each way; one more before them warms up."""
    messages -= messages % BATCH
    folder = Path(tempfile.mkdtemp(prefix="mim-load-"))
    report = Report("bus", {"messages": messages, "payload_bytes": len(PAYLOAD), "cpu": "of the event loop's thread"})
    server = EmbeddedRedis(folder)
    url = await server.start()
    path = unquote(url.removeprefix("unix://"))
    try:
        for number in range(rounds + 1):
            figures: dict[str, float] = {}
            for name, publish in PUBLISHERS.items():
                figures[f"publish, {name}: µs"] = await _publishing(url, path, messages, publish)
            for name, (receive, batch) in RECEIVERS.items():
                figures[f"receive, {name}: µs"] = await _receiving(url, path, messages, receive, batch)
            if number:
                report.rounds.append(figures)
    finally:
        await server.stop()
        shutil.rmtree(folder, ignore_errors=True)
    report.checked.append("every message arrived")
    return report


Publish = Callable[[str, int], Awaitable[None]]
"""Publish so many messages on the Redis at a URL."""

Received = Callable[[int], Awaitable[None]]
Receive = Callable[[str], AbstractAsyncContextManager[Received]]
"""Subscribe at a URL; inside, wait for so many messages."""


async def _publishing(url: str, path: str, messages: int, publish: Publish) -> float:
    """CPU of `publish`, µs a message. A listener makes sure that all of them went out."""
    with connected(path) as listener:
        listener.sendall(command(b"SUBSCRIBE", TOPIC.encode()))
        listener.recv(1024)  # confirmed
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.to_thread(_hear, listener, messages))
            cpu = time.thread_time()
            await publish(url, messages)
        return (time.thread_time() - cpu) / messages * 1e6


async def _receiving(url: str, path: str, messages: int, receive: Receive, batch: int) -> float:
    """CPU of `receive`, µs a message, while a feeder publishes."""
    async with receive(url) as received:
        with connected(path) as feeder:
            async with asyncio.TaskGroup() as group:
                cpu = time.thread_time()
                group.create_task(asyncio.to_thread(_feed, feeder, messages, batch))
                await received(messages)
                cpu = time.thread_time() - cpu
    return cpu / messages * 1e6


def connected(path: str) -> socket.socket:
    """A raw connection to the Redis at this Unix socket."""
    made = socket.socket(socket.AF_UNIX)
    made.settimeout(PATIENCE_S)
    made.connect(path)
    return made


def command(*words: bytes) -> bytes:
    """Words as Redis wants them."""
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)


def _hear(listener: socket.socket, messages: int) -> None:
    """Read so many messages, by their length alone: all of them are the same."""
    left = messages * len(command(b"message", TOPIC.encode(), PAYLOAD))
    while left > 0:
        data = listener.recv(1 << 20)
        assert data, "Redis closed the connection"
        left -= len(data)


def _feed(feeder: socket.socket, messages: int, size: int) -> None:
    """Publish, one batch of this size after the other."""
    batch = command(b"PUBLISH", TOPIC.encode(), PAYLOAD) * size
    for _ in range(messages // size):
        feeder.sendall(batch)
        answered = 0
        while answered < size:
            answered += feeder.recv(1 << 16).count(b"\n")


async def _plain_publish(url: str, messages: int) -> None:
    async with redis.asyncio.from_url(url) as client:
        for _ in range(messages // BATCH):
            pipeline = client.pipeline(transaction=False)
            for _ in range(BATCH):
                pipeline.publish(TOPIC, PAYLOAD)
            await pipeline.execute()


@asynccontextmanager
async def _subscribed(url: str) -> AsyncIterator[redis.asyncio.client.PubSub]:
    async with redis.asyncio.from_url(url) as client, client.pubsub(ignore_subscribe_messages=True) as pubsub:
        await pubsub.subscribe(TOPIC)
        await pubsub.get_message(timeout=PATIENCE_S)
        yield pubsub


@asynccontextmanager
async def _plain_listen(url: str) -> AsyncIterator[Received]:
    async with _subscribed(url) as pubsub:

        async def received(messages: int) -> None:
            async for _ in pubsub.listen():
                messages -= 1
                if not messages:
                    return

        yield received


@asynccontextmanager
async def _plain_get_message(url: str) -> AsyncIterator[Received]:
    async with _subscribed(url) as pubsub:

        async def received(messages: int) -> None:
            while messages:
                if await pubsub.get_message(timeout=PATIENCE_S) is not None:
                    messages -= 1

        yield received


@asynccontextmanager
async def _node_bus(url: str, deliver: Deliver) -> AsyncIterator[RedisBus]:
    bus = RedisBus(url, SystemClock())
    bus.listen(deliver, lambda _: None)
    await bus.start()
    try:
        yield bus
    finally:
        await bus.close()


async def _node_publish(url: str, messages: int, batch: int = BATCH) -> None:
    """As after the commits of batches: all envelopes of one, then a turn of the loop, until Redis has everything."""
    async with _node_bus(url, lambda *_: None) as bus:
        for _ in range(messages // batch):
            for _ in range(batch):
                bus.publish(TOPIC, ENVELOPE)
            await asyncio.sleep(0)
        everything = asyncio.get_running_loop().create_future()
        bus.confirm(everything.set_result)
        assert await everything, "some were given up"


@asynccontextmanager
async def _node_receive(url: str) -> AsyncIterator[Received]:
    left = 0
    done = asyncio.Event()

    def deliver(topic: str, envelope: Envelope) -> None:
        nonlocal left
        left -= 1
        if not left:
            done.set()

    async with _node_bus(url, deliver) as bus:
        await bus.subscribe([TOPIC])

        async def received(messages: int) -> None:
            nonlocal left
            left = messages
            await done.wait()

        yield received


PUBLISHERS: Final[dict[str, Publish]] = {
    "redis-py, pipelines of 100": _plain_publish,
    "a node's bus, batches of 100": _node_publish,
    "a node's bus, one a turn": partial(_node_publish, batch=1),
}
RECEIVERS: Final[dict[str, tuple[Receive, int]]] = {  # and how many are fed at a time
    "a node's bus": (_node_receive, BATCH),
    "a node's bus, one at a time": (_node_receive, 1),
    "redis-py, listen()": (_plain_listen, BATCH),
    "redis-py, get_message()": (_plain_get_message, BATCH),
}
