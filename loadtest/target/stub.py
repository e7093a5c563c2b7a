"""A server that does next to nothing, to find what the load itself costs: `python -m loadtest.target.stub`.

It answers the upgrade, opens chats, acknowledges every SEND at once and passes the message on to the other members. It
checks nothing, stores nothing and believes every token; it speaks only to the client of these load tests, whose masks
are zero and whose SENDs in a chat are all of one size, so that a whole segment is cut into messages by counting.
"""

import asyncio
import itertools
import sys
from typing import Any, Final

import msgpack
import orjson
import uvloop

HOST: Final = "127.0.0.1"
INFLIGHT: Final = 10_000
FRAME_HEAD: Final = 6  # of a short message from a client: two bytes and the mask
OP_AT: Final = FRAME_HEAD + 1
CID_AT: Final = FRAME_HEAD + 3  # after the array's head, the op, and the head of four bytes
SEND: Final = 2
CALL: Final = 7
PING: Final = 8
AT: Final = msgpack.packb(1_790_000_000_000)  # when every message was "stored"
UPGRADED: Final = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)


def message(payload: bytes) -> bytes:
    """A binary WebSocket message of a server."""
    size = len(payload)
    return (bytes((0x82, size)) if size < 126 else b"\x82\x7e" + size.to_bytes(2, "big")) + payload


def frame(*fields: Any) -> bytes:
    """The same, of a frame."""
    return message(msgpack.packb(fields))


class Chat:
    """How many messages it has."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.head = 0


class Stub(asyncio.Protocol):
    """One connection. It sends in one chat, the last that it was a member of."""

    everybody: dict[int, "Stub"] = {}  # noqa: RUF012 - by user; the process has one server
    numbers = itertools.count(1_000_001)

    def __init__(self) -> None:
        self._transport: asyncio.Transport = None  # type: ignore[assignment]
        self._rest = b""
        self._upgraded = False
        self.user = next(self.numbers)
        self._chat = Chat(0)
        self._others: list[asyncio.Transport] = []
        self._last = 0  # seq of its newest message
        self._size = 0  # of each of its SENDs, once the first was seen
        self._text_at = 0
        self._ack_head = self._msg_head = self._msg_tail = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        self.everybody[self.user] = self

    def connection_lost(self, exc: Exception | None) -> None:
        del self.everybody[self.user]

    def data_received(self, data: bytes) -> None:
        if self._rest:
            data = self._rest + data
        at, end = 0, len(data)
        if not self._upgraded:
            at = data.find(b"\r\n\r\n") + 4
            if at < 4:
                self._rest = data
                return
            self._open()
        while end - at > OP_AT:
            if data[at + OP_AT] == SEND:
                size = self._size or self._learn(data, at)
                count = (end - at) // size
                if not count:
                    break
                if data[at + (count - 1) * size + OP_AT] != SEND:  # something else is among them
                    count = 1
                at = self._pass_on(data, at, count)
            else:
                length, head = data[at + 1] & 0x7F, FRAME_HEAD
                if length == 126:
                    length, head = int.from_bytes(data[at + 2 : at + 4], "big"), FRAME_HEAD + 2
                if end - at < head + length:
                    break
                self._answer(*msgpack.unpackb(data[at + head : at + head + length]))
                at += head + length
        self._rest = data[at:]

    def _open(self) -> None:
        self._upgraded = True
        session = {"user": self.user, "limits": {"inflight": INFLIGHT}, "resumed": False}
        self._transport.write(UPGRADED + frame(16, 0, session) + frame(25, "stub"))

    def _answer(self, op: int, *fields: Any) -> None:
        if op == PING:
            self._transport.write(frame(27))
        elif op == CALL:
            ref, method, params = fields
            if method == "chat.create":
                self._create(params["members"])
            state = {"chat": self._chat.number, "head": self._chat.head, "read": self._last}
            self._transport.write(frame(21, ref, state))

    def _create(self, members: list[int]) -> None:
        chat = Chat(next(self.numbers))
        everybody = [self, *(self.everybody[user] for user in members)]
        for member in everybody:
            member.join(chat, [other.transport for other in everybody if other is not member])

    @property
    def transport(self) -> asyncio.Transport:
        """Where its frames go."""
        return self._transport

    def join(self, chat: Chat, others: list[asyncio.Transport]) -> None:
        """Be told of a chat, and send in it from now on."""
        self._chat, self._others, self._last, self._size = chat, others, 0, 0
        self._transport.write(frame(24, chat.number, {"chat": chat.number}))

    def _learn(self, data: bytes, at: int) -> int:
        """What is the same in all SENDs, from the first of them."""
        chat, sender = msgpack.packb(self._chat.number), msgpack.packb(self.user)
        self._size = FRAME_HEAD + (data[at + 1] & 0x7F)
        self._text_at = CID_AT + 4 + len(chat)
        text = self._size - self._text_at
        self._ack_head = message(b"\x94\x11\xce" + bytes(9) + AT)[:5]
        self._msg_head = message(b"\x96\x12" + chat + bytes(5) + sender + AT + bytes(text))[: 4 + len(chat)] + b"\xce"
        self._msg_tail = sender + AT
        return self._size

    def _pass_on(self, data: bytes, at: int, count: int) -> int:
        """Acknowledge so many SENDs and give their messages to the others; returns where the next would begin."""
        size, text_at, seq = self._size, self._text_at, self._chat.head
        ack_head, msg_head, msg_tail = self._ack_head, self._msg_head, self._msg_tail
        acks: list[bytes] = []
        messages: list[bytes] = []
        for start in range(at, at + count * size, size):
            seq += 1
            number = seq.to_bytes(4, "big")
            acks += ack_head, data[start + CID_AT : start + CID_AT + 4], b"\xce", number, AT
            messages += msg_head, number, msg_tail, data[start + text_at : start + size]
        self._chat.head = self._last = seq
        self._transport.write(b"".join(acks))
        told = b"".join(messages)
        for other in self._others:
            other.write(told)
        return at + count * size


async def main() -> None:
    """Serve until killed."""
    server = await asyncio.get_running_loop().create_server(Stub, HOST, 0)
    sys.stdout.buffer.write(orjson.dumps({"event": "listening", "port": server.sockets[0].getsockname()[1]}) + b"\n")
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
