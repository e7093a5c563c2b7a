"""From HELLO to SYNCED (proto/session.md#opening).

Two queries: who it is, with the groups to listen to; and, once it listens, what it missed. The order closes the races:
a commit is visible before it is published, so a message is in the sync, or delivered live, or both. What happened
between the two queries is told by the second: a revocation, and groups that came or went; then it is asked again.
"""

from typing import Final

from prometheus_client import Histogram

from mim.auth import Entrance, Revoked
from mim.chat import syncing
from mim.chat.calls import peer_error
from mim.chat.context import Context
from mim.chat.freshness import Freshness
from mim.chat.syncing import Changed
from mim.errors import CloseReason, Code, PeerError
from mim.gateway import handshake
from mim.gateway.admission import Turns, check_app_version
from mim.gateway.catching_up import CatchingUp
from mim.gateway.connection import Connection
from mim.gateway.handshake import Answer
from mim.hub.hub import Hub
from mim.model import Caller
from mim.wire.frames import Hello, Limits, Ready, ReadySession
from mim.wire.session import Refuse

OPEN_SECONDS = Histogram(
    "mim_open_seconds",
    "Time from HELLO to SYNCED.",
    buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1, 5, 10),
)

AT_ONCE: Final = 32  # as many as the queries for those who come together hold


class Opening:
    """Opens sessions on this node."""

    def __init__(self, context: Context, hub: Hub, freshness: Freshness, catching_up: CatchingUp) -> None:
        self._context = context
        self._hub = hub
        self._freshness = freshness
        self._catching_up = catching_up
        self._missing = syncing.Missing(context, freshness)
        self.turns = Turns(
            context.clock, at_once=AT_ONCE, patience_s=context.settings.hello_timeout_s / 2
        )  # fmt: skip

    async def close(self) -> None:
        """Open nothing more."""
        await self._missing.close()

    async def open_session(self, connection: Connection, hello: Hello, answer: Answer | None) -> None:
        """Authenticate, subscribe, say READY and sync; or refuse with the code that says why. Never raises."""
        started = self._context.clock.monotonic()
        ref = hello.ref if answer is None else 0
        try:
            await self._open(connection, hello, answer, ref)
        except Exception as exc:  # noqa: BLE001 - whatever it is, this session alone fails
            _refuse(connection, peer_error(exc), ref, upgrade=answer is not None)
        else:
            OPEN_SECONDS.observe(self._context.clock.monotonic() - started)
        finally:
            if connection.is_lost:  # perhaps before it listened
                self._hub.detach(connection)

    async def _open(self, connection: Connection, hello: Hello, answer: Answer | None, ref: int) -> None:
        context = self._context
        check_app_version(context.settings, hello.options)
        async with self.turns.turn():
            if connection.is_closing:
                return
            opened = await self._begin(connection, hello, answer, ref)
        if opened is None:
            return
        entrance, changed = opened
        async for frames in syncing.frames(context, entrance.user, changed):
            await connection.write_paced(frames)
        connection.synced(changed.horizon)
        self._catching_up.opened(connection)

    async def _begin(
        self, connection: Connection, hello: Hello, answer: Answer | None, ref: int
    ) -> tuple[Entrance, Changed] | None:
        """Up to READY; what the client missed is read, and not written yet. None for who left meanwhile."""
        context = self._context
        entrance = await context.identity.enter(hello.token)
        if connection.is_closing:
            return None
        caller = Caller(entrance.user, entrance.device, connection.id)
        connection.become(caller, entrance.exp, recv=hello.options.recv)
        await self._hub.attach_user(connection, entrance.user, entrance.device, entrance.groups)
        context.publisher.claim_device(entrance.device, connection.id, connection.opened)
        changed = await self._read(connection, entrance, hello.cursor)
        if connection.is_closing:
            return None
        if answer is not None:
            connection.respond(answer)
        connection.begin(Ready(ref, self._session(entrance, resumed=changed.since is not None)))
        return entrance, changed

    async def _read(self, connection: Connection, entrance: Entrance, cursor: str | None) -> Changed:
        """What the client missed, read while it listened to all groups of its user and to no others.

        It began to listen to those that there were a moment ago. When one came or went since then, it is read again,
        and what was heard so far is let go: as if the client had come a moment later.
        """
        while True:
            changed = await self._missing.since(entrance.user, entrance.device, cursor, entrance.xid)
            if changed is None:
                raise Revoked
            groups = changed.groups(self._hub.groups_of(connection))
            if not await self._hub.join(connection, groups) or connection.is_closing:
                return changed
            connection.forget_held()
            self._hub.reads_groups(connection)

    def _session(self, entrance: Entrance, *, resumed: bool) -> ReadySession:
        settings = self._context.settings
        return ReadySession(
            user=entrance.user,
            device=entrance.device,
            time=self._context.now(),
            resumed=resumed,
            keepalive=(settings.keepalive_min_s, settings.keepalive_max_s),
            limits=Limits(settings.text_limit, settings.fetch_limit, settings.inflight_limit),
        )


def _refuse(connection: Connection, error: PeerError, ref: int, *, upgrade: bool) -> None:
    if upgrade and not connection.is_open:
        connection.respond(handshake.refusal(error))
        return
    if isinstance(error, Revoked):
        reason = CloseReason.SIGNED_OUT
    elif error.code == Code.UPDATE_REQUIRED:
        reason = CloseReason.UPDATE_REQUIRED
    elif error.code in (Code.UNAVAILABLE, Code.INTERNAL):
        reason = CloseReason.SHUTTING_DOWN  # come back, with back-off
    else:
        reason = CloseReason.UNAUTHORIZED
    connection.refuse_session(Refuse(reason, error.code, error.detail, ref))
