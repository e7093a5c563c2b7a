"""Servers that run already. Where they are on this machine their processes are read in /proc, else their /metrics.

Who listens on the port is the server; with several workers it is all of them and their parent. Its Postgres and its
Redis are the programs of that name at the other ends of its connections. Whether these are the same processes as those
that answer is asked of /metrics, which tells when they were started: a proxy may listen in front of them.
"""

import asyncio
import os
import ssl
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

import httpx
from prometheus_client.parser import text_string_to_metric_families

from loadtest import proc
from loadtest.target import sockets
from loadtest.target.parts import Parts
from loadtest.target.port import Address, Memory, ServerError, Usage

POSTGRES: Final = ("postgres",)
REDIS: Final = ("redis-server", "valkey-server")
WORKER: Final = b"mim.workers.node"
SAME_START_S: Final = 3.0  # both are rounded, and the machine's clock may have been set since
PATIENCE_S: Final = 10.0
TOKEN: Final = "MIM_METRICS_TOKEN"  # noqa: S105 - the name of a variable


class _Told(NamedTuple):
    """What /metrics tells of the processes that serve a port, summed over its workers."""

    cpu_s: float
    memory_kib: float
    files: int
    started_s: list[float]


class RemoteServers:
    """The nodes of an installation that is not ours. Made by `found`."""

    def __init__(self, urls: Sequence[str], secret: str, ca: Path | None = None) -> None:
        self.addresses = [_address(url) for url in urls]
        self.host, self.port = self.addresses[0]
        self.secret = secret
        self.ssl = _context(urls, ca)
        self.about: dict[str, Any] = {"url": " ".join(urls)}
        self._scrapes = [url.rstrip("/") + "/metrics" for url in urls]
        # Processes from which all others descend; none where they are not on this machine.
        self._servers: frozenset[int] = frozenset()
        self._postmasters: frozenset[int] = frozenset()
        self._redis: frozenset[int] = frozenset()

    @classmethod
    async def found(cls, urls: Sequence[str], secret: str, ca: Path | None = None) -> "RemoteServers":
        """Look where their processes are. Raises ServerError."""
        servers = cls(urls, secret, ca)
        why = await servers._find()
        servers.about["cpu"] = why or f"of {', '.join((await servers.parts()).seen())}, from /proc"
        return servers

    async def usage(self) -> Usage:
        """CPU so far, of what can be seen."""
        if self._servers:
            return (await self.parts()).usage()
        return Usage(sum(told.cpu_s for told in await self._scraped()), 0.0)

    async def memory(self) -> Memory:
        """Memory now, of what can be seen."""
        if self._servers:
            return await (await self.parts()).memory()
        return Memory(sum(told.memory_kib for told in await self._scraped()), 0.0)

    async def files(self) -> int:
        """Descriptors of the server's processes."""
        if self._servers:
            return (await self.parts()).files()
        return sum(told.files for told in await self._scraped())

    # -- in /proc ----------------------------------------------------------------------------

    async def _find(self) -> str:
        """Find the processes; if that fails, say in the words of a report what is read instead."""
        metrics = "of the server's processes alone, from /metrics"
        try:
            here = all(sockets.is_here(host) for host, _ in self.addresses)
        except OSError as exc:
            raise ServerError(f"{self.about['url']}: {exc.strerror or exc}") from exc
        told = await self._scraped()
        if not here:
            return metrics
        listening = await asyncio.to_thread(sockets.listeners, {port for _, port in self.addresses})
        if not listening:
            return f"{metrics}: only who may look into its processes, as root may, can read /proc"
        started = [at for one in told for at in one.started_s]
        servers = [pid for pid in listening if _is_one_of(pid, started)]
        if not servers:
            return f"{metrics}: it is not the server itself that listens there"
        self._servers = frozenset(proc.parent(pid) if _is_worker(pid) else pid for pid in servers)
        await asyncio.to_thread(self._find_others)
        return ""

    def _find_others(self) -> None:
        family = proc.tree(self._servers, proc.children())
        far = family | sockets.connected_to(family)
        # One that was there and is not found is missed, and looked for again with the next reading.
        self._postmasters = frozenset(_eldest(pid) for pid in far if proc.name(pid) in POSTGRES) or self._postmasters
        self._redis = frozenset(pid for pid in far if proc.name(pid) in REDIS) or self._redis

    async def parts(self) -> Parts:
        """As they are now: workers and backends come and go. Who was restarted is looked for again."""
        if not all(map(proc.is_alive, (*self._servers, *self._postmasters, *self._redis))):
            with suppress(ServerError):  # it is not back yet
                await self._find()
        children = proc.children()
        server, postgres, redis = (
            proc.tree(roots, children) for roots in (self._servers, self._postmasters, self._redis)
        )
        return Parts(frozenset(server - postgres - redis), frozenset(postgres), frozenset(redis))

    # -- from /metrics -----------------------------------------------------------------------

    async def _scraped(self) -> list[_Told]:
        """One answer for each URL. Raises ServerError."""
        token = os.environ.get(TOKEN)
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        verify = self.ssl or True
        async with httpx.AsyncClient(verify=verify, headers=headers, timeout=PATIENCE_S, trust_env=False) as http:
            return [await _told(http, url) for url in self._scrapes]


async def _told(http: httpx.AsyncClient, url: str) -> _Told:
    try:
        answer = await http.get(url)
    except httpx.HTTPError as exc:
        raise ServerError(f"{url} does not answer: {exc or type(exc).__name__}") from exc
    if answer.status_code == 401:
        raise ServerError(f"{url} wants the server's {TOKEN}: set it in the environment of the load test too")
    if answer.status_code != 200:
        raise ServerError(f"{url} answers {answer.status_code}")
    values: dict[str, list[float]] = {}
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            values.setdefault(sample.name, []).append(sample.value)
    if "process_cpu_seconds_total" not in values:
        raise ServerError(f"{url} does not tell of a process")
    return _Told(
        sum(values["process_cpu_seconds_total"]),
        sum(values.get("process_resident_memory_bytes", ())) / 1024,
        int(sum(values.get("process_open_fds", ()))),
        values.get("process_start_time_seconds", []),
    )


def _eldest(pid: int) -> int:
    """The postmaster of a backend."""
    while proc.name(above := proc.parent(pid)) in POSTGRES:
        pid = above
    return pid


def _is_one_of(pid: int, started_s: Sequence[float]) -> bool:
    """Whether the process was started when one of those that answer was."""
    return any(abs(proc.started_s(pid) - at) < SAME_START_S for at in started_s)


def _is_worker(pid: int) -> bool:
    try:
        return WORKER in (proc.PROC / str(pid) / "cmdline").read_bytes()
    except OSError:
        return False


def _address(url: str) -> Address:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/"):
        raise ServerError(f"--url {url}: http://HOST:PORT or https://HOST:PORT")
    return parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)


def _context(urls: Sequence[str], ca: Path | None) -> ssl.SSLContext | None:
    schemes = {urlsplit(url).scheme for url in urls}
    if len(schemes) > 1:
        raise ServerError("--url: all nodes by http, or all by https")
    if schemes == {"http"}:
        return None
    context = ssl.create_default_context()
    if ca is not None:
        try:
            context.load_verify_locations(ca)
        except (OSError, ssl.SSLError) as exc:
            raise ServerError(f"--ca {ca}: not a file of PEM certificates") from exc
    return context
