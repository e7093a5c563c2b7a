"""What a server under test offers to the scenarios, and what it used, by part."""

from ssl import SSLContext
from typing import Any, NamedTuple, Protocol, TypeAlias

Address: TypeAlias = tuple[str, int]
"""(host, port)."""


class ServerError(Exception):
    """The server under test cannot be used; the text is a sentence for whoever runs the load test."""


class ByPart(NamedTuple):
    """An amount for each part of an installation; 0 for a part that is not there or cannot be seen."""

    server: float
    postgres: float
    redis: float = 0.0

    @property
    def total(self) -> float:
        """Of all parts together."""
        return self.server + self.postgres + self.redis

    def since(self, before: "ByPart") -> "ByPart":
        """How much it grew since an earlier reading."""
        return ByPart(self.server - before.server, self.postgres - before.postgres, self.redis - before.redis)

    def plus(self, other: "ByPart") -> "ByPart":
        """Both together."""
        return ByPart(self.server + other.server, self.postgres + other.postgres, self.redis + other.redis)


Usage: TypeAlias = ByPart
"""CPU seconds since the start of the processes."""

Memory: TypeAlias = ByPart
"""KiB of resident memory; what Postgres' processes share counts once."""


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
