"""Bytes to frames and back, in the two subprotocols: msgpack (binary messages) and JSON (text messages).

Two promises hold for any input: `decode` returns a frame or raises :class:`PeerError` or :class:`NotAFrame`,
and nothing else; what `encode` makes, the same subprotocol's decoder of an independent implementation reads
(the golden vectors prove it).
"""

import json
from collections.abc import Callable
from typing import Any, Final, get_args

import msgspec

from mim.errors import Code, PeerError
from mim.wire.frames import Call, Changes, ClientFrame, Fetch, Hello, Send, ServerFrame

MAX_FRAME_BYTES: Final = 64 * 1024

CLIENT_FRAMES: Final[dict[int, type[Any]]] = {t.__struct_config__.tag: t for t in get_args(ClientFrame)}
SERVER_FRAMES: Final[dict[int, type[Any]]] = {t.__struct_config__.tag: t for t in get_args(ServerFrame)}

# Frames whose second field is a ref or cid. That of the others is a chat or a count: no request to answer to.
NUMBERED: Final = frozenset(t.__struct_config__.tag for t in (Hello, Send, Fetch, Call, Changes))

# UnicodeDecodeError is a ValueError, as msgspec's own errors are since 0.21; RecursionError comes of deep nesting.
DECODE_ERRORS: Final = (ValueError, msgspec.MsgspecError, RecursionError)


class NotAFrame(Exception):  # noqa: N818 - it says what the bytes are
    """The bytes are no array that begins with an integer: the connection cannot be understood any more."""


class BadFrame(PeerError):  # noqa: N818
    """A frame with a readable op whose fields are wrong; `op` and `number` (ref or cid, 0 if unreadable) tell which."""

    def __init__(self, op: int, number: int, code: Code, detail: str) -> None:
        super().__init__(code, detail)
        self.op = op
        self.number = number


class Codec:
    """One subprotocol. Stateless after construction and shared by all connections.

    `name` is the WebSocket subprotocol; `text` tells whether its messages are text frames.
    """

    def __init__(
        self,
        name: str,
        *,
        text: bool,
        decoder: Any,
        encode: Callable[[Any], bytes],
        loads: Callable[[bytes], Any],
        loads_typed: Callable[[bytes, Any], Any],
        loads_lenient: Callable[[bytes], Any] | None = None,
    ) -> None:
        self.name = name
        self.text = text
        self._decode: Callable[[bytes], ClientFrame] = decoder.decode
        self._encode = encode
        self._loads = loads
        self._loads_typed = loads_typed
        self._loads_lenient = loads_lenient

    def decode(self, data: bytes) -> ClientFrame:
        """Return the client frame in `data`; raise BadFrame or NotAFrame."""
        try:
            return self._decode(data)
        except DECODE_ERRORS as exc:
            raise self._explain(data, exc) from None

    def encode(self, frame: ServerFrame) -> bytes:
        """Return the bytes of `frame`, optional trailing fields left out where they are None."""
        if getattr(frame, "optional_tail", False) and frame.retry_after is None:  # type: ignore[union-attr]
            return self._encode((type(frame).__struct_config__.tag, *msgspec.structs.astuple(frame)[:-1]))
        return self._encode(frame)

    def decode_params(self, raw: msgspec.Raw | bytes, shape: type[Any]) -> Any:
        """Return CALL parameters as `shape`; raise PeerError `bad_frame` with what is wrong with which field."""
        data = bytes(raw)
        try:
            return self._loads_typed(data, shape) if data else msgspec.convert({}, shape)
        except DECODE_ERRORS as exc:
            raise PeerError(Code.BAD_FRAME, f"parameters: {explain(exc)}") from None

    def _explain(self, data: bytes, exc: Exception) -> Exception:
        """Cold path: find out how much of an unsound frame can be read."""
        try:
            fields = self._loads(data)
        except DECODE_ERRORS:
            fields = self._salvage(data)
            if fields is None and self._loads_lenient is not None:
                fields = self._loads_lenient(data)
        if not (isinstance(fields, list) and fields and type(fields[0]) is int):
            return NotAFrame()
        op, number = fields[0], fields[1] if len(fields) > 1 else 0
        number = number if type(number) is int and 0 <= number < 2**53 else 0
        if op not in CLIENT_FRAMES:
            return BadFrame(op, number, Code.UNSUPPORTED, f"op {op} is not one a client may send")
        number = number if op in NUMBERED else 0
        name = CLIENT_FRAMES[op].__name__.upper()
        return BadFrame(op, number, Code.BAD_FRAME, f"{name}: {explain(exc)}")

    def _salvage(self, data: bytes) -> Any:
        """Read the outer array of a frame whose inside does not decode (nesting, broken UTF-8 within)."""
        try:
            return [self._raw_int(item) for item in self._loads_typed(data, list[msgspec.Raw])]
        except DECODE_ERRORS:
            return None

    def _raw_int(self, raw: msgspec.Raw) -> int | None:
        try:
            value = self._loads(bytes(raw))
        except DECODE_ERRORS:
            return None
        return value if type(value) is int else None


def explain(exc: BaseException) -> str:
    """A sentence for people about a decoding error; says where, never what the value was."""
    if isinstance(exc, RecursionError):
        return "nested too deeply"
    if isinstance(exc, UnicodeDecodeError):
        return "text is not UTF-8"
    return str(exc) or "malformed"


def _halves_allowed(data: bytes) -> Any:
    """JSON with half surrogate pairs, which scripts make by cutting a text within an emoji; None for what is no JSON.

    Such a frame can be read but for that text, and a client that sends it again should not be closed every time.
    """
    try:
        return json.loads(data.decode(), parse_constant=_no_json)
    except DECODE_ERRORS:
        return None


def _no_json(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _codec(name: str, module: Any, *, text: bool) -> Codec:
    return Codec(
        name,
        text=text,
        decoder=module.Decoder(ClientFrame),
        encode=module.Encoder().encode,
        loads=module.decode,
        loads_typed=lambda data, shape: module.decode(data, type=shape),
        loads_lenient=_halves_allowed if text else None,
    )


MSGPACK: Final = _codec("mim.msgpack", msgspec.msgpack, text=False)
JSON: Final = _codec("mim.json", msgspec.json, text=True)
CODECS: Final[dict[str, Codec]] = {codec.name: codec for codec in (MSGPACK, JSON)}


def transcode_to_json(frame: bytes) -> bytes:
    """Return a msgpack frame as the same array in JSON, for the text sockets among a topic's listeners."""
    return msgspec.json.encode(msgspec.msgpack.decode(frame))
