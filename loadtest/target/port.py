"""What a server under test offers to the scenarios, and what it used, by part."""

from ssl import SSLContext
from typing import Any, NamedTuple, Protocol

Address = tuple[str, int]
"""(host, port)."""


class ServerError(Exception):
    """The server under test cannot be used; the text is a sentence for whoever runs the load test."""


class Usage(NamedTuple):
    """CPU seconds since the start of the processes, by part; 0 for a part that is not there or cannot be seen."""

    server: float
    postgres: float
    redis: float = 0.0

    @property
    def total(self) -> float:
        """Of all processes together."""
        return self.server + self.postgres + self.redis

    def since(self, before: "Usage") -> "Usage":
        """What was used since an earlier reading."""
        return Usage(self.server - before.server, self.postgres - before.postgres, self.redis - before.redis)

    def plus(self, other: "Usage") -> "Usage":
        """Both together."""
        return Usage(self.server + other.server, self.postgres + other.postgres, self.redis + other.redis)


class Memory(NamedTuple):
    """KiB of resident memory, by part, like :class:`Usage`. What Postgres' processes share counts once."""

    server: float
    postgres: float
    redis: float = 0.0

    @property
    def total(self) -> float:
        """Of all processes together."""
        return self.server + self.postgres + self.redis

    def since(self, before: "Memory") -> "Memory":
        """How much it grew since an earlier reading."""
        return Memory(self.server - before.server, self.postgres - before.postgres, self.redis - before.redis)


class Target(Protocol):
    """A server under test: one node or several."""

    secret: str  # signs the tokens of users
    about: dict[str, Any]  # what a result must say of where it was measured

    @property
    def addresses(self) -> list[Address]:
        """Where clients connect: one for each node."""

    @property
    def host(self) -> str:
        """Of the first node."""

    @property
    def port(self) -> int:
        """Of the first node."""

    @property
    def ssl(self) -> SSLContext | None:
        """For `create_connection`, where the port speaks TLS."""

    async def usage(self) -> Usage:
        """CPU so far."""

    async def memory(self) -> Memory:
        """Memory now."""

    async def files(self) -> int:
        """Descriptors that the server's processes hold now; 0 where they cannot be seen."""
