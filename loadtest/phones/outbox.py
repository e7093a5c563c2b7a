"""What a phone has said and has no answer to: sent within a window, again after a lost connection, until its ACK.

A message carries the time at which it was due, so that whoever hears it live can tell how late it is: the clock is the
same in all processes of a machine, and a message that waits for its phone to connect is late from then on.
"""

import asyncio
import time
from array import array
from collections import Counter, deque
from collections.abc import Iterator
from typing import Final

from loadtest.phones.books import Books
from loadtest.phones.line import Line

SEND: Final = 2

AGAIN: Final = frozenset({"unavailable", "rate_limited"})  # to be tried once more, after a while
WINDOW: Final = 100  # unanswered SENDs; the server allows more
ANSWER_S: Final = 30.0  # within which a SEND is answered while its connection lives
DUE_DIGITS: Final = 15


def text_of(due_ns: int, size: int) -> str:
    """A text of `size` characters, 16 at least, that tells when it was due (perf_counter_ns)."""
    return f"{due_ns:0{DUE_DIGITS}x} ".ljust(size, "가")


def due_of(text: str) -> int:
    """When the message with this text was due."""
    return int(text[:DUE_DIGITS], 16)


class Outgoing:
    """A message without its answer."""

    __slots__ = ("chat", "due_ns", "is_told", "line", "sent_at", "text", "tries")

    def __init__(self, chat: int, text: str, due_ns: int) -> None:
        self.chat = chat
        self.text = text
        self.due_ns = due_ns
        self.tries = 0
        self.line: Line | None = None
        self.sent_at = 0.0
        self.is_told = False  # that it has no answer


class Outbox:
    """Messages of one device, by cid. Its length is how many have no answer yet."""

    def __init__(self, books: Books, refusals: Counter[str]) -> None:
        self.sent = self.acked = 0  # SEND and ACK frames
        self.ack_times = array("d")  # seconds from due to ACK
        self._books = books
        self._refusals = refusals
        self._line: Line | None = None
        self._cid = 0
        self._on_way = 0
        self._messages: dict[int, Outgoing] = {}
        self._unsent: deque[int] = deque()
        self._acked_again: dict[int, int] = {}  # cid: seq of messages that were sent more than once

    def __len__(self) -> int:
        return len(self._messages)

    def __iter__(self) -> Iterator[Outgoing]:
        return iter(self._messages.values())

    def add(self, chat: int, text: str) -> None:
        """Send a message, as soon as there is a connection."""
        self._cid += 1
        self._messages[self._cid] = Outgoing(chat, text, due_of(text))
        self._unsent.append(self._cid)
        self._flush()

    def connects(self, line: Line) -> None:
        """From now on messages go this way; first those that were on another."""
        self._line = line
        self._flush()

    def leaves(self) -> None:
        """The connection is gone: what has no answer is to be sent again, in the order of the cids."""
        self._line = None
        self._on_way = 0
        self._unsent = deque(self._messages)

    def doubt(self, now: float) -> None:
        """A SEND whose connection lives must be answered."""
        oldest = next(iter(self), None)
        if oldest is None or self._line is None or oldest.line is not self._line:
            return
        if now - oldest.sent_at > ANSWER_S and not oldest.is_told:
            oldest.is_told = True
            self._books.says("every message is acknowledged in the end", f"chat {oldest.chat}: no answer to a SEND")

    def acknowledged(self, cid: int, seq: int) -> None:
        """An ACK came."""
        out = self._messages.pop(cid, None)
        if out is None:
            if self._acked_again.get(cid) != seq:
                where = f"an ACK of seq {seq} for cid {cid} that has none due"
                self._books.says("answers agree with each other", where)
            return
        self._on_way -= 1
        self.acked += 1
        if out.tries > 1:
            self._acked_again[cid] = seq
        self._books.acknowledged(out.chat, seq, once=out.tries == 1)
        self.ack_times.append((time.perf_counter_ns() - out.due_ns) / 1e9)
        self._flush()

    def refused(self, cid: int, code: str, detail: str, after_s: float) -> None:
        """A NACK came."""
        self._refusals[f"NACK {code}"] += 1
        out = self._messages.get(cid)
        if out is None or code not in AGAIN:
            self._books.says("every message is acknowledged in the end", f"cid {cid} refused: {code} {detail}")
            return
        out.tries = max(out.tries, 2)  # nobody knows whether it is stored: it is not one that was sent once
        self._on_way -= 1
        asyncio.get_running_loop().call_later(after_s, self._again, out.line, cid)

    def _again(self, line: Line | None, cid: int) -> None:
        if self._line is line:
            self._unsent.append(cid)
            self._flush()

    def _flush(self) -> None:
        """Send what waits, within the window."""
        while self._line is not None and self._unsent and self._on_way < WINDOW:
            cid = self._unsent.popleft()
            out = self._messages.get(cid)
            if out is None:
                continue
            out.tries += 1
            out.line, out.sent_at = self._line, time.monotonic()
            self.sent += 1
            self._on_way += 1
            self._line.write(SEND, cid, out.chat, out.text)
