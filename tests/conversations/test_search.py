"""Search: words of two Korean syllables, through the index and in the tail that is not indexed yet."""

import pytest

from mim.store import search
from tests.harness import CHANGE, MSG, Phone, Refused, RunningServer, direct, group


async def hits(phone: Phone, query: str, **params: object) -> list[tuple[int, str]]:
    """(seq, body) of what is found."""
    return [(hit["seq"], hit["body"]) for hit in await phone.calls("message.search", query=query, **params)]


async def indexed(server: RunningServer, chat: int, last: int) -> None:
    """Wait until the index reaches `last`."""
    pool = server.node.context.pool
    while await pool.fetchval("select max(last_seq) from search_block where chat_id = $1", chat) != last:
        await server.node.context.pool.fetchval("select pg_sleep(0.02)")


async def talk(phone: Phone, chat: int, count: int, **special: str) -> None:
    """Send `count` messages; `special` has the text of some, by m and their seq."""
    for n in range(1, count + 1):
        await phone.says(2, 1000 + n, chat, special.get(f"m{n}", f"plain message number {n}"))
    for _ in range(count):
        await phone.gets(17)


async def test_two_syllables_are_found_in_the_index_and_in_the_tail(server: RunningServer) -> None:
    async with server.phone("mina") as mina, server.phone("jun") as jun:
        chat = await direct(mina, jun)
        await talk(mina, chat, 150, m3="우리 토요일에 만나요", m100="이번 토요일은 어때?", m149="토요일!", m5="요일 토")
        await indexed(server, chat, 128)
        assert await hits(jun, "토요") == [(149, "토요일!"), (100, "이번 토요일은 어때?"), (3, "우리 토요일에 만나요")]
        assert await hits(jun, "요일") == [
            (149, "토요일!"),
            (100, "이번 토요일은 어때?"),
            (5, "요일 토"),
            (3, "우리 토요일에 만나요"),
        ]
        assert await hits(jun, "만나요", chat=chat) == [(3, "우리 토요일에 만나요")]
        assert await hits(jun, "일요일") == []
        async with server.node.context.pool.acquire() as conn, conn.transaction():
            await conn.execute("set local enable_seqscan = off")  # the table is small; the index must be able to serve
            plan = await conn.fetch("explain select * from search_block where grams @> $1", search.grams(["토요"]))
        assert "search_block_grams" in "\n".join(row[0] for row in plan)


async def test_letters_have_no_case_and_patterns_no_meaning(server: RunningServer) -> None:
    async with server.phone("mina") as mina, server.phone("jun") as jun:
        chat = await direct(mina, jun)
        for text in ("Meet at the CAFÉ", "100%_sure\\", "100 percent", "nothing"):
            await mina.sends(chat, text)
        assert await hits(mina, "café") == [(1, "Meet at the CAFÉ")]
        assert await hits(mina, "cafe\u0301") == [(1, "Meet at the CAFÉ")]  # decomposed
        assert await hits(mina, "0%") == [(2, "100%_sure\\")]
        assert await hits(mina, "%_") == [(2, "100%_sure\\")]
        assert await hits(mina, "e\\") == [(2, "100%_sure\\")]
        assert await hits(mina, "no thing") == []


async def test_edits_and_deletions_reach_the_index(server: RunningServer) -> None:
    async with server.phone("mina") as mina, server.phone("jun") as jun:
        chat = await direct(mina, jun)
        await talk(mina, chat, 64, m10="비밀번호는 사과", m20="사과 주스", m30="포도")
        await indexed(server, chat, 64)
        await mina.calls("message.edit", chat=chat, seq=30, body="수박 화채")
        await mina.calls("message.delete", chat=chat, seq=10, scope="everyone")
        await jun.heard(CHANGE)
        assert await hits(jun, "수박") == [(30, "수박 화채")]
        assert await hits(jun, "포도") == []
        assert await hits(jun, "사과") == [(20, "사과 주스")]
        grams = await server.node.context.pool.fetchval("select grams from search_block where chat_id = $1", chat)
        assert not set(search.grams(["비밀"])) & set(grams)  # gone from the index too


async def test_nobody_finds_what_he_may_not_read(server: RunningServer) -> None:
    async with (
        server.phone("mina") as mina,
        server.phone("jun") as jun,
        server.phone("late") as late,
        server.phone("eve") as eve,
    ):
        chat = await group(mina, jun)
        await talk(mina, chat, 70, m60="암호는 고래", m70="고래 이야기")
        await indexed(server, chat, 64)
        await mina.calls("chat.invite", chat=chat, users=[late.user])
        await mina.sends(chat, "고래는 크다")
        await late.gets(MSG)
        assert [seq for seq, _ in await hits(late, "고래")] == [71]
        assert await hits(eve, "고래") == []
        with pytest.raises(Refused, match="not_member"):
            await hits(eve, "고래", chat=chat)
        await mina.calls("chat.kick", chat=chat, users=[jun.user])
        assert await hits(jun, "고래") == []


async def test_results_are_paged_newest_first(server: RunningServer) -> None:
    async with server.phone("mina") as mina, server.phone("jun") as jun:
        chat = await direct(mina, jun)
        club = await group(mina, jun)
        for n in range(7):
            await mina.sends((chat, club)[n % 2], f"needle {n}")
        found: list[str] = []
        before: list[int] | None = None
        while page := await jun.calls(
            "message.search", query="needle", limit=3, **({"before": before} if before else {})
        ):
            found += [hit["body"] for hit in page]
            before = [page[-1]["at"], page[-1]["chat"], page[-1]["seq"]]
        assert sorted(found) == [f"needle {n}" for n in range(7)]
        for bad in ("", " a ", "x" * 101, "a\0b"):
            with pytest.raises(Refused, match="bad_frame"):
                await hits(jun, bad)
