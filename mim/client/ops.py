"""The numbers of the frames, as proto/frames.md lists them; the server's own declarations are not used here.

The SDK speaks the wire with plain lists and the `msgpack` package, so that it stays a second, independent
reading of the protocol.
"""

from enum import IntEnum


class Op(IntEnum):
    """First element of every frame."""

    HELLO = 1
    SEND = 2
    READ = 3
    TYPING = 4
    RECV = 5
    FETCH = 6
    CALL = 7
    PING = 8
    CHANGES = 9
    READY = 16
    ACK = 17
    MSG = 18
    CHANGE = 19
    READBY = 20
    RESULT = 21
    ERROR = 22
    USER_TYPING = 23
    CHAT = 24
    SYNCED = 25
    BYE = 26
    PONG = 27
    NOTE = 28
    NACK = 29
