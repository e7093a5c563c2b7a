"""Topic to connections on this node (docs/architecture.md#routing).

The hub is the only receiver of the bus. It hands every envelope to the connections that listen to its topic; the
bytes of a frame are prepared once per envelope and kind of socket, whatever the number of listeners.
"""

from collections.abc import Iterable, Mapping
from typing import Protocol

from mim.bus.port import (
    NODES,
    Bus,
    CloseDevice,
    Envelope,
    Join,
    Leave,
    Missed,
    chat_topic,
    device_topic,
    user_topic,
)
from mim.hub.prepared import binary_message, text_message


class Listener(Protocol):
    """What the hub needs of a connection."""

    id: int
    user: int
    device: int
    text: bool
    opened: int  # milliseconds since 1970
    claimed: bool  # its claim on the device was heard

    def offer(self, message: bytes, *, counted: bool) -> None:
        """Queue a WebSocket message. Must not block and must not reorder."""

    def evict(self, reason: str) -> None:
        """Say BYE with this CloseReason and close."""


class Recovery(Protocol):
    """Who tells sockets what did not come by the bus."""

    def restored(self, since: float) -> None:
        """What was published after this monotonic second may not have come."""

    def missed(self, missed: Missed) -> None:
        """What some chats gained may not have come."""

    def joined(self, chat: int, rev: int) -> None:
        """A group is listened to only now, though some of its members learned before that they are in it."""


class Hub:
    """Which connection listens to what. All methods run on the node's event loop."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._topics: dict[str, dict[Listener, int]] = {}
        self._topics_of: dict[Listener, list[str]] = {}
        # By listeners whose groups are being read: what they joined (True) and left (False) since.
        self._told: dict[Listener, dict[int, bool]] = {}
        self._recovery: Recovery | None = None
        self.deliveries = 0
        bus.listen(self.deliver, self._restored)

    async def start(self, recovery: Recovery) -> None:
        """Hear what is for every node; `recovery` is told when something may have been missed."""
        self._recovery = recovery
        await self._bus.subscribe([NODES])

    def __len__(self) -> int:
        return len(self._topics_of)

    async def attach(self, listener: Listener, topics: Mapping[str, int]) -> None:
        """Let `listener` hear `topics` (topic to the first seq it may see); returns once that is certain."""
        for topic, first in topics.items():
            self._add(listener, topic, first)
        self.reads_groups(listener)
        await self._bus.subscribe(topics)

    def reads_groups(self, listener: Listener) -> None:
        """The groups of an attached `listener` are about to be read, for :meth:`join`."""
        self._told[listener] = {}

    async def join(self, listener: Listener, groups: Mapping[int, int]) -> bool:
        """Let an attached `listener` hear these groups (chat to first seq) and no others.

        What Join and Leave told since :meth:`reads_groups` is newer than what was read, and wins. True when they told
        anything, or the listener did not hear the same groups before.
        """
        told = self._told.pop(listener, {})
        known = self.groups_of(listener)
        gone = [chat for chat in known if chat not in groups and not told.get(chat)]
        altered = {
            chat: first for chat, first in groups.items() if chat not in told and known.get(chat) != first
        }  # fmt: skip
        for chat in gone:
            self._drop(listener, chat_topic(chat))
        for chat, first in altered.items():
            self._add(listener, chat_topic(chat), first)
        if fresh := [chat_topic(chat) for chat in altered if chat not in known]:
            await self._bus.subscribe(fresh)
        return bool(told or gone or altered)

    async def attach_user(self, listener: Listener, user: int, device: int, groups: Mapping[int, int]) -> None:
        """Let `listener` hear what is for its device, its user, and in these groups (chat to first seq)."""
        topics = {device_topic(device): 1, user_topic(user): 1}
        topics.update((chat_topic(chat), first) for chat, first in groups.items())
        await self.attach(listener, topics)

    def detach(self, listener: Listener) -> None:
        """Forget a connection that is gone."""
        self._told.pop(listener, None)
        self._bus.unsubscribe([topic for topic in self._topics_of.pop(listener, ()) if self._remove(listener, topic)])

    def on_topic(self, topic: str) -> list[Listener]:
        """The connections that listen to a topic."""
        return list(self._topics.get(topic, ()))

    def groups_of(self, listener: Listener) -> dict[int, int]:
        """The groups that a listener hears: chat to the first seq it may see."""
        topics = [topic for topic in self._topics_of.get(listener, ()) if topic.startswith("c:")]
        return {int(topic[2:]): self._topics[topic][listener] for topic in topics}

    def groups(self) -> list[int]:
        """The groups that somebody here listens to."""
        return [int(topic[2:]) for topic in self._topics if topic.startswith("c:")]

    def deliver(self, topic: str, envelope: Envelope) -> None:
        """Hand an envelope to the topic's connections. Never blocks."""
        listeners = self._topics.get(topic)
        if listeners is None:
            if topic == NODES and isinstance(envelope.control, Missed) and self._recovery is not None:
                self._recovery.missed(envelope.control)
            return
        if envelope.control is not None:
            self._control(list(listeners), envelope)
        if envelope.frame:
            self._fan_out(listeners, envelope)

    def _fan_out(self, listeners: Mapping[Listener, int], envelope: Envelope) -> None:
        origin, not_user, counted, about = (
            envelope.origin, envelope.not_user, envelope.counted, envelope.about,
        )  # fmt: skip
        binary: bytes | None = None  # made when somebody needs it: a sender alone with the topic does not
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
                binary = binary or binary_message(envelope.frame)
                listener.offer(binary, counted=counted)
            self.deliveries += 1

    def _control(self, listeners: Iterable[Listener], envelope: Envelope) -> None:
        match envelope.control:
            case Join(chat, first, rev):
                topic = chat_topic(chat)
                for listener in listeners:
                    self._add(listener, topic, first)
                    self._note(listener, chat, joined=True)
                self._listen_late(chat, topic, rev)
            case Leave(chat):
                topic = chat_topic(chat)
                for listener in listeners:
                    self._note(listener, chat, joined=False)
                    if topic in self._topics_of.get(listener, ()):
                        self._drop(listener, topic)
            case CloseDevice() as claim:
                for listener in listeners:
                    self._close(listener, claim)

    def _listen_late(self, chat: int, topic: str, rev: int) -> None:
        """Subscribe a group after its members were told of it: what is said meanwhile is found by `recovery`."""
        certain, recovery = self._bus.subscribe([topic]), self._recovery
        if recovery is not None and not certain.done():
            certain.add_done_callback(lambda _: recovery.joined(chat, rev))

    def _close(self, listener: Listener, claim: CloseDevice) -> None:
        """Close a socket whose device is claimed by another. A claim that was heard before its own one is older."""
        if claim.keep and listener.id == claim.keep:
            listener.claimed = True
        elif not claim.keep or (listener.claimed if claim.ordered else listener.opened < claim.at):
            listener.evict(claim.reason)

    def _restored(self, since: float) -> None:
        if self._recovery is not None:
            self._recovery.restored(since)

    def _note(self, listener: Listener, chat: int, *, joined: bool) -> None:
        if listener in self._told:
            self._told[listener][chat] = joined

    def _drop(self, listener: Listener, topic: str) -> None:
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
