"""One connection of a phone: frames in and out, and how it began and ended."""

import asyncio
import json
import os
import socket
import struct
import time
from typing import Any, Final, Protocol

import msgpack

from loadtest.load.client import BINARY, Client, LoadError

TURNED_AWAY: Final = frozenset({429, 503})
ANSWER_S: Final = 60.0
RESET: Final = struct.pack("ii", 1, 0)  # SO_LINGER: closing sends RST


class Owner(Protocol):
    """Whose connection it is."""

    def hears(self, line: "Line", frame: list[Any]) -> None:
        """A frame came."""

    def is_refused(self, status: int) -> None:
        """The upgrade was answered with this, which is not the way to turn somebody away."""


class Line(Client):
    """One connection of a phone, which hears everything that comes."""

    def __init__(self, owner: Owner) -> None:
        super().__init__()
        self._owner = owner
        self.refusal = ""  # how the upgrade was answered, if not with 101
        self.retry_after_s: float | None = None
        self.code = ""  # of BYE
        self.is_over = False  # hung up by this side: what still comes is not heard
        self.counted = 0  # MSG and CHANGE frames
        self.told = 0  # of them by RECV
        self.told_at = self.pinged_at = time.monotonic()

    def _take_upgrade(self, data: bytes, end: int) -> int:
        if b" 101 " not in data[:16]:
            status, body = int(data[9:12]), data[end + 4 :]
            self.refusal = str(status)
            try:
                self.retry_after_s = json.loads(body).get("retry_after", 0) / 1000
            except ValueError:  # without a body, or not all of it in one piece
                self.retry_after_s = None
            if status not in TURNED_AWAY:
                self._owner.is_refused(status)
            self.hang_up()
        self._upgraded = True
        return end + 4 if not self.refusal else len(data)

    def _take(self, data: bytes, start: int, end: int, header: int) -> None:
        if data[start - header] == BINARY and not self.is_over:
            self._owner.hears(self, msgpack.unpackb(data[start:end], strict_map_key=False))

    def write(self, *frame: Any) -> int:
        """Send a frame; one on a connection that has just broken is lost like one on its way."""
        return 0 if self._transport.is_closing() else super().write(*frame)

    def answer(self, ref: int, value: Any, failure: str = "") -> bool:
        """Give a waiting request its answer; False when none waits."""
        waiting = self._answers.pop(ref, None)
        if waiting is None or waiting.done():
            return False
        if failure:
            waiting.set_exception(LoadError(failure))
        else:
            waiting.set_result(value)
        return True

    async def ask(self, op: int, *fields: Any) -> Any:
        """A request; its RESULT. Raises LoadError."""
        self._ref += 1
        answer = self._answers[self._ref] = asyncio.get_running_loop().create_future()
        self.write(op, self._ref, *fields)
        return await asyncio.wait_for(answer, ANSWER_S)

    def abort(self) -> None:
        """Close at once, whatever was not sent yet."""
        self._transport.abort()

    def hang_up(self, *, reset: bool = False) -> None:
        """Close; with `reset` as a phone does that loses its network, not with the farewell of TCP."""
        self.is_over = True
        if not reset:
            self._transport.close()
            return
        with socket.socket(fileno=os.dup(self._transport.get_extra_info("socket").fileno())) as same:
            same.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self._transport.abort()
