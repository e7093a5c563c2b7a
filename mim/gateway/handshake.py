"""What an upgrade request says: path, token, options, subprotocol, and the client's address."""

import logging
import re
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
from websockets.utils import accept_key

from mim.errors import HTTP_STATUS, Code, PeerError
from mim.wire.codec import CODECS, MSGPACK, Codec
from mim.wire.frames import Hello, HelloOptions

PATH: Final = "/v1/ws"
WS_LOGGER: Final = logging.getLogger("websockets.server")

# The headers of the request that nearly all clients make, and its answer by subprotocol.
USUAL: Final = {
    "Connection": (["Upgrade"], ["upgrade"], ["keep-alive, Upgrade"]),
    "Upgrade": (["websocket"],),
    "Sec-WebSocket-Version": (["13"],),
    "Sec-WebSocket-Protocol": ([], *([name] for name in CODECS)),
    "Content-Length": ([],),
    "Transfer-Encoding": ([],),
}
USUAL_KEY: Final = re.compile("[A-Za-z0-9+/]{21}[AQgw]==")  # 16 bytes in base64
ACCEPTED: Final = {
    name: b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: %s\r\n"
    + (b"" if name is None else b"Sec-WebSocket-Protocol: %s\r\n" % name.encode())
    + b"\r\n"
    for name in (None, *CODECS)
}


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


class Answer(Struct, frozen=True):
    """The answer to an upgrade request, as it is written; with 101 the socket is open and speaks `subprotocol`."""

    status: int
    data: bytes
    subprotocol: str | None = None


def accept(request: Request) -> Answer:
    """The answer that WebSocket's rules give to an upgrade request. They are those of the library, which is asked but
    for the request that nearly all clients make.
    """
    if (key := _usual_key(request)) is not None:
        subprotocol = request.headers.get("Sec-WebSocket-Protocol")
        return Answer(101, ACCEPTED[subprotocol] % accept_key(key).encode(), subprotocol)
    if "Transfer-Encoding" in request.headers or request.headers.get_all("Content-Length") not in ([], ["0"]):
        return refusal(PeerError(Code.BAD_FRAME, "an upgrade request has no body"))
    rules = ServerProtocol(select_subprotocol=select_subprotocol, logger=WS_LOGGER)
    response = rules.accept(request)
    if response.status_code == 400:
        return refusal(PeerError(Code.BAD_FRAME, bytes(response.body or b"").decode(errors="replace").strip()))
    return Answer(response.status_code, response.serialize(), rules.subprotocol)


def _usual_key(request: Request) -> str | None:
    """The key of a request that is as most are, and right; None where the library has to look closer."""
    get_all = request.headers.get_all
    keys = get_all("Sec-WebSocket-Key")
    if len(keys) != 1 or not USUAL_KEY.fullmatch(keys[0]) or len(get_all("Origin")) > 1:
        return None
    if request.method != "GET" or request.protocol != "HTTP/1.1":
        return None
    return keys[0] if all(get_all(name) in usual for name, usual in USUAL.items()) else None


def refusal(error: PeerError) -> Answer:
    """The HTTP answer to an upgrade that is not admitted: the same JSON as any failed request."""
    body: dict[str, str | int] = {"code": error.code, "detail": error.detail}
    headers = Headers({"Content-Type": "application/json", "Connection": "close"})
    if error.retry_after_ms is not None:
        body["retry_after"] = error.retry_after_ms
        headers["Retry-After"] = str(-(-error.retry_after_ms // 1000))
    payload = msgspec.json.encode(body)
    headers["Content-Length"] = str(len(payload))
    response = Response(HTTP_STATUS[error.code], error.code, headers, payload)
    return Answer(response.status_code, response.serialize())


def client_address(peer: str, headers: Headers, trusted: frozenset[str]) -> str:
    """The client's address: behind trusted proxies the nearest one in X-Forwarded-For that is not a proxy itself."""
    if peer not in trusted and "*" not in trusted:
        return peer
    for address in reversed(",".join(headers.get_all("X-Forwarded-For")).split(",")):
        address = address.strip()
        if address and address not in trusted:
            return address
    return peer
