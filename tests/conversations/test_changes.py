"""Edits, deletions and reactions: what becomes of a message after it was sent."""

import asyncpg
import pytest

from mim.clock import ManualClock
from tests.harness import CHANGE, MSG, NOTE, Phone, Refused, RunningServer, direct, group, running, token_for


async def kinds(phone: Phone, chat: int) -> list[tuple[int, str]]:
    """(rev, kind) of all changes of a chat."""
    return [(frame[2], frame[3]) for frame in (await phone.changes(chat))[0]]


async def test_an_edit_is_seen_live_and_later(server: RunningServer) -> None:
    async with server.phone("mina") as mina, server.phone("jun") as jun:
        chat = await direct(mina, jun)
        await mina.sends(chat, "teh")
        assert await mina.calls("message.edit", chat=chat, seq=1, body={"t": "the", "k": "photo"}) == {"rev": 1}
        for phone in (mina, jun):
            frame = await phone.gets(CHANGE, chat)
            assert frame[2:5] == [1, "edit", mina.user]
            assert frame[6] == {"after": 1, "seq": 1, "body": {"t": "the", "k": "photo"}}
        await jun.gets(MSG)
        (message,), _ = await jun.fetches(chat)
        assert message[5] == {"t": "the", "k": "photo"}
        assert message[6] == {"edited": frame[5]}
        with pytest.raises(Refused, match="forbidden"):
            await jun.calls("message.edit", chat=chat, seq=1, body="mine")
        with pytest.raises(Refused, match="not_found"):
            await mina.calls("message.edit", chat=chat, seq=2, body="none")


async def test_a_deleted_text_is_gone_everywhere(server: RunningServer, database_url: str) -> None:
    async with server.phone("mina") as mina, server.phone("jun") as jun:
        chat = await direct(mina, jun)
        await mina.sends(chat, {"t": "the password is hunter2", "x": {"hint": "hunter2"}})
        await jun.gets(MSG)
        await jun.calls("message.react", chat=chat, seq=1, reaction="🙈")
        await mina.calls("message.edit", chat=chat, seq=1, body="really, hunter2")
        await mina.calls("message.delete", chat=chat, seq=1, scope="everyone")
        for phone in (mina, jun):
            assert (await phone.gets(CHANGE, chat, 3))[3] == "delete"
            await phone.heard(CHANGE)
            (message,), _ = await phone.fetches(chat)
            assert message[5] == ""
            assert set(message[6]) == {"deleted"}
            assert await phone.calls("message.search", query="hunter2") == []
            frames = (await phone.changes(chat))[0]
            assert [frame[6] for frame in frames][1:] == [{"after": 1, "seq": 1}] * 2
        with pytest.raises(Refused, match="not_found"):
            await mina.calls("message.delete", chat=chat, seq=1, scope="everyone")
        with pytest.raises(Refused, match="not_found"):
            await jun.calls("message.react", chat=chat, seq=1, reaction="👍")
        await mina.sends(chat, "again", cid=1)  # the same cid: acknowledged, not delivered with its old text
        assert await jun.heard(MSG) == []
    connection = await asyncpg.connect(database_url)
    for table in ("message", "change", "reaction"):
        rows = await connection.fetch(f"select t::text as row from {table} t")
        assert not [row for row in rows if "hunter2" in row["row"]]
    await connection.close()


async def test_deleting_for_everyone_is_the_authors_for_a_day_and_managers_always(database_url: str) -> None:
    clock = ManualClock()
    async with (
        running(database_url, clock, jwt_secret="x" * 40) as server,
        Phone(server.ws, sign("owner", clock)) as owner,
        Phone(server.ws, sign("author", clock)) as author,
        Phone(server.ws, sign("other", clock)) as other,
    ):
        chat = await group(owner, author, other)
        for n in range(3):
            await author.sends(chat, f"m{n}")
        with pytest.raises(Refused, match="forbidden"):
            await other.calls("message.delete", chat=chat, seq=1, scope="everyone")
        await author.calls("message.delete", chat=chat, seq=1, scope="everyone")
        at = (await owner.gets(MSG, chat, 2))[4]
        clock.advance(at + 24 * 3600 + 1 - clock.now())
        with pytest.raises(Refused, match="forbidden"):
            await author.calls("message.delete", chat=chat, seq=2, scope="everyone")
        await owner.calls("message.delete", chat=chat, seq=2, scope="everyone")
        assert await kinds_after(owner, chat) == [(1, "delete"), (2, "delete")]


def sign(sub: str, clock: ManualClock) -> str:
    """A token for a server whose clock is turned by hand."""
    return token_for(sub, secret="x" * 40, exp=int(clock.now()) + 10**9)


async def kinds_after(phone: Phone, chat: int) -> list[tuple[int, str]]:
    """All changes, the live ones taken from the inbox first."""
    await phone.heard(CHANGE)
    return await kinds(phone, chat)


async def test_deleting_for_me_is_mine_alone(server: RunningServer) -> None:
    async with (
        server.phone("mina") as mina,
        server.phone("mina", "tablet") as tablet,
        server.phone("jun") as jun,
    ):
        chat = await group(mina, jun)
        await jun.sends(chat, "embarrassing")
        assert await mina.calls("message.delete", chat=chat, seq=1, scope="me") == {}
        assert await tablet.gets(NOTE, "deleted") == [NOTE, "deleted", {"chat": chat, "seq": 1}]
        assert [note for note in await mina.heard(NOTE) if note[1] == "deleted"] == []
        await mina.heard(MSG)
        (message,), _ = await mina.fetches(chat)
        assert message[5] == ""
        assert "deleted" in message[6]
        assert await mina.calls("message.search", query="embarrassing") == []
        (message,), _ = await jun.fetches(chat)
        assert message[5] == "embarrassing"
        assert await kinds(jun, chat) == []  # without a rev


async def test_one_reaction_per_user(server: RunningServer) -> None:
    async with server.phone("mina") as mina, server.phone("jun") as jun:
        chat = await direct(mina, jun)
        await mina.sends(chat, "news")
        for phone, reaction in ((mina, "👍"), (jun, "👍"), (jun, "😮"), (mina, None)):
            await phone.calls("message.react", chat=chat, seq=1, reaction=reaction)
        await jun.settles()
        live = [frame[6].get("reaction") for frame in await jun.heard(CHANGE)]
        assert live == ["👍", "👍", "😮", None]
        await jun.heard(MSG)
        (message,), _ = await jun.fetches(chat)
        assert message[6] == {"reactions": {"😮": 1}, "mine": "😮"}
        (message,), _ = await mina.fetches(chat)
        assert message[6] == {"reactions": {"😮": 1}}
        for bad, code in (("", "bad_frame"), ("x" * 33, "too_large"), ("a\nb", "bad_frame")):
            with pytest.raises(Refused, match=code):
                await mina.calls("message.react", chat=chat, seq=1, reaction=bad)


async def test_changes_are_paged_by_rev(server: RunningServer) -> None:
    async with server.phone("mina") as mina, server.phone("jun") as jun:
        chat = await direct(mina, jun)
        await mina.sends(chat, "x")
        for n in range(7):
            await mina.calls("message.react", chat=chat, seq=1, reaction=str(n))
        await jun.heard(CHANGE)
        seen: list[int] = []
        more = True
        while more:
            page, more = await jun.changes(chat, seen[-1] if seen else 0, 3)
            seen += [frame[2] for frame in page]
        assert seen == [1, 2, 3, 4, 5, 6, 7]
