"""Topic to connections on this node (docs/architecture.md#routing).

The hub is the only receiver of the bus. It hands every envelope to the connections that listen to its topic; the
bytes of a frame are prepared once per envelope and kind of socket, whatever the number of listeners.
"""

from collections.abc import Iterable, Mapping
from typing import Protocol

from mim.bus.port import Bus, CloseDevice, Envelope, Join, Leave, chat_topic, device_topic, user_topic
from mim.hub.prepared import binary_message, text_message


class Listener(Protocol):
    """What the hub needs of a connection."""

    id: int
    user: int
    device: int
    text: bool

    def offer(self, message: bytes, *, counted: bool) -> None:
        """Queue a WebSocket message. Must not block and must not reorder."""

    def evict(self, reason: str) -> None:
        """Say BYE with this CloseReason and close."""


class Hub:
    """Which connection listens to what. All methods run on the node's event loop."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._topics: dict[str, dict[Listener, int]] = {}
        self._topics_of: dict[Listener, list[str]] = {}
        self._left: dict[Listener, set[str]] = {}  # by listeners whose groups are being read: what they left since
        self.deliveries = 0
        bus.listen(self.deliver)

    def __len__(self) -> int:
        return len(self._topics_of)

    async def attach(self, listener: Listener, topics: Mapping[str, int]) -> None:
        """Let `listener` hear `topics` (topic to the first seq it may see); returns once that is certain."""
        for topic, first in topics.items():
            self._add(listener, topic, first)
        self._left[listener] = set()
        await self._bus.subscribe(topics)

    async def join(self, listener: Listener, groups: Mapping[int, int]) -> None:
        """Let an attached `listener` hear the groups (chat to first seq) that were read after :meth:`attach`.

        What Join and Leave told since is newer than what was read, and wins.
        """
        left = self._left.pop(listener, set())
        topics = {chat_topic(chat): first for chat, first in groups.items()}
        fresh = topics.keys() - left - set(self._topics_of.get(listener, ()))
        for topic in fresh:
            self._add(listener, topic, topics[topic])
        if fresh:
            await self._bus.subscribe(fresh)

    async def attach_user(self, listener: Listener, user: int, device: int) -> None:
        """Let `listener` hear what is for its user and for its device."""
        await self.attach(listener, {device_topic(device): 1, user_topic(user): 1})

    def detach(self, listener: Listener) -> None:
        """Forget a connection that is gone."""
        self._left.pop(listener, None)
        self._bus.unsubscribe([topic for topic in self._topics_of.pop(listener, ()) if self._remove(listener, topic)])

    def deliver(self, topic: str, envelope: Envelope) -> None:
        """Hand an envelope to the topic's connections. Never blocks."""
        listeners = self._topics.get(topic)
        if listeners is None:
            return
        if envelope.control is not None:
            self._control(list(listeners), envelope)
        if envelope.frame:
            self._fan_out(listeners, envelope)

    def _fan_out(self, listeners: Mapping[Listener, int], envelope: Envelope) -> None:
        origin, not_user, counted, about = (
            envelope.origin, envelope.not_user, envelope.counted, envelope.about,
        )  # fmt: skip
        binary = binary_message(envelope.frame)
        text: bytes | None = None
        for listener, first in listeners.items():
            if listener.id == origin or listener.user == not_user:
                continue
            if about and about < first:
                hidden = envelope.hidden_frame
                if not hidden:
                    continue
                listener.offer((text_message if listener.text else binary_message)(hidden), counted=counted)
            elif listener.text:
                text = text or text_message(envelope.frame)
                listener.offer(text, counted=counted)
            else:
                listener.offer(binary, counted=counted)
            self.deliveries += 1

    def _control(self, listeners: Iterable[Listener], envelope: Envelope) -> None:
        match envelope.control:
            case Join(chat, first):
                topic = chat_topic(chat)
                for listener in listeners:
                    self._add(listener, topic, first)
                    self._left.get(listener, set()).discard(topic)
                self._bus.subscribe_soon([topic])
            case Leave(chat):
                topic = chat_topic(chat)
                for listener in listeners:
                    self._leave(listener, topic)
            case CloseDevice(reason, keep):
                for listener in listeners:
                    if listener.id != keep:
                        listener.evict(reason)

    def _leave(self, listener: Listener, topic: str) -> None:
        if listener in self._left:
            self._left[listener].add(topic)
        if topic in self._topics_of.get(listener, ()):
            self._topics_of[listener].remove(topic)
            if self._remove(listener, topic):
                self._bus.unsubscribe([topic])

    def _add(self, listener: Listener, topic: str, first: int) -> None:
        listeners = self._topics.setdefault(topic, {})
        if listener not in listeners:
            self._topics_of.setdefault(listener, []).append(topic)
        listeners[listener] = first

    def _remove(self, listener: Listener, topic: str) -> bool:
        """Take the connection from the topic; True when it was the last one."""
        listeners = self._topics.get(topic)
        if listeners is None:
            return False
        listeners.pop(listener, None)
        if listeners:
            return False
        del self._topics[topic]
        return True
