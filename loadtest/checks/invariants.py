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
much, :mod:`loadtest.checks.tally` asks less of each client.

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
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from loadtest.checks.record import Record, Sent
from loadtest.checks.stored import Stored

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
    "nothing is delivered twice": "doubled",
    "a sender's order is kept": "out of order",
    "live messages come in order": "out of order",
    "time does not go back": "out of order",
    "unread counts are exact": "unread wrong",
    "clients show what is stored": "unread wrong",
    "answers agree with each other": "contradictions",
}


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

    def add(self, other: "Verdict") -> None:
        """Take another part's outcome into this one."""
        self.messages += other.messages
        self.acknowledged += other.acknowledged
        self.received += other.received
        self.repeats += other.repeats
        self.counts += other.counts
        for invariant, places in other.violations.items():
            self.violations[invariant] += places

    def sentences(self, shown: int = SHOWN) -> list[str]:
        """The first places where each invariant is broken."""
        return [f"{name}: {place}" for name, places in self.violations.items() for place in places[:shown]]

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
