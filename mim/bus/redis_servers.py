"""Where the Redis servers are: one by itself, the master that a Sentinel names, or the shards of a cluster.

| URL | what it means |
|---|---|
| `redis://[user:password@]host[:port]`, `rediss://` with TLS, `unix://[user:password@]/path` | one server |
| `redis+sentinel://host[:port],host.../name`, `rediss+sentinel://` | the master `name` |
| `redis+cluster://host[:port],host...`, `rediss+cluster://` | a cluster of Redis 7 or later, by sharded pub/sub |

User and password may stand before the first host of every kind. TLS options are redis-py's, as parameters:
`?ssl_ca_certs=/path&ssl_certfile=/path&ssl_keyfile=/path&ssl_cert_reqs=required`.
For a Sentinel, `sentinel_username` and `sentinel_password` are its own.

Discovery is redis-py's: asked at every connection anew, since who is master may have changed.
"""

import ssl
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import parse_qs, unquote, urlsplit

from msgspec import Struct
from redis.asyncio import RedisCluster, Sentinel
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import RedisSSLContext
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from redis.exceptions import RedisClusterException, RedisError

from mim.config import REDIS_SCHEMES

PORT: Final = 6379
SENTINEL_PORT: Final = 26379
TIMEOUTS: Final[dict[str, Any]] = {"socket_timeout": 2.0, "socket_connect_timeout": 2.0}
TLS_OPTIONS: Final = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs", "ssl_check_hostname")
OTHER_OPTIONS: Final = ("sentinel_username", "sentinel_password")


untyped_sentinel: Any = Sentinel


class Address(Struct, frozen=True):
    """How to reach one server. Two addresses of the same server are equal."""

    host: str = ""
    port: int = 0
    path: str = ""
    username: str = ""
    password: str = ""
    tls: ssl.SSLContext | None = None
    sharded: bool = False

    def __str__(self) -> str:
        return self.path or f"{self.host}:{self.port}"


class Layout(Struct, frozen=True):
    """Which server carries which topic."""

    addresses: Sequence[Address]
    slots: Sequence[Address] = ()  # by hash slot; empty where one server carries all

    def of(self, topic: str) -> Address:
        """The server of a topic."""
        return self.slots[key_slot(topic.encode())] if self.slots else self.addresses[0]


class RedisUrl(Struct, frozen=True):
    """A URL, taken apart."""

    kind: str  # "", "sentinel" or "cluster"
    hosts: Sequence[tuple[str, int]]
    path: str
    name: str
    username: str
    password: str
    tls: ssl.SSLContext | None
    options: dict[str, Any]  # redis-py's for TLS
    sentinel_auth: dict[str, str]


def parse_redis_url(url: str) -> RedisUrl:
    """Take a URL apart. Raises ValueError with a sentence that holds nothing secret."""
    parts = urlsplit(url)
    if parts.scheme not in REDIS_SCHEMES:
        raise ValueError(f"must begin with one of {', '.join(f'{scheme}://' for scheme in REDIS_SCHEMES)}")
    base, _, kind = parts.scheme.partition("+")
    account, _, where = parts.netloc.rpartition("@")
    username, _, password = account.partition(":")
    query = {key: values[-1] for key, values in parse_qs(parts.query).items()}
    if unknown := query.keys() - {*TLS_OPTIONS, *OTHER_OPTIONS}:
        raise ValueError(f"has the unknown parameter {min(unknown)!r}")
    path = unquote(parts.path) if base == "unix" else ""
    if base == "unix" and not path:
        raise ValueError("names no socket: unix:///path/to/redis.sock")
    if base != "unix" and not where:
        raise ValueError("names no host")
    name = parts.path.strip("/") if kind == "sentinel" else ""
    if kind == "sentinel" and not name:
        raise ValueError("names no master: redis+sentinel://host:26379/mymaster")
    return RedisUrl(
        kind=kind,
        hosts=() if base == "unix" else [_host(host, SENTINEL_PORT if name else PORT) for host in where.split(",")],
        path=path,
        name=name,
        username=unquote(username),
        password=unquote(password),
        tls=_tls(query) if base == "rediss" else None,
        options={"ssl": True, **_tls_options(query)} if base == "rediss" else {},
        sentinel_auth={key.removeprefix("sentinel_"): query[key] for key in OTHER_OPTIONS if key in query},
    )


def _host(text: str, default: int) -> tuple[str, int]:
    parts = urlsplit(f"//{text}")
    try:
        return parts.hostname or "", parts.port or default
    except ValueError:
        raise ValueError("has a port that is no number from 1 to 65535") from None


def _tls_options(query: dict[str, str]) -> dict[str, Any]:
    options: dict[str, Any] = {key: query[key] for key in TLS_OPTIONS if key in query}
    if "ssl_check_hostname" in options:
        options["ssl_check_hostname"] = options["ssl_check_hostname"].lower() not in {"0", "false", "no"}
    return options


def _tls(query: dict[str, str]) -> ssl.SSLContext:
    options = {key.removeprefix("ssl_"): value for key, value in _tls_options(query).items()}
    try:
        return RedisSSLContext(**{"cert_reqs": "required", "check_hostname": True, **options}).get()
    except (OSError, RedisError) as exc:
        raise ValueError(f"has TLS options that cannot be used: {exc}") from exc


class Servers:
    """Finds out where the servers are."""

    def __init__(self, url: str) -> None:
        self._url = parse_redis_url(url)
        self._seeds = list(self._url.hosts)  # of a cluster: those that it named last, then those of the URL

    @property
    def may_move(self) -> bool:
        """Whether somebody else decides where the servers are."""
        return bool(self._url.kind)

    async def find(self) -> Layout:
        """The layout as of now. Raises OSError, TimeoutError or RedisError when nobody can tell."""
        url = self._url
        if url.kind == "sentinel":
            return Layout([self._address(*await self._ask_sentinel())])
        if url.kind == "cluster":
            return await self._ask_cluster()
        host, port = url.hosts[0] if url.hosts else ("", 0)
        return Layout([self._address(host, port)])

    def _address(self, host: str, port: int, *, sharded: bool = False) -> Address:
        url = self._url
        return Address(host, port, url.path, url.username, url.password, url.tls, sharded)

    async def _ask_sentinel(self) -> tuple[str, int]:
        options = {**self._url.options, **TIMEOUTS, **self._url.sentinel_auth}
        sentinel = untyped_sentinel(self._url.hosts, sentinel_kwargs=options)
        try:
            host, port = await sentinel.discover_master(self._url.name)
        finally:
            for client in sentinel.sentinels:
                await client.aclose()
        return str(host), int(port)

    async def _ask_cluster(self) -> Layout:
        url = self._url
        cluster = RedisCluster(
            startup_nodes=[ClusterNode(host, port) for host, port in self._seeds],
            username=url.username or None,
            password=url.password or None,
            **url.options,
            **TIMEOUTS,
        )
        try:
            await cluster.initialize()
            found = cluster.nodes_manager
            slots = [
                self._address(str(found.slots_cache[slot][0].host), int(found.slots_cache[slot][0].port), sharded=True)
                for slot in range(REDIS_CLUSTER_HASH_SLOTS)
            ]
            named = [(str(node.host), int(node.port)) for node in found.nodes_cache.values()]
        except (LookupError, RedisClusterException) as exc:  # the latter is no RedisError
            raise ConnectionError(f"the cluster does not tell who owns every slot: {exc}") from exc
        finally:
            await cluster.aclose()
        self._seeds = [*named, *(seed for seed in url.hosts if seed not in named)]
        return Layout(list(dict.fromkeys(slots)), slots)
