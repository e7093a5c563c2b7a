"""Syncs that the server begins: telling open sessions what may not have come by the bus.

Three things make one necessary, and the cure is the same, the sync that a session gets when it opens:

- the bus was away, so anything published meanwhile may be missing: every session of this node;
- something was committed and never told, because its node died or was cut off (mim/chat/recovery.py): the sessions of
  the users whom it concerns;
- a group was subscribed only after its members here had learned of it: what was said in between, in that group.

A session is synced from the later of two horizons: the one that is certain for the whole node, and that of its own last
sync. What it is told twice, it drops. Until it is synced it gets no fresh cursor, for that would pass over what is
missing. A session that is still opening is synced when it is open. Few are synced at a time.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from typing import Any, Final

import structlog
from prometheus_client import Counter

from mim.bus.port import Envelope, Missed, chat_topic
from mim.chat import syncing
from mim.chat.calls import peer_error
from mim.chat.context import Context
from mim.chat.freshness import Freshness, Horizon
from mim.chat.publisher import encode
from mim.errors import CloseReason, Code
from mim.gateway.connection import Connection
from mim.hub.hub import Hub
from mim.tasks import TaskSet

log = structlog.get_logger("mim.catching_up")

RESYNCS = Counter("mim_resyncs_total", "Syncs that this node began by itself, by reason.", ["reason"])

AT_ONCE: Final = 6
AGAIN_S: Final = 1.0
GROUPS_AT_ONCE: Final = 500
READING_S: Final = 15.0
BEHIND: Final = "this session could not be brought up to date; connect again and resume with your cursor"


class CatchingUp:
    """Implements the hub's Recovery for the sessions of this node."""

    def __init__(self, context: Context, hub: Hub, freshness: Freshness, connections: Collection[Connection]) -> None:
        self._context = context
        self._hub = hub
        self._freshness = freshness
        self._connections = connections
        self._due: dict[Connection, Horizon | None] = {}  # from where on; None: from its own last sync
        self._syncing: set[Connection] = set()
        self._workers = 0
        self._tasks = TaskSet()

    def __len__(self) -> int:
        """Sessions that wait to be synced."""
        return len(self._due)

    async def close(self) -> None:
        """Stop; who is not synced resumes elsewhere from an older cursor."""
        await self._tasks.close()

    # -- reasons ---------------------------------------------------------------------------

    def restored(self, since: float) -> None:
        """The bus is back: everybody is behind."""
        horizon = self._freshness.before(since)
        if horizon is None:  # this node is younger than its last sign of life from the bus
            synced = [connection.horizon for connection in self._connections if connection.horizon is not None]
            horizon = min(synced, key=lambda one: one.xid, default=None)
        log.info("catching up after the bus was away", sessions=len(self._connections))
        for connection in self._connections:
            self._add(connection, horizon, "bus")
        if horizon is not None:
            self._tasks.spawn(self._insist(lambda: self._read_by(horizon)), name="watermarks after the bus was away")

    def missed(self, missed: Missed) -> None:
        """Something was committed and not told."""
        self._tasks.spawn(self._insist(lambda: self._find_concerned(missed)), name="who missed something")

    def joined(self, chat: int, rev: int) -> None:
        """A group is listened to from now on, and some of its members knew before."""
        self._tasks.spawn(self._insist(lambda: self._look_into(chat, rev)), name="a group listened to late")

    def opened(self, connection: Connection) -> None:
        """A session has its first sync: what happened while it was read is told now."""
        if connection in self._due:
            self._begin()

    def is_behind(self, connection: Connection) -> bool:
        """Whether a session may lack something older than what it gets now."""
        return connection in self._due or connection in self._syncing

    def forget(self, connection: Connection) -> None:
        """A connection is gone."""
        self._due.pop(connection, None)

    async def _find_concerned(self, missed: Missed) -> None:
        users = await syncing.concerned(self._context, missed.chats, missed.xid)
        horizon = Horizon(missed.at, missed.xid, self._freshness.system)
        for connection in self._connections:
            # Whoever is still opening may have read its rows before this was committed.
            if connection.user in users and (connection.horizon is None or connection.horizon.xid <= missed.xid):
                self._add(connection, horizon, "untold")

    def _add(self, connection: Connection, horizon: Horizon | None, reason: str) -> None:
        """Sync from `horizon` on, or from an earlier one that is due already."""
        RESYNCS.labels(reason).inc()
        known = self._due.get(connection, horizon)
        if horizon is not None and known is not None:
            horizon = min(horizon, known, key=lambda one: one.xid)
        self._due[connection] = horizon if known is not None else None
        self._begin()

    # -- syncing ---------------------------------------------------------------------------

    def _begin(self) -> None:
        if self._workers < AT_ONCE:
            self._workers += 1
            self._tasks.spawn(self._work(), name="catching up")

    async def _work(self) -> None:
        try:
            while (connection := next(filter(self._is_ready, self._due), None)) is not None:
                horizon = self._due.pop(connection)
                self._syncing.add(connection)
                try:
                    if not await self._insist(lambda c=connection, h=horizon: self._sync(c, h)):  # type: ignore[misc]
                        connection.evict(CloseReason.SHUTTING_DOWN, BEHIND)
                finally:
                    self._syncing.discard(connection)
        finally:
            self._workers -= 1

    def _is_ready(self, connection: Connection) -> bool:
        return connection.horizon is not None and connection not in self._syncing

    async def _insist(self, work: Callable[[], Any]) -> bool:
        """Try until storage answers; False when it fails for another reason."""
        while True:
            try:
                await work()
            except Exception as exc:  # noqa: BLE001 - logged by peer_error
                if peer_error(exc).code != Code.UNAVAILABLE:
                    return False
                await asyncio.sleep(AGAIN_S)
            else:
                return True

    async def _sync(self, connection: Connection, horizon: Horizon | None) -> None:
        """Tell one session everything that changed for it."""
        if connection.is_closing or connection.horizon is None:
            return
        context, own = self._context, connection.horizon
        since = own if horizon is None or own.xid > horizon.xid else horizon
        self._hub.reads_groups(connection)
        groups = await syncing.groups(context, connection.user, connection.device)
        if connection.is_lost:
            return
        if groups is None:
            connection.evict(CloseReason.SIGNED_OUT)
            return
        await self._hub.join(connection, groups)
        context.publisher.claim_device(connection.device, connection.id, connection.opened, again=True)
        changed = await syncing.changed(
            context, connection.user, connection.device, since, self._freshness.system
        )  # fmt: skip
        if changed is None:
            connection.evict(CloseReason.SIGNED_OUT)
            return
        async with _reading(connection):
            async for frames in syncing.frames(context, connection.user, changed):
                await connection.write_paced(frames)
            await connection.write_paced(await syncing.direct_read_by(context, connection.user, since))
            connection.synced(changed.horizon)

    async def _read_by(self, horizon: Horizon) -> None:
        """Tell the sockets here which watermarks of their groups moved."""
        groups = self._hub.groups()
        for start in range(0, len(groups), GROUPS_AT_ONCE):
            for frame in await syncing.groups_read_by(self._context, groups[start : start + GROUPS_AT_ONCE], horizon):
                self._hub.deliver(chat_topic(frame.chat), Envelope(encode(frame)))

    async def _look_into(self, chat: int, rev: int) -> None:
        """Tell the members here what their group gained before it was listened to."""
        context = self._context
        for listener in self._hub.on_topic(chat_topic(chat)):
            if not isinstance(listener, Connection) or listener.is_closing:
                continue
            if listener.horizon is None:  # it has not heard READY, perhaps not even the answer to its upgrade
                self._add(listener, None, "late")
                continue
            frames = await syncing.chat_frames(context, chat, listener.user, rev)
            async with _reading(listener):
                await listener.write_paced(frames)


@asynccontextmanager
async def _reading(connection: Connection) -> AsyncIterator[None]:
    """While the block writes, the client has to read: one that does not must not keep the others waiting."""
    try:
        async with asyncio.timeout(READING_S) as limit:
            yield
    except TimeoutError:
        if not limit.expired():  # storage's
            raise
        connection.evict(CloseReason.SLOW)
