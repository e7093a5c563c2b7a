"""What an upgrade request says: path, token, options, subprotocol, and the client's address."""

from collections.abc import Sequence
from typing import Final
from urllib.parse import parse_qs, urlsplit

import msgspec
from msgspec import Struct
from websockets.datastructures import Headers, MultipleValuesError
from websockets.exceptions import NegotiationError
from websockets.http11 import Request, Response
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from mim.errors import HTTP_STATUS, Code, PeerError
from mim.wire.codec import CODECS, MSGPACK, Codec
from mim.wire.frames import Hello, HelloOptions

PATH: Final = "/v1/ws"


class Upgrade(Struct, frozen=True):
    """A request to open a socket. `hello` is there when the client authenticates in the upgrade."""

    path: str
    hello: Hello | None


def read_upgrade(request: Request) -> Upgrade:
    """Read the request line and the Authorization header; what is wrong with options is ignored like unknown ones.

    Raises PeerError `bad_frame` for what is no address, or names more than one token.
    """
    try:
        parts = urlsplit(request.path)
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    except ValueError:
        raise PeerError(Code.BAD_FRAME, "the address of the request cannot be read") from None
    except MultipleValuesError:
        raise PeerError(Code.BAD_FRAME, "send the header Authorization once") from None
    if scheme.lower() != "bearer" or not token:
        return Upgrade(parts.path, None)
    query = {key: values[-1] for key, values in parse_qs(parts.query).items()}
    options = HelloOptions(
        app=_short(query.get("app"), 64),
        os=_short(query.get("os"), 32),
        locale=_short(query.get("locale"), 35),
        recv=query.get("recv") in {"1", "true"},
    )
    return Upgrade(parts.path, Hello(1, token.strip(), options, _short(query.get("cursor"), 1024)))


def _short(value: str | None, limit: int) -> str | None:
    return value if value is not None and len(value) <= limit else None


def select_subprotocol(_: ServerProtocol, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    """The first offered subprotocol that is known; none when none was asked for, which means msgpack."""
    if not offered:
        return None
    for name in offered:
        if name in CODECS:
            return name
    raise NegotiationError(f"known subprotocols are {' and '.join(CODECS)}")


def codec_of(subprotocol: str | None) -> Codec:
    """The codec that was negotiated."""
    return MSGPACK if subprotocol is None else CODECS[subprotocol]


def refusal(error: PeerError) -> Response:
    """The HTTP answer to an upgrade that is not admitted: the same JSON as any failed request."""
    body: dict[str, str | int] = {"code": error.code, "detail": error.detail}
    headers = Headers({"Content-Type": "application/json", "Connection": "close"})
    if error.retry_after_ms is not None:
        body["retry_after"] = error.retry_after_ms
        headers["Retry-After"] = str(-(-error.retry_after_ms // 1000))
    payload = msgspec.json.encode(body)
    headers["Content-Length"] = str(len(payload))
    return Response(HTTP_STATUS[error.code], error.code, headers, payload)


def reason_of(response: Response) -> str:
    """What the WebSocket layer found wrong with a request."""
    return bytes(response.body or b"").decode(errors="replace").strip()


def client_address(peer: str, headers: Headers, trusted: frozenset[str]) -> str:
    """The client's address: behind trusted proxies the nearest one in X-Forwarded-For that is not a proxy itself."""
    if peer not in trusted and "*" not in trusted:
        return peer
    for address in reversed(",".join(headers.get_all("X-Forwarded-For")).split(",")):
        address = address.strip()
        if address and address not in trusted:
            return address
    return peer
