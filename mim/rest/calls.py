"""Every CALL method as `POST /v1/call/{method}` (proto/http.md#calls)."""

from fastapi import APIRouter, Request, Response
from fastapi.params import Depends
from fastapi.security import HTTPBearer

from mim.auth import Principal
from mim.chat import calls
from mim.chat.context import Context
from mim.chat.methods import METHODS, Method
from mim.errors import Code, PeerError
from mim.model import Caller
from mim.rest.bodies import described, json_answer, read_body
from mim.wire.codec import JSON
from mim.wire.rate import RateLimiter

FAILURES = (Code.UNAUTHORIZED, Code.FORBIDDEN, Code.NOT_MEMBER, Code.NOT_FOUND, Code.CONFLICT, Code.FULL,
            Code.RATE_LIMITED, Code.UNAVAILABLE)  # fmt: skip

TAGS = {"chat": "chats", "message": "messages", "user": "users", "profile": "users", "device": "devices",
        "push": "devices"}  # fmt: skip


def calls_router(context: Context) -> APIRouter:
    """One route per declared method, and one that answers `unsupported` to any other name."""
    router = APIRouter(prefix="/v1/call", dependencies=[Depends(HTTPBearer(auto_error=False))])
    limiter = RateLimiter(context.settings.request_rate, context.settings.request_burst)

    def add(declared: Method) -> None:
        async def carry_out(request: Request) -> Response:
            return await _answer(context, limiter, request, declared.name)

        router.add_api_route(
            f"/{declared.name}",
            carry_out,
            methods=["POST"],
            summary=declared.summary.split(".")[0],
            description=declared.summary,
            tags=[TAGS[declared.name.partition(".")[0]]],
            operation_id=declared.name,
            openapi_extra=described(declared.params, declared.result, *FAILURES),
        )

    for declared in METHODS.values():
        if not declared.socket_only:
            add(declared)

    async def unknown(request: Request) -> Response:
        return await _answer(context, limiter, request, request.path_params["method"])

    router.add_api_route("/{method}", unknown, methods=["POST"], include_in_schema=False)
    return router


async def _answer(context: Context, limiter: RateLimiter, request: Request, name: str) -> Response:
    principal = await principal_of(context, request)
    if wait_ms := limiter.take(principal.device, context.clock.monotonic()):
        raise PeerError(Code.RATE_LIMITED, "asking too fast; slow down", wait_ms)
    body = await read_body(request)
    return json_answer(await calls.carry_out(context, Caller(principal.user, principal.device), name, body, JSON))


async def principal_of(context: Context, request: Request) -> Principal:
    """Whose token the request carries; PeerError `unauthorized`."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise PeerError(Code.UNAUTHORIZED, "send the header Authorization: Bearer TOKEN")
    return await context.identity.authenticate(token.strip())
