"""Watermarks and unread counts."""

from tests.harness import CHAT, MSG, READ, READBY, RunningServer, direct, group


async def test_the_number_beside_a_message_goes_down(server: RunningServer) -> None:
    async with server.phone("mina") as mina, server.phone("jun") as jun, server.phone("sora") as sora:
        chat = await group(mina, jun, sora)
        for n in range(3):
            await mina.sends(chat, f"m{n}")
        assert sorted(await mina.calls("chat.watermarks", chat=chat)) == [[mina.user, 3], [jun.user, 0], [sora.user, 0]]
        await jun.says(READ, chat, 2)
        for phone in (mina, sora):
            assert await phone.gets(READBY) == [READBY, chat, [jun.user, 2]]
        await sora.says(READ, chat, 3)
        assert await mina.gets(READBY) == [READBY, chat, [sora.user, 3]]
        assert await jun.gets(READBY) == [READBY, chat, [sora.user, 3]]
        state = await jun.calls("chat.get", chat=chat)
        assert state["head"] - state["read"] == 1


async def test_a_watermark_never_goes_back_nor_above_the_head(server: RunningServer) -> None:
    async with server.phone("mina") as mina, server.phone("jun") as jun:
        chat = await direct(mina, jun)
        await mina.sends(chat, "one")
        await mina.sends(chat, "two")
        await jun.says(READ, chat, 10**15)
        assert await mina.gets(READBY) == [READBY, chat, [jun.user, 2]]
        await jun.says(READ, chat, 1)
        await jun.says(READ, chat, 2)
        await mina.sends(chat, "three")
        await jun.says(READ, chat, 3)
        assert await mina.gets(READBY) == [READBY, chat, [jun.user, 3]]


async def test_sending_reads_for_the_sender(server: RunningServer) -> None:
    async with (
        server.phone("mina") as mina,
        server.phone("mina", "tablet") as tablet,
        server.phone("jun") as jun,
    ):
        chat = await direct(mina, jun)
        await tablet.gets(CHAT)
        await jun.sends(chat, "hi")
        await mina.sends(chat, "hi yourself")
        for phone in (mina, tablet):
            state = await phone.calls("chat.get", chat=chat)
            assert (state["head"], state["read"]) == (2, 2)
        await tablet.gets(MSG, chat, 2)
        assert await tablet.heard(READBY) == []  # MSG implies it
        state = await jun.calls("chat.get", chat=chat)
        assert (state["head"], state["read"]) == (2, 1)


async def test_a_group_above_a_hundred_hears_of_reading_batched(server: RunningServer) -> None:
    async with server.phone("owner") as owner, server.phone("reader") as reader, server.phone("second") as second:
        pool = server.node.context.pool
        rows = await pool.fetch(
            "insert into account (sub, created) select 'extra' || n, 0 from generate_series(1, 120) n returning id"
        )
        made = await owner.calls(
            "chat.create", kind="group", members=[reader.user, second.user, *(row["id"] for row in rows)]
        )
        chat = made["chat"]
        assert made["count"] == 123
        await owner.sends(chat, "to all")
        await reader.says(READ, chat, 1)
        await second.says(READ, chat, 1)
        moved: dict[int, int] = {}
        while len(moved) < 2:
            flat = (await owner.gets(READBY, chat))[2]
            moved.update(zip(flat[::2], flat[1::2], strict=True))
        assert moved == {reader.user: 1, second.user: 1}
