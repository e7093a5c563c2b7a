"""What a connection needs of the gateway that holds it."""

from typing import TYPE_CHECKING, Any, Protocol

from mim.chat.context import Context
from mim.clock import Clock
from mim.gateway import handshake
from mim.gateway.outbox import Outbox
from mim.tasks import TaskSet
from mim.wire.frames import Hello, Send, ServerFrame
from mim.wire.session import SessionLimits

if TYPE_CHECKING:
    from mim.gateway.connection import Connection


class Host(Protocol):
    """What a connection needs of the gateway that holds it."""

    context: Context
    clock: Clock
    tasks: TaskSet
    limits: SessionLimits
    outbox: Outbox
    slow_bytes: int
    trusted_proxies: frozenset[str]

    def made(self, connection: "Connection") -> None:
        """The socket was handed over."""

    def lost(self, connection: "Connection") -> None:
        """The socket is gone."""

    def admit(self, connection: "Connection", upgrade: handshake.Upgrade) -> None:
        """Let the client in, or raise PeerError."""

    def open(self, connection: "Connection", hello: Hello, answer: handshake.Answer | None) -> None:
        """Authenticate and sync; `answer` is the 101 of a client that came with its token."""

    def submit(self, connection: "Connection", frame: Send) -> None:
        """Take a message on its way. Must not block."""

    def pinged(self, connection: "Connection") -> None:
        """A PING was answered."""

    def watch(self, connection: "Connection", within_s: float | None = None) -> None:
        """Ask `due` at the connection's deadline, or after `within_s` seconds."""

    def closing(self, reason: str) -> None:
        """A connection said its last word."""

    def count_in(self, kind: type[Any]) -> None:
        """A client's frame, sound or not."""

    def count_out(self, frame: ServerFrame) -> None:
        """A frame written to this socket alone."""

    def retry_after(self, reason: str) -> int | None:
        """When a closed client should come back, in ms."""
