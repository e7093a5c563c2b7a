"""Read watermarks, moved in batches."""

from collections.abc import Sequence

from msgspec import Struct

from mim.model import Kind
from mim.store.db import Connection, Pool


class Moved(Struct, frozen=True):
    """A watermark that moved, with what is needed to tell the right people."""

    chat: int
    user: int
    seq: int
    kind: int
    low: int | None
    high: int | None
    members: int

    @property
    def is_direct(self) -> bool:
        """Whether the chat has two peers instead of a topic."""
        return self.kind == Kind.DIRECT


async def mark(db: Pool | Connection, marks: Sequence[tuple[int, int, int]]) -> list[Moved]:
    """Raise watermarks by (chat, user, seq), rows in rising order; returns those that moved."""
    rows = await db.fetch(
        "select * from mark_read($1, $2, $3)",
        [chat for chat, _, _ in marks], [user for _, user, _ in marks], [seq for _, _, seq in marks],
    )  # fmt: skip
    return [Moved(*row) for row in rows]
