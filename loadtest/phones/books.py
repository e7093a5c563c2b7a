"""What a phone notes of a run, and what must hold when the run is over.

A phone may sleep, lose its connection, send again and resume, so more can rightly happen to it than to a client of
:mod:`loadtest.checks.tally`, which stays connected in one chat. Still it notes little, some integers a message:

- **For good**, by chat: the seqs it had acknowledged and those it heard. Together they must be what this user may see,
  up to the head, each once. A hole is closed by FETCH only where a resume left one; so what was lost on a live
  connection stays lost in the books. A repetition is not noted again.
- **On a connection**, by chat: since the sync, live frames continue the sequence. So a seq that comes late is out of
  order, one that comes twice was delivered twice, and one that is missing when the connection ends was lost, even when
  the next resume brings it.
- **Its own watermark**, from its own doing alone: what it sent and what it READ. The server's must be the same.

Between nodes two live frames may swap, and a message that its sender sends again is delivered again
(proto/messages.md). Who did what is known only when the books of all phones lie side by side: :func:`merged` does that,
and answers in the words of :mod:`loadtest.checks.invariants`.
"""

from array import array
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from loadtest.checks.invariants import Verdict

TOLD: Final = 20  # breaches of one kind that a phone tells in full
NOTHING: Final[frozenset[int]] = frozenset()

Place: TypeAlias = tuple[int, int]
"""Chat and seq of a message."""


class ChatBook:
    """One chat as one phone knows it."""

    __slots__ = (
        "acked", "ahead", "base", "connection", "first", "head", "heard", "missing", "own", "read", "resync", "synced",
        "to", "top",
    )  # fmt: skip

    def __init__(self, first: int = 1) -> None:
        self.first = first
        self.to = first - 1  # it has everything from `first` up to here
        self.ahead: set[int] | frozenset[int] = NOTHING  # and these
        self.acked = array("Q")
        self.heard = array("Q")
        self.head = 0  # the newest that it knows of
        self.read = first - 1  # its watermark, by its own doing
        self.synced = 0  # first seq of the sync under way, 0 when none came
        self.resync = False  # CHAT came in the middle of a session: until SYNCED what follows may be a sync
        # on this connection, since its sync:
        self.connection = 0
        self.base = self.top = 0
        self.own = 0  # the highest seq of an own message that was sent once, on this connection
        self.missing: set[int] | frozenset[int] = NOTHING  # between `base` and `top`

    def has(self, seq: int) -> bool:
        """Whether it got this message, or what it had acknowledged is this one."""
        return seq <= self.to or seq in self.ahead

    def take(self, seq: int) -> bool:
        """Note that it has this one; False when it had it before."""
        if self.has(seq):
            return False
        if seq == self.to + 1:
            self.to = seq
            if self.ahead:
                self._catch_up()
        else:
            if not self.ahead:
                self.ahead = set()
            self.ahead.add(seq)  # type: ignore[union-attr]  # a set from here on
        self.head = max(self.head, seq)
        return True

    def _catch_up(self) -> None:
        ahead = set(self.ahead)
        while self.to + 1 in ahead:
            self.to += 1
            ahead.discard(self.to)
        self.ahead = ahead or NOTHING

    def begin(self, connection: int) -> None:
        """What comes on this connection from now on continues the sequence at what there is."""
        if self.connection != connection:
            self.connection = connection
            self.base = self.top = max(self.ahead, default=self.to)
            self.own = 0
            self.missing = NOTHING

    def follow(self, seq: int) -> tuple[bool, bool]:
        """A live frame told of this seq: (whether it came late, whether it was told before)."""
        if seq > self.top:
            if seq > self.top + 1:
                self.missing = self.missing | set(range(self.top + 1, seq))
            self.top = seq
            return False, False
        if seq in self.missing:
            self.missing = self.missing - {seq} or NOTHING
            return True, False
        return False, seq > self.base

    def fill(self, seq: int) -> None:
        """A sync or a page told of this seq, which says nothing about order."""
        if seq in self.missing:
            self.missing = self.missing - {seq} or NOTHING
            self.base = max(self.base, seq)  # it may still come live
        elif seq > self.top:
            self.base = self.top = seq
            self.missing = NOTHING


@dataclass
class Breaches:
    """What one phone saw that must not be, or that only the others' books can excuse."""

    late: list[Place] = field(default_factory=list)  # live, after a later one
    twice: list[Place] = field(default_factory=list)  # live, on one connection
    lost: list[Place] = field(default_factory=list)  # missing on a connection when it hung up
    said: list[tuple[str, str]] = field(default_factory=list)  # (invariant, sentence)
    count: Counter[str] = field(default_factory=Counter)

    def note(self, what: list[Any], kind: str, item: Any) -> None:
        """Count it, and keep the first ones."""
        self.count[kind] += 1
        if len(what) < TOLD:
            what.append(item)


class Books:
    """Everything that one phone notes. Nothing here does I/O."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.chats: dict[int, ChatBook] = {}
        self.breaches = Breaches()
        self.gaps: dict[int, tuple[int, int]] = {}  # by chat, to be fetched: after this seq, before that
        self.resent: set[Place] = set()  # own messages that were sent more than once
        self.repeats = 0  # messages that came again
        self.received = 0
        self.connection = 0
        self.live = False  # the sync of this connection is complete

    # -- connections -----------------------------------------------------------------------

    def connects(self) -> None:
        """A new connection begins with a sync."""
        self.connection += 1
        self.live = False

    def synced(self) -> None:
        """A sync is complete. What it left out, between what there was and what it brought, goes to `gaps`."""
        self.live = True
        for chat, book in self.chats.items():
            if book.synced > book.to + 1:
                after, _ = self.gaps.get(chat, (book.to, 0))
                self.gaps[chat] = (after, book.synced)
            book.synced, book.resync = 0, False

    def ends(self) -> None:
        """The connection is over, whoever ended it. What was on its way is not missed; what it passed over is."""
        if self.live:
            self.note_lost()
        self.live = False

    def note_lost(self) -> None:
        """Note what live frames of this connection passed over."""
        for chat, book in self.chats.items():
            if book.connection == self.connection and book.missing:
                for seq in book.missing:
                    self.breaches.note(self.breaches.lost, "lost", (chat, seq))
                book.missing = NOTHING

    # -- what comes ------------------------------------------------------------------------

    def hears_chat(self, chat: int, state: Mapping[str, Any], *, in_doubt: bool = False) -> None:
        """CHAT: in the sync, or when it appears, or in a sync in the middle of the session. `in_doubt` when an own
        message in this chat has no answer yet: it may be in what the server tells."""
        if state["kind"] == "left":
            self.says("everybody has everything", f"chat {chat}: told to be out of it")
            return
        book = self.chats.get(chat)
        if book is None:
            book = self.chats[chat] = ChatBook(state["first"])
        elif self.live:
            book.resync = True
        book.head = max(book.head, state["head"])
        if state["read"] > book.read and not in_doubt:
            self.says("unread counts are exact", f"chat {chat}: told watermark {state['read']}, had read {book.read}")

    def hears(self, chat: int, seq: int, *, own: bool, page: bool = False) -> bool:
        """MSG came; True when it is new and live. `own`: this user sent it. `page`: this chat is being fetched."""
        book = self.chats.setdefault(chat, ChatBook())
        live = self.live and not page and not book.resync
        if live:
            self._follow(chat, book, seq)
        elif self.live:
            book.begin(self.connection)
            book.fill(seq)
        if not page and not live and not book.synced:
            book.synced = seq
        if own:
            book.read = max(book.read, seq)
        self.received += 1
        if not book.take(seq):
            self.repeats += 1
            return False
        book.heard.append(seq)
        return live

    def acknowledged(self, chat: int, seq: int, *, once: bool) -> None:
        """ACK came. `once`: the message was sent on this connection alone, and once."""
        book = self.chats.setdefault(chat, ChatBook())
        if self.live:
            book.begin(self.connection)  # before this one is there
        book.read = max(book.read, seq)
        book.acked.append(seq)
        book.take(seq)
        if not once:
            self.resent.add((chat, seq))
        if not self.live:
            return
        if book.follow(seq)[1] and once:
            self.says("answers agree with each other", f"chat {chat}: seq {seq} acknowledged, and heard as another's")
        if once:
            if seq <= book.own:
                self.says("a sender's order is kept", f"chat {chat}: seq {seq} acknowledged after {book.own}")
            book.own = seq

    def _follow(self, chat: int, book: ChatBook, seq: int) -> None:
        book.begin(self.connection)
        late, twice = book.follow(seq)
        if late:
            self.breaches.note(self.breaches.late, "late", (chat, seq))
        if twice:
            self.breaches.note(self.breaches.twice, "twice", (chat, seq))

    # -- what it shows ---------------------------------------------------------------------

    def reads(self, chat: int) -> int:
        """The user reads as far as everything is there: the seq to READ, 0 when there is nothing new."""
        book = self.chats.get(chat)
        if book is None or book.to <= book.read:
            return 0
        book.read = book.to
        return book.to

    def unread(self, chat: int) -> int:
        """What it shows beside the chat."""
        book = self.chats[chat]
        return book.head - book.read

    def says(self, invariant: str, sentence: str) -> None:
        """Note a broken promise."""
        self.breaches.note(self.breaches.said, "said", (invariant, f"user {self.number}: {sentence}"))

    # -- the end ---------------------------------------------------------------------------

    def differs(self, states: Mapping[int, Mapping[str, Any]]) -> list[tuple[str, str, int]]:
        """Where what this phone has and shows is not what the server tells of its chats (chat.list): invariant,
        sentence, number of messages or chats."""
        found = [("everybody has everything", f"chat {chat} is gone", 1) for chat in self.chats.keys() - states.keys()]
        for chat, state in states.items():
            book = self.chats.get(chat) or ChatBook(state["first"])
            if missing := [seq for seq in range(book.to + 1, state["head"] + 1) if not book.has(seq)]:
                some = ", ".join(map(str, missing[:10]))
                found.append(("everybody has everything", f"chat {chat}: not seq {some}", len(missing)))
            if book.head != state["head"]:
                shows = f"chat {chat}: shows head {book.head}, stored is {state['head']}"
                found.append(("clients show what is stored", shows, 1))
            if book.read != state["read"]:
                counts = f"{book.head - book.read} unread by its count, {state['head'] - state['read']} by the server's"
                found.append(("unread counts are exact", f"chat {chat}: {counts}", 1))
        return [(invariant, f"user {self.number}: {sentence}", times) for invariant, sentence, times in found]


@dataclass
class Account:
    """What the phones of one process have to say at the end: plain data."""

    phones: int = 0
    acknowledged: int = 0
    received: int = 0
    repeats: int = 0
    heads: dict[int, int] = field(default_factory=dict)  # by chat, as the server tells
    acked: "dict[int, array[int]]" = field(default_factory=dict)  # by chat, of all phones
    resent: set[Place] = field(default_factory=set)
    breaches: dict[int, Breaches] = field(default_factory=dict)  # by user, where there are any
    broken: list[tuple[str, str, int]] = field(default_factory=list)

    def add(self, books: Books, states: Mapping[int, Mapping[str, Any]] | None) -> None:
        """Take in one phone: its books, and what the server tells of its chats, if it could be asked."""
        self.phones += 1
        self.received += books.received
        self.repeats += books.repeats
        self.resent |= books.resent
        if books.live:
            books.note_lost()
        if books.breaches.count:
            self.breaches[books.number] = books.breaches
        for chat, state in (states or {}).items():
            self.heads[chat] = max(self.heads.get(chat, 0), state["head"])
        for chat, book in books.chats.items():
            if book.acked:
                self.acknowledged += len(book.acked)
                self.acked.setdefault(chat, array("Q")).extend(book.acked)
        if states is not None:
            self.broken += books.differs(states)


def merged(accounts: Iterable[Account], *, in_order: bool = True) -> Verdict:
    """The outcome of a run, from the accounts of all its processes.

    `in_order`: one node served everybody without a fault, so live frames may not swap, nor be missing when a phone
    hangs up. Otherwise both are allowed, and what is missing must have come by itself before the end.
    """
    accounts = list(accounts)
    verdict = Verdict()
    heads: dict[int, int] = {}
    acked: dict[int, array[int]] = {}
    resent: set[Place] = set()
    for account in accounts:
        verdict.acknowledged += account.acknowledged
        verdict.received += account.received
        verdict.repeats += account.repeats
        resent |= account.resent
        for invariant, where, times in account.broken:
            verdict.broken(invariant, where, times)
        for chat, head in account.heads.items():
            heads[chat] = max(heads.get(chat, 0), head)
        for chat, seqs in account.acked.items():
            acked.setdefault(chat, array("Q")).extend(seqs)
    verdict.messages = sum(heads.values())
    for account in accounts:
        for user, breaches in account.breaches.items():
            _judge(verdict, user, breaches, resent, in_order=in_order)
    for chat, head in heads.items():
        _compare(verdict, chat, head, acked.get(chat, array("Q")))
    return verdict


def _judge(verdict: Verdict, user: int, breaches: Breaches, resent: set[Place], *, in_order: bool) -> None:
    for invariant, sentence in breaches.said:
        verdict.broken(invariant, sentence)
    for chat, seq in breaches.twice:
        if (chat, seq) not in resent:
            verdict.broken("nothing is delivered twice", f"user {user}: chat {chat} seq {seq} twice on one connection")
    if not in_order:
        return
    for chat, seq in breaches.late:
        if (chat, seq) not in resent:
            verdict.broken("live messages come in order", f"user {user}: chat {chat} seq {seq} after a later one")
    for chat, seq in breaches.lost:
        verdict.broken("everybody has everything", f"user {user}: chat {chat} seq {seq} did not come live")


def _compare(verdict: Verdict, chat: int, head: int, acked: "array[int]") -> None:
    """What was acknowledged to anybody in a chat is 1 to its head, each once: nobody else sends in a run."""
    times = Counter(acked)
    if doubled := sorted(seq for seq, count in times.items() if count > 1):
        verdict.broken("answers agree with each other", f"chat {chat}: seqs {doubled[:10]} are two messages each")
    if lost := sorted(seq for seq in times if seq > head):
        verdict.broken("nothing acknowledged is lost", f"chat {chat}: head {head}, acknowledged {lost[:10]}", len(lost))
    if strange := [seq for seq in range(1, head + 1) if seq not in times]:
        where = f"chat {chat}: nobody was acknowledged seq {strange[:10]}"
        verdict.broken("nothing is stored that nobody sent", where, len(strange))
