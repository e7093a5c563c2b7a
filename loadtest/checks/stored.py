"""What the database holds of chats, read in one snapshot for :mod:`loadtest.checks.invariants`."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

import asyncpg
import orjson

from loadtest.checks.record import Body


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
