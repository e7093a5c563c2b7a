"""The server under test: a private one that is started and removed, or one that runs somewhere already."""

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol
from urllib.parse import urlsplit

import httpx
import orjson

from loadtest import proc

ROOT: Final = Path(__file__).parents[1]
SECRET: Final = "load test, not a secret, 32 bytes or more"  # noqa: S105
START_S: Final = 60.0
STOP_S: Final = 60.0

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


class ServerError(Exception):
    """The server under test cannot be used; the text is a sentence for whoever runs the load test."""


class Usage(NamedTuple):
    """CPU seconds since the start of the server's processes; `postgres` is 0 where it cannot be seen."""

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


class Target(Protocol):
    """A server under test."""

    host: str
    port: int
    secret: str
    about: dict[str, Any]  # what a result must say of where it was measured

    async def usage(self) -> Usage:
        """CPU so far."""

    async def memory(self) -> Usage:
        """Resident memory"""

    addresses: list[tuple[str, int]]
    tls: bool
    ca: str | None


class RemoteServer:
    """A server that runs already; what it uses is read from its /metrics, its Postgres cannot be seen."""

    def __init__(self, url: str, secret: str) -> None:
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname:
            raise ServerError(f"--url {url}: http://HOST:PORT is what this load test speaks")
        self.host = parts.hostname
        self.port = parts.port or 80
        self.secret = secret
        self.about = {"url": url, "cpu": "of the server process alone, from /metrics"}
        self._metrics = f"http://{self.host}:{self.port}/metrics"

    async def usage(self) -> Usage:
        """CPU of the process that answers."""
        return Usage(await self._read("process_cpu_seconds_total"), 0.0)

    async def rss_kib(self) -> float:
        """Memory of the process that answers."""
        return await self._read("process_resident_memory_bytes") / 1024

    async def _read(self, name: str) -> float:
        async with httpx.AsyncClient() as http:
            answer = await http.get(self._metrics)
        for line in answer.text.splitlines():
            if line.startswith(name + " "):
                return float(line.split()[1])
        raise ServerError(f"{self._metrics} does not tell {name} (status {answer.status_code})")


class PrivateServer:
    """`mim serve` on a folder of its own, with its own Postgres, both on one core."""

    def __init__(self, folder: Path, core: int) -> None:
        self.host = "127.0.0.1"
        self.port = 0
        self.secret = SECRET
        self.about = {"core": core, "cpu": "of the server and its Postgres"}
        self._folder = folder
        self._core = core
        self._log = folder / "server.log"
        self._cluster = folder / "data" / "postgres" / "cluster"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The server process, for a profiler."""
        assert self._process is not None
        return self._process.pid

    async def start(self) -> None:
        """Start and wait until it listens; raises ServerError."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("MIM_")}
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        serve = ("serve", "--data-dir", str(self._folder / "data"), "--port", "0")
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(  # noqa: ASYNC220, S603 - it returns at once
                [sys.executable, "-m", "loadtest.launch", str(self._core), *serve],
                cwd=self._folder,
                env={**inherited, **LIFTED, "PYTHONPATH": path},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the load test, which then ends the server
            )
        try:
            async with asyncio.timeout(START_S):
                while not (port := self._listens_at()):
                    if self._process.poll() is not None:
                        raise ServerError(f"the server does not start:\n{self._said()}")
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise ServerError(f"the server does not listen within {START_S:.0f} s:\n{self._said()}") from None
        self.port = port

    async def usage(self) -> Usage:
        """CPU of the server, and of the Postgres that works in its folder."""
        return Usage(proc.cpu_s(self.pid), sum(map(proc.cpu_s, proc.pids_in(self._cluster))))

    async def memory(self) -> Usage:
        """Memory of the server process."""
        return Usage(proc.rss_kib(self.pid), 0.0)

    @property
    def addresses(self) -> list[tuple[str, int]]:
        return [(self.host, self.port)]

    tls = False
    ca = None

    def stop(self) -> None:
        """Let it drain and end; kill what does not."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for pid in proc.pids_in(self._cluster):  # nobody, unless the server had to be killed
            with suppress(ProcessLookupError):
                os.kill(pid, 9)

    def _listens_at(self) -> int:
        for line in self._log.read_bytes().splitlines():
            with suppress(orjson.JSONDecodeError):
                event = orjson.loads(line)
                if isinstance(event, dict) and event.get("event") == "listening":
                    return urlsplit(str(event["url"])).port or 0
        return 0

    def _said(self) -> str:
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-5:])


@asynccontextmanager
async def target(url: list[str] | None, secret: str | None, core: int, nodes: int = 1) -> AsyncIterator[Target]:
    """The server at `url`, or without one a private server on `core` that is gone afterwards with all its files."""
    if url is not None:
        if not secret:
            raise ServerError(
                "--url needs the server's own MIM_JWT_SECRET in the environment: users are signed in by it"
            )
        yield RemoteServer(url[0], secret)
        return
    folder = Path(tempfile.mkdtemp(prefix="mim-load-"))
    server = PrivateServer(folder, core)
    try:
        await server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)
