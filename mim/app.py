"""The composition root: the only place that knows every part and puts them together."""

import asyncio
import os
import shutil
import signal
import socket
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import structlog
import uvicorn
from msgspec import Struct

from mim import logs
from mim.auth import Identity, LogSms
from mim.bus.local import LocalBus
from mim.chat.context import Context
from mim.chat.indexing import Indexer
from mim.chat.publisher import Publisher
from mim.chat.reading import Reading
from mim.chat.sending import Sending
from mim.chat.typing_signals import TypingSignals
from mim.clock import Clock, SystemClock
from mim.config import Settings, secret
from mim.embedded import EmbeddedError, EmbeddedPostgres
from mim.errors import CloseReason
from mim.gateway.gateway import Gateway
from mim.hub.hub import Hub
from mim.metrics import Figures
from mim.model import Caller
from mim.rest.app import build_app
from mim.store.committer import Committer
from mim.store.db import Pool, connector, open_pool
from mim.store.migrate import migrate
from mim.tasks import TaskSet
from mim.wire.frames import wire_name
from mim.wire.rate import RateLimiter

log = structlog.get_logger("mim.app")

REVIVE_EVERY_S = 5.0  # each look starts a program
LAST_COMMITS_S = 2.0
POOL_CLOSE_S = 5.0


@dataclass(frozen=True, slots=True)
class Node:
    """One running node."""

    context: Context
    gateway: Gateway
    hub: Hub


def serve(settings: Settings) -> int:
    """Run a server until SIGTERM or SIGINT; returns the exit code. Blocks."""
    logs.configure(settings.log_level, settings.log_format, settings.dev)
    url = secret(settings.database_url)
    embedded = None if url else EmbeddedPostgres(settings.data_dir / "postgres")
    try:
        if embedded is not None:
            url = embedded.start()
        assert url is not None
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            return runner.run(_serve(settings, url, embedded))
    finally:
        if embedded is not None:
            embedded.stop()


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        import uvloop
    except ImportError:  # Windows has none
        return asyncio.new_event_loop
    return uvloop.new_event_loop


async def _serve(settings: Settings, url: str, embedded: EmbeddedPostgres | None) -> int:
    for name in await migrate(url):
        log.info("database migrated", migration=name)
    tasks = TaskSet()
    if embedded is not None:
        tasks.spawn(_keep_alive(embedded), name="watch over the embedded Postgres")
    try:
        async with run_node(settings, url) as node:
            await Server(settings, node).serve()
    finally:
        await tasks.close()
    return 0


async def _keep_alive(embedded: EmbeddedPostgres) -> None:
    """Start the embedded Postgres again when it was killed; an own Postgres is its operator's."""
    while True:
        await asyncio.sleep(REVIVE_EVERY_S)
        try:
            if await asyncio.to_thread(embedded.revive):
                log.warning("the embedded Postgres was started again")
        except EmbeddedError as exc:
            log.warning("the embedded Postgres cannot be started again", reason=str(exc))


@asynccontextmanager
async def run_node(settings: Settings, url: str, clock: Clock | None = None) -> AsyncIterator[Node]:
    """Start the parts of a node in order, and stop them in reverse, each whatever became of the others."""
    clock = clock or SystemClock()
    async with AsyncExitStack() as parts:
        pool = await open_pool(url, settings.database_pool)
        parts.push_async_callback(_close_pool, pool)
        http = await parts.enter_async_context(httpx.AsyncClient(timeout=5))
        bus = LocalBus()
        hub = Hub(bus)
        publisher = Publisher(bus)
        sending = Sending(pool, publisher, clock, settings.text_limit)
        committer = Committer(
            connector(url), sending.committed, clock,
            batch=settings.commit_batch, queue=settings.commit_queue, wait_s=settings.commit_wait_s,
        )  # fmt: skip
        identity = Identity(
            pool, settings, clock, LogSms(), http,
            on_revoked=lambda user, device: _device_gone(publisher, user, device),
            on_added=lambda user, device: _device_note(publisher, user, device, "added"),
        )  # fmt: skip
        reading = Reading(pool, publisher, clock)
        indexer = Indexer(pool, sending.full_blocks, clock)
        context = Context(
            settings=settings, clock=clock, pool=pool, bus=bus, publisher=publisher, committer=committer,
            identity=identity, sending=sending, reading=reading, typing=TypingSignals(pool, publisher, clock),
            finds=RateLimiter(settings.find_per_hour / 3600, settings.find_per_hour),
        )  # fmt: skip
        gateway = Gateway(context, hub)
        figures = _figures(context, gateway)
        figures.register()
        parts.callback(figures.unregister)

        await bus.start()
        parts.push_async_callback(bus.close)
        parts.push_async_callback(identity.close)
        await gateway.start()
        parts.push_async_callback(gateway.close)
        indexer.start()
        parts.push_async_callback(indexer.close)
        reading.start()
        parts.push_async_callback(reading.close)
        committer.start()
        parts.push_async_callback(sending.close)
        # The sockets had drain_s to see their messages committed: what waits now waits for a database that is away.
        parts.push_async_callback(committer.close, min(settings.drain_s, LAST_COMMITS_S))
        yield Node(context, gateway, hub)


async def _close_pool(pool: Pool) -> None:
    """Close politely, but do not wait for a database that does not answer."""
    try:
        await asyncio.wait_for(pool.close(), POOL_CLOSE_S)
    except TimeoutError:
        pool.terminate()


def _device_gone(publisher: Publisher, user: int, device: int) -> None:
    publisher.close_device(device, CloseReason.SIGNED_OUT)
    _device_note(publisher, user, device, "revoked")


def _device_note(publisher: Publisher, user: int, device: int, state: str) -> None:
    publisher.note(Caller(user, device), "device", {"device": device, "state": state})


class Server(uvicorn.Server):
    """uvicorn with our sockets, saying where it listens when it does."""

    def __init__(self, settings: Settings, node: Node) -> None:
        self._settings = settings
        self._node = node
        super().__init__(
            uvicorn.Config(
                build_app(node.context),
                host=settings.host,
                port=settings.port,
                ws=node.gateway.protocol,  # type: ignore[arg-type]  # a factory serves as well as a class
                http="httptools",
                lifespan="off",
                access_log=False,
                log_config=None,
                server_header=False,
                forwarded_allow_ips=settings.forwarded_allow_ips,
                ssl_certfile=settings.tls_certificate,
                ssl_keyfile=settings.tls_key,
                timeout_graceful_shutdown=int(settings.drain_s) + 1,
            )
        )

    @property
    def port(self) -> int:
        """The port that is listened on, also when the settings leave it to the system."""
        sockets: list[socket.socket] = [sock for server in self.servers for sock in server.sockets]
        return int(sockets[0].getsockname()[1])

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """SIGINT and SIGTERM ask for the drain; uvicorn would raise them again after it, before all is closed."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, then tell where."""
        await super().startup(sockets)
        if self.started and self.servers:
            announce(self._settings, self.port)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Admit nobody, finish what was taken, close."""
        self._node.gateway.drain()
        await super().shutdown(sockets)


def announce(settings: Settings, port: int) -> None:
    """The lines that a newcomer needs next."""
    scheme = "https" if settings.tls_certificate else "http"
    host = "127.0.0.1" if settings.host in {"0.0.0.0", "::"} else settings.host  # noqa: S104 - comparing, not binding
    url = f"{scheme}://{host}:{port}"
    log.info("listening", url=url)
    if settings.dev:
        command = "mim" if shutil.which("mim") else how_started()
        option = "" if port == 8080 else f" --url {url}"
        lines = [
            f"mim is ready at {url}   (API: {url}/docs)",
            f"Open {url} in a browser to chat; sign in with any phone number.",
            "Two people chat from two terminals:",
            f"  {command} chat{option} --phone 010-2345-6701 --name Mina",
            f"  {command} chat{option} --phone 010-2345-6702 --name Jun 010-2345-6701",
        ]
        sys.stdout.write("\n" + "\n".join(lines) + "\n\n")
        sys.stdout.flush()


def how_started() -> str:
    """The words by which this program was started, for the lines that a person copies."""
    if os.path.basename(sys.argv[0]) == "__main__.py":  # noqa: PTH119
        return "python -m mim"
    return os.path.relpath(sys.argv[0])


def _figures(context: Context, gateway: Gateway) -> Figures:
    figures = Figures()
    figures.gauge("mim_connections", "Open sockets.", lambda: len(gateway.connections))
    figures.gauge("mim_sessions", "Sockets that are signed in.", lambda: len(gateway.hub))
    figures.gauge("mim_commit_queue_messages", "Messages that wait for a commit.", lambda: len(context.committer))
    figures.gauge("mim_watermark_queue", "Watermarks that wait to be stored.", lambda: len(context.reading))
    figures.gauge("mim_search_due_chats", "Chats with blocks to index.", lambda: len(context.sending.full_blocks))
    figures.counter("mim_frames_in", "Frames from clients by op.", "op", lambda: _by_op(gateway.frames_in))
    figures.counter("mim_frames_out", "Frames to one client by op.", "op", lambda: _by_op(gateway.frames_out))
    figures.counter("mim_errors", "ERROR and NACK frames by code.", "code", lambda: gateway.errors)
    figures.counter("mim_closes", "Connections closed by this node.", "reason", lambda: gateway.closes)
    figures.counter(
        "mim_deliveries", "Live frames handed to sockets.", "path", lambda: {"local": gateway.hub.deliveries}
    )
    return figures


def _by_op(counts: Mapping[type[Any], int]) -> dict[str, float]:
    """Counts by the name of the op; messages that were no sound frame are `bad`."""
    named: dict[str, float] = {}
    for kind, count in counts.items():
        name = wire_name(kind) if issubclass(kind, Struct) else "bad"
        named[name] = named.get(name, 0) + count
    return named
