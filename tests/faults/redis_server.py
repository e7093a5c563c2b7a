"""Redis processes for the drills: one alone, or a cluster of shards. Nothing is kept on disk: who returns is empty."""

import asyncio
import os
import shutil
from pathlib import Path
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

from tests.faults.ports import Port
from tests.faults.programs import START_S, Program

SLOTS = 16384
NODE_TIMEOUT_MS = 1000  # after which a cluster takes a silent member for dead


class RedisServer(Program):
    """One `redis-server`."""

    def __init__(self, name: str, folder: Path, *options: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        super().__init__(name, folder)
        self.port = Port()
        self.options = options

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        return "127.0.0.1", self.port.number

    @property
    def base(self) -> tuple[str, ...]:
        """Options of every server; `options` come after them and win."""
        return (
            *("--port", str(self.port.number), "--bind", "127.0.0.1", "--dir", str(self.folder)),
            *("--save", "", "--appendonly", "no"),
        )

    async def start(self) -> None:
        """Start, empty, and wait until it answers."""
        program = shutil.which("redis-server")
        assert program, "redis-server is not installed; `apt-get install redis-server` has it"
        self.launch([program, *self.base, *self.options], os.environ)
        async with asyncio.timeout(START_S):
            while not await asyncio.to_thread(self._answers):
                assert self.is_running, self.log()
                await asyncio.sleep(0.02)

    def _answers(self) -> bool:
        try:
            return bool(self._ask("PING"))
        except RedisError:
            return False

    def _ask(self, *command: str | int | bytes) -> Any:
        with Redis(*self.address, socket_timeout=5, decode_responses=True) as redis:
            return redis.execute_command(*command)

    async def asks(self, *command: str | int | bytes) -> Any:
        """The answer to a command."""
        return await asyncio.to_thread(self._ask, *command)

    async def kills_clients(self) -> int:
        """Kill every client connection, plain ones and subscribers; returns how many."""
        return sum([int(await self.asks("CLIENT", "KILL", "TYPE", kind)) for kind in ("normal", "pubsub")])

    def clean_up(self) -> None:
        super().clean_up()
        self.port.close()


class RedisCluster:
    """Shards of one master each, and a replica of the first. A shard that starts again has its slots and no data."""

    def __init__(self, folder: Path, shards: int = 3) -> None:
        self._ports: list[Port] = []  # of the cluster's bus
        self.masters = [self._make(f"shard{number}", folder) for number in range(shards)]
        self.replica = self._make("replica", folder)

    def _make(self, name: str, folder: Path) -> RedisServer:
        bus = Port()
        self._ports.append(bus)
        options = (
            *("--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf", "--cluster-port", str(bus.number)),
            *("--cluster-node-timeout", str(NODE_TIMEOUT_MS), "--repl-diskless-sync-delay", "0"),
        )
        return RedisServer(name, folder / name, *options)

    @property
    def servers(self) -> list[RedisServer]:
        """All of them."""
        return [*self.masters, self.replica]

    @property
    def url(self) -> str:
        """For a node: any member leads to the others."""
        return f"redis+cluster://127.0.0.1:{self.masters[-1].port.number}"

    async def start(self) -> None:
        """Start the members, share out the slots, and wait until all agree."""
        await asyncio.gather(*(server.start() for server in self.servers))
        share = SLOTS // len(self.masters)
        for number, master in enumerate(self.masters):
            last = SLOTS - 1 if master is self.masters[-1] else (number + 1) * share - 1
            await master.asks("CLUSTER", "ADDSLOTSRANGE", number * share, last)
            await master.asks("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for server, bus in zip(self.servers[1:], self._ports[1:], strict=True):
            await self.masters[0].asks("CLUSTER", "MEET", *server.address, bus.number)
        await self._are("cluster_known_nodes", str(len(self.servers)))
        await self._are("cluster_state", "ok")
        await self.follows(self.replica, self.masters[0])

    async def follows(self, replica: RedisServer, master: RedisServer) -> None:
        """Make one the replica of the other, and wait until it is."""
        await replica.asks("CLUSTER", "REPLICATE", await master.asks("CLUSTER", "MYID"))
        async with asyncio.timeout(START_S):
            while "master_link_status:up" not in await self._info(replica):  # noqa: ASYNC110
                await asyncio.sleep(0.05)

    async def _info(self, server: RedisServer) -> str:
        info = await server.asks("INFO", "replication")
        return info if isinstance(info, str) else "\n".join(f"{key}:{value}" for key, value in info.items())

    async def _are(self, key: str, value: str) -> None:
        """Wait until every member says this of the cluster."""
        for server in self.servers:
            async with asyncio.timeout(START_S):
                while (await self._cluster_info(server)).get(key) != value:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)

    async def _cluster_info(self, server: RedisServer) -> dict[str, str]:
        info = await server.asks("CLUSTER", "INFO")
        return (
            info if isinstance(info, dict) else dict(line.split(":", 1) for line in info.split("\r\n") if ":" in line)
        )

    async def fails_over(self) -> None:
        """The first master is lost; wait until its replica has taken its slots."""
        self.masters[0].kill()
        async with asyncio.timeout(START_S):
            while "role:master" not in await self._info(self.replica):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        self.masters[0], self.replica = self.replica, self.masters[0]

    async def is_whole(self) -> None:
        """Wait until every member that runs finds all slots served."""
        for server in self.servers:
            if server.is_running and not server.is_frozen:
                async with asyncio.timeout(START_S):
                    while (await self._cluster_info(server)).get("cluster_state") != "ok":  # noqa: ASYNC110
                        await asyncio.sleep(0.05)

    async def kills_clients(self) -> int:
        """Kill every client connection of every member."""
        return sum([await server.kills_clients() for server in self.servers if server.is_running])

    def clean_up(self) -> None:
        """Leave no process behind."""
        for server in self.servers:
            server.clean_up()
        for port in self._ports:
            port.close()
