"""Real Redis servers for tests: alone, under a Sentinel, or as a cluster of three."""

import asyncio
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest
import redis

PROGRAM = shutil.which("redis-server")
needs_redis = pytest.mark.skipif(PROGRAM is None, reason="redis-server 7 is not installed: apt install redis-server")
START_S = 10.0


def free_port() -> int:
    """A port that nobody listens on, low enough for a cluster's bus beside it (port + 10000)."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        if port < 55_000:
            return port


class RedisServer:
    """A redis-server process on loopback that keeps nothing. Blocks briefly; starts empty every time."""

    def __init__(self, *options: str, sentinel: bool = False, kind: str = "redis") -> None:
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="mim-redis-"))
        self._options = options
        self._sentinel = sentinel
        self._kind = kind
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """How to reach it."""
        return f"{self._kind}://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start, and wait until it answers."""
        assert PROGRAM is not None
        conf = self.folder / "redis.conf"
        port = [] if "--tls-port" in self._options else ["--port", str(self.port)]
        if not conf.exists():
            conf.write_text("")
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [PROGRAM, str(conf), *port, "--bind", "127.0.0.1", "--dir", str(self.folder), "--save", "",
                 "--appendonly", "no", *self._options, *(["--sentinel"] if self._sentinel else [])],
                stdout=log, stderr=log, stdin=subprocess.DEVNULL,
            )  # fmt: skip

    async def ready(self) -> None:
        """Wait until it accepts connections."""
        async with asyncio.timeout(START_S):
            while True:
                assert self._process is not None
                assert self._process.poll() is None, (self.folder / "log").read_text()
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                except OSError:
                    await asyncio.sleep(0.02)
                else:
                    writer.close()
                    return

    def ask(self, *command: Any) -> Any:
        """One command on a connection of its own."""
        with redis.Redis(port=self.port, socket_timeout=5) as client:
            return client.execute_command(*command)

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def freeze(self) -> None:
        """SIGSTOP: it accepts connections, by the kernel, and answers nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def end(self) -> None:
        """Whatever happened: leave nothing behind."""
        if self._process is not None and self._process.poll() is None:
            self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


class RedisClusterServers:
    """Three masters that share the slots between them, and no replicas."""

    def __init__(self) -> None:
        quick = ("--cluster-enabled", "yes", "--cluster-node-timeout", "1000", "--cluster-require-full-coverage", "no")
        self.servers = [RedisServer(*quick) for _ in range(3)]

    @property
    def url(self) -> str:
        """How to reach it, by its first server and the others."""
        return "redis+cluster://" + ",".join(f"127.0.0.1:{server.port}" for server in self.servers)

    async def start(self) -> None:
        """Start all and let them meet."""
        for server in self.servers:
            server.start()
        for server in self.servers:
            await server.ready()
        for number, server in enumerate(self.servers):
            server.ask("CLUSTER", "ADDSLOTSRANGE", *self.slots(number))
            server.ask("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for server in self.servers[1:]:
            self.servers[0].ask("CLUSTER", "MEET", "127.0.0.1", server.port)
        await self.agrees()

    def slots(self, number: int) -> tuple[int, int]:
        """First and last slot of a server."""
        return number * 16384 // 3, (number + 1) * 16384 // 3 - 1

    async def agrees(self) -> None:
        """Wait until every server knows an owner of every slot."""
        async with asyncio.timeout(START_S):
            while not all(self._knows_all(server) for server in self.servers):  # noqa: ASYNC110 - outside this process
                await asyncio.sleep(0.05)

    @staticmethod
    def _knows_all(server: RedisServer) -> bool:
        info = server.ask("CLUSTER", "INFO").decode()
        return "cluster_state:ok" in info and "cluster_slots_ok:16384" in info

    async def replace(self, number: int) -> None:
        """A new, empty server takes the place of one: another identity at another address, with the same slots."""
        old = self.servers[number]
        old.kill()
        fresh = self.servers[number] = RedisServer(*old._options)
        fresh.start()
        await fresh.ready()
        first, last = self.slots(number)
        others = [server for server in self.servers if server is not fresh]
        for server in others:
            server.ask("CLUSTER", "MEET", "127.0.0.1", fresh.port)
        nodes = others[0].ask("CLUSTER", "NODES").decode().splitlines()
        gone = next(line.split()[0] for line in nodes if f":{old.port}@" in line)
        for server in others:
            server.ask("CLUSTER", "FORGET", gone)
        fresh.ask("CLUSTER", "ADDSLOTSRANGE", first, last)
        fresh.ask("CLUSTER", "BUMPEPOCH")
        old.end()
        await self.agrees()

    def end(self) -> None:
        """Leave nothing behind."""
        for server in self.servers:
            server.end()
