"""The bus port: what a node needs of whatever connects it with itself and with other nodes.

Topics are `u:{user}` (all sockets of a user), `d:{device}` (the socket of a device), `c:{chat}` (members of a
group) and NODES (every node). A node subscribes a topic while one of its sockets wants it; the subscription is the
presence.

What a bus promises is little, and precise: an envelope reaches every node that listens, once and in the order of its
publisher, as long as the bus is whole. When it was not, it says from when on (`restored`), and who listens reads what
may be missing from storage. What it could not hand over it says to who published it (`confirm`).
"""

from asyncio import Future
from collections.abc import Callable, Iterable, Mapping
from typing import Final, Protocol

from msgspec import Struct

NODES: Final = "nodes"
"""The topic that every node listens to."""


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
    control: "Join | Leave | CloseDevice | Missed | None" = None


class Join(Struct, array_like=True, tag="join", frozen=True):
    """On `u:`: the user's sockets listen to the chat from now on; `first` is the first seq they may see, `rev` the
    newest change that they were told of."""

    chat: int
    first: int
    rev: int = 0


class Leave(Struct, array_like=True, tag="leave", frozen=True):
    """On `u:`: the user's sockets stop listening to the chat."""

    chat: int


class CloseDevice(Struct, array_like=True, tag="close", frozen=True):
    """On `d:`: close the device's sockets for `reason` (a CloseReason).

    With `keep`, connection `keep` claims the device. Every node hears the claims on a device in the same order, and the
    last one stays. While the bus cannot keep the order (`ordered` False), the claim is good against what was opened
    before `at`, in milliseconds since 1970.
    """

    reason: str
    keep: int = 0
    at: int = 0
    ordered: bool = True


class Missed(Struct, array_like=True, tag="missed", frozen=True):
    """On NODES: what these chats gained from transaction `xid` on, or second `at`, may not have been told."""

    chats: list[int]
    xid: int
    at: int


Deliver = Callable[[str, Envelope], None]
"""Hands an envelope to this node's hub. Never blocks and never raises."""

Restored = Callable[[float], None]
"""The bus is whole again; what was published after this monotonic second may be missing."""


class Bus(Protocol):
    """Publish and subscribe by topic. One adapter for one process (`local`), one for Redis."""

    def listen(self, deliver: Deliver, restored: Restored) -> None:
        """Name the receiver of everything published to subscribed topics. Called once, before start."""

    async def start(self) -> None:
        """Begin to carry messages."""

    async def close(self) -> None:
        """Stop; nothing is delivered afterwards."""

    def publish(self, topic: str, envelope: Envelope) -> None:
        """Queue an envelope for every node that listens to `topic`; this node's own sockets get it at once, but for
        the claims on a device, which come in the order of the bus. Must not block.
        """

    def confirm(self, told: Callable[[bool], None]) -> None:
        """Call `told(True)` when everything published so far is with the bus, `told(False)` if some of it was given
        up. It may be called before this returns.
        """

    def subscribe(self, topics: Iterable[str]) -> "Future[None]":
        """Listen to the topics; done when whatever is published from now on will be delivered. While the bus is away
        it is done at once: `restored` will say so when it is back.
        """

    def unsubscribe(self, topics: Iterable[str]) -> None:
        """Stop listening; may take effect later."""

    async def listening(self, topics: Iterable[str]) -> Mapping[str, int]:
        """By topic, how many nodes listen to it; those without any are left out. Raises OSError or TimeoutError while
        the bus is away.
        """

    def whole_until(self) -> float:
        """The monotonic second up to which everything published to this node's topics was delivered; infinite for a
        bus that cannot fail.
        """


def user_topic(user: int) -> str:
    """All sockets of a user."""
    return f"u:{user}"


def device_topic(device: int) -> str:
    """The socket of a device."""
    return f"d:{device}"


def chat_topic(chat: int) -> str:
    """The sockets of a group's present members."""
    return f"c:{chat}"
