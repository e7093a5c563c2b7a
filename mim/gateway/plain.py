"""Plain frames, which is nearly all that clients send: whole masked messages below 64 KiB, and pings (RFC 6455
sections 5.2 and 5.5.2), with which some clients' libraries keep a connection alive beside our own PING.

They are cut out of what was read without a protocol object; anything else is for the WebSocket library.
"""

from typing import Final

from websockets.frames import apply_mask  # type: ignore[attr-defined]  # in C where the platform has it

from mim.hub.prepared import BINARY, TEXT

PING: Final = 0x89  # FIN and opcode 9
PONG: Final = 0x8A
PLAIN: Final = frozenset((BINARY, TEXT, PING))
MASKED: Final = 0x80
TWO_BYTES: Final = MASKED | 126  # the length follows in two bytes
EIGHT_BYTES: Final = MASKED | 127  # in eight: not plain
LEAST: Final = 6  # a head and a mask


def split(data: bytes | bytearray) -> tuple[list[tuple[int, bytes]], int]:
    """The plain frames that `data` begins with, each with its first byte, and where the rest begins."""
    frames: list[tuple[int, bytes]] = []
    start, size = 0, len(data)
    while size - start >= LEAST and may_be_plain(head := data[start], second := data[start + 1]):
        if second == TWO_BYTES:
            mask = start + 4
            body = start + 8
            end = body + (data[start + 2] << 8 | data[start + 3])
        else:
            mask = start + 2
            body = start + 6
            end = body + second - MASKED
        if end > size:
            break
        frames.append((head, apply_mask(data[body:end], data[mask:body])))
        start = end
    return frames, start


def may_be_plain(head: int, second: int = MASKED) -> bool:
    """Whether a frame that begins with this byte, or these two, is or becomes a plain one."""
    return head in PLAIN and MASKED <= second < (TWO_BYTES if head == PING else EIGHT_BYTES)
