"""The declaration of a CALL method: its name, its parameters, its value and who carries it out (proto/calls.md).

A method is declared once with `@method(...)`; the socket's CALL, `POST /v1/call/{name}` and the OpenAPI description all
come from that declaration.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, get_type_hints

import asyncpg
import structlog
from msgspec import Struct
from prometheus_client import Counter

from mim.chat.context import Context
from mim.errors import Code, PeerError
from mim.model import Caller
from mim.store.db import UNAVAILABLE
from mim.wire.codec import Codec

log = structlog.get_logger("mim.calls")

CALLS = Counter("mim_calls_total", "CALL methods carried out, by method and answer.", ["method", "code"])

Handler = Callable[[Context, Caller, Any], Awaitable[Any]]


class Empty(Struct, frozen=True):
    """No parameters, or no value: `{}`."""


class Method(Struct, frozen=True):
    """One declared method. `params` and `result` are types that msgspec reads and describes."""

    name: str
    summary: str
    params: Any
    result: Any
    handler: Handler
    socket_only: bool


METHODS: Final[dict[str, Method]] = {}


def method(name: str, *, socket_only: bool = False) -> Callable[[Handler], Handler]:
    """Declare the decorated `async (context, caller, params) -> value` as CALL method `name`."""

    def declare(handler: Handler) -> Handler:
        hints = get_type_hints(handler, include_extras=True)
        summary = (handler.__doc__ or "").strip()
        METHODS[name] = Method(name, summary, hints["params"], hints["return"], handler, socket_only)
        return handler

    return declare


def find(name: str) -> Method:
    """The declared method; PeerError `unsupported` for any other name."""
    found = METHODS.get(name)
    if found is None:
        raise PeerError(Code.UNSUPPORTED, f"there is no method {name[:64]!r}; proto/calls.md lists them")
    return found


async def carry_out(context: Context, caller: Caller, name: str, params: Any, codec: Codec) -> Any:
    """Decode the parameters, run the method and return its value. Raises PeerError and nothing else.

    `params` are bytes of `codec`. A failure of storage is `unavailable`; what is our mistake is logged and `internal`.
    """
    code = "ok"
    try:
        found = find(name)
        if found.socket_only and not caller.connection:
            raise PeerError(Code.UNSUPPORTED, f"{name} works only over the socket")
        async with asyncio.timeout(patience_s(context)):
            return await found.handler(context, caller, codec.decode_params(params, found.params))
    except PeerError as exc:
        code = exc.code
        raise
    except Exception as exc:
        error = peer_error(exc)
        code = error.code
        raise error from exc
    finally:
        CALLS.labels(name if name in METHODS else "unknown", code).inc()


def patience_s(context: Context) -> float:
    """How long a request may take, the wait for a free connection to storage included: a little longer than a SEND."""
    return context.settings.commit_wait_s + 2.0


def peer_error(exc: Exception) -> PeerError:
    """What a peer is told of a failure that is not its own mistake."""
    if isinstance(exc, PeerError):
        return exc
    if isinstance(exc, asyncpg.CharacterNotInRepertoireError):
        return PeerError(Code.BAD_FRAME, "text must not contain the character NUL")
    if isinstance(exc, UNAVAILABLE) and not isinstance(exc, ValueError):
        log.warning("storage is away", error=type(exc).__name__)
        return PeerError(Code.UNAVAILABLE, "storage is away; try again in a moment", 1000)
    log.error("a request failed", exc_info=exc)
    return PeerError(Code.INTERNAL, "the server made a mistake; it is logged")
