"""From HELLO to SYNCED (proto/session.md#opening).

The order closes the races: the connection listens to its topics before the rows are read that tell what it missed,
and a commit is visible before it is published. So a message is in the sync, or delivered live, or both.
"""

from typing import TYPE_CHECKING

from websockets.http11 import Response

from mim.auth import Principal, Revoked
from mim.chat import syncing
from mim.chat.calls import peer_error
from mim.errors import CloseReason, Code, PeerError
from mim.gateway import handshake
from mim.gateway.admission import check_app_version
from mim.model import Caller
from mim.wire.frames import Hello, Limits, Ready, ReadySession, Synced
from mim.wire.session import Refuse

if TYPE_CHECKING:
    from mim.gateway.connection import Connection
    from mim.gateway.gateway import Gateway


async def open_session(gateway: "Gateway", connection: "Connection", hello: Hello, response: Response | None) -> None:
    """Authenticate, subscribe, say READY and sync; or refuse with the code that says why. Never raises."""
    started = gateway.clock.monotonic()
    ref = hello.ref if response is None else 0
    try:
        await _open(gateway, connection, hello, response, ref)
    except Exception as exc:  # noqa: BLE001 - whatever it is, this session alone fails
        _refuse(connection, peer_error(exc), ref, upgrade=response is not None)
    else:
        gateway.observe_opening(gateway.clock.monotonic() - started)
    finally:
        if connection not in gateway.connections:  # lost meanwhile, perhaps before it listened
            gateway.hub.detach(connection)


async def _open(
    gateway: "Gateway", connection: "Connection", hello: Hello, response: Response | None, ref: int
) -> None:
    context = gateway.context
    check_app_version(context.settings, hello.options)
    principal = await context.identity.authenticate(hello.token)
    if connection.is_closing:
        return
    connection.become(Caller(principal.user, principal.device, connection.id), principal.exp)
    await _listen(gateway, connection, principal)
    changed = await syncing.missed(context, principal.user, hello.cursor, gateway.freshness.system)
    if connection.is_closing:
        return
    if response is not None:
        connection.respond(response)
    connection.opened(Ready(ref, _session(gateway, principal, changed.since is not None)))
    async for frames in syncing.frames(context, principal.user, changed):
        await connection.write_paced(frames)
    connection.synced(Synced(changed.horizon.cursor()), changed.horizon.at)


async def _listen(gateway: "Gateway", connection: "Connection", principal: Principal) -> None:
    """Listen to the user's topics, put out an older connection of the device, then read which groups there are.

    The groups are read after the device's topic is heard, so a revocation is either seen here or heard there.
    """
    context = gateway.context
    await gateway.hub.attach_user(connection, principal.user, principal.device)
    context.publisher.close_device(principal.device, CloseReason.REPLACED, keep=connection.id)
    groups = await syncing.groups(context, principal.user, principal.device)
    if groups is None:
        raise Revoked
    await gateway.hub.join(connection, groups)


def _session(gateway: "Gateway", principal: Principal, resumed: bool) -> ReadySession:
    settings = gateway.context.settings
    return ReadySession(
        user=principal.user,
        device=principal.device,
        time=int(gateway.clock.now()),
        resumed=resumed,
        keepalive=(settings.keepalive_min_s, settings.keepalive_max_s),
        limits=Limits(settings.text_limit, settings.fetch_limit, settings.inflight_limit),
    )


def _refuse(connection: "Connection", error: PeerError, ref: int, *, upgrade: bool) -> None:
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
