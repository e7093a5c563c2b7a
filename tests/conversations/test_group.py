"""Groups: who is in, who sees what, who may do what."""

import pytest

from tests.harness import CHANGE, CHAT, LEFT, MSG, Phone, Refused, RunningServer, group


async def change(phone: Phone, chat: int) -> tuple[int, str, int, dict[str, object]]:
    """The next change of a chat: (rev, kind, who, data)."""
    frame = await phone.gets(CHANGE, chat)
    return frame[2], frame[3], frame[4], frame[6]


async def test_a_group_hears_everything(server: RunningServer) -> None:
    async with server.phone("mina") as mina, server.phone("jun") as jun, server.phone("sora") as sora:
        made = await mina.calls("chat.create", kind="group", members=[jun.user, sora.user, mina.user], title="등산")
        chat = made["chat"]
        assert (made["kind"], made["title"], made["count"], made["role"]) == ("group", "등산", 3, "owner")
        state = (await jun.gets(CHAT, chat))[2]
        assert (state["role"], state["rev"], state["head"], state["first"]) == ("member", 0, 0, 1)
        assert "peer" not in state
        assert "notice" not in state
        await jun.sends(chat, "토요일에 갈까요?")
        for phone in (mina, sora):
            assert (await phone.gets(MSG))[2:6:3] == [1, "토요일에 갈까요?"]
        assert (await jun.changes(chat))[0] == []  # creation logs no change


async def test_a_late_joiner_sees_what_comes_after(server: RunningServer) -> None:
    async with server.phone("mina") as mina, server.phone("jun") as jun, server.phone("late") as late:
        chat = await group(mina, jun)
        await mina.sends(chat, "before")
        await mina.calls("message.edit", chat=chat, seq=1, body="before, edited")
        await jun.calls("chat.invite", chat=chat, users=[late.user, jun.user])  # any member invites
        state = (await late.gets(CHAT, chat))[2]
        assert (state["first"], state["read"], state["head"], state["count"]) == (2, 1, 1, 3)
        assert await change(mina, chat) == (1, "edit", mina.user, {"after": 1, "seq": 1, "body": "before, edited"})
        assert await change(mina, chat) == (2, "join", jun.user, {"after": 1, "users": [late.user]})
        await mina.sends(chat, "welcome")
        assert (await late.gets(MSG))[2:6:3] == [2, "welcome"]
        page, more = await late.fetches(chat, 0, 50)
        assert ([frame[2] for frame in page], more) == ([2], False)
        await mina.calls("message.edit", chat=chat, seq=1, body="again")
        assert await change(late, chat) == (2, "join", jun.user, {"after": 1, "users": [late.user]})
        assert await change(late, chat) == (3, "edit", mina.user, {"after": 2, "seq": 1})  # without content
        assert (await jun.gets(CHANGE, chat, 3))[6]["body"] == "again"
        datas = [frame[6] for frame in (await late.changes(chat))[0]]
        assert datas == [{"after": 1, "seq": 1}, {"after": 1, "users": [late.user]}, {"after": 2, "seq": 1}]
        with pytest.raises(Refused, match="not_found"):
            await late.calls("message.react", chat=chat, seq=1, reaction="👍")
        assert await late.calls("message.search", query="before") == []
        assert [hit["seq"] for hit in await late.calls("message.search", query="welcome")] == [2]


async def test_who_leaves_or_is_kicked_gets_nothing_more(server: RunningServer) -> None:
    async with (
        server.phone("mina") as mina,
        server.phone("jun") as jun,
        server.phone("sora") as sora,
        server.phone("sora", "tablet") as tablet,
    ):
        chat = await group(mina, jun, sora)
        await tablet.gets(CHAT, chat)
        await mina.calls("chat.kick", chat=chat, users=[sora.user])
        for phone in (sora, tablet):
            assert (await phone.gets(CHAT, chat))[2] == LEFT
        assert await change(jun, chat) == (1, "kick", mina.user, {"after": 0, "users": [sora.user]})
        await jun.calls("chat.leave", chat=chat)
        assert (await jun.gets(CHAT, chat))[2] == LEFT
        assert await change(mina, chat) == (1, "kick", mina.user, {"after": 0, "users": [sora.user]})
        assert await change(mina, chat) == (2, "leave", jun.user, {"after": 0})
        await mina.sends(chat, "alone now")
        for phone in (jun, sora, tablet):
            assert await phone.heard(MSG) == []
            assert await phone.heard(CHANGE) == []
            for refused in (phone.sends(chat, "hello?"), phone.fetches(chat), phone.calls("chat.get", chat=chat)):
                with pytest.raises(Refused, match="not_member"):
                    await refused
        assert (await mina.calls("chat.get", chat=chat))["count"] == 1
        assert await jun.calls("chat.list") == []


async def test_who_comes_back_sees_what_comes_after(server: RunningServer) -> None:
    async with server.phone("mina") as mina, server.phone("jun") as jun:
        chat = await group(mina, jun)
        await jun.sends(chat, "one")
        await jun.calls("chat.leave", chat=chat)
        await mina.sends(chat, "two")
        await mina.calls("chat.invite", chat=chat, users=[jun.user])
        await jun.gets(CHAT, chat)
        state = (await jun.gets(CHAT, chat))[2]
        assert (state["kind"], state["first"], state["read"], state["role"]) == ("group", 3, 2, "member")
        await mina.sends(chat, "three")
        assert (await jun.gets(MSG))[2] == 3
        assert [frame[2] for frame in (await jun.fetches(chat))[0]] == [3]


async def test_roles(server: RunningServer) -> None:
    async with (
        server.phone("mina") as mina,
        server.phone("jun") as jun,
        server.phone("sora") as sora,
        server.phone("bora") as bora,
    ):
        chat = await group(mina, jun, sora, bora)
        for method, params in (
            ("chat.kick", {"users": [sora.user]}),
            ("chat.role", {"user": jun.user, "role": "manager"}),
            ("chat.update", {"title": "mine"}),
        ):
            with pytest.raises(Refused, match="forbidden"):
                await jun.calls(method, chat=chat, **params)
        await mina.calls("chat.role", chat=chat, user=jun.user, role="manager")
        assert (await jun.gets(CHAT, chat))[2]["role"] == "manager"
        assert await change(sora, chat) == (1, "role", mina.user, {"after": 0, "user": jun.user, "role": "manager"})
        with pytest.raises(Refused, match="forbidden"):
            await jun.calls("chat.kick", chat=chat, users=[mina.user])
        with pytest.raises(Refused, match="forbidden"):
            await jun.calls("chat.role", chat=chat, user=sora.user, role="owner")
        await jun.calls("chat.kick", chat=chat, users=[bora.user])
        await mina.calls("chat.role", chat=chat, user=jun.user, role="owner")
        roles = {row["user"]: row["role"] for row in await mina.calls("chat.members", chat=chat)}
        assert roles == {mina.user: "manager", jun.user: "owner", sora.user: "member"}
        await jun.calls("chat.leave", chat=chat)  # to the manager who joined first
        roles = {row["user"]: row["role"] for row in await mina.calls("chat.members", chat=chat)}
        assert roles == {mina.user: "owner", sora.user: "member"}
        assert (await mina.calls("chat.get", chat=chat))["role"] == "owner"
        await mina.calls("chat.leave", chat=chat)  # else to the member
        assert (await sora.calls("chat.get", chat=chat))["role"] == "owner"


async def test_title_and_notice(server: RunningServer) -> None:
    async with server.phone("mina") as mina, server.phone("jun") as jun:
        chat = await group(mina, jun)
        await mina.calls("chat.update", chat=chat, title=" 새 이름 ", notice="토요일\n10시")
        state = (await jun.gets(CHAT, chat))[2]
        assert (state["title"], state["notice"]) == ("새 이름", "토요일\n10시")
        assert await change(jun, chat) == (1, "title", mina.user, {"after": 0, "title": "새 이름"})
        assert await change(jun, chat) == (2, "notice", mina.user, {"after": 0, "notice": "토요일\n10시"})
        await mina.calls("chat.update", chat=chat, title=None)
        assert (await jun.gets(CHAT, chat))[2]["title"] is None
        for bad in ({"title": "x" * 101}, {"notice": "x" * 1001}):
            with pytest.raises(Refused, match="too_large"):
                await mina.calls("chat.update", chat=chat, **bad)


async def test_settings_are_one_users_own(server: RunningServer) -> None:
    async with (
        server.phone("mina") as mina,
        server.phone("mina", "tablet") as tablet,
        server.phone("jun") as jun,
    ):
        chat = await group(mina, jun)
        await tablet.gets(CHAT, chat)
        await mina.calls("chat.settings", chat=chat, muted=True)
        await mina.calls("chat.settings", chat=chat, pinned=True)
        await tablet.gets(CHAT, chat)
        state = (await tablet.gets(CHAT, chat))[2]
        assert (state["muted"], state["pinned"]) == (True, True)
        assert await jun.heard(CHAT) == []
        assert (await jun.calls("chat.get", chat=chat))["muted"] is False


async def test_a_group_has_bounds(server: RunningServer) -> None:
    async with server.phone("mina") as mina, server.phone("jun") as jun:
        for params, code in (
            ({"kind": "group", "members": []}, "bad_frame"),
            ({"kind": "group", "members": [mina.user]}, "bad_frame"),
            ({"kind": "group", "members": [jun.user, 123_456]}, "not_found"),
            ({"kind": "group", "members": list(range(1, 3002))}, "bad_frame"),
            ({"kind": "group", "members": [jun.user], "title": "x" * 101}, "too_large"),
            ({"kind": "club", "members": [jun.user]}, "bad_frame"),
            ({"kind": "group"}, "bad_frame"),
        ):
            with pytest.raises(Refused, match=code):
                await mina.calls("chat.create", **params)
        assert await mina.calls("chat.list") == []
