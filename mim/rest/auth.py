"""Signing in over HTTP: a one-time code, its check, and new tokens for a refresh token."""

from typing import Annotated

from fastapi import APIRouter, Request, Response
from msgspec import UNSET, Meta, Struct, UnsetType, field

from mim.auth import Identity, SignIn, Tokens
from mim.errors import Code
from mim.rest.bodies import described, json_answer, read_json

LOCALE_LIMIT = 35

# Tokens and codes must not stay in a cache on the way.
_PRIVATE = {"Cache-Control": "no-store"}

Phone = Annotated[str, Meta(max_length=64, description="As people write it; with + or as dialled in the country")]


class CodeParams(Struct):
    """Asks for a one-time code."""

    phone: Phone


class CodeSent(Struct, frozen=True):
    """The code is on its way; `code` is told in development only."""

    code: str | UnsetType = UNSET


class DeviceParams(Struct):
    """What a device says of itself, shown in `device.list`."""

    name: Annotated[str, Meta(max_length=64)] = ""
    os: Annotated[str, Meta(max_length=64)] = ""


class VerifyParams(Struct):
    """Shows the code that was sent."""

    phone: Phone
    code: Annotated[str, Meta(max_length=16, description="6 digits")]
    device: DeviceParams = field(default_factory=DeviceParams)


class RefreshParams(Struct):
    """Asks for new tokens."""

    refresh: Annotated[str, Meta(max_length=256)]


def auth_router(identity: Identity) -> APIRouter:
    """The routes under `/v1/auth`. They raise PeerError, which the app turns into answers."""
    router = APIRouter(prefix="/v1/auth", tags=["auth"])

    @router.post(
        "/code",
        summary="Send a one-time code to a phone",
        openapi_extra=described(CodeParams, CodeSent, Code.RATE_LIMITED, Code.UNAVAILABLE),
    )
    async def request_code(request: Request) -> Response:
        params = await read_json(request, CodeParams)
        code = await identity.request_code(params.phone, client_address(request), client_locale(request))
        return json_answer(CodeSent(code or UNSET), headers=_PRIVATE)

    @router.post(
        "/verify",
        summary="Sign in a device with a one-time code",
        openapi_extra=described(VerifyParams, SignIn, Code.UNAUTHORIZED, Code.RATE_LIMITED, Code.UNAVAILABLE),
    )
    async def verify(request: Request) -> Response:
        params = await read_json(request, VerifyParams)
        device = params.device
        signed_in = await identity.verify(params.phone, params.code, device.name, device.os, client_address(request))
        return json_answer(signed_in, headers=_PRIVATE)

    @router.post(
        "/refresh",
        summary="Exchange a refresh token for new tokens",
        openapi_extra=described(RefreshParams, Tokens, Code.UNAUTHORIZED, Code.UNAVAILABLE),
    )
    async def refresh(request: Request) -> Response:
        params = await read_json(request, RefreshParams)
        return json_answer(await identity.refresh(params.refresh), headers=_PRIVATE)

    return router


def client_address(request: Request) -> str:
    """The client's IP address as uvicorn knows it (behind a trusted proxy the forwarded one), or ""."""
    return "" if request.client is None else request.client.host


def client_locale(request: Request) -> str:
    """The first language that the client asks for, or ""."""
    return request.headers.get("accept-language", "").partition(",")[0].partition(";")[0].strip()[:LOCALE_LIMIT]
