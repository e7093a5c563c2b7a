"""One system call for all that a socket is told within one turn of the event loop.

A batch of messages is settled in one turn: it holds several acknowledgements and messages for the same socket, and
uvloop sends whatever it is given at once, with a system call of its own that takes the kernel several microseconds,
more than all of ours for the frame. So frames are gathered, and sent when the turn is over.
"""

import asyncio
from typing import Protocol


class Gathering(Protocol):
    """A socket that has something to send."""

    def flush(self) -> None:
        """Send it."""


class Outbox:
    """The sockets of a node that have something to send when the turn of the event loop is over."""

    def __init__(self) -> None:
        self._waiting: list[Gathering] = []

    def add(self, socket: Gathering) -> None:
        """Have `socket` flushed soon."""
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._flush)
        self._waiting.append(socket)

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        for socket in waiting:
            socket.flush()
