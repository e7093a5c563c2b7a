"""Clients that keep sending through crashes and cuts, and keep a record of all of it.

A :class:`Client` does what proto/ asks of one: it resumes with its cursor, sends what is unacknowledged again with the
same cid before anything new, and fills gaps with FETCH. It speaks by itself, with plain lists and `msgpack`.
"""

import asyncio
import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import count
from typing import Any

import msgpack
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidMessage

from loadtest.invariants import Body, Record
from tests.harness import ACK, BYE, CALL, ERROR, FETCH, HELLO, MSG, NACK, READ, READY, RESULT, SEND, SYNCED, token_for

GONE = (OSError, ConnectionClosed, InvalidHandshake, InvalidMessage, EOFError)
RETRY_S = 0.1
ATTEMPTS = 300


class Client:
    """One device. `url()` says where the server is now, for it may come back on another port."""

    def __init__(self, url: Callable[[], str], sub: str, dev: str = "phone", *, window: int = 4) -> None:
        self._url = url
        self._token = token_for(sub, dev)
        self._window = window
        self._socket: ClientConnection | None = None
        self._number = 0  # of the connection, for the record
        self._cursor = ""
        self._cids = count(1)
        self._refs = count(1)
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._changed = asyncio.Event()  # something was settled, or the connection changed
        self._synced = False
        self._heads: dict[int, int] = {}
        self._page: int | None = None  # the chat that is being fetched
        self.record = Record(0, 0)
        self.byes: list[list[Any]] = []
        self.close_codes: list[int] = []
        self.nacks: list[list[Any]] = []
        self.opened = asyncio.Event()
        self.come_back = True  # whether to connect again when the connection is lost

    # -- the connection --------------------------------------------------------------------

    async def runs(self) -> None:
        """Stay connected until cancelled, or until the connection is lost and `come_back` is False."""
        while True:
            try:
                await self._session()
            except GONE as exc:
                if isinstance(exc, ConnectionClosed):
                    self.close_codes.append(exc.rcvd.code if exc.rcvd else 1006)
            self._lost()
            if not self.come_back:
                return
            await asyncio.sleep(RETRY_S)

    async def _session(self) -> None:
        async with connect(
            self._url(), compression=None, ping_interval=None, max_queue=None, proxy=None, open_timeout=30
        ) as socket:
            self._synced = False
            await _put(socket, HELLO, next(self._refs), self._token, {}, *([self._cursor] if self._cursor else []))
            async for message in socket:
                frame = msgpack.unpackb(message, strict_map_key=False)
                if frame[0] == READY:
                    await self._ready(socket, frame[2])
                else:
                    self._hear(frame)
            raise ConnectionClosed(socket.protocol.close_rcvd, socket.protocol.close_sent)

    async def _ready(self, socket: ClientConnection, session: dict[str, Any]) -> None:
        if not self.record.user:
            self.record.user, self.record.device = session["user"], session["device"]
        self._number = self.record.connects()
        for cid in self.record.unacknowledged:  # before anything new, which waits for `_socket`
            await self._send(socket, cid)
        self._socket = socket
        self.opened.set()
        self._notify()

    def _lost(self) -> None:
        self._socket = None
        self.opened.clear()
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(ConnectionResetError("the connection was lost"))
        self._answers.clear()
        self._notify()

    def _notify(self) -> None:
        self._changed.set()

    def _hear(self, frame: list[Any]) -> None:
        op = frame[0]
        if op == MSG:
            _, chat, seq, sender, _, body, *_ = frame
            self.record.receives(chat, seq, sender, body, live=self._synced and self._page != chat)
            self._heads[chat] = max(seq, self._heads.get(chat, 0))
        elif op == ACK:
            self.record.acknowledged(*frame[1:4])
            self._notify()
        elif op == NACK:
            self.nacks.append(frame)
            self.record.refused(frame[1], frame[2])
            self._notify()
        elif op == SYNCED:
            self._cursor = frame[1]
            self._synced = True
        elif op in (RESULT, ERROR):
            answer = self._answers.pop(frame[1], None)
            if answer is not None and not answer.done():
                answer.set_result(frame)
        elif op == BYE:
            self.byes.append(frame)

    # -- what it does ----------------------------------------------------------------------

    async def _send(self, socket: ClientConnection, cid: int) -> None:
        sent = self.record.sent[cid]
        self.record.sends(self._number, sent.chat, cid, sent.body)
        await _put(socket, SEND, cid, sent.chat, sent.body)

    async def sends(self, chat: int, body: Body) -> int:
        """Send a message as soon as there is a connection and the window allows; returns its cid."""
        await self._until(lambda: self._socket is not None and len(self.record.unacknowledged) < self._window)
        cid, socket = next(self._cids), self._socket
        assert socket is not None
        self.record.sends(self._number, chat, cid, body)
        with suppress(*GONE):  # `runs` notices, connects again and sends what is unacknowledged
            await _put(socket, SEND, cid, chat, body)
        return cid

    async def resends(self) -> None:
        """Send what was refused again until everything is acknowledged."""
        for _ in range(ATTEMPTS):
            with suppress(*GONE):
                for cid in self.record.unacknowledged:
                    if self._socket is not None and self.record.sent[cid].refused:
                        await self._send(self._socket, cid)
            if not self.record.unacknowledged:
                return
            await self._until(
                lambda: all(not self._waits(cid) for cid in self.record.unacknowledged), patience_s=2, strict=False
            )
            if self.record.unacknowledged:
                await asyncio.sleep(RETRY_S)
        raise AssertionError(f"{len(self.record.unacknowledged)} messages are not acknowledged")

    def _waits(self, cid: int) -> bool:
        return self._socket is not None and not self.record.sent[cid].refused

    async def reads(self, chat: int, seq: int, *, certain: bool = True) -> None:
        """READ."""
        assert self._socket is not None
        self.record.says_read(chat, seq, certain=certain)
        await _put(self._socket, READ, chat, seq)

    async def asks(self, op: int, *fields: Any) -> list[Any]:
        """FETCH or CALL; the RESULT or ERROR that answers it."""
        ref = next(self._refs)
        answer = self._answers[ref] = asyncio.get_running_loop().create_future()
        assert self._socket is not None
        await _put(self._socket, op, ref, *fields)
        async with asyncio.timeout(30):
            frame: list[Any] = await answer
        return frame

    async def calls(self, method: str, **params: Any) -> Any:
        """CALL; its value."""
        frame = await self.asks(CALL, method, params)
        assert frame[0] == RESULT, frame
        return frame[2]

    async def fetches_all(self, chat: int) -> None:
        """Page through a chat from its beginning, as a client does that has nothing."""
        self._page = chat
        seq, more = 0, True
        while more:
            frame = await self.asks(FETCH, chat, seq, 200)
            assert frame[0] == RESULT, frame
            more = frame[2]["more"]
            while (chat, seq + 1) in self.record.received:
                seq += 1
        self._page = None

    async def _until(self, condition: Callable[[], bool], patience_s: float = 60, *, strict: bool = True) -> None:
        """Wait for a settled message or a new connection until `condition()` is true."""
        try:
            async with asyncio.timeout(patience_s):
                while not condition():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            if strict:
                raise


async def _put(socket: ClientConnection, *frame: Any) -> None:
    await socket.send(msgpack.packb(frame))


def texts(seed: int, name: str) -> Iterator[str]:
    """Bodies of different lengths that say who sent them and in what order."""
    rng = random.Random(f"{seed}/{name}")
    for number in count(1):
        yield f"{name} {number} " + "가나다" * rng.randrange(12)
