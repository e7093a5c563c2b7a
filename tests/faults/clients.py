"""Clients that go on through crashes, cuts and freezes as proto/ asks of a phone, and keep a record of all of it.

A :class:`Client` resumes with its cursor, sends what is unacknowledged again with the same cid before anything new and
in the old order, sends again in time what was refused for a while, and closes gaps with FETCH and CHANGES. It speaks
by itself, with plain lists and `msgpack`.
"""

import asyncio
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import count
from typing import Any

from websockets.asyncio.client import ClientConnection

from loadtest.checks.record import Body, Record
from tests.faults.line import GONE, Line, put
from tests.faults.view import ChatView
from tests.harness import (
    ACK,
    BYE,
    CALL,
    CHANGE,
    CHANGES,
    CHAT,
    ERROR,
    FETCH,
    MSG,
    NACK,
    PONG,
    READ,
    READBY,
    RESULT,
    SEND,
    SYNCED,
)

AGAIN = ("unavailable", "rate_limited", "internal")  # NACKs after which the same cid is sent again
GAP_S = 0.2  # two live frames may swap
PAGE = 200
PATIENCE_S = 60.0


class Client(Line):
    """One device of a user."""

    def __init__(
        self, addresses: Callable[[], Sequence[str]], sub: str, dev: str = "phone", *, window: int = 4,
        place: int = 0, ping_s: float = 2.0, pong_s: float = 3.0,
    ) -> None:  # fmt: skip
        super().__init__(addresses, sub, dev, place, ping_s, pong_s)
        self._window = window
        self._socket: ClientConnection | None = None
        self._number = 0  # of the connection, for the record
        self._cids = count(1)
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._changed = asyncio.Event()  # something was settled, or the connection changed
        self._gap = asyncio.Event()  # something may be missing
        self._page: int | None = None  # the chat that is being fetched
        self._resending = False
        self.views: dict[int, ChatView] = {}
        self.record = Record(0, 0)
        # what happened to it, besides what a line knows:
        self.byes: list[list[Any]] = []
        self.nacks: list[list[Any]] = []
        self.fetches = 0
        self.arrivals: dict[tuple[int, int], tuple[float, str]] = {}  # (chat, seq): when, and by which way
        self.began: dict[int, float] = {}  # cid: when it was sent first
        self.waits: list[tuple[float, float]] = []  # when an acknowledged message was sent first, and acknowledged

    def shows(self, chat: int) -> tuple[int, int]:
        """Head and watermark of a chat, from which the client shows how much is unread."""
        view = self._view(chat)
        return view.head, view.read

    # -- the connection --------------------------------------------------------------------

    async def runs(self) -> None:
        self._tasks.spawn(self._fills(), name="gaps")
        await super().runs()

    async def is_ready(self, socket: ClientConnection, session: dict[str, Any]) -> None:
        if not self.record.user:
            self.record.user, self.record.device = session["user"], session["device"]
        self._number = self.record.connects()
        for cid in self.record.unacknowledged:  # before anything new, which waits for `_socket`
            await self._send(socket, cid)
        for chat, seq in list(self.record.attempted_reads.items()):  # READ has no answer
            await put(socket, READ, chat, seq)
        self._socket = socket
        self._changed.set()
        self._gap.set()

    def hears(self, frame: list[Any]) -> None:
        HEARD.get(frame[0], _passes)(self, frame)

    def is_lost(self) -> None:
        self._socket = None
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(ConnectionResetError("the connection was lost"))
                answer.exception()  # seen: nobody may be waiting any more
        self._answers.clear()
        self._changed.set()

    # -- what it hears ---------------------------------------------------------------------

    def _view(self, chat: int) -> ChatView:
        return self.views.setdefault(chat, ChatView())

    def _hears_message(self, frame: list[Any]) -> None:
        _, chat, seq, sender, _, body, *_ = frame
        self._counted += 1
        way = "sync" if not self._synced else "fetch" if self._page == chat else "live"
        self.record.receives(chat, seq, sender, body, live=way == "live")
        self.arrivals.setdefault((chat, seq), (time.monotonic(), way))
        view = self._view(chat)
        view.has(seq)
        if sender == self.record.user:
            view.is_read(seq)
        if view.is_missing:
            self._gap.set()

    def _hears_change(self, frame: list[Any]) -> None:
        self._counted += 1
        view = self._view(frame[1])
        view.changed(frame[2])
        self.record.changes.add((frame[1], frame[2]))
        if view.lacks_changes:
            self._gap.set()

    def _hears_chat(self, frame: list[Any]) -> None:
        if frame[2]["kind"] != "left":
            self._view(frame[1]).told(frame[2])
            self.record.knew.setdefault(frame[1], frame[2]["rev"])
            self._gap.set()

    def _hears_watermarks(self, frame: list[Any]) -> None:
        marks = frame[2]
        for user, seq in zip(marks[::2], marks[1::2], strict=True):
            if user == self.record.user:
                self._view(frame[1]).is_read(seq)

    def _hears_ack(self, frame: list[Any]) -> None:
        _, cid, seq, at, *_ = frame
        sent = self.record.sent.get(cid)
        if sent is not None and not sent.is_acknowledged:
            self.waits.append((self.began[cid], time.monotonic()))
            view = self._view(sent.chat)
            view.has(seq)
            view.is_read(seq)
            if view.is_missing:
                self._gap.set()
        self.record.acknowledged(cid, seq, at)
        self._changed.set()

    def _hears_nack(self, frame: list[Any]) -> None:
        self.nacks.append(frame)
        self.record.refused(frame[1], frame[2])
        if frame[2] in AGAIN and not self._resending:
            self._resending = True
            self._tasks.spawn(self._resends((frame[4] if len(frame) > 4 else 1000) / 1000), name="send again")
        self._changed.set()

    def _hears_synced(self, frame: list[Any]) -> None:
        self._cursor = frame[1]
        if not self._synced:
            self._synced = True
            self.synced_at = time.monotonic()
            self._gap.set()

    def _hears_answer(self, frame: list[Any]) -> None:
        answer = self._answers.pop(frame[1], None)
        if answer is not None and not answer.done():
            answer.set_result(frame)
        elif frame[0] == ERROR:
            self.errors.append(frame[2])
            if len(frame) > 4:
                self._retry_after_s = frame[4] / 1000
            if self._socket is not None and frame[2] in AGAIN:  # a READ could not be kept
                self._tasks.spawn(self._reads_again(self._retry_after_s), name="read again")

    def _hears_bye(self, frame: list[Any]) -> None:
        self.byes.append(frame)
        if len(frame) > 3 and frame[3]:
            self._retry_after_s = frame[3] / 1000

    def _hears_pong(self, frame: list[Any]) -> None:
        self._pinged = None

    # -- what it does by itself ------------------------------------------------------------

    async def _resends(self, after_s: float) -> None:
        """Send what was refused again, in the old order, after the time that the server asked for."""
        await asyncio.sleep(after_s)
        self._resending = False
        for cid in self.record.unacknowledged:
            if self._socket is not None and self.record.sent[cid].refused:
                await self._send(self._socket, cid)

    async def _reads_again(self, after_s: float) -> None:
        await asyncio.sleep(after_s)
        for chat, seq in list(self.record.attempted_reads.items()):
            if self._socket is not None:
                await put(self._socket, READ, chat, seq)

    async def _fills(self) -> None:
        """Close gaps, after a moment for what is on its way."""
        while True:
            await self._gap.wait()
            await asyncio.sleep(GAP_S)
            self._gap.clear()
            for chat, view in list(self.views.items()):
                with suppress(*GONE):
                    await self._fill(chat, view)

    async def _fill(self, chat: int, view: ChatView) -> None:
        while view.is_missing and self._asks_by_itself():
            self.fetches += 1
            self._page = chat
            try:
                answer = await self.asks(FETCH, chat, view.have, PAGE)
            finally:
                self._page = None
            if not await self._goes_on(answer):
                break
        while view.lacks_changes and self._asks_by_itself():
            self.fetches += 1
            answer = await self.asks(CHANGES, chat, view.applied or 0, PAGE)
            if not await self._goes_on(answer):
                break

    def _asks_by_itself(self) -> bool:
        return self._socket is not None and self._synced

    async def _goes_on(self, answer: list[Any]) -> bool:
        """Whether a page that may have another after it came; one that was refused is asked for later."""
        if answer[0] == RESULT:
            return bool(answer[2]["more"])
        if answer[2] in AGAIN:
            await asyncio.sleep((answer[4] if len(answer) > 4 else 500) / 1000)
            self._gap.set()
        return False

    # -- what it is told to do -------------------------------------------------------------

    async def _send(self, socket: ClientConnection, cid: int) -> None:
        sent = self.record.sent[cid]
        self.record.sends(self._number, sent.chat, cid, sent.body)
        await put(socket, SEND, cid, sent.chat, sent.body)

    def _may_send(self) -> bool:
        waiting = self.record.unacknowledged
        return (
            self._socket is not None
            and len(waiting) < self._window
            and not any(self.record.sent[cid].refused for cid in waiting)
        )

    async def sends(self, chat: int, body: Body) -> int:
        """Send a message as soon as there is a connection and the window allows; returns its cid."""
        await self._until(self._may_send)
        cid, socket = next(self._cids), self._socket
        assert socket is not None
        self.began[cid] = time.monotonic()
        self.record.sends(self._number, chat, cid, body)
        await put(socket, SEND, cid, chat, body)  # if it is lost, it is sent again on the next connection
        return cid

    async def settles(self) -> None:
        """Wait until everything that was sent is acknowledged."""
        await self._until(lambda: not self.record.unacknowledged)

    async def reads(self, chat: int) -> None:
        """READ as far as everything is there."""
        view = self._view(chat)
        if self._socket is not None and view.have > view.read:
            view.is_read(view.have)
            self.record.says_read(chat, view.have, certain=False)
            await put(self._socket, READ, chat, view.have)

    async def reacts(self, chat: int, seq: int, reaction: str) -> None:
        """React to a message, which makes a change that everybody hears of."""
        await self.asks(CALL, "message.react", {"chat": chat, "seq": seq, "reaction": reaction})

    async def asks(self, op: int, *fields: Any) -> list[Any]:
        """FETCH or CALL; the RESULT or ERROR that answers it. Raises OSError when the connection is lost."""
        if self._socket is None:
            raise ConnectionResetError("no connection")
        ref = next(self._refs)
        answer = self._answers[ref] = asyncio.get_running_loop().create_future()
        await put(self._socket, op, ref, *fields)
        async with asyncio.timeout(PATIENCE_S):
            frame: list[Any] = await answer
        return frame

    async def calls(self, method: str, **params: Any) -> Any:
        """CALL; its value."""
        frame = await self.asks(CALL, method, params)
        assert frame[0] == RESULT, frame
        return frame[2]

    async def fetches_all(self, chat: int) -> None:
        """Page through a chat from its beginning, as a client does that has nothing."""
        seq, more = 0, True
        while more:
            self._page = chat
            frame = await self.asks(FETCH, chat, seq, PAGE)
            self._page = None
            assert frame[0] == RESULT, frame
            more = frame[2]["more"]
            while (chat, seq + 1) in self.record.received:
                seq += 1

    async def _until(self, condition: Callable[[], bool], patience_s: float = PATIENCE_S) -> None:
        """Wait for a settled message or a new connection until `condition()` is true."""
        async with asyncio.timeout(patience_s):
            while not condition():
                self._changed.clear()
                await self._changed.wait()


def _passes(client: Client, frame: list[Any]) -> None:
    """An op that says nothing to this client."""


HEARD: dict[int, Callable[[Client, list[Any]], None]] = {
    MSG: Client._hears_message,
    CHANGE: Client._hears_change,
    CHAT: Client._hears_chat,
    READBY: Client._hears_watermarks,
    ACK: Client._hears_ack,
    NACK: Client._hears_nack,
    SYNCED: Client._hears_synced,
    RESULT: Client._hears_answer,
    ERROR: Client._hears_answer,
    BYE: Client._hears_bye,
    PONG: Client._hears_pong,
}


def texts(seed: int, name: str) -> Iterator[str]:
    """Bodies of different lengths that say who sent them and in what order."""
    rng = random.Random(f"{seed}/{name}")
    for number in count(1):
        yield f"{name} {number} " + "가나다" * rng.randrange(12)
