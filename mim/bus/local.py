"""The bus of a single process: publishing calls the hub, in order, before it returns."""

import asyncio
import math
from asyncio import Future
from collections.abc import Callable, Iterable

from mim.bus.port import Deliver, Envelope, Restored


class LocalBus:
    """Implements :class:`mim.bus.port.Bus` for one node without Redis."""

    def __init__(self) -> None:
        self._topics: set[str] = set()
        self._deliver: Deliver | None = None

    def listen(self, deliver: Deliver, restored: Restored) -> None:
        self._deliver = deliver

    async def start(self) -> None:
        """Nothing to connect to."""

    async def close(self) -> None:
        self._topics.clear()

    def publish(self, topic: str, envelope: Envelope) -> None:
        if topic in self._topics and self._deliver is not None:
            self._deliver(topic, envelope)

    def confirm(self, told: Callable[[bool], None]) -> None:
        told(True)

    def subscribe(self, topics: Iterable[str]) -> "Future[None]":
        self._topics.update(topics)
        done: Future[None] = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done

    def unsubscribe(self, topics: Iterable[str]) -> None:
        self._topics.difference_update(topics)

    async def listening(self, topics: Iterable[str]) -> dict[str, int]:
        return dict.fromkeys(self._topics.intersection(topics), 1)

    def whole_until(self) -> float:
        return math.inf
