"""Message search by substring (docs/architecture.md#search).

A text is found through its bigrams, pairs of neighbouring characters, so a word of two Korean syllables is one entry
of the index. To cost the hot path nothing, messages are indexed later and in blocks of 64: a row of `search_block`
holds the hashed bigrams of all texts in it. A search reads the blocks that hold every bigram of the query, checks the
texts, and reads the short tail that is not indexed yet.
"""

import unicodedata
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, Final

from mim.store.db import Connection, Pool

BLOCK: Final = 64
MAX_BLOCKS: Final = 2000  # candidates a search looks into, newest first


def fold(text: str) -> str:
    """The form in which texts are compared: composed, and without case."""
    return unicodedata.normalize("NFC", text).lower()


def grams(texts: Iterable[str]) -> list[int]:
    """The hashed pairs of neighbouring characters in the folded texts, as rising signed 32-bit integers."""
    joined = fold("\0".join(texts))
    return sorted(
        {
            (ord(left) * 65_599 + ord(right)) % 2**32 - 2**31
            for left, right in set(pairwise(joined))
            if left != "\0" and right != "\0" and not (left.isspace() and right.isspace())
        }
    )


async def index_block(db: Pool, chat: int) -> int | None:
    """Index the next full block of a chat. Returns how many messages are left to index, None when no block was full."""
    async with db.acquire() as conn, conn.transaction():
        await lock_texts(conn, chat)
        rows = await conn.fetch(
            """with done as (select coalesce(max(last_seq), 0) as last from search_block where chat_id = $1)
               select m.seq, m.at, m.text, (select head from chat where id = $1) as head
               from done join message m on m.chat_id = $1 and m.seq between done.last + 1 and done.last + $2
               order by m.seq""",
            chat, BLOCK,
        )  # fmt: skip
        if len(rows) < BLOCK:
            return None
        await _write_block(conn, chat, rows)
        return int(rows[-1]["head"] - rows[-1]["seq"])


async def lock_texts(conn: Connection, chat: int) -> None:
    """Keep indexing and altering a chat's texts apart until the transaction ends. Sending does not take this lock."""
    await conn.execute("select pg_advisory_xact_lock(hashtextextended('mim texts', $1))", chat)


async def reindex(conn: Connection, chat: int, seq: int) -> None:
    """Write the block of an edited or deleted message anew. The caller holds `lock_texts`."""
    first = await conn.fetchval(
        "select first_seq from search_block where chat_id = $1 and first_seq <= $2 and last_seq >= $2",
        chat,
        seq,
    )
    if first is not None:
        rows = await conn.fetch(
            "select seq, at, text from message where chat_id = $1 and seq between $2 and $3 order by seq",
            chat, first, first + BLOCK - 1,
        )  # fmt: skip
        await _write_block(conn, chat, rows)


async def _write_block(conn: Connection, chat: int, rows: Sequence[Any]) -> None:
    await conn.execute(
        """insert into search_block (chat_id, first_seq, last_seq, first_at, last_at, grams) values ($1, $2, $3,
        $4, $5, $6)
           on conflict (chat_id, first_seq) do update set grams = excluded.grams""",
        chat, rows[0]["seq"], rows[-1]["seq"], rows[0]["at"], rows[-1]["at"], grams(row["text"] for row in rows),
    )  # fmt: skip


async def search(
    db: Pool | Connection,
    user: int,
    query: str,
    chat: int | None,
    before: tuple[int, int, int] | None,
    limit: int,
) -> list[Any]:
    """Rows (chat_id, seq, sender, at, text, extra), newest first, of messages that the user may read and that hold
    `query`.

    `before` is (at, chat, seq) of the last row of the page before. Deleted messages have no text and are not found.
    """
    pattern = "%" + query.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
    return await db.fetch(
        """with mine as materialized (
               select m.chat_id, m.first_seq,
                      (select coalesce(max(b.last_seq), 0) from search_block b where b.chat_id = m.chat_id) as indexed
               from member m where m.user_id = $1 and m.left_at is null and ($2::bigint is null or m.chat_id = $2)
           ), span as (
               (select b.chat_id, greatest(b.first_seq, m.first_seq) as low, b.last_seq as high
                from search_block b join mine m on m.chat_id = b.chat_id
                where b.grams @> $3::int[] and b.last_seq >= m.first_seq and ($4::bigint is null or b.first_at <= $4)
                order by b.last_at desc limit $8)
               union all
               select m.chat_id, greatest(m.indexed + 1, m.first_seq), 9223372036854775807 from mine m
           )
           select s.chat_id, s.seq, s.sender, s.at, s.text, s.extra
           from span p join message s on s.chat_id = p.chat_id and s.seq between p.low and p.high
           where s.deleted is null
             and fold_text(s.text) like fold_text($7)
             and ($4::bigint is null or (s.at, s.chat_id, s.seq) < ($4, $5::bigint, $6::bigint))
             and not exists (select from hidden_message h
                             where h.user_id = $1 and h.chat_id = s.chat_id and h.seq = s.seq)
           order by s.at desc, s.chat_id desc, s.seq desc limit $9""",
        user, chat, grams([query]), *(before or (None, None, None)), pattern, MAX_BLOCKS, limit,
    )  # fmt: skip
