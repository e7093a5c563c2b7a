"""The processes of an installation, by part, and what the kernel tells of them."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

from loadtest import proc
from loadtest.target.port import Memory, Usage


@dataclass(frozen=True)
class Parts:
    """Process ids, as they are now. A process that is gone counts nothing."""

    server: frozenset[int]
    postgres: frozenset[int]
    redis: frozenset[int] = frozenset()

    def usage(self) -> Usage:
        """CPU of these processes and of their children that ended."""
        return Usage(_cpu_s(self.server), _cpu_s(self.postgres), _cpu_s(self.redis))

    async def memory(self) -> Memory:
        """Memory of these processes. In a thread: to look through the shared memory takes milliseconds."""
        postgres = await asyncio.to_thread(proc.shared_once_kib, self.postgres)
        return Memory(sum(map(proc.rss_kib, self.server)), postgres, sum(map(proc.rss_kib, self.redis)))

    def files(self) -> int:
        """Descriptors of the server's processes."""
        return sum(map(proc.open_files, self.server))

    def seen(self) -> list[str]:
        """Which parts there are, in words."""
        named = {"the server": self.server, "its Postgres": self.postgres, "its Redis": self.redis}
        return [name for name, pids in named.items() if pids]


def _cpu_s(pids: Iterable[int]) -> float:
    return sum(map(proc.cpu_s, pids))
