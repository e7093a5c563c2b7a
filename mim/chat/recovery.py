"""Telling what was committed and not told (docs/architecture.md#crash-between-commit-and-publish).

Once a second this node looks for rows of dispatch_log that nobody sees to: of nodes that died, of its own that the bus
gave up. It does not publish them again one by one: it tells every node which chats gained something from which
transaction on, and each brings its own sessions up to date from storage (mim/gateway/catching_up.py). That is right for
messages, edits, joins and kicks alike, and it may happen twice.
"""

import asyncio
from typing import Final

import structlog
from prometheus_client import Counter

from mim.bus.port import NODES, Bus, Envelope, Missed
from mim.chat.push_port import PushPort
from mim.clock import Clock
from mim.store import dispatch
from mim.store.db import UNAVAILABLE, Connection, Connector
from mim.store.dispatch import Dispatches, Lost
from mim.tasks import TaskSet

log = structlog.get_logger("mim.recovery")

RECOVERED = Counter("mim_dispatch_recovered_total", "Committed transactions that were told by recovery.", ["whose"])

LOOK_EVERY_S: Final = 1.0
ROUND_S: Final = 8.0
BUS_S: Final = 3.0  # without a sign of life from the bus
CONFIRM_S: Final = 2.0
CHATS_AT_ONCE: Final = 2000
LAST_S: Final = 1.0
LEAVE_S: Final = 2.0
TOGETHER_S: Final = 0.3  # within which the processes of one server are told to end


class Recovery:
    """Holds this node's lock and sees to what is lost."""

    def __init__(self, connect: Connector, bus: Bus, push: PushPort, dispatches: Dispatches, clock: Clock) -> None:
        self._connect = connect
        self._bus = bus
        self._push = push
        self._dispatches = dispatches
        self._clock = clock
        self._connection: Connection | None = None
        self._leaving = False
        self._alone = asyncio.Lock()  # in using the connection
        self._tasks = TaskSet()

    async def start(self) -> None:
        """Take the lock of this node, then look after others."""
        await self._look()
        self._tasks.spawn(self._run(), name="recovery")

    async def close(self) -> None:
        """Wait a moment for what is on its way, and delete what is done; the rest is another node's from now on."""
        # Tasks and not timeouts: the driver waits long for a stalled database to confirm what is cancelled.
        last = self._tasks.spawn(self._finish(), name="last dispatches")
        await asyncio.wait({last}, timeout=LAST_S)
        self._disconnect()
        await self._tasks.close()

    async def _finish(self) -> None:
        try:
            while self._dispatches.under_way:  # noqa: ASYNC110 - bounded by close()
                await asyncio.sleep(0.02)
            async with self._alone:
                await self._forget_done()
        except UNAVAILABLE as exc:
            log.warning("dispatch_log could not be tidied up", error=type(exc).__name__)

    async def leaves(self) -> bool:
        """This node serves nobody any more; whether others do. Those that leave at the same moment do not count."""
        self._leaving = True
        try:
            async with asyncio.timeout(LEAVE_S), self._alone:
                if self._connection is None:
                    return False
                await dispatch.serve_no_more(self._connection, self._dispatches.node)
                await asyncio.sleep(TOGETHER_S)
                return await dispatch.others_serve(self._connection)
        except UNAVAILABLE as exc:
            log.warning("storage is away: clients are not sent elsewhere", error=type(exc).__name__)
            return False

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            try:
                async with asyncio.timeout(ROUND_S):
                    await self._look()
            except UNAVAILABLE as exc:
                log.warning("storage is away", error=type(exc).__name__)
                self._disconnect()

    async def _look(self) -> None:
        async with self._alone:
            await self._look_alone()

    async def _look_alone(self) -> None:
        if self._connection is None:
            self._connection = await self._connect({})
            await dispatch.occupy(self._connection, self._dispatches.node, serving=not self._leaving)
        await self._forget_done()
        if self._bus.whole_until() < self._clock.monotonic() - BUS_S:
            return  # nobody could be told; those who are alive say it again themselves when the bus is back
        for lost in await dispatch.lost(self._connection, self._dispatches):
            await self._recover(self._connection, lost)

    async def _forget_done(self) -> None:
        done = self._dispatches.take_done()
        if not done:
            return
        try:
            if self._connection is None:
                raise ConnectionError("not connected")
            await dispatch.forget(self._connection, self._dispatches.node, done)
        except BaseException:
            self._dispatches.forgotten(done, ok=False)
            raise
        self._dispatches.forgotten(done, ok=True)

    async def _recover(self, conn: Connection, lost: Lost) -> None:
        """Tell all nodes; the rows are deleted once the bus has it and the pushes are planned."""
        chats = sorted(set(lost.chats))
        for start in range(0, len(chats), CHATS_AT_ONCE):
            missed = Missed(chats[start : start + CHATS_AT_ONCE], lost.xid, lost.at)
            self._bus.publish(NODES, Envelope(b"", control=missed))
        messages = [(chat, seq) for chat, seq in zip(lost.chats, lost.seqs, strict=True) if seq]
        if await self._confirmed() and self._push.recovered(
            [chat for chat, _ in messages], [seq for _, seq in messages]
        ):
            await dispatch.forget(conn, lost.node, lost.numbers)
            whose = "own" if lost.node == self._dispatches.node else "other"
            RECOVERED.labels(whose).inc(len(lost.numbers))
            log.info("recovered what was not told", node=lost.node, transactions=len(lost.numbers), chats=len(chats))

    async def _confirmed(self) -> bool:
        """Whether the bus has what was published; False when it does not say so soon."""
        told: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._bus.confirm(lambda ok: None if told.done() else told.set_result(ok))
        await asyncio.wait({told}, timeout=CONFIRM_S)
        return told.done() and told.result()

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()


def _messages(lost: Lost) -> tuple[list[int], list[int]]:
    """Chats and seqs of the messages in these rows."""
    found = [(chat, seq) for chat, seq in zip(lost.chats, lost.seqs, strict=True) if seq]
    return [chat for chat, _ in found], [seq for _, seq in found]
