"""Sync and resume: nothing falls between two connections."""

import asyncio

import pytest

from tests.harness import CHANGE, CHAT, LEFT, MSG, READ, SYNCED, Phone, RunningServer, direct, group, token_for


async def test_a_first_sync_tells_all_chats_newest_first(server: RunningServer) -> None:
    async with server.phone("mina") as mina, server.phone("jun") as jun:
        chat = await direct(mina, jun)
        club = await group(mina, jun, title="club")
        for n in range(60):
            await mina.sends(chat, f"m{n + 1}")
        await server.node.context.pool.execute("update chat set active = active - 10 where id = $1", club)
        async with server.phone("jun", "new tablet") as tablet:
            assert tablet.session["resumed"] is False
            assert [frame[1] for frame in tablet.inbox if frame[0] == CHAT] == [chat, club]
            assert [frame[2] for frame in tablet.inbox if frame[0] == MSG] == list(range(11, 61))
            assert [frame[0] for frame in tablet.inbox] == [CHAT, *[MSG] * 50, CHAT, SYNCED]
            state = tablet.inbox[0][2]
            assert (state["head"], state["read"], state["peer"]) == (60, 0, mina.user)


@pytest.mark.parametrize("auth", ["hello", "upgrade"])
async def test_resume_tells_what_was_missed_and_nothing_else(server: RunningServer, auth: str) -> None:
    async with server.phone("mina") as mina:
        jun = server.phone("jun", auth=auth)
        async with jun:
            assert await jun.settles() == [[SYNCED, jun.cursor]]
            quiet = await group(mina, jun, title="quiet")
            chat = await direct(mina, jun)
            await mina.sends(chat, "seen")
            await jun.gets(MSG)
        async with Phone(server.ws, jun.token, auth=auth) as again:  # a fresh cursor
            cursor = again.cursor
        await mina.sends(chat, "missed one")
        await mina.sends(chat, "missed two")
        async with Phone(server.ws, jun.token, cursor=cursor, auth=auth) as again:
            assert again.session["resumed"] is True
            assert [frame[1] for frame in again.inbox if frame[0] == CHAT] == [chat]
            assert quiet != chat
            assert [frame[5] for frame in again.inbox if frame[0] == MSG][-2:] == ["missed one", "missed two"]
            cursor = again.cursor
        async with Phone(server.ws, jun.token, cursor=cursor, auth=auth) as again:
            assert again.session["resumed"] is True
            assert [frame[0] for frame in again.inbox] == [SYNCED]


async def test_resume_tells_of_states_reads_and_lost_chats(server: RunningServer) -> None:
    async with (
        server.phone("mina") as mina,
        server.phone("jun", "desktop") as desktop,
        server.phone("sora") as sora,
    ):
        renamed = await group(mina, desktop, sora, title="old")
        kicked = await group(mina, desktop, sora, title="out")
        read = await group(mina, desktop, sora, title="read")
        reacted = await group(mina, desktop, sora, title="reacted")
        untouched = await group(mina, desktop, sora, title="same")
        for chat in (read, reacted, untouched):
            await mina.sends(chat, "hello")
        async with server.phone("jun") as jun:
            cursor = jun.cursor
        await mina.calls("chat.update", chat=renamed, title="new")
        await mina.calls("chat.kick", chat=kicked, users=[desktop.user])
        await desktop.says(READ, read, 1)
        await sora.calls("message.react", chat=reacted, seq=1, reaction="👍")
        await sora.says(READ, untouched, 1)  # somebody else's reading is nobody's state
        await mina.gets(20, read)
        await mina.gets(20, untouched)
        fresh = await group(mina, desktop, title="fresh")
        async with server.phone("jun", cursor=cursor) as jun:
            states = {frame[1]: frame[2] for frame in jun.inbox if frame[0] == CHAT}
            assert set(states) == {renamed, kicked, read, reacted, fresh}
            assert states[renamed]["title"] == "new"
            assert states[kicked] == LEFT
            assert states[read]["read"] == 1
            assert states[reacted]["rev"] == 1
            assert [frame[3] for frame in (await jun.changes(reacted))[0]] == ["react"]


async def test_a_cursor_that_cannot_be_vouched_for_means_a_full_sync(server: RunningServer) -> None:
    async with server.phone("mina") as mina, server.phone("jun") as jun:
        chat = await direct(mina, jun)
        await mina.sends(chat, "x")
        system, _, at = str(jun.cursor).split(".")
        for cursor in (
            "nonsense",
            "..",
            "-1.-1.-1",
            f"{system}.ffffffff.{at}",  # from a later history than this database has
            f"{int(system, 16) ^ 1:x}.1.{at}",  # of another database
            f"{system}.{'f' * 40}.{at}",
        ):
            async with server.phone("jun", "other", cursor=cursor) as other:
                assert other.session["resumed"] is False
                assert [frame[1] for frame in other.inbox if frame[0] == CHAT] == [chat]
                assert [frame[5] for frame in other.inbox if frame[0] == MSG] == ["x"]
        assert jun.cursor is not None
        assert len(jun.cursor) <= 128


async def test_a_commit_that_takes_long_is_not_missed(server: RunningServer) -> None:
    """A transaction that began before a sync and commits after it lies below no horizon."""
    async with server.phone("mina") as mina, server.phone("jun") as jun:
        chat = await group(mina, jun, title="before")
        pool = server.node.context.pool
        async with pool.acquire() as slow:
            transaction = slow.transaction()
            await transaction.start()
            await slow.execute("update chat set title = 'after', touched = pg_current_xact_id() where id = $1", chat)
            async with server.phone("jun", "tablet") as tablet:  # many transactions come and go meanwhile
                cursor = tablet.cursor
            await mina.calls("profile.update", name="Mina")
            await transaction.commit()
        async with server.phone("jun", "tablet", cursor=cursor) as tablet:
            assert tablet.session["resumed"] is True
            assert [frame[2]["title"] for frame in tablet.inbox if frame[0] == CHAT] == ["after"]


async def test_nothing_falls_between_sync_and_live(server: RunningServer) -> None:
    """A phone that comes and goes while its group talks has every message, from the sync or live."""
    async with server.phone("mina") as mina, server.phone("jun") as keeper:
        chat = await group(mina, keeper)
        done = asyncio.Event()

        async def talk() -> None:
            for n in range(1, 201):
                await mina.sends(chat, f"m{n}")
            done.set()

        talking = asyncio.get_running_loop().create_task(talk())
        have: set[int] = set()
        cursor: str | None = None
        while not done.is_set():
            async with server.phone("jun", "nervous", cursor=cursor) as jun:
                await jun.settles()
                have |= {frame[2] for frame in jun.inbox if frame[0] == MSG}
                newest = max(have, default=0)
                assert have >= set(range(max(1, newest - 49), newest + 1))
                cursor = jun.cursor
        await talking
        async with server.phone("jun", "nervous", cursor=cursor) as jun:
            have |= {frame[2] for frame in jun.inbox if frame[0] == MSG}
        assert have == set(range(1, 201))


async def test_history_is_paged_both_ways(server: RunningServer) -> None:
    async with server.phone("mina") as mina, server.phone("jun") as jun:
        chat = await direct(mina, jun)
        for n in range(1, 26):
            await mina.sends(chat, f"m{n}")
        await jun.heard(MSG)
        page, more = await jun.fetches(chat, 0, 10)
        assert ([frame[2] for frame in page], more) == (list(range(1, 11)), True)
        page, more = await jun.fetches(chat, 20, 10)
        assert ([frame[2] for frame in page], more) == ([21, 22, 23, 24, 25], False)
        page, more = await jun.fetches(chat, 0, -10)
        assert ([frame[2] for frame in page], more) == (list(range(25, 15, -1)), True)
        page, more = await jun.fetches(chat, 6, -10)
        assert ([frame[2] for frame in page], more) == ([5, 4, 3, 2, 1], False)
        page, more = await jun.fetches(chat, 0, 10**6)  # clamped
        assert (len(page), more) == (25, False)
        assert await jun.heard(CHANGE) == []


async def test_a_page_of_long_messages_ends_early(server: RunningServer) -> None:
    async with server.phone("mina") as mina, server.phone("jun") as jun:
        chat = await direct(mina, jun)
        for n in range(40):
            await mina.sends(chat, {"t": f"m{n}", "k": "file", "x": "x" * 60_000})
        await jun.heard(MSG)
        page, more = await jun.fetches(chat, 0, 200)
        assert ([frame[2] for frame in page], more) == (list(range(1, len(page) + 1)), True)
        assert 10 < len(page) < 40
        seen = [frame[2] for frame in page]
        while more:
            page, more = await jun.fetches(chat, seen[-1], 200)
            seen += [frame[2] for frame in page]
        assert seen == list(range(1, 41))
        async with server.phone("jun", "tablet") as tablet:
            newest = [frame[2] for frame in tablet.inbox if frame[0] == MSG]
            assert newest == list(range(41 - len(newest), 41))
            assert 1 <= len(newest) < 10


async def test_chats_are_listed_in_pages(server: RunningServer) -> None:
    async with server.phone("mina") as mina, server.phone("jun") as jun:
        chats = [await group(mina, jun, title=f"g{n}") for n in range(5)]
        for age, chat in enumerate(chats):
            await server.node.context.pool.execute("update chat set active = $2 where id = $1", chat, 1000 + age)
        listed: list[int] = []
        while page := await jun.calls("chat.list", limit=2, **({"before": listed[-1]} if listed else {})):
            listed += [state["chat"] for state in page]
        assert listed == chats[::-1]


async def test_tokens_of_one_install_are_one_device(server: RunningServer) -> None:
    async with server.phone("mina") as first:
        user, device = first.user, first.device
    async with Phone(server.ws, token_for("mina", ttl_s=100)) as again:
        assert (again.user, again.device) == (user, device)
