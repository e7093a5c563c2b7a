"""All sockets of this node: admission, opening, counting, leaving.

Built once by the composition root; uvicorn asks `protocol` for a connection at every upgrade.
"""

import asyncio
import secrets
from collections import Counter
from itertools import count
from typing import Any, Final

import structlog

from mim.chat.context import Context
from mim.chat.freshness import Freshness
from mim.chat.recovery import Recovery
from mim.errors import CLOSE_CODE, CloseReason, Code, PeerError
from mim.gateway import handshake
from mim.gateway.catching_up import CatchingUp
from mim.gateway.connection import Connection
from mim.gateway.handshake import Answer
from mim.gateway.opening import Opening
from mim.gateway.outbox import Outbox
from mim.hub.hub import Hub
from mim.hub.wheel import TimingWheel
from mim.tasks import TaskSet
from mim.wire.frames import Error, Hello, Nack, Send, ServerFrame
from mim.wire.session import SessionLimits

log = structlog.get_logger("mim.gateway")

NODE_SHIFT: Final = 32  # connection ids are unique among nodes: the node's number above a counter
REFUSALS: Final = frozenset((Error, Nack))
MOVED_AT_ONCE: Final = 40
MOVE_EVERY_S: Final = 0.1
MOVED_BACK_MS: Final = 100


class Gateway:
    """This node's sockets and what they share."""

    def __init__(self, context: Context, hub: Hub, recovery: Recovery) -> None:
        settings = context.settings
        self.context = context
        self.hub = hub
        self._recovery = recovery
        self.clock = context.clock
        self.tasks = TaskSet()
        self.wheel = TimingWheel(context.clock)
        self.freshness = Freshness(context.pool, context.bus, context.clock)
        self.connections: set[Connection] = set()
        self.catching_up = CatchingUp(context, hub, self.freshness, self.connections)
        self._opening = Opening(context, hub, self.freshness, self.catching_up)
        self.trusted_proxies = frozenset(
            part.strip() for part in settings.forwarded_allow_ips.split(",") if part.strip()
        )
        self.outbox = Outbox()
        self.slow_bytes = settings.slow_bytes
        self.limits = SessionLimits(
            keepalive_min_s=settings.keepalive_min_s,
            keepalive_max_s=settings.keepalive_max_s,
            inflight=settings.inflight_limit,
            send_rate=settings.send_rate,
            send_burst=settings.send_burst,
            request_rate=settings.request_rate,
            request_burst=settings.request_burst,
        )
        self.frames_in: Counter[type[Any]] = Counter()
        self.frames_out: Counter[type[Any]] = Counter()
        self.errors: Counter[str] = Counter()  # ERROR and NACK by code
        self.closes: Counter[str] = Counter()
        self._addresses: Counter[str] = Counter()
        self._node = context.dispatches.node << NODE_SHIFT
        self._numbers = count(1)
        self._server_connections: set[Any] = set()
        self._draining = False

    async def start(self) -> None:
        """Begin to watch deadlines and keep cursors fresh."""
        await self.freshness.start()
        await self.hub.start(self.catching_up)
        self.wheel.start()

    async def close(self) -> None:
        """Drop what is still connected and stop."""
        for connection in list(self.connections):
            connection.abort()
        await self.tasks.close()
        await self._opening.close()
        await self.catching_up.close()
        await self.wheel.close()
        await self.freshness.close()

    # -- the life of a connection ----------------------------------------------------------

    def protocol(self, *, server_state: Any, **_: Any) -> Connection:
        """A new connection, for `uvicorn.Config(ws=gateway.protocol)`."""
        self._server_connections = server_state.connections
        return Connection(self, self._node | next(self._numbers))

    def made(self, connection: Connection) -> None:
        """A socket was handed over."""
        self.connections.add(connection)
        self._server_connections.add(connection)
        self.wheel.add(connection, self.clock.monotonic() + self.context.settings.hello_timeout_s)

    def lost(self, connection: Connection) -> None:
        """A socket is gone."""
        self.connections.discard(connection)
        self._server_connections.discard(connection)
        self.wheel.discard(connection)
        self.hub.detach(connection)
        self.catching_up.forget(connection)
        if connection.unheard_since is not None:
            ago_s = self.clock.monotonic() - connection.unheard_since
            self.context.push.unheard(connection.user, connection.device, int(self.clock.now() - ago_s))
        if connection.address:
            self._addresses[connection.address] -= 1
            if not self._addresses[connection.address]:
                del self._addresses[connection.address]

    def admit(self, connection: Connection, upgrade: handshake.Upgrade) -> None:
        """Let a socket in, or raise PeerError with what to do instead."""
        settings = self.context.settings
        address, connection.address = connection.address, ""
        if upgrade.path != handshake.PATH:
            raise PeerError(Code.NOT_FOUND, f"WebSocket is at {handshake.PATH}")
        if self._draining:
            raise PeerError(Code.UNAVAILABLE, "this node is going down; connect again", self._spread_ms())
        if len(self.connections) > settings.max_connections:
            raise PeerError(Code.UNAVAILABLE, "this node is full; connect again later", self._spread_ms())
        if self._addresses[address] >= settings.max_connections_per_address:
            raise PeerError(Code.RATE_LIMITED, "too many connections from this address", self._spread_ms())
        self._opening.turns.check()
        connection.address = address
        self._addresses[address] += 1

    def open(self, connection: Connection, hello: Hello, answer: Answer | None) -> None:
        """Authenticate and sync a connection; `answer` is the 101 of a client that came with its token."""
        self.watch(connection, self.context.settings.hello_timeout_s)
        self.tasks.spawn(self._opening.open_session(connection, hello, answer), name="opening a session")

    def closing(self, reason: str) -> None:
        """A connection said its last word."""
        self.closes[reason] += 1

    def watch(self, connection: Connection, within_s: float | None = None) -> None:
        """File a connection anew: at its deadline, which may have come nearer, or `within_s` seconds from now."""
        self.wheel.discard(connection)
        deadline = connection.deadline() if within_s is None else self.clock.monotonic() + within_s
        self.wheel.add(connection, deadline)

    # -- what connections ask for ----------------------------------------------------------

    def submit(self, connection: Connection, frame: Send) -> None:
        """Take a message on its way. Must not block."""
        context = self.context
        context.sending.submit(context.committer, connection, connection.caller, frame.chat, frame.cid, frame.body)

    def pinged(self, connection: Connection) -> None:
        """A PING was answered: watch the new promise, and give a fresher cursor to who received something."""
        self.watch(connection)
        fresh, known = self.freshness.safe(), connection.horizon
        if not connection.stale or fresh is None or known is None or fresh.xid <= known.xid:
            return
        if not self.catching_up.is_behind(connection):
            connection.synced(fresh)

    def count_in(self, kind: type[Any]) -> None:
        """Count a client's frame by its struct, or by what kept it from being one."""
        self.frames_in[kind] += 1

    def count_out(self, frame: ServerFrame) -> None:
        """Count a frame written to one socket, and what it refuses."""
        kind = type(frame)
        self.frames_out[kind] += 1
        if kind in REFUSALS:
            self.errors[frame.code] += 1  # type: ignore[union-attr]

    def retry_after(self, reason: str) -> int | None:
        """When a closed client should come back, in ms; None where it is its own matter."""
        if reason == CloseReason.MOVED:
            return secrets.randbelow(MOVED_BACK_MS)
        return self._spread_ms() if CLOSE_CODE[CloseReason(reason)] < 4500 else None

    async def drain(self) -> None:
        """Take nobody in any more. Where other nodes serve on, send everybody to them, a few at a time, so that each is
        back within a moment and the others are not overrun; else they are told by uvicorn's shutdown.
        """
        self._draining = True
        if self.context.settings.redis_url is None or not await self._recovery.leaves():
            return
        pause_s = min(MOVE_EVERY_S, self.context.settings.drain_s / 2 / max(1, len(self.connections) / MOVED_AT_ONCE))
        log.info("sending clients to other nodes", connections=len(self.connections))
        for number, connection in enumerate(list(self.connections), 1):
            connection.leave(CloseReason.MOVED)
            if number % MOVED_AT_ONCE == 0:
                await asyncio.sleep(pause_s)

    def _spread_ms(self) -> int:
        return 200 + secrets.randbelow(max(1, int(self.context.settings.reconnect_spread_s * 1000)))
