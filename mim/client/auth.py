"""Signing in over HTTP, and keeping the tokens fresh (proto/calls.md#auth).

Tokens are opaque here but for one thing: `exp` and `iat` are read from a JWT's payload, unverified, to know
when to ask for the next one.
"""

import base64
import binascii
import json
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import httpx

from mim.client.errors import CallError, Unreachable
from mim.errors import Code

TIMEOUT_S: Final = 15.0


@dataclass(frozen=True, slots=True)
class Session:
    """What signing in gives: a token for HELLO, a refresh token that is good once, and who this is."""

    token: str
    refresh: str
    user: int
    device: int


async def request_code(url: str, phone: str) -> str | None:
    """Have a one-time code sent to `phone`; a development server answers with it, any other with None.

    Raises CallError (`rate_limited`, `bad_frame`, ...) and Unreachable.
    """
    code = (await _post(url, "/v1/auth/code", {"phone": phone})).get("code")
    return None if code is None else str(code)


async def sign_in(url: str, phone: str, code: str, device_name: str, os: str = "bot") -> Session:
    """Turn the code into a session of a new device. Raises CallError (`unauthorized`, ...), Unreachable."""
    device = {"name": device_name, "os": os}
    answer = await _post(url, "/v1/auth/verify", {"phone": phone, "code": code, "device": device})
    return Session(answer["token"], answer["refresh"], answer["user"], answer["device"])


async def refresh_tokens(url: str, refresh: str) -> tuple[str, str]:
    """Return the next (token, refresh).

    Raises CallError `unauthorized` when the session is over, and Unreachable.
    """
    answer = await _post(url, "/v1/auth/refresh", {"refresh": refresh})
    return answer["token"], answer["refresh"]


async def _post(url: str, path: str, params: dict[str, Any]) -> dict[str, Any]:
    try:
        async with httpx.AsyncClient(timeout=TIMEOUT_S) as http:
            answer = await http.post(http_url(url) + path, json=params)
    except httpx.HTTPError as exc:
        raise Unreachable(f"no answer from {url}: {exc or type(exc).__name__}") from exc
    try:
        value = answer.json()
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise Unreachable(f"{url} answered HTTP {answer.status_code} without JSON: is this a mim server?")
    if answer.status_code != httpx.codes.OK:
        raise CallError(str(value.get("code", Code.INTERNAL)), str(value.get("detail", "")), value.get("retry_after"))
    return value


def http_url(url: str) -> str:
    """Return the server's base address for HTTP; raise ValueError if it is no http(s) or ws(s) address."""
    return _with_scheme(url, {"http": "http", "ws": "http", "https": "https", "wss": "https"})


def socket_url(url: str) -> str:
    """Return the address of the server's WebSocket; raise ValueError as :func:`http_url` does."""
    return _with_scheme(url, {"http": "ws", "ws": "ws", "https": "wss", "wss": "wss"}) + "/v1/ws"


def _with_scheme(url: str, schemes: dict[str, str]) -> str:
    parts = urlsplit(url)
    if parts.scheme not in schemes or not parts.netloc:
        raise ValueError(f"{url!r} is no server address; it looks like http://127.0.0.1:8080")
    return f"{schemes[parts.scheme]}://{parts.netloc}{parts.path.rstrip('/')}"


def token_times(token: str) -> tuple[float, float] | None:
    """Return (issued, expires) of a JWT in seconds since 1970, issued 0 if not said; None if unreadable."""
    try:
        payload = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        return float(claims.get("iat", 0)), float(claims["exp"])
    except (IndexError, KeyError, TypeError, AttributeError, ValueError, binascii.Error):
        return None


def renew_at(token: str) -> float | None:
    """Return when to ask for the next token, in seconds since 1970.

    That is a tenth of its life before its end, 60 s at most; None if the token does not say.
    """
    times = token_times(token)
    if times is None:
        return None
    issued, expires = times
    life = expires - issued if issued else 600.0
    return expires - max(1.0, min(60.0, life / 10))
