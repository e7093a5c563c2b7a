"""WebSocket messages prepared once and written to many sockets (RFC 6455 section 5.2: server frames are not masked)."""

from struct import Struct
from typing import Final

from mim.wire.codec import transcode_to_json

_MEDIUM: Final = Struct("!BBH").pack
_LARGE: Final = Struct("!BBQ").pack
BINARY: Final = 0x82  # FIN and opcode 2
TEXT: Final = 0x81  # FIN and opcode 1


def message(opcode: int, payload: bytes) -> bytes:
    """The bytes of one unfragmented, unmasked WebSocket message."""
    size = len(payload)
    if size < 126:
        return bytes((opcode, size)) + payload
    if size < 65536:
        return _MEDIUM(opcode, 126, size) + payload
    return _LARGE(opcode, 127, size) + payload


def binary_message(frame: bytes) -> bytes:
    """A msgpack frame as a binary message."""
    return message(BINARY, frame)


def text_message(frame: bytes) -> bytes:
    """A msgpack frame as a JSON text message."""
    return message(TEXT, transcode_to_json(frame))
