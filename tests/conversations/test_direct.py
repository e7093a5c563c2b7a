"""Two people talk one to one."""

import pytest

from tests.harness import ACK, CHAT, MSG, READBY, SEND, TYPING, USER_TYPING, Refused, RunningServer, direct, group


async def test_a_message_is_acknowledged_and_delivered(server: RunningServer) -> None:
    async with server.phone("mina") as mina, server.phone("jun") as jun:
        chat = await direct(mina, jun)
        seq, at = await mina.sends(chat, "안녕, 준")
        assert seq == 1
        assert await jun.gets(MSG) == [MSG, chat, 1, mina.user, at, "안녕, 준"]
        assert await mina.heard(MSG) == []  # not back to the connection that sent it


async def test_a_direct_chat_is_one_chat_for_ever(server: RunningServer) -> None:
    async with server.phone("mina") as mina, server.phone("jun") as jun:
        first = await mina.calls("chat.create", kind="direct", members=[jun.user])
        again = await jun.calls("chat.create", kind="direct", members=[mina.user])
        assert first["chat"] == again["chat"]
        assert (first["kind"], first["peer"], again["peer"]) == ("direct", jun.user, mina.user)
        assert (await mina.gets(CHAT))[2]["peer"] == jun.user
        assert (await jun.gets(CHAT))[2]["peer"] == mina.user
        assert await jun.heard(CHAT) == []


async def test_three_devices_of_one_user_are_in_step(server: RunningServer) -> None:
    async with (
        server.phone("mina", "phone") as phone,
        server.phone("mina", "desktop") as desktop,
        server.phone("mina", "web", codec="json") as web,
        server.phone("jun") as jun,
    ):
        chat = await direct(phone, jun)
        for device in (desktop, web):
            await device.gets(CHAT, chat)
        await phone.sends(chat, "from the phone")
        for device in (desktop, web, jun):
            assert (await device.gets(MSG))[3:6:2] == [phone.user, "from the phone"]
        await web.sends(chat, {"t": "from the web", "x": {"n": 1}})
        for device in (phone, desktop, jun):
            assert (await device.gets(MSG))[5] == {"t": "from the web", "x": {"n": 1}}
        await jun.sends(chat, "hello all")
        for device in (phone, desktop, web):
            assert (await device.gets(MSG))[2:] == [
                3,
                jun.user,
                (await device.fetches(chat, 2, 1))[0][0][4],
                "hello all",
            ]
        await desktop.says(3, chat, 3)
        for device in (phone, web, jun):
            assert await device.gets(READBY) == [READBY, chat, [phone.user, 3]]
        assert await desktop.heard(READBY) == []


async def test_sequences_run_without_holes_in_the_order_of_sending(server: RunningServer) -> None:
    async with server.phone("mina") as mina, server.phone("jun") as jun:
        chat = await direct(mina, jun)
        for cid in range(1, 101):
            await mina.says(SEND, cid, chat, f"m{cid}")
        acks = [await mina.gets(ACK) for _ in range(100)]
        assert [ack[1:3] for ack in acks] == [[n, n] for n in range(1, 101)]
        delivered = [await jun.gets(MSG) for _ in range(100)]
        assert [frame[2] for frame in delivered] == list(range(1, 101))
        assert [frame[5] for frame in delivered] == [f"m{n}" for n in range(1, 101)]


async def test_the_same_cid_is_one_message_whatever_the_body(server: RunningServer) -> None:
    async with server.phone("mina") as mina, server.phone("jun") as jun:
        chat = await direct(mina, jun)
        first = await mina.sends(chat, "once", cid=7)
        await mina.sends(chat, "between", cid=8)
        assert await mina.sends(chat, "another body", cid=7) == first
        bodies = [(await jun.gets(MSG))[5] for _ in range(3)]
        assert bodies == ["once", "between", "once"]  # delivered again, as it is stored
        assert [frame[5] for frame in (await jun.fetches(chat, 0, 10))[0]] == ["once", "between"]


async def test_the_same_cid_in_one_batch_is_one_message(server: RunningServer) -> None:
    async with server.phone("mina") as mina, server.phone("jun") as jun:
        chat = await direct(mina, jun)
        for _ in range(5):
            await mina.says(SEND, 1, chat, "again")
        acks = [await mina.gets(ACK) for _ in range(5)]
        assert {tuple(ack) for ack in acks} == {tuple(acks[0])}
        for _ in range(5):  # each is delivered again
            await jun.gets(MSG, chat, 1)
        assert len((await jun.fetches(chat, 0, 10))[0]) == 1


async def test_cids_of_two_devices_do_not_meet(server: RunningServer) -> None:
    async with server.phone("mina", "a") as one, server.phone("mina", "b") as two, server.phone("jun") as jun:
        chat = await direct(one, jun)
        assert (await one.sends(chat, "first", cid=1))[0] == 1
        assert (await two.sends(chat, "second", cid=1))[0] == 2


async def test_a_stranger_neither_sends_nor_reads(server: RunningServer) -> None:
    async with server.phone("mina") as mina, server.phone("jun") as jun, server.phone("eve") as eve:
        chat = await direct(mina, jun)
        await mina.sends(chat, "secret")
        for wrong in (chat, 999_999):
            with pytest.raises(Refused, match="not_member"):
                await eve.sends(wrong, "let me in")
            with pytest.raises(Refused, match="not_member"):
                await eve.fetches(wrong)
            with pytest.raises(Refused, match="not_member"):
                await eve.changes(wrong)
            for method in ("chat.get", "chat.members", "chat.watermarks", "chat.leave"):
                with pytest.raises(Refused, match="not_member"):
                    await eve.calls(method, chat=wrong)
            with pytest.raises(Refused, match="not_member"):
                await eve.calls("message.react", chat=wrong, seq=1, reaction="x")
        await eve.says(TYPING, chat)
        await eve.says(3, chat, 1)
        await eve.settles()
        await jun.says(TYPING, chat)  # comes after that of the stranger
        assert await mina.gets(USER_TYPING) == [USER_TYPING, chat, jun.user]
        assert await mina.heard(USER_TYPING) == []
        assert await eve.calls("message.search", query="secret") == []


async def test_typing_is_passed_on_once_in_three_seconds_and_not_to_oneself(server: RunningServer) -> None:
    async with (
        server.phone("mina", "a") as mina,
        server.phone("mina", "b") as tablet,
        server.phone("jun") as jun,
    ):
        chat, club = await direct(mina, jun), await group(mina, jun)
        await mina.says(TYPING, chat)
        await mina.says(TYPING, chat)
        assert await jun.gets(USER_TYPING) == [USER_TYPING, chat, mina.user]
        await mina.says(TYPING, chat)
        await mina.says(TYPING, club)  # comes after any other
        assert await jun.gets(USER_TYPING) == [USER_TYPING, club, mina.user]
        assert await jun.heard(USER_TYPING) == []
        assert await tablet.heard(USER_TYPING) == []


async def test_a_left_direct_chat_comes_back_with_the_next_message(server: RunningServer) -> None:
    async with server.phone("mina") as mina, server.phone("jun") as jun:
        chat = await direct(mina, jun)
        await jun.sends(chat, "before")
        await mina.gets(MSG)
        await mina.calls("chat.leave", chat=chat)
        left = (await mina.gets(CHAT))[2]
        assert (left["kind"], left["first"]) == ("left", 2)
        with pytest.raises(Refused, match="not_member"):
            await mina.fetches(chat)
        await jun.sends(chat, "are you there?")
        back = (await mina.gets(CHAT))[2]
        assert (back["kind"], back["first"], back["head"]) == ("direct", 2, 2)
        assert (await mina.gets(MSG))[5] == "are you there?"
        page, more = await mina.fetches(chat)
        assert ([frame[5] for frame in page], more) == (["are you there?"], False)
        assert [frame[5] for frame in (await jun.fetches(chat))[0]] == ["are you there?", "before"]


async def test_who_left_a_direct_chat_may_write_again(server: RunningServer) -> None:
    async with server.phone("mina") as mina, server.phone("jun") as jun:
        chat = await direct(mina, jun)
        await jun.sends(chat, "before")
        await mina.calls("chat.leave", chat=chat)
        assert (await mina.sends(chat, "me again"))[0] == 2
        assert (await mina.gets(CHAT, chat, ...))[2]["kind"] == "left"
        assert (await mina.gets(CHAT))[2]["kind"] == "direct"
        assert (await jun.gets(MSG))[5] == "me again"


async def test_a_direct_chat_has_no_roles(server: RunningServer) -> None:
    async with server.phone("mina") as mina, server.phone("jun") as jun, server.phone("eve") as eve:
        chat = await direct(mina, jun)
        for method, params in (
            ("chat.invite", {"users": [eve.user]}),
            ("chat.kick", {"users": [jun.user]}),
            ("chat.role", {"user": jun.user, "role": "manager"}),
            ("chat.update", {"title": "ours"}),
        ):
            with pytest.raises(Refused, match="forbidden"):
                await mina.calls(method, chat=chat, **params)
        with pytest.raises(Refused, match="bad_frame"):
            await mina.calls("chat.create", kind="direct", members=[mina.user])
        with pytest.raises(Refused, match="not_found"):
            await mina.calls("chat.create", kind="direct", members=[123_456])
