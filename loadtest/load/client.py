"""A client that costs less than the server it loads: a raw protocol, frames prepared once, integers read in place.

Its WebSocket masks are zero, so that nothing has to be masked here; the server unmasks all the same. It does not
check what the server would not get wrong in a load test (fragments, reserved bits); it does check what the server
promises: see `seqs_acked`, `seqs_heard` and :mod:`loadtest.checks.tally`.
"""

import asyncio
import struct
import time
from array import array
from collections.abc import Sequence
from typing import Any, Final

import jwt
import msgpack

ACK: Final = 17
MSG: Final = 18
READY: Final = 16
RESULT: Final = 21
ERROR: Final = 22
READBY: Final = 20
CHAT: Final = 24
SYNCED: Final = 25
BYE: Final = 26
PONG: Final = 27
NACK: Final = 29

TOKEN_LIFE_S: Final = 24 * 3600
PATIENCE_S: Final = 60.0
BINARY: Final = 0x82  # FIN and opcode 2
NO_MASK: Final = bytes(4)
TIMED_TEXT: Final = 64
TEXT: Final = "x" * TIMED_TEXT
TIME_MARK: Final = 0x40  # @, which begins a text that carries a time
TIME_DIGITS: Final = 15  # hexadecimal, ns


class LoadError(Exception):
    """The server did what it must not do in a load test."""


def make_token(secret: str, name: str) -> str:
    """A token of an app with accounts of its own, for one user with one device."""
    claims = {"sub": name, "dev": "load", "exp": int(time.time()) + TOKEN_LIFE_S}
    return jwt.encode(claims, secret, algorithm="HS256")


def client_message(payload: bytes) -> bytes:
    """A binary WebSocket message from a client, masked with zeros (RFC 6455 section 5.2)."""
    size = len(payload)
    head = bytes((BINARY, 0x80 | size)) if size < 126 else struct.pack("!BBH", BINARY, 0xFE, size)
    return head + NO_MASK + payload


def uint_size(first: int) -> int:
    """How many bytes a msgpack integer takes, from its first."""
    return 1 if first < 0x80 else 1 + (1 << (first - 0xCC))


def uint_at(data: bytes, at: int) -> int:
    """The msgpack integer at this place."""
    first = data[at]
    if first < 0x80:
        return first
    return int.from_bytes(data[at + 1 : at + uint_size(first)], "big")


class Client(asyncio.Protocol):
    """One connection of one user. `run` makes it send without end, `window` messages on the way at a time."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport = None  # type: ignore[assignment]  # set before anything is sent
        self._rest = b""
        self._upgraded = False
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._ref = 0
        self.number = 0  # among the users of the run
        self.host = "load"  # as it is named to the server, or to a proxy before it
        self.synced: asyncio.Future[None] = loop.create_future()
        self.lost: asyncio.Future[None] = loop.create_future()
        self.session: dict[str, Any] = {}
        self.cursor = ""
        self.chats: dict[int, dict[str, Any]] = {}
        self.problems: list[str] = []
        self.bytes_up = self.bytes_down = 0  # of the opening, and of what came since
        self.frame_sizes: dict[int, list[int]] | None = None  # by op, when sizes are wanted
        # the chat in which it sends and listens:
        self.chat = 0
        self.sent = 0  # cids 1, 2, 3, ...
        self.acked = 0
        self.heard = 0
        self.pongs = 0
        self.seqs_acked = array("Q")
        self.seqs_heard = array("Q")
        # seconds until ACK and until delivery, from the time at which the message was due; in `run`, where none is
        # due at any time, from SEND to ACK alone, one probe on the way at a time
        self.ack_times = array("d")
        self.delivery_times = array("d")
        self._due: dict[int, int] = {}  # by cid, ns
        self._timed = (b"", b"")
        self._running = False
        self._message = (b"", b"")
        self._msg_head = b"\0"  # how MSG of this chat begins; nothing does until there is one
        self._probe = 0
        self._probed_at = 0.0

    # -- asyncio.Protocol ------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.lost.done():
            self.lost.set_result(None)
        gone = LoadError(f"the connection is gone: {exc or self.problems or 'closed by the server'}")
        for waiting in (self.synced, *self._answers.values()):
            if not waiting.done():
                waiting.set_exception(gone)
                waiting.exception()  # seen: nobody may be waiting any more

    def data_received(self, data: bytes) -> None:
        self.bytes_down += len(data)
        data = self._rest + data if self._rest else data
        at = 0
        if not self._upgraded:
            end = data.find(b"\r\n\r\n")
            if end < 0:
                self._rest = data
                return
            at = self._take_upgrade(data, end)
        acked = self.acked
        size = len(data)
        while size - at >= 2:
            length, start = data[at + 1], at + 2
            if length == 126:
                if size - at < 4:
                    break
                length, start = int.from_bytes(data[at + 2 : at + 4], "big"), at + 4
            if size - start < length:
                break
            self._take(data, start, start + length, start - at)
            at = start + length
        self._rest = data[at:]
        if self._running and self.acked > acked:
            self._send(self.acked - acked)

    # -- frames in -------------------------------------------------------------------------

    def _take_upgrade(self, data: bytes, end: int) -> int:
        if b" 101 " not in data[:16]:
            self.problems.append(f"the upgrade was answered {data[:200]!r}")
            self._transport.abort()
        self._upgraded = True
        return end + 4

    def _take(self, data: bytes, start: int, end: int, header: int) -> None:
        if data[start - header] != BINARY:  # the server closes
            return
        op = data[start + 1]
        if op == MSG and data.startswith(self._msg_head, start):
            self.heard += 1
            self.seqs_heard.append(uint_at(data, start + len(self._msg_head)))
            if data[end - TIMED_TEXT] == TIME_MARK:
                due = int(data[end - TIMED_TEXT + 1 : end - TIMED_TEXT + 1 + TIME_DIGITS], 16)
                self.delivery_times.append((time.perf_counter_ns() - due) / 1e9)
        elif op == ACK:
            self._acknowledged(data, start + 2)
        else:
            self._take_other(data[start:end])
        if self.frame_sizes is not None:
            self.frame_sizes.setdefault(op, []).append(header + end - start)

    def _acknowledged(self, data: bytes, at: int) -> None:
        self.acked += 1
        if self._due:
            self.ack_times.append((time.perf_counter_ns() - self._due.pop(uint_at(data, at), 0)) / 1e9)
        elif self._probe and uint_at(data, at) == self._probe:
            self.ack_times.append(time.perf_counter() - self._probed_at)
            self._probe = 0
        self.seqs_acked.append(uint_at(data, at + uint_size(data[at])))

    def _take_other(self, payload: bytes) -> None:
        op, *fields = msgpack.unpackb(payload, strict_map_key=False)
        if op == READY:
            self.session = fields[1]
        elif op == SYNCED:
            self.cursor = fields[0]
            if not self.synced.done():
                self.synced.set_result(None)
        elif op == CHAT:
            self.chats[fields[0]] = fields[1]
        elif op == PONG:
            self.pongs += 1
        elif op == RESULT and (waiting := self._answers.pop(fields[0], None)) is not None:
            waiting.set_result(fields[1])
        elif op in (ERROR, NACK, BYE):
            self._take_refusal(op, fields)

    def _take_refusal(self, op: int, fields: list[Any]) -> None:
        waiting = self._answers.pop(fields[0], None) if op == ERROR else None
        if waiting is None:
            self.problems.append(f"op {op}: {fields}")
        else:
            waiting.set_exception(LoadError(f"refused: {fields[1]} {fields[2]}"))

    # -- opening and asking ----------------------------------------------------------------

    @property
    def user(self) -> int:
        """Its user's id."""
        return int(self.session["user"])

    def open(self, token: str, cursor: str = "", options: str = "") -> None:
        """Upgrade with the token in the request, as a phone does; `options` as in a query."""
        query = "&".join(filter(None, (options, f"cursor={cursor}" if cursor else "")))
        query = query and f"?{query}"
        request = (
            f"GET /v1/ws{query} HTTP/1.1\r\nHost: {self.host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
            f"Authorization: Bearer {token}\r\n\r\n"
        ).encode()
        self.bytes_up += len(request)
        self._transport.write(request)

    def write(self, *frame: Any) -> int:
        """Send a frame; returns its size on the wire."""
        data = client_message(msgpack.packb(frame))
        self._transport.write(data)
        return len(data)

    async def call(self, method: str, **params: Any) -> Any:
        """Ask and wait for the value; raises LoadError."""
        self._ref += 1
        answer = self._answers[self._ref] = asyncio.get_running_loop().create_future()
        self.write(7, self._ref, method, params)
        return await asyncio.wait_for(answer, PATIENCE_S)

    async def create_chat(self, kind: str, members: Sequence[int]) -> int:
        """Open a chat with others; returns its id."""
        state = await self.call("chat.create", kind=kind, members=list(members))
        return int(state["chat"])

    def knows(self, chat: int) -> bool:
        """Whether it was told of this chat, and hears it."""
        return chat in self.chats

    async def close(self) -> None:
        """Hang up and wait until it is done."""
        self._transport.close()
        await self.lost

    def keep_alive(self, next_s: int) -> None:
        """Ask for a PONG, and promise to ask again within `next_s`."""
        self.write(8, next_s)

    # -- traffic ---------------------------------------------------------------------------

    def enter(self, chat: int, text: str) -> None:
        """Choose the chat in which messages with this text are sent, and whose messages are checked."""
        self.chat = chat
        number = msgpack.packb(chat)
        after = number + msgpack.packb(text)
        size = 3 + 4 + len(after)  # a cid of four bytes keeps the size of the frame
        head = client_message(bytes(size))[:-size]
        self._message = (head + b"\x94\x02\xce", after)
        self._timed = (after[: len(after) - len(text)] + bytes((TIME_MARK,)), b"." * (len(text) - 1 - TIME_DIGITS))
        self._msg_head = b"\x96\x12" + number

    def run(self, window: int) -> None:
        """Put `window` messages on the way, and another for each that is acknowledged."""
        self._running = True
        self._send(window)

    def stop(self) -> None:
        """Send no more; what is on the way is still acknowledged."""
        self._running = False

    def send_due(self, due_ns: int) -> None:
        """Send one message that was due at this time of `perf_counter_ns`, which it carries, so that whoever hears it
        can tell how late it is: the clock is the same in all processes of a machine. The text must be TIMED_TEXT long.
        """
        self.sent += 1
        self._due[self.sent] = due_ns
        text_head, text_tail = self._timed
        self._transport.write(
            b"".join((self._message[0], self.sent.to_bytes(4, "big"), text_head, b"%015x" % due_ns, text_tail))
        )

    def send(self, count: int = 1) -> None:
        """Send messages outside of :meth:`run`."""
        self._send(count)

    def _send(self, count: int) -> None:
        before, after = self._message
        first = self.sent + 1
        self.sent += count
        if not self._probe:
            self._probe, self._probed_at = first, time.perf_counter()
        self._transport.write(
            b"".join([before + cid.to_bytes(4, "big") + after for cid in range(first, first + count)])
        )
