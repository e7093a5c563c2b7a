"""From HELLO to SYNCED (proto/session.md#opening).

The order closes the races: the connection listens to its topics before the rows are read that tell what it missed,
and a commit is visible before it is published. So a message is in the sync, or delivered live, or both.
"""

from prometheus_client import Histogram
from websockets.http11 import Response

from mim.auth import Principal, Revoked
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
from mim.hub.hub import Hub
from mim.model import Caller
from mim.wire.frames import Hello, Limits, Ready, ReadySession
from mim.wire.session import Refuse

OPEN_SECONDS = Histogram(
    "mim_open_seconds",
    "Time from HELLO to SYNCED.",
    buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1, 5, 10),
)


class Opening:
    """Opens sessions on this node."""

    def __init__(self, context: Context, hub: Hub, freshness: Freshness, catching_up: CatchingUp) -> None:
        self._context = context
        self._hub = hub
        self._freshness = freshness
        self._catching_up = catching_up
        settings = context.settings
        self.turns = Turns(
            context.clock, at_once=settings.database_pool, patience_s=settings.hello_timeout_s / 2
        )  # fmt: skip

    async def open_session(self, connection: Connection, hello: Hello, response: Response | None) -> None:
        """Authenticate, subscribe, say READY and sync; or refuse with the code that says why. Never raises."""
        started = self._context.clock.monotonic()
        ref = hello.ref if response is None else 0
        try:
            await self._open(connection, hello, response, ref)
        except Exception as exc:  # noqa: BLE001 - whatever it is, this session alone fails
            _refuse(connection, peer_error(exc), ref, upgrade=response is not None)
        else:
            OPEN_SECONDS.observe(self._context.clock.monotonic() - started)
        finally:
            if connection.is_lost:  # perhaps before it listened
                self._hub.detach(connection)

    async def _open(self, connection: Connection, hello: Hello, response: Response | None, ref: int) -> None:
        context = self._context
        check_app_version(context.settings, hello.options)
        async with self.turns.turn():
            if connection.is_closing:
                return
            opened = await self._begin(connection, hello, response, ref)
        if opened is None:
            return
        principal, changed = opened
        async for frames in syncing.frames(context, principal.user, changed):
            await connection.write_paced(frames)
        connection.synced(changed.horizon)
        self._catching_up.opened(connection)

    async def _begin(
        self, connection: Connection, hello: Hello, response: Response | None, ref: int
    ) -> tuple[Principal, Changed] | None:
        """Up to READY; what the client missed is read, and not written yet. None for who left meanwhile."""
        context = self._context
        principal = await context.identity.authenticate(hello.token)
        if connection.is_closing:
            return None
        caller = Caller(principal.user, principal.device, connection.id)
        connection.become(caller, principal.exp, recv=hello.options.recv)
        await self._listen(connection, principal)
        changed = await syncing.missed(context, principal.user, hello.cursor, self._freshness.system)
        if connection.is_closing:
            return None
        if response is not None:
            connection.respond(response)
        connection.begin(Ready(ref, self._session(principal, resumed=changed.since is not None)))
        return principal, changed

    async def _listen(self, connection: Connection, principal: Principal) -> None:
        """Listen to the user's topics, put out an older connection of the device, then read which groups there are.

        The groups are read after the device's topic is heard, so a revocation is either seen here or heard there.
        """
        await self._hub.attach_user(connection, principal.user, principal.device)
        self._context.publisher.claim_device(principal.device, connection.id, connection.opened)
        groups = await syncing.groups(self._context, principal.user, principal.device)
        if groups is None:
            raise Revoked
        await self._hub.join(connection, groups)

    def _session(self, principal: Principal, *, resumed: bool) -> ReadySession:
        settings = self._context.settings
        return ReadySession(
            user=principal.user,
            device=principal.device,
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
