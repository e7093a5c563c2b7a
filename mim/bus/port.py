"""The bus port: what a node needs of whatever connects it with itself and with other nodes.

Topics are `u:{user}` (all sockets of a user), `d:{device}` (the socket of a device) and `c:{chat}` (members of a
group).
A node subscribes a topic while one of its sockets wants it; the subscription is the presence.
"""

from collections.abc import Callable, Iterable
from typing import Protocol

from msgspec import Struct


class Envelope(Struct, array_like=True, omit_defaults=True, gc=False):
    """What travels on a topic: a frame encoded once, and what a hub needs to know to hand it on.

    `frame` is msgpack (empty: control only). `origin` is the connection that must not get it back, `not_user` the user
    whose sockets must not (0: none). `counted` marks MSG and CHANGE, which RECV counts. What concerns a message
    (`about` is its seq) that a receiver may not see, because it came before its first seq, goes out as `hidden_frame`
    instead, or not at all where that is empty.
    """

    frame: bytes
    origin: int = 0
    not_user: int = 0
    counted: bool = False
    about: int = 0
    hidden_frame: bytes = b""
    control: "Join | Leave | CloseDevice | None" = None


class Join(Struct, array_like=True, tag="join", frozen=True):
    """On `u:`: the user's sockets listen to the chat from now on; `first` is the first seq they may see."""

    chat: int
    first: int


class Leave(Struct, array_like=True, tag="leave", frozen=True):
    """On `u:`: the user's sockets stop listening to the chat."""

    chat: int


class CloseDevice(Struct, array_like=True, tag="close", frozen=True):
    """On `d:`: close the device's socket for `reason` (a CloseReason), except connection `keep`."""

    reason: str
    keep: int = 0


Deliver = Callable[[str, Envelope], None]
"""Hands an envelope to this node's hub. Never blocks and never raises."""


class Bus(Protocol):
    """Publish and subscribe by topic. One adapter for one process (`local`), one for Redis."""

    def listen(self, deliver: Deliver) -> None:
        """Name the receiver of everything published to subscribed topics. Called once, before start."""

    async def start(self) -> None:
        """Begin to carry messages."""

    async def close(self) -> None:
        """Stop; nothing is delivered afterwards."""

    def publish(self, topic: str, envelope: Envelope) -> None:
        """Queue an envelope for every node that listens to `topic`. Must not block."""

    async def subscribe(self, topics: Iterable[str]) -> None:
        """Listen to the topics; returns when whatever is published from now on will be delivered."""

    def subscribe_soon(self, topics: Iterable[str]) -> None:
        """Listen to the topics from some moment soon on, for callers that cannot wait."""

    def unsubscribe(self, topics: Iterable[str]) -> None:
        """Stop listening; may take effect later."""

    async def listening(self, topics: Iterable[str]) -> set[str]:
        """Which of the topics at least one node listens to."""


def user_topic(user: int) -> str:
    """All sockets of a user."""
    return f"u:{user}"


def device_topic(device: int) -> str:
    """The socket of a device."""
    return f"d:{device}"


def chat_topic(chat: int) -> str:
    """The sockets of a group's present members."""
    return f"c:{chat}"
