"""A small installation on loopback to break: nodes, Redis, a Postgres primary with a synchronous standby.

    clients ──▶ node0 node1 node2 ──▶ proxy ──▶ Redis (or, without a proxy, the shards of a cluster)
                                 └──▶ proxies ─▶ Postgres primary and standby, through one multi-host URL

All processes are real, live in one temporary folder, and end with the block, whatever happened in it:

    async with lab(nodes=3, bus="redis") as lab:
        lab.nodes[0].kill()
        ...
        await lab.mends()
"""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal, TypeAlias

import httpx

from tests.faults.ports import Port
from tests.faults.postgres_server import DATABASE, PostgresServer
from tests.faults.process import Node
from tests.faults.programs import Program
from tests.faults.proxy import PostgresProxy, Proxy
from tests.faults.redis_server import RedisCluster, RedisServer

Bus: TypeAlias = Literal["local", "redis", "cluster"]

READY_S = 60.0
# Many clients come from one address, and drills have no time to wait for long promises to run out.
NODE_SETTINGS = {
    "MIM_SEND_RATE": "1000",
    "MIM_SEND_BURST": "1000",
    "MIM_REQUEST_RATE": "1000",
    "MIM_REQUEST_BURST": "1000",
    "MIM_KEEPALIVE_MIN_S": "1",
    "MIM_RECONNECT_SPREAD_S": "3",
    "MIM_DRAIN_S": "5",
    "MIM_DATABASE_POOL": "6",
    "MIM_COMMIT_WAIT_S": "3",
}


class Lab:
    """Everything that runs. `primary` and `standby` change places at a failover."""

    def __init__(self, folder: Path, nodes: int, bus: Bus, settings: dict[str, str]) -> None:
        self._ports = [Port() for _ in range(nodes + 3)]
        self.bus = bus
        self.primary = PostgresServer("postgres0", folder / "postgres0")
        self.standby = PostgresServer("postgres1", folder / "postgres1")
        self.databases = [self.primary, self.standby]
        self.redis = RedisServer("redis", folder / "redis")
        self.cluster = RedisCluster(folder / "cluster") if bus == "cluster" else None
        doors = self._ports[nodes:]
        self.database_proxies = [
            PostgresProxy(server.url, port=door) for server, door in zip(self.databases, doors, strict=False)
        ]
        self.redis_proxy = Proxy(self.redis.address, ("127.0.0.1", doors[2].number))
        hosts = ",".join(f"127.0.0.1:{door.number}" for door in doors[:2])
        common = {
            **NODE_SETTINGS,
            "MIM_DATABASE_URL": f"postgresql://postgres@{hosts}/{DATABASE}?target_session_attrs=read-write",
            **self._redis_setting(doors[2]),
            **settings,
        }
        self.nodes = [self._make_node(folder, number, common) for number in range(nodes)]

    def _redis_setting(self, door: Port) -> dict[str, str]:
        if self.bus == "local":
            return {}
        return {"MIM_REDIS_URL": self.cluster.url if self.cluster else f"redis://127.0.0.1:{door.number}"}

    def _make_node(self, folder: Path, number: int, settings: dict[str, str]) -> Node:
        home = folder / f"node{number}"
        home.mkdir()
        return Node(f"node{number}", home, **settings, MIM_PORT=str(self._ports[number].number))

    # -- the life of it --------------------------------------------------------------------

    async def start(self) -> None:
        """Start everything and wait until it serves."""
        await asyncio.gather(self._starts_database(), self._starts_redis())
        for proxy in (*self.database_proxies, self.redis_proxy):
            await proxy.__aenter__()
        await self.nodes[0].start()  # it migrates; the others find it done
        await asyncio.gather(*(node.start() for node in self.nodes[1:]))
        await self.is_ready()

    async def _starts_database(self) -> None:
        await self.primary.makes()
        await self.primary.start()
        await self.primary.asks(f"create database {DATABASE}", database="postgres")
        await self.follows()

    async def follows(self) -> None:
        """The standby, whatever it was before, becomes a copy of the primary and follows it."""
        await self.standby.copies(self.primary)
        await self.standby.start()
        await self.primary.has_standby()

    async def fails_over(self) -> None:
        """The primary is lost for good; the standby is promoted."""
        self.primary.kill()
        await self.primary.is_gone()
        await self.standby.is_promoted()
        self.primary, self.standby = self.standby, self.primary

    async def _starts_redis(self) -> None:
        if self.cluster is not None:
            await self.cluster.start()
        elif self.bus == "redis":
            await self.redis.start()

    async def mends(self) -> None:
        """End every fault: what is frozen goes on, what is dead is started, and everything serves again."""
        for program in self.programs():
            if program.is_frozen:
                program.thaw()
        for proxy in (*self.database_proxies, self.redis_proxy):
            await proxy.restore()
        await self._mends_database()
        await self._mends_redis()
        for node in self.nodes:
            if not node.is_running:
                await node.start()
        await self.is_ready()

    async def _mends_database(self) -> None:
        if not self.primary.is_running:
            await self.primary.is_gone()
            await self.primary.start()
        if not self.standby.is_running:
            await self.standby.is_gone()
            await self.follows()

    async def _mends_redis(self) -> None:
        if self.cluster is not None:
            for server in self.cluster.servers:
                if not server.is_running:
                    await server.start()
            await self.cluster.is_whole()
        elif self.bus == "redis" and not self.redis.is_running:
            await self.redis.start()

    async def is_ready(self) -> None:
        """Wait until every node that runs says so."""
        async with httpx.AsyncClient(timeout=2) as http, asyncio.timeout(READY_S):
            for node in self.nodes:
                while node.is_running and not await _is_green(http, node):  # noqa: ASYNC110 - asked from outside
                    await asyncio.sleep(0.05)

    def programs(self) -> list[Program]:
        """All processes, the ones that clients speak to first."""
        redis = self.cluster.servers if self.cluster else [self.redis]
        return [*self.nodes, *redis, *self.databases]

    async def ends(self) -> None:
        """Leave nothing behind."""
        for program in (*self.nodes, self.redis, *self.databases):
            program.clean_up()
        if self.cluster is not None:
            self.cluster.clean_up()
        for proxy in (*self.database_proxies, self.redis_proxy):
            await proxy.__aexit__(None, None, None)
        for port in self._ports:
            port.close()

    # -- for clients and checks ------------------------------------------------------------

    @property
    def database_url(self) -> str:
        """Straight to the present primary."""
        return self.primary.url

    @property
    def database_proxy(self) -> PostgresProxy:
        """The one before the present primary."""
        return self.database_proxies[self.databases.index(self.primary)]

    def addresses(self) -> list[str]:
        """Where clients may go: every node's socket, whether it lives or not."""
        return [node.ws for node in self.nodes]


async def _is_green(http: httpx.AsyncClient, node: Node) -> bool:
    try:
        return (await http.get(f"{node.url}/readyz")).status_code == 200
    except httpx.HTTPError:
        return False


def _folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="mim-lab-"))
    folder.chmod(0o711)  # as root, Postgres runs as somebody else
    return folder


@asynccontextmanager
async def lab(nodes: int = 3, bus: Bus = "redis", **settings: str) -> AsyncIterator[Lab]:
    """Run a lab until the block ends. `settings` are MIM_* variables of its nodes."""
    folder = _folder()
    made = Lab(folder, nodes, bus, settings)
    try:
        await made.start()
        yield made
    finally:
        await made.ends()
        shutil.rmtree(folder, ignore_errors=True)
