"""A private installation: some nodes with the Postgres and the Redis that they share, all on one core.

One node is `mim serve` on a data folder, as anybody starts it first. Several get the same Postgres by its URL, and a
Redis between them. What they share is in the hands of :mod:`loadtest.target.keeper`, which outlives this process.
"""

import asyncio
import os
import signal
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

from loadtest import proc
from loadtest.target import keeper
from loadtest.target.parts import Parts
from loadtest.target.port import Address, Memory, ServerError, Usage
from loadtest.target.program import Program

SECRET: Final = "load test, not a secret, 32 bytes or more"  # noqa: S105
HOST: Final = "127.0.0.1"
AGAIN_S: Final = 30.0

# A load test stands for many clients with few connections, so what bounds one client is lifted.
LIFTED: Final = {
    "MIM_JWT_SECRET": SECRET,
    "MIM_LOG_FORMAT": "json",
    "MIM_DEV": "true",  # notifications go to the log
    "MIM_SEND_RATE": "1e9",
    "MIM_SEND_BURST": "1000000000",
    "MIM_REQUEST_RATE": "1e9",
    "MIM_REQUEST_BURST": "1000000000",
    "MIM_MAX_CONNECTIONS": "100000",
    "MIM_MAX_CONNECTIONS_PER_ADDRESS": "100000",
}


class PrivateServer:
    """`nodes` processes `mim serve`. Of what they use, nothing of this process or of the keeper counts."""

    ssl = None
    secret = SECRET

    def __init__(self, folder: Path, core: int, nodes: int = 1) -> None:
        """`folder` is gone with the installation. A mim.toml in it is read by every node."""
        self.about: dict[str, Any] = {"core": core, "cpu": "of the server and its Postgres"}
        if nodes > 1:
            self.about = {"core": core, "nodes": nodes, "cpu": "of all nodes, their Postgres and Redis"}
        self.database_url = ""
        folder = folder.resolve()  # the kernel tells where processes work without links
        self.folder = folder
        self._core = core
        self._ports = [_Port() for _ in range(nodes)]
        self._keeper = Program("keeper", folder, core, cwd=Path("/"), settings={})
        self._nodes: list[Program] = []
        self._redis_folder = folder / keeper.REDIS
        self._redis_socket = ""
        self._gone = Usage(0.0, 0.0)  # what processes had used that were killed

    # -- where it is -------------------------------------------------------------------------

    @property
    def addresses(self) -> list[Address]:
        """Of every node, whether it lives or not."""
        return [(HOST, port.number) for port in self._ports]

    @property
    def host(self) -> str:
        """Of the first node."""
        return HOST

    @property
    def port(self) -> int:
        """Of the first node."""
        return self._ports[0].number

    @property
    def pids(self) -> list[int]:
        """The nodes' processes, for a profiler."""
        return [node.pid for node in self._nodes if node.is_running]

    def processes(self) -> list[int]:
        """Everything that runs for it, what is not measured included."""
        parts = self.parts()
        return [self._keeper.pid, *parts.server, *parts.postgres, *parts.redis]

    # -- its life ----------------------------------------------------------------------------

    async def open(self) -> None:
        """Start everything and wait until every node listens; raises ServerError."""
        self.folder.chmod(0o711)  # as root, Postgres runs as somebody else
        several = len(self._ports) > 1
        self._keeper.launch("loadtest.target.keeper", str(self.folder), keeper.WORDS[several])
        kept = await self._keeper.says(keeper.READY)
        self.database_url = kept["database_url"]
        self._redis_socket = unquote(kept["redis_url"].removeprefix("unix://"))
        shared = {"MIM_DATABASE_URL": kept["database_url"], "MIM_REDIS_URL": kept["redis_url"]} if several else {}
        self._nodes = [
            Program(f"node{number}", self.folder, self._core, cwd=self.folder, settings={**LIFTED, **shared})
            for number in range(len(self._ports))
        ]
        await self.start(0)  # it makes the tables; the others find them
        for number in range(1, len(self._ports)):
            self._launch(number)
        for node in self._nodes[1:]:
            await node.says("listening")

    async def start(self, node: int) -> None:
        """Start a node, for the first time or again on its port, and wait until it listens; raises ServerError."""
        self._launch(node)
        await self._nodes[node].says("listening")

    def _launch(self, node: int) -> None:
        data = self.folder / keeper.POSTGRES.parent
        port = str(self._ports[node].number)
        self._nodes[node].launch("mim", "serve", "--data-dir", str(data), "--host", HOST, "--port", port)

    def kill(self, node: int) -> None:
        """SIGKILL a node. What it used stays counted."""
        killed = self._nodes[node]
        if killed.is_running:
            self._gone = self._gone.plus(Usage(proc.cpu_s(killed.pid), 0.0))
            killed.kill()

    async def restart_redis(self) -> None:
        """SIGKILL the Redis, and wait until another one is in its place; raises ServerError."""
        before = self.parts().redis
        if not before:
            raise ServerError("one node has no Redis")
        self._gone = self._gone.plus(Usage(0.0, 0.0, sum(map(proc.cpu_s, before))))
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        try:
            async with asyncio.timeout(AGAIN_S):
                while not await self._another_redis(before):  # noqa: ASYNC110 - the keeper's work
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise ServerError(f"the Redis is not back within {AGAIN_S:.0f} s") from None

    async def _another_redis(self, before: frozenset[int]) -> bool:
        if not self.parts().redis - before:
            return False
        with suppress(OSError):
            _, writer = await asyncio.open_unix_connection(self._redis_socket)
            writer.close()
            return True
        return False

    def close(self) -> None:
        """Let the nodes drain, and end everything; kill what does not end. Blocks."""
        for node in self._nodes:
            node.terminate()
        for node in self._nodes:
            node.wait()
        self._keeper.terminate()
        self._keeper.wait()
        parts = self.parts()
        for pid in (*parts.postgres, *parts.redis):  # nobody, unless the keeper had to be killed
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for port in self._ports:
            port.close()

    # -- what it uses ------------------------------------------------------------------------

    async def usage(self) -> Usage:
        """CPU of all nodes and what they share, since the installation was opened."""
        return self.parts().usage().plus(self._gone)

    async def memory(self) -> Memory:
        """Memory of the same processes."""
        return await self.parts().memory()

    async def files(self) -> int:
        """Descriptors of the nodes."""
        return self.parts().files()

    def parts(self) -> Parts:
        """Its processes, found by the folder in which they work: all of a Postgres is in its cluster."""
        return Parts(
            server=frozenset(self.pids),
            postgres=frozenset(proc.pids_in(self.folder / keeper.POSTGRES / "cluster")),
            redis=frozenset(pid for pid in proc.pids_in(self._redis_folder) if proc.is_alive(pid)),
        )


class _Port:
    """A TCP port that stays ours while nobody listens on it: bound, never listening. A server that sets SO_REUSEADDR,
    as servers do, may bind it all the same, and a client that asks for any free port is not given it."""

    def __init__(self) -> None:
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind((HOST, 0))
        self.number: int = self._socket.getsockname()[1]

    def close(self) -> None:
        """Give it back."""
        self._socket.close()
