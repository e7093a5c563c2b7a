"""What a message costs Redis itself: CPU of `redis-server` by the number of nodes that listen, and by how many messages
reach it in one piece.

A Redis spends most of a message on system calls: reading it, and writing it once for every listener. Messages that come
together are read and written together, so the cost of one falls as they bunch. What they bunch into on a real bus
depends on the rate of one connection, which is why both ends are measured, and one in between.
"""

import asyncio
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

import redis.asyncio

from loadtest.load.client import LoadError
from loadtest.micro.bus import PAYLOAD, command, connected
from loadtest.reports.report import Report
from mim.bus.port import user_topic
from mim.embedded_redis import EmbeddedRedis

BATCHES: Final = (1, 10, 100)
LISTENERS: Final = (0, 1, 4)
NODES: Final = 16
TOPICS: Final = 10_000  # that somebody listens to, as Redis finds a topic in a table of all of them
FIRST_TOPIC: Final = 1_000_001
CHUNK: Final = 500
PATIENCE_S: Final = 60.0


async def run(messages: int, rounds: int) -> Report:
    """`rounds` rounds of `messages` for each number of listeners and each batch; one more before them warms up."""
    messages -= messages % max(BATCHES)
    folder = Path(tempfile.mkdtemp(prefix="mim-load-"))
    report = Report("redis", {"messages": messages, "payload_bytes": len(PAYLOAD), "topics": TOPICS,
                              "cpu": "of redis-server, as it tells itself"})  # fmt: skip
    server = EmbeddedRedis(folder)
    url = await server.start()
    path = unquote(url.removeprefix("unix://"))
    try:
        async with redis.asyncio.from_url(url) as client:
            for number in range(rounds + 1):
                figures: dict[str, float] = {}
                for listeners in LISTENERS:
                    for batch in BATCHES:
                        cost = await _measure(client, path, messages, batch, listeners)
                        figures[f"{listeners} listeners, {batch} at a time: CPU µs/message"] = cost
                for spread in (False, True):
                    name = f"of {NODES} nodes at once, one each, {'to another one' if spread else 'to nobody'}"
                    figures[f"{name}: CPU µs/message"] = await _many(client, path, messages, spread=spread)
                if number:
                    report.rounds.append(figures)
    finally:
        await server.stop()
        shutil.rmtree(folder, ignore_errors=True)
    report.checked.append("every message arrived at every listener")
    return report


async def _measure(client: Any, path: str, messages: int, batch: int, listeners: int) -> float:
    """µs of Redis a message."""
    ears = [_Listener(path, messages) for _ in range(listeners)]
    mouth = connected(path)
    try:
        before = await _cpu_s(client)
        await asyncio.to_thread(_publish, mouth, messages, batch)
        for ear in ears:
            await asyncio.to_thread(ear.finish)
        return (await _cpu_s(client) - before) / messages * 1e6
    finally:
        mouth.close()
        for ear in ears:
            ear.close()


async def _many(client: Any, path: str, messages: int, *, spread: bool) -> float:
    """µs of Redis a message, when many nodes have one message each, and each is for a node of its own: as with many
    nodes and many Redis, where nothing bunches on a connection, but Redis finds several connections ready."""
    turns = messages // NODES
    ears = [_Listener(path, turns, range(node, TOPICS, NODES)) for node in range(NODES * spread)]
    mouths = [connected(path) for _ in range(NODES)]
    try:
        before = await _cpu_s(client)
        await asyncio.to_thread(_publish_spread, mouths, turns)
        for ear in ears:
            await asyncio.to_thread(ear.finish)
        return (await _cpu_s(client) - before) / (turns * NODES) * 1e6
    finally:
        for mouth in mouths:
            mouth.close()
        for ear in ears:
            ear.close()


def _publish_spread(mouths: Sequence[socket.socket], turns: int) -> None:
    for turn in range(turns):
        for node, mouth in enumerate(mouths):
            mouth.sendall(command(b"PUBLISH", _topic(turn * NODES + node), PAYLOAD))
        for mouth in mouths:
            while b"\n" not in mouth.recv(64):
                pass


async def _cpu_s(client: Any) -> float:
    """User and system time of the process, finer than /proc has it."""
    told = await client.info("cpu")
    return float(told["used_cpu_user"]) + float(told["used_cpu_sys"])


def _topic(number: int) -> bytes:
    return user_topic(FIRST_TOPIC + number % TOPICS).encode()


def _publish(mouth: socket.socket, messages: int, batch: int) -> None:
    """Each batch goes out when the one before is answered."""
    stride = 7919  # the topics of a batch are not neighbours
    for first in range(0, messages, batch):
        mouth.sendall(b"".join(command(b"PUBLISH", _topic(n * stride), PAYLOAD) for n in range(first, first + batch)))
        answered = 0
        while answered < batch:
            answered += mouth.recv(1 << 16).count(b"\n")


class _Listener:
    """Listens to topics in a thread, and counts bytes: all messages have the same size."""

    def __init__(self, path: str, messages: int, topics: Sequence[int] = range(TOPICS)) -> None:
        self._socket = connected(path)
        self._left = messages * len(command(b"message", _topic(0), PAYLOAD))
        for first in range(0, len(topics), CHUNK):
            self._socket.sendall(command(b"SUBSCRIBE", *map(_topic, topics[first : first + CHUNK])))
        self._skip_confirmations(len(topics))
        self._thread = threading.Thread(target=self._hear, daemon=True)
        self._thread.start()

    def _skip_confirmations(self, topics: int) -> None:
        left = sum(len(command(b"subscribe", _topic(n), b"")) - len(b"$0\r\n\r\n") + len(b":%d\r\n" % (n + 1))
                   for n in range(topics))  # fmt: skip
        while left:
            left -= len(self._socket.recv(min(left, 1 << 20)))

    def _hear(self) -> None:
        while self._left > 0:
            data = self._socket.recv(1 << 20)
            if not data:
                return
            self._left -= len(data)

    def finish(self) -> None:
        """Wait until everything came."""
        deadline = time.monotonic() + PATIENCE_S
        self._thread.join(deadline - time.monotonic())
        if self._left:
            raise LoadError(f"a listener misses {self._left} bytes")

    def close(self) -> None:
        """Hang up."""
        self._socket.close()
