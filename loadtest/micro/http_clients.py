"""HTTP/2 clients for Python side by side: what one small POST over TLS costs each, to one server.

Only pyreqwest is needed by mim; the others are measured where they are installed:
`pip install 'httpx[http2]' niquests pycurl`. Each keeps `at_once` requests on the way over one connection.
"""

import asyncio
import resource
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, Final, NamedTuple

from mim.push.http import Http

Post = Callable[[str, Mapping[str, str], bytes], Awaitable[int]]


class Cost(NamedTuple):
    """What a number of requests took; CPU is that of this process, user and system."""

    per_s: float
    cpu_us: float
    loop_us: float  # of it on the event loop's thread


async def cost(count: int, at_once: int, one: Callable[[int], Awaitable[None]]) -> Cost:
    """Run `one` for 0 ... count - 1, `at_once` at a time."""
    numbers = iter(range(count))

    async def worker() -> None:
        for number in numbers:
            await one(number)

    before, thread, started = resource.getrusage(resource.RUSAGE_SELF), time.thread_time(), time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(worker())
    took = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Cost(count / took, cpu / count * 1e6, (time.thread_time() - thread) / count * 1e6)


@asynccontextmanager
async def pyreqwest(ca: Path) -> AsyncIterator[Post]:
    """As mim uses it."""
    http = Http(30.0, only_http2=True, ca=ca.read_bytes())  # noqa: ASYNC240

    async def post(url: str, headers: Mapping[str, str], body: bytes) -> int:
        return (await http.post(url, headers, body)).status

    yield post
    await http.close()


@asynccontextmanager
async def httpx(ca: Path) -> AsyncIterator[Post]:
    """h2 in pure Python."""
    module: Any = import_module("httpx")
    import_module("h2")
    limits = module.Limits(max_connections=1)
    async with module.AsyncClient(
        http2=True, verify=ssl.create_default_context(cafile=str(ca)), limits=limits, timeout=30
    ) as client:

        async def post(url: str, headers: Mapping[str, str], body: bytes) -> int:
            return int((await client.post(url, headers=headers, content=body)).status_code)

        yield post


@asynccontextmanager
async def niquests(ca: Path) -> AsyncIterator[Post]:
    """jh2: the framing in Rust, the rest in Python."""
    module: Any = import_module("niquests")
    async with module.AsyncSession() as session:
        session.verify, session.trust_env = str(ca), False

        async def post(url: str, headers: Mapping[str, str], body: bytes) -> int:
            return int((await session.post(url, headers=dict(headers), data=body)).status_code)

        yield post


@asynccontextmanager
async def pycurl(ca: Path) -> AsyncIterator[Post]:
    """libcurl's multi interface on the event loop, by some lines of one's own."""
    multi = CurlMulti(import_module("pycurl"), ca)
    yield multi.post
    multi.close()


class CurlMulti:
    """libcurl tells which sockets and which timer to watch; the loop tells when something happens there."""

    def __init__(self, module: Any, ca: Path) -> None:
        self._curl = module
        self._ca = str(ca)
        self._loop = asyncio.get_running_loop()
        self._multi = module.CurlMulti()
        self._multi.setopt(module.M_SOCKETFUNCTION, self._watch)
        self._multi.setopt(module.M_TIMERFUNCTION, self._set_timer)
        self._multi.setopt(module.M_PIPELINING, 2)
        self._multi.setopt(module.M_MAX_HOST_CONNECTIONS, 1)
        self._timer: asyncio.TimerHandle | None = None
        self._waiting: dict[Any, asyncio.Future[int]] = {}
        self._free: list[Any] = []

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> int:
        module = self._curl
        curl = self._free.pop() if self._free else module.Curl()
        for option, value in (
            (module.URL, url), (module.CAINFO, self._ca), (module.HTTP_VERSION, module.CURL_HTTP_VERSION_2TLS),
            (module.PIPEWAIT, 1), (module.HTTPHEADER, [f"{name}: {value}" for name, value in headers.items()]),
            (module.POSTFIELDS, body), (module.WRITEFUNCTION, len),
        ):  # fmt: skip
            curl.setopt(option, value)
        answer = self._waiting[curl] = self._loop.create_future()
        self._multi.add_handle(curl)
        try:
            status: int = await answer
            return status
        finally:
            self._free.append(curl)

    def _watch(self, what: int, fd: int, multi: Any, data: Any) -> None:
        module = self._curl
        self._loop.remove_reader(fd)
        self._loop.remove_writer(fd)
        if what in {module.POLL_IN, module.POLL_INOUT}:
            self._loop.add_reader(fd, self._act, fd, module.CSELECT_IN)
        if what in {module.POLL_OUT, module.POLL_INOUT}:
            self._loop.add_writer(fd, self._act, fd, module.CSELECT_OUT)

    def _set_timer(self, ms: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if ms < 0 else self._loop.call_later(ms / 1000, self._act, self._curl.SOCKET_TIMEOUT, 0)

    def _act(self, fd: int, event: int) -> None:
        self._multi.socket_action(fd, event)
        left = 1
        while left:
            left, done, failed = self._multi.info_read()
            for curl in done:
                self._multi.remove_handle(curl)
                self._waiting.pop(curl).set_result(curl.getinfo(self._curl.RESPONSE_CODE))
            for curl, number, _ in failed:
                self._multi.remove_handle(curl)
                self._waiting.pop(curl).set_exception(OSError(number, "curl"))

    def close(self) -> None:
        """Close the handles."""
        if self._timer is not None:
            self._timer.cancel()
        for curl in self._free:
            curl.close()
        self._multi.close()


CLIENTS: Final = {"pyreqwest": pyreqwest, "pycurl": pycurl, "niquests": niquests, "httpx": httpx}
