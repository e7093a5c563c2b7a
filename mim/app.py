"""The composition root: the only place that knows every part and puts them together."""

import asyncio
import os
import shutil
import signal
import socket
import sys
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from types import FrameType
from typing import Any

import httpx
import structlog
import uvicorn
from msgspec import Struct

from mim import logs
from mim.auth import Identity, LogSms
from mim.bus.local import LocalBus
from mim.bus.port import Bus
from mim.bus.redis import RedisBus
from mim.chat.context import Context
from mim.chat.indexing import Indexer
from mim.chat.publisher import Publisher
from mim.chat.reading import Reading
from mim.chat.recovery import Recovery
from mim.chat.sending import Sending
from mim.chat.typing_signals import TypingSignals
from mim.clock import Clock, SystemClock
from mim.config import Settings, secret
from mim.embedded import EmbeddedError, EmbeddedPostgres
from mim.errors import CloseReason
from mim.gateway.door import Door
from mim.gateway.gateway import Gateway
from mim.hub.hub import Hub
from mim.metrics import Figures
from mim.model import Caller
from mim.push.service import Push
from mim.rest.app import build_app
from mim.rest.ops import Scrape, own_figures
from mim.store.committer import Committer
from mim.store.db import BY_KEY, Pool, connector, open_pool
from mim.store.dispatch import Dispatches, new_node
from mim.store.migrate import migrate
from mim.tasks import TaskSet
from mim.wire.frames import wire_name
from mim.wire.rate import RateLimiter

log = structlog.get_logger("mim.app")

REVIVE_EVERY_S = 5.0  # where the kernel does not tell, each look starts a program
LAST_COMMITS_S = 2.0
PUSH_POOL = 4  # connections, by key: a fan-out of notifications, and indexing, take none that people wait for
SESSION_POOL = 4  # connections, by key: who comes in, who resumes, who is told everything; watermarks; who types
PART_CLOSE_S = 3.0
POOL_CLOSE_S = 5.0
PUSH_POOL_CLOSE_S = 1.0


@dataclass(frozen=True, slots=True)
class Node:
    """One running node."""

    context: Context
    gateway: Gateway
    hub: Hub
    recovery: Recovery
    push: Push
    indexer: Indexer


def serve(settings: Settings) -> int:
    """Run a server until SIGTERM or SIGINT; returns the exit code. Blocks."""
    logs.configure(settings.log_level, settings.log_format, settings.dev)
    url = secret(settings.database_url)
    embedded = None if url else EmbeddedPostgres(settings.data_dir / "postgres")
    try:
        if embedded is not None:
            url = embedded.start()
        assert url is not None
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            return runner.run(_serve(settings, url, embedded))
    except asyncio.CancelledError:  # told to stop before it was up
        return 0
    finally:
        if embedded is not None:
            embedded.stop()


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """The event loop of a node."""
    try:
        import uvloop
    except ImportError:  # Windows has none
        return asyncio.new_event_loop
    return uvloop.new_event_loop


async def _serve(settings: Settings, url: str, embedded: EmbeddedPostgres | None) -> int:
    """SIGINT and SIGTERM cancel this until there is a server, which drains. What is closing is not disturbed again."""
    loop, starting = asyncio.get_running_loop(), asyncio.current_task()
    assert starting is not None
    server: Server | None = None

    def stop() -> None:
        _answer_signals(signal.SIG_IGN)
        if server is None:
            starting.cancel()
        else:
            server.should_exit = True

    _answer_signals(lambda *_: loop.call_soon_threadsafe(stop))
    tasks = TaskSet()
    try:
        for name in await migrate(url):
            log.info("database migrated", migration=name)
        if embedded is not None:
            tasks.spawn(keep_alive(embedded), name="watch over the embedded Postgres")
        async with run_node(settings, url) as node:
            server = Server(settings, node)
            await server.serve()
            _answer_signals(signal.SIG_IGN)
    finally:
        _answer_signals(signal.SIG_IGN)
        await tasks.close()
    return 0


def _answer_signals(answer: Callable[[int, FrameType | None], object] | signal.Handlers) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, answer)


async def keep_alive(embedded: EmbeddedPostgres) -> None:
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
    async with AsyncExitStack() as parts:
        leftovers = TaskSet()
        parts.push_async_callback(leftovers.close)
        pool = await open_pool(url, settings.database_pool)
        parts.push_async_callback(_close_pool, pool, POOL_CLOSE_S)
        push_pool = await open_pool(url, PUSH_POOL, BY_KEY)
        parts.push_async_callback(_close_pool, push_pool, PUSH_POOL_CLOSE_S)
        sessions = await open_pool(url, SESSION_POOL, BY_KEY)
        parts.push_async_callback(_close_pool, sessions, PUSH_POOL_CLOSE_S)
        http = await parts.enter_async_context(httpx.AsyncClient(timeout=5))
        node = _build(settings, url, clock or SystemClock(), (pool, sessions, push_pool), http, await new_node(pool))
        figures = _figures(node)
        figures.register()
        parts.callback(figures.unregister)
        await _start(node, parts, leftovers)
        yield node


def _build(
    settings: Settings, url: str, clock: Clock, pools: tuple[Pool, Pool, Pool], http: httpx.AsyncClient, number: int
) -> Node:
    """Put the parts together; nothing runs yet. `pools` are for queries, sessions and push; `number` is the node's."""
    pool, sessions, push_pool = pools
    redis_url = secret(settings.redis_url)
    bus: Bus = RedisBus(redis_url, clock) if redis_url else LocalBus()
    hub = Hub(bus)
    publisher = Publisher(bus)
    push = Push(settings, push_pool, bus, clock)
    dispatches = Dispatches(number)
    sending = Sending(pool, bus, publisher, push, clock, settings.text_limit)
    committer = Committer(
        connector(url), sending.committed, dispatches, clock,
        batch=settings.commit_batch, queue=settings.commit_queue, wait_s=settings.commit_wait_s,
    )  # fmt: skip
    identity = Identity(
        pool, settings, clock, LogSms(), http, sessions=sessions,
        on_revoked=lambda user, device: _device_gone(publisher, user, device),
        on_added=lambda user, device: _device_note(publisher, user, device, "added"),
    )  # fmt: skip
    context = Context(
        settings=settings, clock=clock, pool=pool, sessions=sessions, bus=bus, publisher=publisher, committer=committer,
        dispatches=dispatches, push=push, identity=identity, sending=sending,
        reading=Reading(sessions, publisher, clock), typing=TypingSignals(sessions, publisher, clock),
        finds=RateLimiter(settings.find_per_hour / 3600, settings.find_per_hour),
    )  # fmt: skip
    recovery = Recovery(connector(url), bus, push, dispatches, clock)
    indexer = Indexer(push_pool, sending.full_blocks, clock)
    return Node(context, Gateway(context, hub, recovery), hub, recovery, push, indexer)


async def _start(node: Node, parts: AsyncExitStack, leftovers: TaskSet) -> None:
    """Start the parts from the lowest up. What ends last is what the others still need to end well; what does not end
    in time is left over until the pools are closed under it.
    """
    context = node.context
    await context.bus.start()
    parts.push_async_callback(context.bus.close)
    parts.push_async_callback(context.identity.close)
    await node.gateway.start()
    parts.push_async_callback(_end, node.gateway.close, leftovers)
    node.indexer.start()
    parts.push_async_callback(node.indexer.close)
    context.reading.start()
    parts.push_async_callback(context.reading.close)
    context.typing.start()
    parts.push_async_callback(_end, context.typing.close, leftovers)
    await node.recovery.start()
    parts.push_async_callback(node.recovery.close)
    node.push.start(workers=context.settings.push_workers)
    parts.push_async_callback(_end, node.push.close, leftovers)
    context.committer.start()
    parts.push_async_callback(context.sending.close)
    # The sockets had drain_s to see their messages committed: what waits now waits for a database that is away.
    parts.push_async_callback(context.committer.close, min(context.settings.drain_s, LAST_COMMITS_S))


async def _end(close: Callable[[], Coroutine[Any, Any, None]], leftovers: TaskSet) -> None:
    """Let a part close for some seconds: to cancel what waits for a stalled database takes the driver longer."""
    await asyncio.wait({leftovers.spawn(close(), name="end of a part")}, timeout=PART_CLOSE_S)


async def _close_pool(pool: Pool, within_s: float) -> None:
    """Close politely, but do not wait for a database that does not answer."""
    try:
        await asyncio.wait_for(pool.close(), within_s)
    except TimeoutError:
        pool.terminate()


def _device_gone(publisher: Publisher, user: int, device: int) -> None:
    publisher.close_device(device, CloseReason.SIGNED_OUT)
    _device_note(publisher, user, device, "revoked")


def _device_note(publisher: Publisher, user: int, device: int, state: str) -> None:
    publisher.note(Caller(user, device), "device", {"device": device, "state": state})


class Server(uvicorn.Server):
    """uvicorn with our sockets, saying where it listens when it does."""

    def __init__(
        self,
        settings: Settings,
        node: Node,
        scrape: Scrape = own_figures,
        on_listening: Callable[[int], None] | None = None,
    ) -> None:
        self._on_listening = on_listening or partial(announce, settings)
        self._node = node
        super().__init__(
            uvicorn.Config(
                build_app(node.context, scrape),
                host=settings.host,
                port=settings.port,
                ws=node.gateway.protocol,  # type: ignore[arg-type]  # a factory serves as well as a class
                http=Door,
                lifespan="off",
                access_log=False,
                log_config=None,
                log_level=settings.log_level,  # else it writes a line of trace about every connection, for nobody
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
            self._on_listening(self.port)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Admit nobody, finish what was taken, close."""
        for server in self.servers:
            server.close()
        await self._node.gateway.drain()
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


def _figures(node: Node) -> Figures:
    context, gateway, push = node.context, node.gateway, node.push
    figures = Figures()
    figures.gauge("mim_push_plan_queue", "Messages and changes that wait to be planned.", lambda: len(push))
    figures.gauge("mim_push_outbox_rows", "Rows of the outbox, of all nodes, some seconds ago.", lambda: push.depth)
    figures.gauge("mim_push_inflight", "Notifications that wait for a provider's answer.", lambda: push.inflight)
    figures.gauge("mim_connections", "Open sockets.", lambda: len(gateway.connections))
    figures.gauge("mim_sessions", "Sockets that are signed in.", lambda: len(gateway.hub))
    figures.gauge("mim_commit_queue_messages", "Messages that wait for a commit.", lambda: len(context.committer))
    figures.gauge("mim_watermark_queue", "Watermarks that wait to be stored.", lambda: len(context.reading))
    figures.gauge("mim_sessions_behind", "Sessions that wait to be caught up.", lambda: len(gateway.catching_up))
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
