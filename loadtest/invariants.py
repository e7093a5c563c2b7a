"""What must hold when the dust has settled, whatever happened before (proto/messages.md).

Every client keeps a :class:`Record` of what it sent, what was acknowledged and what it received. At the end, when
every message has been acknowledged (those in doubt were sent again with the same cid), :func:`check` compares the
records with each other and with the database, and returns a :class:`Verdict`:

- nothing acknowledged is missing: the message lies at the acknowledged seq and time, with its sender, device and body;
- nothing is stored twice, and nothing is stored that nobody sent;
- in every chat, seq runs 1, 2, 3, ... up to the head without holes, and `at` never goes back;
- the order in which one connection sent is the order of the seqs;
- what a client received is what is stored, the same for everybody, and nothing that it should have is missing;
- unread counts are exact: the stored watermark is what the user's sends and READs make it, so `head - read` is the
  number of messages after it; and what each client would show is what the database says;
- no change of a chat is missing.

Use it from any harness: nothing here knows of a test runner. A record costs one small object a message sent and one
dictionary entry a message received; checking is linear, but for sorting. For runs of so many messages that this is too
much, :mod:`loadtest.tally` asks less of each client.

    record = Record(user, device)
    connection = record.connects()
    record.sends(connection, chat, cid, body)
    record.acknowledged(cid, seq, at)
    record.receives(chat, seq, sender, body)
    ...
    verdict = check(records, await read_stored(database_url))
    verdict.raise_if_broken()
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby, pairwise
from typing import Any

import asyncpg
import orjson

Body = Any  # a string, or a map with `t`
SHOWN = 10  # violations of one kind that are told in full

# The invariants by name, and the column of a drill's table in which a violation counts.
COLUMN = {
    "nothing acknowledged is lost": "lost",
    "what is stored is what was acknowledged": "lost",
    "seq runs 1 to head": "lost",
    "every message is acknowledged in the end": "lost",
    "everybody has everything": "lost",
    "what is received is what is stored": "lost",
    "everybody has every change": "lost",
    "nothing is stored twice": "doubled",
    "nothing is stored that nobody sent": "doubled",
    "a sender's order is kept": "out of order",
    "live messages come in order": "out of order",
    "time does not go back": "out of order",
    "unread counts are exact": "unread wrong",
    "clients show what is stored": "unread wrong",
    "answers agree with each other": "contradictions",
}


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


@dataclass(frozen=True, slots=True)
class Row:
    """A stored message."""

    chat: int
    seq: int
    sender: int
    device: int
    cid: int
    at: int
    body: Body


@dataclass(frozen=True)
class Stored:
    """What the database holds, read in one snapshot."""

    messages: Mapping[int, Sequence[Row]]  # chat: by rising seq
    heads: Mapping[int, int]  # chat: seq of the newest message
    members: Mapping[tuple[int, int], tuple[int, int]]  # (chat, user) present: first seq that may be seen, watermark
    revs: Mapping[int, int] = field(default_factory=dict)  # chat: rev of the newest change


async def read_stored(url: str, chats: Iterable[int] | None = None) -> Stored:
    """Read everything that the invariants speak of from the database `url`: of these chats, or of all."""
    only = None if chats is None else list(chats)
    connection = await asyncpg.connect(url)
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            messages = await connection.fetch(MESSAGES, only)
            heads = await connection.fetch(CHATS, only)
            members = await connection.fetch(MEMBERS, only)
    finally:
        await connection.close()
    rows = (
        Row(chat, seq, sender, device, cid, at, _body(text, extra))
        for chat, seq, sender, device, cid, at, text, extra in messages
    )
    return Stored(
        messages={chat: list(group) for chat, group in groupby(rows, key=lambda row: row.chat)},
        heads={chat: head for chat, head, _ in heads},
        members={(chat, user): (first, read) for chat, user, first, read in members},
        revs={chat: rev for chat, _, rev in heads},
    )


MESSAGES = """
    select chat_id, seq, sender, device_id, cid, at, text, extra::text from message
    where $1::bigint[] is null or chat_id = any($1) order by chat_id, seq
"""
CHATS = "select id, head, rev from chat where $1::bigint[] is null or id = any($1)"
MEMBERS = """
    select chat_id, user_id, first_seq, read_seq from member
    where left_at is null and ($1::bigint[] is null or chat_id = any($1))
"""


def _body(text: str, extra: str | None) -> Body:
    return text if extra is None else {**orjson.loads(extra), "t": text}


@dataclass
class Verdict:
    """The outcome. `violations` maps an invariant to the sentences that tell where it is broken."""

    messages: int = 0
    acknowledged: int = 0
    received: int = 0
    repeats: int = 0
    violations: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    counts: Counter[str] = field(default_factory=Counter)  # messages, chats or answers concerned, by COLUMN

    def broken(self, invariant: str, where: str, times: int = 1) -> None:
        """Note a violation."""
        self.violations[invariant].append(where)
        self.counts[COLUMN[invariant]] += times

    def __str__(self) -> str:
        lines = [
            f"{self.messages} stored, {self.acknowledged} acknowledged, {self.received} received, "
            f"{self.repeats} of them again: " + ("BROKEN" if self.violations else "every invariant holds")
        ]
        for invariant, places in self.violations.items():
            lines.append(f"{invariant}: {len(places)} times")
            lines += [f"    {place}" for place in places[:SHOWN]]
        return "\n".join(lines)

    def raise_if_broken(self) -> None:
        """AssertionError that tells every broken invariant."""
        assert not self.violations, str(self)


def check(
    records: Iterable[Record], stored: Stored, *, settled: bool = True, complete: bool = True, in_order: bool = True
) -> Verdict:
    """Compare the records of all clients with what is stored.

    `settled`: every message must have been acknowledged by now. `complete`: every client must have received, or sent
    itself, every message of its chats that it may see. `in_order`: no live message may come after a later one; allowed
    is that between nodes, and for a message that was stored by a server which died before it could tell, and is
    delivered when its sender asks again. Records of every client that sent anything must be there.
    """
    records = list(records)
    verdict = Verdict()
    _check_sequences(verdict, stored)
    _check_sent(verdict, records, stored, settled)
    for record in records:
        for conflict in record.conflicts:
            verdict.broken("answers agree with each other", f"device {record.device}: {conflict}")
        if in_order and record.disorders:
            where = f"device {record.device}: {record.disorders} came late"
            verdict.broken("live messages come in order", where, record.disorders)
        _check_order(verdict, record)
        _check_received(verdict, record, stored, complete)
        verdict.repeats += record.repeats
    _check_watermarks(verdict, records, stored)
    return verdict


def _check_sequences(verdict: Verdict, stored: Stored) -> None:
    for chat, head in stored.heads.items():
        rows = stored.messages.get(chat, ())
        verdict.messages += len(rows)
        if [row.seq for row in rows] != list(range(1, head + 1)):
            missing = sorted(set(range(1, head + 1)) - {row.seq for row in rows})
            where = f"chat {chat}: head {head}, {len(rows)} rows, missing {missing[:20]}"
            verdict.broken("seq runs 1 to head", where, len(missing) or 1)
        if any(later.at < row.at for row, later in pairwise(rows)):
            verdict.broken("time does not go back", f"chat {chat}")
    keys = Counter((row.chat, row.device, row.cid) for rows in stored.messages.values() for row in rows)
    for key, times in keys.items():
        if times > 1:
            verdict.broken("nothing is stored twice", f"(chat, device, cid) {key}: {times} times", times - 1)


def _check_sent(verdict: Verdict, records: Sequence[Record], stored: Stored, settled: bool) -> None:
    """Acknowledged messages and stored rows are the same, both ways."""
    by_key = {(row.chat, row.device, row.cid): row for rows in stored.messages.values() for row in rows}
    for record in records:
        for cid, sent in record.sent.items():
            row = by_key.pop((sent.chat, record.device, cid), None)
            where = f"device {record.device} cid {cid} chat {sent.chat}"
            if not sent.is_acknowledged:
                if settled:
                    verdict.broken("every message is acknowledged in the end", f"{where} {sent.refused}")
                continue
            verdict.acknowledged += 1
            if row is None:
                verdict.broken("nothing acknowledged is lost", f"{where}: acknowledged as seq {sent.seq}")
            elif (row.seq, row.at, row.sender, row.body) != (sent.seq, sent.at, record.user, sent.body):
                verdict.broken(
                    "what is stored is what was acknowledged",
                    f"{where}: acknowledged as seq {sent.seq} at {sent.at}, stored as seq {row.seq} at {row.at}",
                )
    for chat, device, cid in by_key:
        verdict.broken("nothing is stored that nobody sent", f"device {device} cid {cid} chat {chat}")


def _check_order(verdict: Verdict, record: Record) -> None:
    """A message whose sending ended before another's began on the same connection, or that was acknowledged before, has
    the lower seq."""
    by_chat: defaultdict[int, list[Sent]] = defaultdict(list)
    for sent in record.sent.values():
        if sent.is_acknowledged:
            by_chat[sent.chat].append(sent)
    for chat, messages in by_chat.items():
        if not _in_order(messages):
            verdict.broken("a sender's order is kept", f"device {record.device} chat {chat}")


def _in_order(messages: Sequence[Sent]) -> bool:
    ended = sorted(messages, key=lambda sent: sent.last[1])
    settled = sorted(messages, key=lambda sent: sent.settled)
    highest: defaultdict[int, int] = defaultdict(int)  # by connection; 0: acknowledged, on whichever
    e = s = 0
    for message in sorted(messages, key=lambda sent: sent.first[1]):
        connection, number = message.first
        while ended[e].last[1] < number:
            highest[ended[e].last[0]] = max(highest[ended[e].last[0]], ended[e].seq)
            e += 1
        while settled[s].settled < number:
            highest[0] = max(highest[0], settled[s].seq)
            s += 1
        if message.seq <= max(highest[connection], highest[0]):
            return False
    return True


def _check_received(verdict: Verdict, record: Record, stored: Stored, complete: bool) -> None:
    verdict.received += len(record.received)
    for (chat, seq), message in record.received.items():
        rows = stored.messages.get(chat, ())
        row = rows[seq - 1] if 0 < seq <= len(rows) else None
        if row is None or (row.seq, row.sender, row.body) != (seq, *message):
            verdict.broken("what is received is what is stored", f"device {record.device} chat {chat} seq {seq}")
    if not complete:
        return
    own = {(sent.chat, sent.seq) for sent in record.sent.values() if sent.is_acknowledged}
    for (chat, user), (first, _) in stored.members.items():
        if user == record.user:
            wanted = {(chat, seq) for seq in range(first, stored.heads[chat] + 1)}
            if missing := wanted - own - record.received.keys():
                where = f"device {record.device}: {sorted(missing)[:20]}"
                verdict.broken("everybody has everything", where, len(missing))
            revs = {(chat, rev) for rev in range(record.knew.get(chat, 0) + 1, stored.revs.get(chat, 0) + 1)}
            if missing := revs - record.changes:
                verdict.broken("everybody has every change", f"device {record.device}: {sorted(missing)[:20]}")


def _check_watermarks(verdict: Verdict, records: Sequence[Record], stored: Stored) -> None:
    least: defaultdict[tuple[int, int], int] = defaultdict(int)
    most: defaultdict[tuple[int, int], int] = defaultdict(int)
    for record in records:
        for sent in record.sent.values():
            key = (sent.chat, record.user)
            least[key] = max(least[key], sent.seq)
        for chat, seq in record.reads.items():
            least[chat, record.user] = max(least[chat, record.user], min(seq, stored.heads.get(chat, 0)))
        for chat, seq in record.attempted_reads.items():
            most[chat, record.user] = max(most[chat, record.user], min(seq, stored.heads.get(chat, 0)))
    users = {record.user for record in records}
    for record in records:
        for chat, shown in record.shows.items():
            _, read = stored.members.get((chat, record.user), (0, 0))
            if shown != (held := (stored.heads.get(chat, 0), read)):
                where = f"device {record.device} chat {chat}: shows head and watermark {shown}, stored are {held}"
                verdict.broken("clients show what is stored", where)
    for (chat, user), (first, read) in stored.members.items():
        low = max(least[chat, user], first - 1)
        if user in users and not low <= read <= max(low, most[chat, user]):
            verdict.broken(
                "unread counts are exact",
                f"chat {chat} user {user}: watermark {read}, expected {low} to {max(low, most[chat, user])}",
            )
