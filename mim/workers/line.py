"""Questions and answers between the parent and a worker, over a socket pair. Both sides may ask.

A message is four bytes of length and a msgpack array [ref, what, body]. An empty `what` marks the answer to the
question `ref`. Both sides run the same code on the same machine, so nothing here expects a stranger; only size and time
are bounded.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from itertools import count
from typing import Final, Self

import msgspec
from msgspec import Struct

from mim.tasks import TaskSet

HEADER: Final = 4
MAX_BYTES: Final = 32 << 20

Answers = Mapping[str, Callable[[], Awaitable[bytes]]]
"""What is answered to which question."""


class LineEndedError(Exception):
    """The other side is gone."""


class Message(Struct, array_like=True):
    """A question, or with an empty `what` the answer to one."""

    ref: int
    what: str
    body: bytes = b""


class Line:
    """One end. `run` reads until the other side is gone."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answers: Answers) -> None:
        self._reader = reader
        self._writer = writer
        self._answers = answers
        self._refs = count(1)
        self._asked: dict[int, asyncio.Future[bytes]] = {}
        self._tasks = TaskSet()
        self._ended = False

    @classmethod
    async def over(cls, end: socket.socket, answers: Answers) -> Self:
        """A line over one of the two sockets, which belongs to the line from now on."""
        return cls(*await asyncio.open_unix_connection(sock=end), answers)

    async def run(self) -> None:
        """Answer questions and take answers until the line ends."""
        try:
            with suppress(OSError, asyncio.IncompleteReadError, msgspec.MsgspecError):
                while True:
                    self._take(await _message(self._reader))
        finally:
            self._ended = True
            self._writer.close()
            for answer in self._asked.values():
                answer.cancel()
            await self._tasks.close()

    async def ask(self, what: str, timeout_s: float) -> bytes:
        """Ask the other side, while `run` runs. Raises TimeoutError and LineEndedError."""
        ref = next(self._refs)
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._asked[ref] = answer
        try:
            self._send(Message(ref, what))
            async with asyncio.timeout(timeout_s):
                await asyncio.wait({answer})
            if answer.cancelled():
                raise LineEndedError
            return answer.result()
        finally:
            del self._asked[ref]

    def _take(self, message: Message) -> None:
        if message.what:
            self._tasks.spawn(self._answer(message), name=f"answering {message.what}")
        elif (answer := self._asked.get(message.ref)) is not None and not answer.done():
            answer.set_result(message.body)

    async def _answer(self, question: Message) -> None:
        answer = await self._answers[question.what]()
        with suppress(LineEndedError):
            self._send(Message(question.ref, "", answer))

    def _send(self, message: Message) -> None:
        if self._ended:
            raise LineEndedError
        data = msgspec.msgpack.encode(message)
        self._writer.write(len(data).to_bytes(HEADER, "big") + data)


async def _message(reader: asyncio.StreamReader) -> Message:
    size = int.from_bytes(await reader.readexactly(HEADER), "big")
    if size > MAX_BYTES:
        raise ConnectionAbortedError(f"a message of {size} bytes")
    return msgspec.msgpack.decode(await reader.readexactly(size), type=Message)
