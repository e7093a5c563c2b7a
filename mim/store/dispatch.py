"""What was committed and perhaps not told: the rows of dispatch_log, and who sees to them.

A :class:`Dispatch` is one committed transaction on its way to everybody: held by all who still have something to do for
it, done when the last of them lets go. Rows of what is done are deleted by the next commit, or soon after. A row that
is neither under way nor done was abandoned: its outcome was unknown, or the bus gave it up. Such rows, and those of
nodes that are gone, are recovered (mim/chat/recovery.py).

A node is alive as long as it holds the advisory lock of its number: Postgres lets go of it however the node ends.
"""

from collections.abc import Collection, Sequence
from typing import Any, Final

from msgspec import Struct

from mim.store.db import Connection, Pool

NODE_LOCK: Final = 0x6D696D01  # first half of the advisory lock; the second is the node's number
SERVING_LOCK: Final = 0x6D696D02  # likewise, while the node takes clients
ROWS: Final = 500  # recovered at a time
STALE_S: Final = 10  # rows this old are recovered though their node lives: it may be stopped, or without Redis


class Dispatch:
    """One transaction on its way. Begins with one hold: its maker's."""

    __slots__ = ("_failed", "_holds", "_owner", "number", "numbers")

    def __init__(self, owner: "Dispatches", number: int) -> None:
        self.number = number
        self.numbers = [number]  # and those of attempts whose outcome it settles
        self._owner = owner
        self._holds = 1
        self._failed = False

    def hold(self) -> None:
        """Somebody more has to do something for it."""
        self._holds += 1

    def release(self, ok: bool = True) -> None:
        """One of those is ready. After a False the rows stay, to be recovered."""
        self._holds -= 1
        self._failed |= not ok
        if self._holds == 0:
            self._owner.ended(self.numbers, done=not self._failed)


class Dispatches:
    """This node's transactions on their way. Without I/O; numbers are handed out by :meth:`begin`."""

    def __init__(self, node: int) -> None:
        self.node = node
        self._newest = 0
        self._under_way: set[int] = set()
        self._done: list[int] = []
        self._deleting: set[int] = set()  # done, and their rows about to go

    def begin(self, instead_of: Dispatch | None = None) -> Dispatch:
        """A transaction begins, perhaps as another attempt at an earlier one. Whoever begins releases it, whatever
        happens.
        """
        self._newest += 1
        dispatch = Dispatch(self, self._newest)
        self._under_way.add(dispatch.number)
        if instead_of is not None:
            dispatch.numbers += instead_of.numbers
        return dispatch

    def ended(self, numbers: Sequence[int], *, done: bool) -> None:
        """All holds of a dispatch are released."""
        self._under_way.difference_update(numbers)
        if done:
            self._done.extend(numbers)

    @property
    def under_way(self) -> int:
        """How many are not done yet, and not given up."""
        return len(self._under_way)

    def take_done(self) -> list[int]:
        """Numbers whose rows may be deleted; whoever takes them says what became of it by :meth:`forgotten`."""
        taken, self._done = self._done, []
        self._deleting.update(taken)
        return taken

    def forgotten(self, numbers: Sequence[int], *, ok: bool) -> None:
        """The rows are deleted; or (`ok` False) perhaps not."""
        self._deleting.difference_update(numbers)
        if not ok:
            self._done.extend(numbers)

    def living(self) -> tuple[int, list[int]]:
        """(newest number so far, numbers up to it whose rows are not abandoned)."""
        return self._newest, [*self._under_way, *self._deleting, *self._done]


class Lost(Struct, frozen=True):
    """Rows of one node that nobody sees to: their numbers, the oldest transaction and its second, the messages (seq 0:
    the chat)."""

    node: int
    numbers: list[int]
    xid: int
    at: int
    chats: list[int]
    seqs: list[int]


async def new_node(db: Pool | Connection) -> int:
    """A number for this node, unlike those of the last million."""
    number: int = await db.fetchval("select nextval('node_number')")
    return number


async def occupy(conn: Connection, node: int, *, serving: bool) -> None:
    """Hold the locks of this node as long as the connection lives: that it lives, and whether it takes clients."""
    await conn.execute("select pg_advisory_lock($1::int, $2::int)", NODE_LOCK, node)
    if serving:
        await conn.execute("select pg_advisory_lock($1::int, $2::int)", SERVING_LOCK, node)


async def serve_no_more(conn: Connection, node: int) -> None:
    """This node takes no clients any more."""
    await conn.execute("select pg_advisory_unlock($1::int, $2::int)", SERVING_LOCK, node)


async def others_serve(conn: Connection) -> bool:
    """Whether any node takes clients, after this one does not."""
    found: bool = await conn.fetchval(
        """select exists (
               select from pg_locks where locktype = 'advisory' and classid = $1::bigint::oid and granted
               and database = (select oid from pg_database where datname = current_database()))""",
        SERVING_LOCK,
    )
    return found


async def write(conn: Connection, node: int, number: int, chat: int) -> None:
    """Within the transaction that alters `chat`: note that everybody must hear of it."""
    await conn.execute(
        "insert into dispatch_log (node, number, chats, seqs) values ($1, $2, array[$3::bigint], '{0}')",
        node, number, chat,
    )  # fmt: skip


async def forget(db: Pool | Connection, node: int, numbers: Collection[int]) -> None:
    """Delete rows that are done."""
    await db.execute("delete from dispatch_log where node = $1 and number = any ($2)", node, list(numbers))


async def lost(conn: Connection, dispatches: Dispatches) -> list[Lost]:
    """What nobody sees to: this node's abandoned rows, those of dead nodes, and what is older than STALE_S."""
    newest, living = dispatches.living()  # before the rows are read: what begins now is not abandoned
    nodes = await conn.fetch(
        """select node, min(at) < extract(epoch from clock_timestamp())::bigint - $1 as stale
           from dispatch_log group by node""",
        STALE_S,
    )
    found = []
    for other, stale in nodes:
        if other == dispatches.node:
            rows = await _rows(conn, "node = $1 and number <= $2 and number <> all ($3)", other, newest, living)
        elif await _is_dead(conn, other):
            rows = await _rows(conn, "node = $1", other)
        elif stale:
            older = "node = $1 and at < extract(epoch from clock_timestamp())::bigint - $2"
            rows = await _rows(conn, older, other, STALE_S)
        else:
            continue
        if rows:
            found.append(_lost(other, rows))
    return found


async def _rows(conn: Connection, where: str, *args: Any) -> list[Any]:
    return await conn.fetch(
        f"select number, xid, at, chats, seqs from dispatch_log where {where} order by number limit {ROWS}", *args
    )


def _lost(node: int, rows: Sequence[Any]) -> Lost:
    return Lost(
        node,
        [row["number"] for row in rows],
        min(row["xid"] for row in rows),
        min(row["at"] for row in rows),
        [chat for row in rows for chat in row["chats"]],
        [seq for row in rows for seq in row["seqs"]],
    )


async def _is_dead(conn: Connection, node: int) -> bool:
    """Whether nobody holds the lock of a node. Looks by taking it for a moment."""
    free: bool = await conn.fetchval("select pg_try_advisory_lock($1::int, $2::int)", NODE_LOCK, node)
    if free:
        await conn.execute("select pg_advisory_unlock($1::int, $2::int)", NODE_LOCK, node)
    return free
