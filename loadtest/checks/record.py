"""What a client did and heard, as it happened.

:mod:`loadtest.checks.invariants` compares it with others' and with the database.
"""

from dataclasses import dataclass
from typing import Any

Body = Any  # a string, or a map with `t`


@dataclass(slots=True)
class Sent:
    """A message as its client knows it. Attempts and acknowledgements are numbered in the order of their happening."""

    chat: int
    body: Body
    first: tuple[int, int]  # connection and number of the first attempt
    last: tuple[int, int]  # of the newest attempt
    settled: int = 0  # number of the first acknowledgement
    seq: int = 0
    at: int = 0
    refused: str = ""  # code of the newest NACK, "" when there was none since the last attempt

    @property
    def is_acknowledged(self) -> bool:
        """Whether the client may rely on it."""
        return self.settled > 0


class Record:
    """What one client, a device of a user, did and heard over all of its connections."""

    def __init__(self, user: int, device: int) -> None:
        self.user = user
        self.device = device
        self.sent: dict[int, Sent] = {}  # by cid, which a device never uses twice
        self.received: dict[tuple[int, int], tuple[int, Body]] = {}  # (chat, seq): sender, body
        self.reads: dict[int, int] = {}  # chat: highest READ that is certain to have been heard
        self.attempted_reads: dict[int, int] = {}  # chat: highest READ that was sent at all
        self.changes: set[tuple[int, int]] = set()  # (chat, rev) of every change received
        self.knew: dict[
            int, int
        ] = {}  # chat: rev of its first CHAT, if that was above 0; earlier changes need not come
        self.shows: dict[int, tuple[int, int]] = {}  # chat: head and watermark as the client has them at the end
        self.repeats = 0  # messages received again, which is allowed
        self.disorders = 0  # new live messages with a seq below one received before on the same connection
        self.conflicts: list[str] = []  # answers that contradict earlier ones
        self._waiting: dict[int, None] = {}  # unacknowledged cids in the order of their first sending
        self._newest: dict[int, int] = {}
        self._connection = 0
        self._number = 0

    def connects(self) -> int:
        """A new connection begins; returns its number for `sends`."""
        self._connection += 1
        self._newest.clear()
        return self._connection

    def sends(self, connection: int, chat: int, cid: int, body: Body) -> None:
        """SEND goes out, for the first time or again. Call it in the order of sending."""
        self._number += 1
        attempt = (connection, self._number)
        known = self.sent.get(cid)
        if known is None:
            self.sent[cid] = Sent(chat, body, attempt, attempt)
            self._waiting[cid] = None
        else:
            known.last = attempt
            known.refused = ""

    def acknowledged(self, cid: int, seq: int, at: int) -> None:
        """ACK came."""
        self._number += 1
        known = self.sent.get(cid)
        if known is None:
            self.conflicts.append(f"an ACK for cid {cid} that was never sent")
        elif not known.is_acknowledged:
            known.settled, known.seq, known.at = self._number, seq, at
            del self._waiting[cid]
        elif (known.seq, known.at) != (seq, at):
            self.conflicts.append(f"cid {cid} acknowledged as {(known.seq, known.at)}, then as {(seq, at)}")

    def refused(self, cid: int, code: str) -> None:
        """NACK came."""
        known = self.sent.get(cid)
        if known is None:
            self.conflicts.append(f"a NACK for cid {cid} that was never sent")
        elif known.is_acknowledged:
            self.conflicts.append(f"cid {cid} refused with {code} after its ACK")
        else:
            known.refused = code

    def receives(self, chat: int, seq: int, sender: int, body: Body, *, live: bool = True) -> None:
        """MSG came: live, or (`live=False`) in a sync or a page, where the order says nothing."""
        known = self.received.get((chat, seq))
        if known is None:
            self.received[chat, seq] = (sender, body)
            if live and seq < self._newest.get(chat, 0):
                self.disorders += 1
        else:
            self.repeats += 1
            if known != (sender, body):
                self.conflicts.append(f"chat {chat} seq {seq} received as two different messages")
        if live:
            self._newest[chat] = max(seq, self._newest.get(chat, 0))

    def says_read(self, chat: int, seq: int, *, certain: bool) -> None:
        """READ goes out. `certain` when this connection is known to have lived on until the watermark was stored."""
        self.attempted_reads[chat] = max(seq, self.attempted_reads.get(chat, 0))
        if certain:
            self.reads[chat] = max(seq, self.reads.get(chat, 0))

    @property
    def acknowledged_cids(self) -> list[int]:
        """The cids that got an ACK."""
        return [cid for cid, sent in self.sent.items() if sent.is_acknowledged]

    @property
    def unacknowledged(self) -> list[int]:
        """The cids to send again, in the order of their first sending."""
        return list(self._waiting)
