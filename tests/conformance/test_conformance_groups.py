"""Who sees what: coming, leaving, being put out; what is edited, deleted, reacted to, found."""

import pytest

from tests.conformance.conftest import JUN, SORA, Cast
from tests.conformance.json_client import FETCH, SEND, JsonClient
from tests.conformance.json_socket import RefusedError
from tests.conformance.msgpack_client import ACK, CHANGE, CHAT, MSG, READBY, Fault, Phone


async def is_out(phone: Phone, chat: int) -> None:
    """Nothing of the chat answers any more, as if it did not exist."""
    wrong = chat + 1000
    for params in ({"chat": chat}, {"chat": wrong}):
        for method in ("chat.get", "chat.members", "chat.watermarks", "chat.leave"):
            with pytest.raises(Fault, match="not_member"):
                await phone.call(method, **params)
        with pytest.raises(Fault, match="not_member"):
            await phone.ask(FETCH, params["chat"], 0, 10)
        with pytest.raises(Fault, match="not_member"):
            await phone.ask(9, params["chat"], 0, 10)
        with pytest.raises(Fault, match="not_member"):
            await phone.said(params["chat"], "들려?")
    assert chat not in [row["chat"] for row in await phone.call("chat.list")]


async def test_late_leaving_and_kicked_members_see_what_the_text_says(cast: Cast) -> None:
    mina, jun, sora = await cast.by_json(), await cast.by_msgpack(), await cast.by_msgpack(SORA)
    late = await cast.by_msgpack("010-7777-8888")
    async with jun.online(), sora.online(), late.online():
        chat = await mina.create(kind="group", members=[jun.user, sora.user])
        room = mina.disk.chats[chat]
        await mina.watermarks(chat)
        for text in "가나":
            await mina.send(chat, text)
        await mina.call("message.edit", chat=chat, seq=1, body="가!")

        # who comes late sees what comes after
        await jun.hear(lambda: jun.view(chat).rev == 1)
        await jun.call("chat.invite", chat=chat, users=[late.user, sora.user])
        await late.hear(lambda: late.view(chat).state.get("kind") == "group")
        state = late.view(chat).state
        assert (state["first"], state["head"], state["read"], state["count"], state["rev"]) == (3, 2, 2, 4, 2)
        await mina.until(lambda: room.state["rev"] == 2)
        assert room.changes[2][1:3] == ["join", jun.user]
        assert room.changes[2][4] == {"after": 2, "users": [late.user]}
        assert (room.state["count"], room.watermarks[late.user]) == (4, 2)
        assert await late.page(chat, 0, 10) == ([], False)
        for seq in (1, 2, 99):
            with pytest.raises(Fault, match="not_found"):
                await late.call("message.react", chat=chat, seq=seq, reaction="👍")
        await mina.call("message.edit", chat=chat, seq=2, body="나!")  # before his first: no content
        await late.hear(lambda: late.view(chat).rev == 3)
        assert late.view(chat).changes[3][3] in ({"after": 2, "seq": 2}, {"after": 2})
        await mina.send(chat, "다")
        await late.hear(lambda: late.view(chat).texts == ["다"])
        assert await late.page(chat, 0, -10) == ([3], False)

        # a member leaves
        await sora.hear(lambda: sora.view(chat).head == 3)
        await sora.call("chat.leave", chat=chat)
        await sora.hear(lambda: sora.view(chat).state["kind"] == "left")
        await mina.until(lambda: room.state["rev"] == 4)
        assert room.changes[4][1:3] == ["leave", sora.user]
        assert room.changes[4][4] == {"after": 3}
        assert (room.state["count"], sorted(room.watermarks)) == (3, sorted([mina.disk.user, jun.user, late.user]))
        quiet = len(sora.journal)
        await mina.send(chat, "라")
        await is_out(sora, chat)
        assert [f for f in sora.journal[quiet:] if f[0] in (MSG, CHANGE, READBY)] == []

        # a manager puts out a member, not another manager or the owner
        await mina.call("chat.role", chat=chat, user=jun.user, role="manager")
        await jun.hear(lambda: jun.view(chat).state["role"] == "manager")
        for whom in (mina.disk.user, jun.user):
            with pytest.raises((Fault, RefusedError), match=r"forbidden|bad_frame"):
                await jun.call("chat.kick", chat=chat, users=[late.user, whom])
        await jun.call("chat.kick", chat=chat, users=[late.user, sora.user])
        await late.hear(lambda: late.view(chat).state["kind"] == "left")
        await is_out(late, chat)
        await mina.until(lambda: room.state["rev"] == 6)
        assert [room.changes[5][1], room.changes[5][4]] == ["role", {"after": 4, "user": jun.user, "role": "manager"}]
        assert [room.changes[6][1], room.changes[6][4]] == ["kick", {"after": 4, "users": [late.user]}]
        assert not [f for f in late.journal if f[0] == CHANGE and f[3] == "kick"]

        # who comes back is new
        await mina.call("chat.invite", chat=chat, users=[sora.user])
        await sora.hear(lambda: sora.view(chat).state["kind"] == "group")
        newest = [frame for frame in sora.journal if frame[0] == CHAT][-1][2]
        assert (newest["first"], newest["read"], newest["head"], newest["role"]) == (5, 4, 4, "member")

        # the owner leaves: the manager inherits
        heard = len(jun.journal)
        await mina.call("chat.leave", chat=chat)
        await mina.until(lambda: mina.disk.chats[chat].state["kind"] == "left")
        await jun.hear(lambda: jun.view(chat).rev == 9 and jun.view(chat).state["role"] == "owner")
        changes = [frame[3:5] + frame[6:] for frame in jun.journal[heard:] if frame[0] == CHANGE]
        assert changes[-2:] == [
            ["leave", mina.disk.user, {"after": 4}],
            ["role", mina.disk.user, {"after": 4, "user": jun.user, "role": "owner"}],
        ]
        members = await jun.call("chat.members", chat=chat)
        assert [(row["user"], row["role"]) for row in members] == [(jun.user, "owner"), (sora.user, "member")]


async def test_what_happened_while_away_is_told_by_the_numbers(cast: Cast) -> None:
    mina, jun, sora = await cast.by_json(), await cast.by_msgpack(), await cast.by_msgpack(SORA)
    chat = await mina.create(kind="group", members=[jun.user, sora.user])
    gone = await mina.create(kind="group", members=[jun.user, sora.user])
    await mina.send(chat, "가")
    async with jun.online():
        assert {chat, gone} == {frame[1] for frame in jun.journal if frame[0] == CHAT}
    await mina.call("chat.update", chat=chat, title="새 제목", notice="내일 12시")
    await mina.call("message.react", chat=chat, seq=1, reaction="❤️")
    await mina.call("chat.kick", chat=gone, users=[jun.user])
    async with jun.online():
        assert jun.view(gone).state["kind"] == "left"
        view = jun.view(chat)
        assert (view.state["title"], view.state["notice"], view.rev, view.changes) == ("새 제목", "내일 12시", 3, {})
        healed = await jun.heal(chat)
        assert [healed.changes[rev][0] for rev in (1, 2, 3)] == ["title", "notice", "react"]
        assert await jun.ask(9, chat, 0, 2) == {"more": True}
        assert await jun.ask(9, chat, 2, 2) == {"more": False}


async def test_a_direct_chat_hides_and_comes_back(cast: Cast) -> None:
    mina, jun, chat = await cast.pair()
    await mina.send(chat, "처음")
    await mina.call("chat.leave", chat=chat)
    await mina.until(lambda: mina.disk.chats[chat].state["kind"] == "left")
    assert await mina.call("chat.list") == []
    async with jun.online():
        mark = len(mina.log)
        assert await jun.said(chat, "어디 갔어?") == 2
        await mina.until(lambda: 2 in mina.disk.chats[chat].messages)
        frames = [frame for frame in mina.log[mark:] if frame[0] in (CHAT, MSG)]
        assert [frame[0] for frame in frames] == [CHAT, MSG], "CHAT first, the message after it"
        assert frames[0][2]["first"] == 2
        assert mina.disk.chats[chat].unread() == 1
        await mina.fetch(chat, 0, 10)
        assert [frame[2] for frame in mina.log[mark:] if frame[0] == MSG] == [2, 2]
        assert await mina.create(kind="direct", members=[jun.user]) == chat


async def test_edits_deletions_and_reactions(cast: Cast) -> None:
    mina, jun, chat = await cast.pair()
    room = mina.disk.chats[chat]
    async with jun.online():
        for text in ("하나", "둘", "셋"):
            await mina.send(chat, text)
        await jun.call("message.react", chat=chat, seq=1, reaction="👍")
        await mina.call("message.react", chat=chat, seq=1, reaction="👍")
        await mina.call("message.react", chat=chat, seq=1, reaction="❤️")
        value = await mina.call("message.edit", chat=chat, seq=1, body={"t": "하나!", "m": [[0, 2, jun.user]]})
        assert value == {"rev": 4}
        await mina.until(lambda: room.applied == 4)
        assert [room.changes[rev][4].get("reaction") for rev in (1, 2, 3)] == ["👍", "👍", "❤️"]
        await mina.mend(chat)
        meta = room.messages[1].meta
        assert (meta["reactions"], meta["mine"]) == ({"👍": 1, "❤️": 1}, "❤️")
        assert meta["edited"] == room.changes[4][3], "the second of the change"
        assert room.messages[1].body == {"t": "하나!", "m": [[0, 2, jun.user]]}
        await mina.call("message.react", chat=chat, seq=1, reaction=None)
        assert await mina.call("message.delete", chat=chat, seq=1, scope="everyone") == {"rev": 6}
        await jun.hear(lambda: jun.view(chat).rev == 6)
        assert jun.view(chat).texts == ["", "둘", "셋"]
        await mina.until(lambda: room.applied == 6)
        mark = len(mina.log)
        await mina.fetch(chat, 0, 1)
        tombstone = next(frame for frame in mina.log[mark:] if frame[0] == MSG)
        assert (tombstone[5], list(tombstone[6])) == ("", ["deleted"])
        assert tombstone[6]["deleted"] == room.changes[6][3]
        mark = len(mina.log)
        await mina.request(9, chat, 0, 10)  # the text is gone from the earlier edit
        edit = next(frame for frame in mina.log[mark:] if frame[0] == CHANGE and frame[3] == "edit")
        assert edit[6] in ({"after": 3, "seq": 1}, {"after": 3})
        refusals: list[tuple[str, int, dict[str, str], str]] = [
            ("edit", 1, {"body": "x"}, "not_found"),
            ("react", 1, {"reaction": "x"}, "not_found"),
            ("delete", 1, {"scope": "everyone"}, "not_found"),
            ("edit", 9, {"body": "x"}, "not_found"),
        ]
        for method, seq, more, word in refusals:
            with pytest.raises(RefusedError) as refused:
                await mina.call(f"message.{method}", chat=chat, seq=seq, **more)
            assert refused.value.code == word
        for method, more in (("edit", {"body": "x"}), ("delete", {"scope": "everyone"})):
            with pytest.raises((Fault, RefusedError), match="forbidden"):
                await jun.call(f"message.{method}", chat=chat, seq=2, **more)


async def test_a_deleted_text_does_not_come_back_when_its_sender_resends(cast: Cast) -> None:
    mina, jun, chat = await cast.pair()
    tablet = await cast.by_msgpack(JUN, "tablet")
    async with jun.online(), tablet.online():
        for text in ("비밀", "남"):
            await mina.send(chat, text)
        await jun.hear(lambda: jun.view(chat).head == 2)
        await mina.call("message.delete", chat=chat, seq=1, scope="everyone")
        await jun.call("message.delete", chat=chat, seq=2, scope="me")
        await tablet.hear(lambda: tablet.view(chat).texts == ["", ""])
        mark = len(tablet.journal)
        for cid, text in ((1, "비밀"), (2, "남")):
            mina.emit([2, cid, chat, text])
        await mina.send(chat, "끝")
        await tablet.hear(lambda: tablet.view(chat).head == 3)
        again = [frame for frame in tablet.journal[mark:] if frame[0] == MSG]
        assert [frame[2] for frame in again] == [2, 3], "what was deleted for everyone does not come again"
        assert tablet.view(chat).texts == ["", "", "끝"], "a live duplicate does not displace a tombstone"


async def test_a_repeated_message_stays_hidden_from_who_came_later(cast: Cast) -> None:
    mina, jun, late = await cast.by_json(), await cast.by_msgpack(), await cast.by_msgpack(SORA)
    async with late.online():
        chat = await mina.create(kind="group", members=[jun.user])
        await mina.send(chat, "전에")
        await mina.call("chat.invite", chat=chat, users=[late.user])
        await late.hear(lambda: late.view(chat).state.get("first") == 2)
        mina.emit([SEND, mina.disk.cid, chat, "전에"])
        await mina.send(chat, "후에")
        await late.hear(lambda: late.view(chat).head == 2)
        assert late.view(chat).texts == ["후에"]


async def test_an_ack_stays_true_for_who_is_out_by_then(cast: Cast) -> None:
    mina, jun = await cast.by_json(), await cast.by_msgpack()
    async with jun.online():
        chat = await mina.create(kind="group", members=[jun.user])
        seq, at = await (await jun.say(chat, "하나"))
        cid = jun.last_cid
        await mina.call("chat.kick", chat=chat, users=[jun.user])
        await jun.hear(lambda: jun.view(chat).state["kind"] == "left")
        await jun.put(SEND, cid, chat, "하나")  # as if the ACK had been lost
        await jun.hear(lambda: jun.journal.count([ACK, cid, seq, at]) == 2)
        with pytest.raises(Fault, match="not_member"):
            await jun.said(chat, "둘")


async def test_search_of_a_word_of_two_syllables(cast: Cast) -> None:
    mina, jun, chat = await cast.pair()
    other = await mina.create(kind="group", members=[jun.user])
    for where, text in ((chat, "오늘 점심 뭐 먹지"), (chat, "국밥!"), (other, {"t": "점심시간", "k": "post"})):
        await mina.send(where, text)
    await mina.send(chat, "Lunch 점심은?")
    await mina.send(chat, "점심 취소")
    await mina.call("message.delete", chat=chat, seq=4, scope="everyone")
    await mina.send(chat, "저녁")
    await mina.call("message.edit", chat=chat, seq=5, body="점심 고침")

    async def places(who: JsonClient | Phone, **params: object) -> list[tuple[int, int]]:
        rows = await who.call("message.search", **params)
        assert all(set(row) == {"chat", "seq", "sender", "at", "body"} for row in rows)
        assert rows == sorted(rows, key=lambda row: (row["at"], row["chat"], row["seq"]), reverse=True)
        return [(row["chat"], row["seq"]) for row in rows]

    found = {(chat, 1), (chat, 3), (chat, 5), (other, 1)}
    async with jun.online():
        for who in (mina, jun):
            assert set(await places(who, query="점심")) == found
            assert await places(who, query=" 점심 ", chat=other) == [(other, 1)]
            assert await places(who, query="lUNCH") == [(chat, 3)]
        page = await mina.call("message.search", query="점심", limit=2)
        before = [page[-1][key] for key in ("at", "chat", "seq")]
        rest = await mina.call("message.search", query="점심", limit=3, before=before)
        assert {(row["chat"], row["seq"]) for row in page + rest} == found
        assert len(rest) == 2
        stranger = await cast.by_json(SORA)
        assert await places(stranger, query="점심") == []
        with pytest.raises(RefusedError, match="bad_frame"):
            await mina.call("message.search", query=" 점 ")
