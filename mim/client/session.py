"""One opened session: the tasks that live and die with its connection.

The reader takes frames, the pump writes what is due, the pinger keeps the promise of PING, and a repair task
for each chat with a gap asks for what did not come. The first of them to see the connection end ends them
all (asyncio.TaskGroup).
"""

import asyncio
import logging
import time
from typing import Any, Final

from mim.client.connection import Connection
from mim.client.core import Core
from mim.client.errors import ABNORMAL, CallError, ConnectionLost
from mim.client.models import MALFORMED, Frame, number
from mim.client.ops import Op
from mim.client.outbox import PASSING
from mim.client.timeline import Missing
from mim.errors import CLOSE_CODE, CloseReason, Code

log = logging.getLogger("mim.client")

GAP_WAIT_S: Final = 0.3
"""How long a gap may fill by itself: between nodes two live frames may swap."""

GAP_ATTEMPTS: Final = 4
GAP_FETCHES: Final = 4
"""How many chats are repaired at a time."""

PONG_WAIT_S: Final = 10.0
ANSWER_WAIT_S: Final = 10.0
"""How long a SEND or request may go without any frame before the connection is probed."""

RECV_EVERY: Final = 24
RECV_WITHIN_S: Final = 1.5
TYPING_EVERY_S: Final = 3.0
RETRY_S: Final = 1.0


class Session:
    """An opened session. `synced` is set when its sync is complete."""

    def __init__(self, connection: Connection, core: Core, ready: dict[str, Any]) -> None:
        self.connection = connection
        self.core = core
        self.limits: dict[str, int] = dict(ready["limits"])
        self.synced = asyncio.Event()
        low, high = ready["keepalive"]
        core.keepalive.bounds(low, high)
        core.credentials.skew_s = ready["time"] - time.time()
        core.on_ready(number(ready["user"]), number(ready["device"]), resumed=bool(ready["resumed"]))
        self._wake = asyncio.Event()
        self._probe = asyncio.Event()
        self._pong = asyncio.Event()
        self._pinging = False
        self._reads = set(core.state.reads)  # what the last connection may have lost
        self._typing: dict[int, float] = {}
        self._typing_due: list[int] = []
        self._received = 0
        self._reported = 0
        self._recv_timer: asyncio.TimerHandle | None = None
        self._watch: asyncio.TimerHandle | None = None
        self._repairing: set[int] = set()
        self._fetching = asyncio.Semaphore(GAP_FETCHES)
        self._tasks: asyncio.TaskGroup | None = None

    async def run(self) -> ConnectionLost:
        """Serve the connection until it ends; return how it ended."""
        ended: list[ConnectionLost] = []
        try:
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                tasks.create_task(self._pump(), name="mim.client pump")
                tasks.create_task(self._ping(), name="mim.client ping")
                tasks.create_task(self._renew(), name="mim.client renew")
                self.wake()
                await self._read()
        except* ConnectionLost as group:
            ended.extend(exc for exc in flatten(group) if isinstance(exc, ConnectionLost))
        finally:
            self._tasks = None
            self.core.outbox.connection_lost()
            for timer in (self._recv_timer, self._watch):
                if timer is not None:
                    timer.cancel()
        lost = ended[0]
        if lost.code == CLOSE_CODE[CloseReason.NO_PING] or (self._pinging and lost.code == ABNORMAL):
            self.core.keepalive.failed()
        return lost

    # -- what the client asks for

    def wake(self) -> None:
        """There may be something to write."""
        self._wake.set()

    def read(self, chat: int) -> None:
        """The own watermark of this chat moved."""
        self._reads.add(chat)
        self.wake()

    def typing(self, chat: int) -> None:
        """Say that the user is typing, at most once in 3 s and chat."""
        now = time.monotonic()
        if now >= self._typing.get(chat, 0.0) + TYPING_EVERY_S:
            self._typing[chat] = now
            self._typing_due.append(chat)
            self.wake()

    async def request(self, op: Op, *fields: Any) -> Any:
        """Send a request and return its value. Raises CallError and ConnectionLost."""
        self._expect_answer()
        return await self.connection.request(op, *fields)

    # -- reading

    async def _read(self) -> None:
        while True:
            frame = await self.connection.receive()
            try:
                self._take(frame)
            except MALFORMED:
                log.warning("the server sent a frame %s that cannot be read", frame[0])
            self._repair_gaps()

    def _take(self, frame: Frame) -> None:
        op = frame[0]
        if op in (Op.MSG, Op.CHANGE):
            self._count_received()
        if op == Op.ACK:
            self.core.on_ack(frame)
            self.wake()
        elif op == Op.NACK:
            delay_s = self.core.on_nack(frame)
            self.wake()
            if delay_s is not None:
                asyncio.get_running_loop().call_later(delay_s, self.wake)
        elif op == Op.PONG:
            self._pong.set()
        elif op == Op.ERROR:
            log.warning("the server refused a frame: %s %s", frame[2], frame[3])
        elif self.core.inbox.receive(frame) and op == Op.SYNCED:
            self.core.on_synced()
            self.synced.set()

    def _count_received(self) -> None:
        self._received += 1
        if not self.core.recv:
            return
        if self._received - self._reported >= RECV_EVERY:
            self.wake()
        elif self._recv_timer is None:
            self._recv_timer = asyncio.get_running_loop().call_later(RECV_WITHIN_S, self._recv_due)

    def _recv_due(self) -> None:
        self._recv_timer = None
        if self._received > self._reported:
            self._reported = -RECV_EVERY  # report whatever the count
            self.wake()

    # -- writing

    async def _pump(self) -> None:
        """Write what is due, in an order that keeps messages by rising cid."""
        send = self.connection.send
        while True:
            await self._wake.wait()
            self._wake.clear()
            await self.write_reads()
            while self._typing_due:
                await send(Op.TYPING, self._typing_due.pop())
            for item in self.core.outbox.due(time.monotonic(), self.limits.get("inflight", 1)):
                self._expect_answer()
                await send(Op.SEND, item.cid, item.chat, item.body)
            if self.core.recv and self._received - self._reported >= RECV_EVERY:
                self._reported = self._received
                await send(Op.RECV, self._received)

    async def write_reads(self) -> None:
        """Write the watermarks that moved. Raises ConnectionLost."""
        reads = self.core.state.reads
        while self._reads:
            chat = self._reads.pop()
            if chat in reads:
                await self.connection.send(Op.READ, chat, reads[chat])

    # -- keeping alive

    async def _ping(self) -> None:
        """Send PING by its timer whatever else was sent: each promises when the next one comes."""
        keepalive = self.core.keepalive
        promise_s = keepalive.interval_s
        while True:
            probed = await happens_within(self._probe, promise_s * 0.9)
            self._probe.clear()
            self._pong.clear()
            promise_s = keepalive.interval_s
            reads = {chat: seq for chat, seq in self.core.state.reads.items() if chat not in self._reads}
            self._pinging = True
            await self.connection.send(Op.PING, promise_s)
            if not await happens_within(self._pong, PONG_WAIT_S):
                log.info("no answer to a ping: the connection is dead")
                self.connection.abort()
                return
            self._pinging = False
            if not probed:
                keepalive.held()
            for chat, seq in reads.items():  # written before the ping that was answered: they arrived
                if self.core.state.reads.get(chat) == seq:
                    del self.core.state.reads[chat]

    def _expect_answer(self) -> None:
        if self._watch is None:
            seen = self.connection.received_frames
            self._watch = asyncio.get_running_loop().call_later(ANSWER_WAIT_S, self._check_answer, seen)

    def _check_answer(self, seen: int) -> None:
        self._watch = None
        if self.connection.waiting or self.core.outbox.under_way:
            if self.connection.received_frames == seen:
                self._probe.set()
            self._expect_answer()

    async def _renew(self) -> None:
        """Bring a new token before the present one ends; without a refresh token that is the app's business."""
        credentials = self.core.credentials
        while credentials.refreshable and (wait_s := credentials.renew_in_s()) is not None:
            await asyncio.sleep(max(wait_s, RETRY_S))
            try:
                await credentials.refresh(credentials.token)
                await self.request(Op.CALL, "auth.renew", {"token": credentials.token})
            except CallError as exc:
                log.warning("the session could not be renewed: %s", exc.code)
                return
            except ConnectionLost:
                if self.connection.closed:
                    raise
                await asyncio.sleep(RETRY_S * 4)  # only HTTP is away

    # -- filling gaps

    def _repair_gaps(self) -> None:
        if self._tasks is None:
            return
        for chat in self.core.inbox.gaps - self._repairing:
            self._repairing.add(chat)
            self._tasks.create_task(self._repair(chat), name=f"mim.client repair {chat}")

    async def _repair(self, chat: int) -> None:
        """Wait a moment for what is missing, then ask for it until nothing is."""
        inbox, attempts = self.core.inbox, 0
        try:
            await self.synced.wait()
            await asyncio.sleep(GAP_WAIT_S)
            while (room := inbox.rooms.get(chat)) and (missing := room.timeline.missing()):
                await self.core.lanes.room(chat)
                if attempts >= GAP_ATTEMPTS:
                    log.warning("chat %d: %s after %d never came", chat, missing.what, missing.after)
                    inbox.skip(chat)
                    continue
                before = room.timeline.position()
                if not await self._ask_for(chat, missing):
                    continue
                attempts = 0 if room.timeline.position() != before else attempts + 1
                if attempts:
                    await asyncio.sleep(GAP_WAIT_S * 2**attempts)
        finally:
            self._repairing.discard(chat)

    async def _ask_for(self, chat: int, missing: Missing) -> bool:
        """Ask for a page of what is missing; its frames come in by the reader before this returns.

        False if the server could not tell for now.
        """
        page = max(1, min(200, self.limits.get("fetch", 200)))
        try:
            async with self._fetching:
                if missing.what == "state":
                    state = await self.request(Op.CALL, "chat.get", {"chat": chat})
                    self.core.inbox.on_chat(chat, state)
                else:
                    op = Op.FETCH if missing.what == "messages" else Op.CHANGES
                    await self.request(op, chat, missing.after, page)
        except CallError as exc:
            if exc.code in PASSING or exc.code == Code.INTERNAL:
                await asyncio.sleep(exc.retry_after / 1000 if exc.retry_after else RETRY_S)
                return False
            log.info("chat %d is closed to this user: %s", chat, exc.code)
            self.core.inbox.forget(chat)
        except MALFORMED:
            log.warning("the state of chat %d cannot be read", chat)
        return True


async def happens_within(event: asyncio.Event, seconds: float) -> bool:
    """Wait for an event; False if it did not happen in time."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True


def flatten(group: BaseExceptionGroup[Any]) -> list[BaseException]:
    """Return the exceptions in a group of groups."""
    return [
        leaf for exc in group.exceptions for leaf in (flatten(exc) if isinstance(exc, BaseExceptionGroup) else [exc])
    ]
