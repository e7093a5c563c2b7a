"""A phone: the one device of one user, over all of its connections.

It does what proto/ asks of a client. It sends again after a reconnect what has no answer yet, resumes with its cursor,
fetches what a resume left out, says RECV, READ and TYPING, keeps its promise of PING, and comes back after a lost
connection with back-off, not before the time that BYE or a refused upgrade named. It sleeps (hangs up) and wakes. What
it sees goes to its :class:`~loadtest.phones.books.Books`, which judge it at the end.
"""

import asyncio
import random
import time
from array import array
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any, Final

from loadtest.load.client import ACK, BYE, CHAT, ERROR, MSG, NACK, READY, RESULT, SYNCED, LoadError
from loadtest.phones.books import Books
from loadtest.phones.line import Line
from loadtest.phones.outbox import AGAIN, Outbox, due_of

READ: Final = 3
TYPING: Final = 4
RECV: Final = 5
FETCH: Final = 6
PING: Final = 8
CHANGE: Final = 19

COME_BACK: Final = frozenset({"shutting_down", "moved", "slow", "no_ping", "half_open"})  # 40xx of proto/codes.md
PAGE: Final = 200
PING_S: Final = 240
RECV_S: Final = 1.0  # at the next look; the protocol asks for 2 s
RECV_FRAMES: Final = 32
KEPT_S: Final = 3.0  # after which a READ on a connection that lives on is stored, or was refused
OPEN_S: Final = 60.0  # within which a connection is SYNCED, or given up
HANG_UP_S: Final = 5.0
BACK_OFF_S: Final = 0.5
MOST_BACK_OFF_S: Final = 60.0
OPTIONS: Final = "recv=1&os=android&app=1.0.0"


Reach = Callable[[int, Callable[[], Line]], Awaitable[Line]]
"""Make a connection for the user of this number."""


class Phone:
    """One user with one device."""

    def __init__(self, number: int, token: str, reach: Reach, seed: str = "") -> None:
        self.number = number
        self.user = 0
        self.books = Books(number)
        self.cursor = ""
        self.line: Line | None = None  # while READY
        self.refusals: Counter[str] = Counter()  # by what the server or the network said
        self.outbox = Outbox(self.books, self.refusals)
        self.delivery_times = array("d")  # seconds from due to hearing it live
        self.synced_at = 0.0
        self.syncs = 0  # connections that came to SYNCED
        self.heard = 0  # MSG frames
        self.typings = self.reads = 0
        self.is_synced = False
        self.on_message: Callable[[Phone, int, int, str], None] | None = None  # live: chat, seq, text
        self._token = token
        self._reach = reach
        self._random = random.Random(f"{seed}/phone/{number}")  # noqa: S311
        self._fetching: set[int] = set()
        self._reads: dict[int, tuple[int, float]] = {}  # chat: seq that was read, and when it was said, of late
        self._stay: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()

    # -- awake and asleep ------------------------------------------------------------------

    @property
    def is_awake(self) -> bool:
        """Whether it is connected, or trying to be."""
        return self._stay is not None

    def wake(self) -> None:
        """Connect, and stay connected until it sleeps."""
        if self._stay is None:
            self._stay = asyncio.get_running_loop().create_task(self._stays(), name="phone")  # owned: see `sleep`

    def sleep(self) -> Coroutine[Any, Any, None]:
        """Hang up, with the cursor that there is: at once, so nothing else is said; what is returned waits for it."""
        stay, self._stay = self._stay, None
        line = self.line
        if line is not None:
            self._leave(line)
            line.hang_up()
        return self._is_hung_up(stay, line)

    async def _is_hung_up(self, stay: asyncio.Task[None] | None, line: Line | None) -> None:
        if line is not None:
            await asyncio.wait((line.lost,), timeout=HANG_UP_S)  # what it has said goes out first, if somebody reads
            line.abort()
        if stay is not None:
            stay.cancel()
            await asyncio.gather(stay, *self._tasks, return_exceptions=True)

    def drop(self, *, reset: bool) -> None:
        """Lose the connection, and come back by itself."""
        if (line := self.line) is not None:
            self._leave(line)
            line.hang_up(reset=reset)

    async def until_synced(self, within_s: float = OPEN_S) -> None:
        """Wait for the sync; raises LoadError."""
        try:
            await self.until(lambda: self.is_synced, within_s)
        except TimeoutError:
            said = dict(self.refusals)
            raise LoadError(f"user {self.number} is not SYNCED within {within_s:.0f} s: {said}") from None

    async def until(self, condition: Callable[[], bool], within_s: float) -> None:
        """Wait until it is so, looking at each answer that comes; raises TimeoutError."""
        async with asyncio.timeout(within_s):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def _stays(self) -> None:
        """Connect again and again; whatever ends a connection, the next one resumes."""
        failures = 0
        while self._stay is asyncio.current_task():  # not asleep
            before = self.syncs
            retry_after_s = await self._visit()
            failures = 0 if self.syncs > before else failures + 1
            await asyncio.sleep(self._pause_s(failures, retry_after_s))

    def _pause_s(self, failures: int, retry_after_s: float | None) -> float:
        """Proto/codes.md#close: a random time up to a bound that doubles; not before what the server asked for. A
        connection that was lost once is tried again at once."""
        if retry_after_s is not None:
            return retry_after_s * self._random.uniform(1.0, 1.1)
        if not failures:
            return 0.0
        return self._random.uniform(0.0, min(MOST_BACK_OFF_S, BACK_OFF_S * 2 ** min(failures, 10)))

    async def _visit(self) -> float | None:
        """One connection, from its beginning to its end; the time that the server asks to stay away, if it does."""
        try:
            line = await self._reach(self.number, lambda: Line(self))
        except OSError as exc:
            self.refusals[f"connect: {exc.strerror or type(exc).__name__}"] += 1
            return None
        try:
            line.open(self._token, self.cursor, OPTIONS)
            done, _ = await asyncio.wait((line.lost, line.synced), timeout=OPEN_S, return_when=asyncio.FIRST_COMPLETED)
            if not done:
                self.refusals[f"not SYNCED within {OPEN_S:.0f} s"] += 1
                line.hang_up()
            await line.lost
        finally:
            line.hang_up()
            self._is_lost(line)
        return line.retry_after_s

    def _is_lost(self, line: Line) -> None:
        if line.refusal:
            self.refusals[line.refusal] += 1
        elif line.code:
            self.refusals[f"BYE {line.code}"] += 1
        elif not line.is_over:
            self.refusals["lost" if line.synced.exception() is None else "lost before SYNCED"] += 1
        if self.line is line:
            self._leave(line)

    def _leave(self, line: Line) -> None:
        self.books.ends()
        self.line = None
        self.outbox.leaves()
        self.is_synced = False
        self._fetching.clear()
        self._changed.set()

    # -- what it does ----------------------------------------------------------------------

    def send(self, chat: int, text: str) -> None:
        """Send a message, as soon as there is a connection."""
        self.outbox.add(chat, text)

    def type(self, chat: int) -> None:
        """Say TYPING, if connected."""
        if self.line is not None:
            self.line.write(TYPING, chat)
            self.typings += 1

    def read(self, chat: int) -> bool:
        """READ as far as everything is there; False when there is nothing new."""
        if self.line is None or not (seq := self.books.reads(chat)):
            return False
        self._reads[chat] = (seq, time.monotonic())
        self.line.write(READ, chat, seq)
        self.reads += 1
        return True

    def unread_chats(self, most: int) -> list[int]:
        """Chats with something unread, the newest first."""
        chats = [chat for chat, book in self.books.chats.items() if book.to > book.read]
        return sorted(chats, key=lambda chat: self.books.chats[chat].head, reverse=True)[:most]

    async def call(self, method: str, **params: Any) -> Any:
        """Ask; raises LoadError."""
        if self.line is None:
            raise LoadError(f"user {self.number} has no connection")
        return await self.line.call(method, **params)

    def tick(self, now: float) -> None:
        """RECV and PING when they are due, and a look for answers that stay away. Call it every second or so."""
        line = self.line
        if line is None:
            return
        if line.counted > line.told and now - line.told_at >= RECV_S:
            self._tell(line, now)
        if now - line.pinged_at >= PING_S / 2:
            line.pinged_at = now
            line.write(PING, PING_S)
        for chat in [chat for chat, (_, said_at) in self._reads.items() if now - said_at > KEPT_S]:
            del self._reads[chat]
        self.outbox.doubt(now)

    def _tell(self, line: Line, now: float) -> None:
        line.told, line.told_at = line.counted, now
        line.write(RECV, line.counted)

    # -- what it hears ---------------------------------------------------------------------

    def hears(self, line: Line, frame: list[Any]) -> None:
        """A frame came."""
        if (hear := HEARD.get(frame[0])) is not None:
            hear(self, line, frame)

    def is_refused(self, status: int) -> None:
        """An upgrade was answered otherwise than by letting in or turning away."""
        self.books.says("answers agree with each other", f"the upgrade was answered {status}")

    def _hears_ready(self, line: Line, frame: list[Any]) -> None:
        line.session = frame[2]
        self.user = frame[2]["user"]
        if self.cursor and not frame[2]["resumed"]:
            self.refusals["not resumed"] += 1
        self.line = line
        self.books.connects()
        self._read_again(line)  # READ has no answer, and may have been lost with the connection
        self.outbox.connects(line)
        self._changed.set()

    def _hears_message(self, line: Line, frame: list[Any]) -> None:
        _, chat, seq, sender, _, body, *_ = frame
        self._counts(line)
        self.heard += 1
        if self.books.hears(chat, seq, own=sender == self.user, page=chat in self._fetching):
            self.delivery_times.append((time.perf_counter_ns() - due_of(body)) / 1e9)
            if self.on_message is not None:
                self.on_message(self, chat, seq, body)

    def _hears_change(self, line: Line, frame: list[Any]) -> None:
        self._counts(line)

    def _counts(self, line: Line) -> None:
        line.counted += 1
        if line.counted - line.told >= RECV_FRAMES:
            self._tell(line, time.monotonic())

    def _hears_ack(self, line: Line, frame: list[Any]) -> None:
        _, cid, seq, *_ = frame
        self.outbox.acknowledged(cid, seq)
        self._changed.set()

    def _hears_nack(self, line: Line, frame: list[Any]) -> None:
        _, cid, code, detail, *after = frame
        self.outbox.refused(cid, code, detail, (after[0] if after else 1000) / 1000)

    def _hears_chat(self, line: Line, frame: list[Any]) -> None:
        chat = frame[1]
        in_doubt = any(out.chat == chat for out in self.outbox)
        self.books.hears_chat(chat, frame[2], in_doubt=in_doubt)
        self._changed.set()

    def _hears_synced(self, line: Line, frame: list[Any]) -> None:
        self.cursor = frame[1]
        self.books.synced()
        for chat in self.books.gaps.keys() - self._fetching:
            self._spawn(self._fill(line, chat))
        if not line.synced.done():
            line.synced.set_result(None)
            self.syncs += 1
            self.is_synced = True
            self.synced_at = time.perf_counter()
        self._changed.set()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _fill(self, line: Line, chat: int) -> None:
        """Fetch what a resume left out. If the connection is lost meanwhile, the next one goes on."""
        self._fetching.add(chat)
        after, before = self.books.gaps[chat]
        with suppress(LoadError, TimeoutError):
            more = True
            while more and after < before - 1:
                more = (await line.ask(FETCH, chat, after, min(PAGE, before - 1 - after)))["more"]
                after = max(after + 1, self.books.chats[chat].to)
            self.books.gaps.pop(chat, None)
        if self.line is line:
            self._fetching.discard(chat)
        self._changed.set()

    def _hears_result(self, line: Line, frame: list[Any]) -> None:
        line.answer(frame[1], frame[2])

    def _hears_error(self, line: Line, frame: list[Any]) -> None:
        _, ref, code, detail, *after = frame
        if line.answer(ref, None, f"refused: {code} {detail}"):
            return
        self.refusals[f"ERROR {code}"] += 1
        if code not in AGAIN:
            self.books.says("answers agree with each other", f"ERROR {code}: {detail}")
        elif self._reads:  # a READ could not be kept
            asyncio.get_running_loop().call_later((after[0] if after else 1000) / 1000, self._read_again, line)

    def _read_again(self, line: Line) -> None:
        if self.line is line:
            now = time.monotonic()
            for chat, (seq, _) in self._reads.items():
                self._reads[chat] = (seq, now)
                line.write(READ, chat, seq)

    def _hears_bye(self, line: Line, frame: list[Any]) -> None:
        _, line.code, detail, *after = frame
        line.retry_after_s = after[0] / 1000 if after and after[0] is not None else None
        if line.code not in COME_BACK:
            self.books.says("answers agree with each other", f"BYE {line.code}: {detail}")


HEARD: Final[dict[int, Callable[[Phone, Line, list[Any]], None]]] = {
    READY: Phone._hears_ready,  # noqa: SLF001 - a table of the module's own class
    MSG: Phone._hears_message,  # noqa: SLF001
    CHANGE: Phone._hears_change,  # noqa: SLF001
    ACK: Phone._hears_ack,  # noqa: SLF001
    NACK: Phone._hears_nack,  # noqa: SLF001
    CHAT: Phone._hears_chat,  # noqa: SLF001
    SYNCED: Phone._hears_synced,  # noqa: SLF001
    RESULT: Phone._hears_result,  # noqa: SLF001
    ERROR: Phone._hears_error,  # noqa: SLF001
    BYE: Phone._hears_bye,  # noqa: SLF001
}
