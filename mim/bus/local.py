"""The bus of a single process: publishing calls the hub, in order, before it returns."""

from collections.abc import Iterable

from mim.bus.port import Deliver, Envelope


class LocalBus:
    """Implements :class:`mim.bus.port.Bus` for one node without Redis."""

    def __init__(self) -> None:
        self._topics: set[str] = set()
        self._deliver: Deliver | None = None

    def listen(self, deliver: Deliver) -> None:
        self._deliver = deliver

    async def start(self) -> None:
        """Nothing to connect to."""

    async def close(self) -> None:
        self._topics.clear()

    def publish(self, topic: str, envelope: Envelope) -> None:
        if topic in self._topics and self._deliver is not None:
            self._deliver(topic, envelope)

    async def subscribe(self, topics: Iterable[str]) -> None:
        self._topics.update(topics)

    def subscribe_soon(self, topics: Iterable[str]) -> None:
        self._topics.update(topics)

    def unsubscribe(self, topics: Iterable[str]) -> None:
        self._topics.difference_update(topics)

    async def listening(self, topics: Iterable[str]) -> set[str]:
        return self._topics.intersection(topics)
