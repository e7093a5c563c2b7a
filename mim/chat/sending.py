"""The way of a message: check, store in a batch, acknowledge, publish (docs/architecture.md#one-message-one-way)."""

import asyncio
from collections import Counter
from collections.abc import Sequence

import structlog
from msgspec import Struct
from prometheus_client import Histogram

from mim.bus.port import Bus
from mim.chat.publisher import Publisher
from mim.chat.push_port import PushPort
from mim.clock import Clock
from mim.errors import Code, PeerError
from mim.model import Caller
from mim.store import chats, search
from mim.store.committer import DUPLICATE, MESSAGES, NOT_MEMBER, STORED, Committer, Pending, Sender
from mim.store.db import UNAVAILABLE, Pool
from mim.store.dispatch import Dispatch
from mim.tasks import TaskSet
from mim.wire.body import check_body
from mim.wire.frames import Body, Id, UInt

log = structlog.get_logger("mim.sending")

DELIVERY_SECONDS = Histogram(
    "mim_delivery_seconds",
    "Time from taking the oldest message of a batch to having handed the whole batch to the bus.",
    buckets=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1, 5, 10),
)

COUNTED = {
    STORED: MESSAGES.labels("stored"),
    DUPLICATE: MESSAGES.labels("duplicate"),
    NOT_MEMBER: MESSAGES.labels("not_member"),
}


class Sending:
    """Takes messages in and, once they are durable, tells everyone. `indexer` hears of every full block of 64."""

    def __init__(
        self, pool: Pool, bus: Bus, publisher: Publisher, push: PushPort, clock: Clock, text_limit: int
    ) -> None:
        self._pool = pool
        self._bus = bus
        self._push = push
        self._clock = clock
        self._publisher = publisher
        self._text_limit = text_limit
        self._tasks = TaskSet()
        self.full_blocks: set[int] = set()

    def submit(self, committer: Committer, sender: Sender, caller: Caller, chat: int, cid: int, body: Body) -> None:
        """Check a message and queue it. Must not block; the sender hears of it exactly once."""
        try:
            stored = check_body(body, self._text_limit)
        except PeerError as exc:
            sender.refuse(cid, exc.code, exc.detail)
            return
        committer.submit(Pending(sender, caller.user, caller.device, caller.connection, chat, cid, stored))

    def committed(self, batch: Sequence[Pending], dispatch: Dispatch) -> None:
        """Acknowledge and publish a committed batch, in its order. One message's trouble is not the others'.

        The batch is dispatched when the bus has all of it and push has planned it.
        """
        told = True
        for sent in batch:
            try:
                self._tell(sent, dispatch)
            except Exception:
                told = False
                log.exception("a settled message could not be told", outcome=sent.outcome)
        self._push.committed(batch, dispatch)
        dispatch.hold()
        self._bus.confirm(dispatch.release)
        dispatch.release(told)
        outcomes = Counter([sent.outcome for sent in batch])
        for outcome, count in outcomes.items():
            COUNTED[outcome].inc(count)
        DELIVERY_SECONDS.observe(self._clock.monotonic() - batch[0].queued)

    def _tell(self, sent: Pending, dispatch: Dispatch) -> None:
        if sent.outcome == NOT_MEMBER:
            sent.sender.refuse(sent.cid, Code.NOT_MEMBER, "you are not a member of this chat")
            return
        sent.sender.acknowledge(sent.cid, sent.seq, sent.at)
        if sent.outcome == DUPLICATE:
            self._publisher.repeated(sent)
        elif sent.concerned:
            dispatch.hold()
            self._tasks.spawn(self._revive(sent, dispatch), name="bring a direct chat back")
        else:
            self._publisher.message(sent)
        if sent.seq % search.BLOCK == 0 and len(self.full_blocks) < MAX_FULL_BLOCKS:
            self.full_blocks.add(sent.chat)

    async def close(self) -> None:
        """Finish what is being told."""
        await self._tasks.close()

    async def _revive(self, sent: Pending, dispatch: Dispatch) -> None:
        """A hidden direct chat comes back: its CHAT frame goes before the message."""
        shown = False
        try:
            self._publisher.states(sent.chat, await chats.states(self._pool, sent.chat, sent.concerned))
            shown = True
        except UNAVAILABLE as exc:  # the message itself is durable, and recovery tells of the chat
            log.warning("a chat could not be shown again", error=type(exc).__name__)
        finally:
            self._publisher.message(sent)
            self._bus.confirm(lambda ok: dispatch.release(ok and shown))


MAX_FULL_BLOCKS = 100_000  # chats that wait for the search index; beyond, their next block brings them back


class Sent(Struct, frozen=True):
    """Where a message was stored."""

    seq: int
    at: int


class SendParams(Struct, frozen=True):
    """Parameters of `chat.send`."""

    chat: Id
    cid: UInt
    body: Body


class Waiter:
    """A :class:`Sender` that waits: for messages that come by a call instead of SEND."""

    def __init__(self) -> None:
        self._answer: asyncio.Future[Sent] = asyncio.get_running_loop().create_future()

    def acknowledge(self, cid: int, seq: int, at: int) -> None:
        if not self._answer.done():
            self._answer.set_result(Sent(seq, at))

    def refuse(self, cid: int, code: Code, detail: str, retry_after_ms: int | None = None) -> None:
        if not self._answer.done():
            self._answer.set_exception(PeerError(code, detail, retry_after_ms))

    async def answer(self) -> Sent:
        """The place of the message, or PeerError."""
        return await self._answer
