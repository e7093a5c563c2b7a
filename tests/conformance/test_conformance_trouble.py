"""What the numbers are for: counting, gaps, cut connections, coming back."""

from contextlib import AsyncExitStack

import pytest

from tests.conformance.conftest import MINA, Cast
from tests.conformance.json_client import SEND
from tests.conformance.json_socket import RefusedError, WebSocket, post
from tests.conformance.msgpack_client import CHANGE, CHAT, MSG, Fault, Phone


async def test_unread_counts_down_exactly(cast: Cast) -> None:
    mina = await cast.by_json()
    readers = [await cast.by_msgpack(f"010-2000-000{number}") for number in range(4)]
    async with AsyncExitStack() as stack:
        for reader in readers:
            await stack.enter_async_context(reader.online())
        chat = await mina.create(kind="group", members=[r.user for r in readers])
        room = mina.disk.chats[chat]
        for text in "가나다":
            await mina.send(chat, text)
        assert await mina.watermarks(chat) == {mina.disk.user: 3, **{r.user: 0 for r in readers}}
        assert [room.unseen_by(seq) for seq in (1, 2, 3)] == [4, 4, 4]
        shown = []
        for reader in readers[:3]:  # one after the other opens the chat
            await reader.hear(lambda reader=reader: reader.view(chat).unread == 3)  # type: ignore[misc]
            await reader.saw(chat, 2)
            await mina.until(lambda reader=reader: room.watermarks[reader.user] == 2)  # type: ignore[misc]
            assert reader.view(chat).unread == 1
            shown.append([room.unseen_by(seq) for seq in (1, 2, 3)])
        assert shown == [[3, 3, 4], [2, 2, 4], [1, 1, 4]]
        await readers[0].saw(chat, 1)  # never back
        await readers[1].saw(chat, 99)  # above the head is the head
        await mina.until(lambda: room.watermarks[readers[1].user] == 3)
        assert room.watermarks[readers[0].user] == 2
        assert await readers[3].said(chat, "라") == 4  # an answer is a watermark
        await mina.until(lambda: room.state["head"] == 4)
        assert [room.unseen_by(seq) for seq in (1, 2, 3, 4)] == [0, 0, 2, 4]
        assert room.unread() == 1
        mina.read(chat)
        await readers[3].hear(lambda: readers[3].view(chat).marks.get(mina.disk.user) == 4)
        truth = dict(await mina.call("chat.watermarks", chat=chat))
        assert truth == room.watermarks
        assert (await mina.call("chat.get", chat=chat))["read"] == 4


async def test_gaps_of_messages_and_changes_are_seen_and_filled(cast: Cast) -> None:
    mina, jun, chat = await cast.pair()
    async with jun.online():
        await mina.send(chat, "1")
        await jun.hear(lambda: jun.view(chat).head == 1)
        jun.deaf = True
        for text in "2345":
            await mina.send(chat, text)
        revs = [(await mina.call("message.edit", chat=chat, seq=seq, body=f"{seq}!"))["rev"] for seq in (1, 2, 3)]
        assert revs == [1, 2, 3]
        await jun.hear(lambda: jun.counted == 8)
        jun.deaf = False
        await mina.send(chat, "6")
        await mina.call("message.edit", chat=chat, seq=6, body="6!")
        await jun.hear(lambda: jun.view(chat).rev == 4)
        assert sorted(jun.view(chat).messages) == [1, 6]
        assert jun.view(chat).message_gap() == 1
        assert jun.view(chat).change_gap() == 0
        healed = await jun.heal(chat)
        assert healed.texts == ["1!", "2!", "3!", "4", "5", "6!"]
        assert [healed.changes[rev][3]["after"] for rev in (1, 2, 3, 4)] == [5, 5, 5, 6]

        mina.drop = lambda frame: frame[0] in (MSG, CHANGE)
        for text in "789":
            last = await jun.said(chat, text)
        await jun.call("message.edit", chat=chat, seq=last, body="9!")
        await mina.ping()
        mina.drop = lambda frame: False
        await jun.said(chat, "10")
        await jun.call("message.edit", chat=chat, seq=7, body="7!")
        room = mina.disk.chats[chat]
        await mina.until(lambda: room.state["rev"] == 6 and room.state["head"] == 10)
        await mina.mend(chat)
        assert [room.messages[seq].body for seq in range(6, 11)] == ["6!", "7!", "8", "9!", "10"]
        assert room.applied == 6


async def test_a_cut_in_the_middle_of_sending_loses_and_doubles_nothing(cast: Cast) -> None:
    mina, jun, chat = await cast.pair()
    total = 0
    async with jun.online():
        for cut_after in (0, 1, 7, 30):
            for number in range(50):
                mina.post(chat, f"{total + number}")
            total += 50
            acked = len(mina.acks)
            await mina.until(lambda acks=mina.acks, want=acked + cut_after: len(acks) >= want)  # type: ignore[misc]
            assert mina.socket
            half = WebSocket.pack(1, f'[{SEND},9999,{chat},"never whole"]'.encode())[:-5]
            mina.socket.writer.write(half)  # the tunnel begins within a frame
            mina.cut()
            assert mina.disk.outbox
            before = mina.acks
            mina = await cast.again(mina.disk)  # the app starts anew from what is on its disk
            mina.acks |= before
            assert mina.ready["resumed"]
            await mina.settle()
        await jun.hear(lambda: len(jun.view(chat).messages) == total)
        texts = jun.view(chat).texts
        assert texts == [str(number) for number in range(total)], "order, nothing lost, nothing twice"
        assert sorted(seq for seq, _ in mina.acks.values()) == list(range(1, total + 1))
        assert [mina.disk.chats[chat].messages[seq].body for seq in range(1, total + 1)] == texts


async def test_a_resent_message_has_its_old_place_even_with_another_body(cast: Cast) -> None:
    mina, jun, chat = await cast.pair()
    async with jun.online():
        assert await mina.send(chat, "처음") == 1
        first = mina.acks[1]
        await jun.call("message.react", chat=chat, seq=1, reaction="👍")
        await mina.call("message.edit", chat=chat, seq=1, body="고침")
        await jun.hear(lambda: jun.view(chat).texts == ["고침"])
        mark = len(jun.journal)
        mina.emit([SEND, 1, chat, "딴말"])
        await jun.hear(lambda: any(frame[0] == MSG for frame in jun.journal[mark:]))
        await mina.until(lambda: [17, 1, *first] in mina.log[1:])
        assert mina.acks[1] == first
        assert jun.view(chat).texts == ["고침"]
        value = await post(cast.base, "/v1/call/chat.send", {"chat": chat, "cid": 1, "body": "x"}, mina.disk.token)
        assert value == {"seq": first[0], "at": first[1]}, "HTTP draws from the same numbers"
        assert (await mina.call("chat.get", chat=chat))["head"] == 1


async def test_coming_back_with_a_cursor_brings_what_was_missed_and_no_more(cast: Cast) -> None:
    mina, jun, chat = await cast.pair()
    other = await mina.create(kind="group", members=[jun.user], title="딴 방")
    async with jun.online():
        assert jun.session["resumed"] is False
        assert {chat, other} == {frame[1] for frame in jun.journal if frame[0] == CHAT}
        await mina.send(other, "조용")
        await jun.hear(lambda: jun.view(other).head == 1)
    async with jun.online():  # what the newest SYNCED covers does not come again
        assert jun.session["resumed"] is True
    for number in range(60):
        mina.post(chat, f"{number + 1}")
    await mina.settle()
    await mina.call("message.edit", chat=chat, seq=60, body="예순")
    mark = len(jun.journal)
    async with jun.online():
        assert jun.session["resumed"] is True
        frames = jun.journal[mark:]
        assert {frame[1] for frame in frames if frame[0] == CHAT} == {chat}
        seqs = [frame[2] for frame in frames if frame[0] == MSG]
        assert seqs == list(range(11, 61)), "the newest 50, oldest first"
        assert frames[-2][5] == "예순"
        assert (jun.view(chat).head, jun.view(chat).unread) == (60, 60)
        assert await jun.page(chat, 0, 4) == ([1, 2, 3, 4], True)
        healed = await jun.heal(chat)
        assert sorted(healed.messages) == list(range(1, 61))
        assert healed.changes[1][0] == "edit"
    jun.cursor = "garbled"
    async with jun.online():
        assert jun.session["resumed"] is False


async def test_history_pages_both_ways(cast: Cast) -> None:
    mina, jun, chat = await cast.pair()
    for number in range(25):
        mina.post(chat, f"{number + 1}")
    await mina.settle()
    async with jun.online():
        down, start = [], 0
        while True:
            page, more = await jun.page(chat, start, -10)
            down += page
            if not more:
                break
            start = page[-1]
        assert down == list(range(25, 0, -1))
        assert await jun.page(chat, 0, 10) == (list(range(1, 11)), True)
        assert await jun.page(chat, 20, 10) == (list(range(21, 26)), False)
        assert await jun.page(chat, 15, 10) == (list(range(16, 26)), False)
        assert await jun.page(chat, 25, 10) == ([], False)
        assert await jun.page(chat, 11, -10) == (list(range(10, 0, -1)), False)
        assert await jun.page(chat, 1, -10) == ([], False)
        assert await jun.page(chat, 0, 100_000) == (list(range(1, 26)), False)
        assert (await jun.page(chat, 999, -3))[0] == [25, 24, 23]


async def test_a_device_deletes_for_itself_while_another_is_away(cast: Cast) -> None:
    mina, _, chat = await cast.pair()
    tablet = await cast.by_msgpack(MINA, "tablet")
    await mina.send(chat, "하나")
    await mina.send(chat, "둘")
    async with tablet.online():
        assert tablet.view(chat).texts == ["하나", "둘"]
        await tablet.put(8, 60)
    await mina.forget(chat, 1)
    async with tablet.online():
        await tablet.ask(6, chat, 0, -10)
        assert tablet.view(chat).texts == ["", "둘"]
        # nor does an edit bring it back
        await mina.call("message.edit", chat=chat, seq=1, body="고침")
        await tablet.hear(lambda: tablet.view(chat).rev == 1)
        assert tablet.view(chat).texts == ["", "둘"]
        await tablet.ask(6, chat, 0, -10)
        assert tablet.view(chat).texts == ["", "둘"]


async def test_one_device_one_connection(cast: Cast) -> None:
    first = await cast.by_json()
    second = await cast.again(first.disk)
    assert (await first.ends(), first.bye and first.bye[0]) == (4501, "replaced")
    await second.ping()
    async with (await cast.by_msgpack(MINA)).online() as phone:
        assert phone.user == second.disk.user
        await second.ping()


async def test_refresh_tokens_rotate(cast: Cast) -> None:
    mina = await cast.by_json()

    async def refresh(token: str) -> str:
        value = await post(cast.base, "/v1/auth/refresh", {"refresh": token})
        assert set(value) == {"token", "refresh"}
        assert (await mina.call("auth.renew", token=value["token"]))["exp"] > mina.ready["time"]
        return str(value["refresh"])

    await refresh(mina.disk.refresh)
    again = await refresh(mina.disk.refresh)  # the answer was lost
    await refresh(again)
    with pytest.raises(RefusedError) as refused:
        await refresh(mina.disk.refresh)  # stolen
    assert (refused.value.status, refused.value.code) == (401, "unauthorized")
    assert (await mina.ends(), mina.bye and mina.bye[0]) == (4502, "signed_out")
    with pytest.raises(RefusedError) as refused:
        await mina.open()
    assert refused.value.code == "unauthorized"
    assert await mina.ends() == 4502
    signed = {"token": mina.disk.token, "refresh": "", "user": 0, "device": 0}
    with pytest.raises(Fault) as fault:
        await Phone(cast.base, signed).online().__aenter__()
    assert fault.value.args[:2] == ("unauthorized", 401)
