"""Two clients written from proto/ alone talk to a real server, each in its own way."""

from contextlib import AsyncExitStack

from tests.conformance.conftest import JUN, MINA, SORA, Cast
from tests.conformance.json_client import TYPING
from tests.conformance.msgpack_client import MSG, TYPED

BODIES = [
    "안녕 👋",
    {"t": "사진", "k": "photo", "f": [{"id": "a1", "w": 1080, "h": 720, "type": "image/jpeg"}]},
    {"t": "@민아 네!", "re": 1, "m": [[0, 3, 1]]},
    {"k": "location", "lat": 37.5665, "lon": -126.978, "x": {"deep": [[1, None, True, 2**53 - 1, 1 - 2**53]]}},
]


async def test_two_kinds_of_client_talk_in_a_direct_chat(cast: Cast) -> None:
    mina, jun = await cast.by_json(), await cast.by_msgpack()
    async with jun.online():
        assert await mina.call("user.find", phone=JUN) == {"user": jun.user, "name": ""}
        state = await mina.call("chat.create", kind="direct", members=[jun.user])
        chat = state["chat"]
        await mina.until(lambda: chat in mina.disk.chats)
        await jun.hear(lambda: jun.view(chat).state.get("peer") == mina.disk.user)
        assert state == {"chat": chat, "kind": "direct", "title": None, "count": 2, "head": 0, "rev": 0, "first": 1,
                         "read": 0, "role": "member", "muted": False, "pinned": False, "peer": jun.user}  # fmt: skip
        for at, body in enumerate(BODIES):
            assert await mina.send(chat, body) == 2 * at + 1
            await jun.hear(lambda at=at: jun.view(chat).head == 2 * at + 1)  # type: ignore[misc]
            assert await jun.said(chat, body) == 2 * at + 2
            await mina.until(lambda at=at: mina.disk.chats[chat].state["head"] == 2 * at + 2)  # type: ignore[misc]
        twice = [body for body in BODIES for _ in range(2)]
        assert jun.view(chat).texts == twice
        assert [mina.disk.chats[chat].messages[seq].body for seq in range(1, 9)] == twice
        mina.emit([TYPING, chat])
        await jun.hear(lambda: [TYPED, chat, mina.disk.user] in jun.journal)
        await jun.put(TYPING, chat)
        await mina.until(lambda: (chat, jun.user) in mina.typing)
        await mina.ping()


async def test_a_group_of_both_kinds_sees_one_order(cast: Cast) -> None:
    mina, jun, sora = await cast.by_json(), await cast.by_msgpack(), await cast.by_msgpack(SORA)
    async with jun.online(), sora.online():
        state = await mina.call("chat.create", kind="group", members=[jun.user, sora.user], title=" 점심 모임 ")
        chat = state["chat"]
        assert (state["title"], state["count"], state["role"]) == ("점심 모임", 3, "owner")
        await mina.until(lambda: chat in mina.disk.chats)
        for phone in (jun, sora):
            await phone.hear(lambda phone=phone: phone.view(chat).state.get("role") == "member")  # type: ignore[misc]
        for number in range(40):  # nobody waits for anybody
            mina.post(chat, f"m{number}")
            await jun.say(chat, f"j{number}")
            await sora.say(chat, {"t": f"s{number}"})
        await mina.settle()
        await mina.until(lambda: len(mina.disk.chats[chat].messages) == 120)
        for phone in (jun, sora):
            await phone.hear(lambda phone=phone: len(phone.view(chat).messages) == 120)  # type: ignore[misc]
        order = [mina.disk.chats[chat].messages[seq].body for seq in range(1, 121)]
        for who in "mjs":  # each in the order of sending
            assert [text for text in order if text[0] == who] == [f"{who}{number}" for number in range(40)]
        for phone in (jun, sora):
            said = {f"{'j' if phone is jun else 's'}{number}" for number in range(40)}
            texts = [text["t"] if isinstance(text, dict) else text for text in phone.view(chat).texts]
            assert texts == order
            heard = [frame for frame in phone.journal if frame[0] == MSG and frame[5] in said]
            assert heard == [], "a connection does not hear itself"
            assert phone.told <= phone.counted
            await phone.count()
        assert mina.errors == []


async def test_three_devices_of_one_user_are_in_step(cast: Cast) -> None:
    jun, desk = await cast.by_json(JUN), await cast.by_json(MINA, "desk")
    phone, tablet = await cast.by_msgpack(MINA, "phone"), await cast.by_msgpack("+82 10 1234 5678", "tablet")
    assert desk.disk.user == phone.user == tablet.user
    async with AsyncExitStack() as stack:
        for each in (phone, tablet):
            await stack.enter_async_context(each.online())
        chat = await jun.create(kind="direct", members=[phone.user])
        await jun.send(chat, "하나")
        await desk.until(lambda: chat in desk.disk.chats and desk.disk.chats[chat].state["head"] == 1)
        room = desk.disk.chats[chat]
        for each in (phone, tablet):
            await each.hear(lambda each=each: each.view(chat).unread == 1)  # type: ignore[misc]

        # what one says, the others have; and having said it is having read it
        assert await phone.said(chat, "둘") == 2
        await tablet.hear(lambda: tablet.view(chat).texts == ["하나", "둘"])
        await desk.until(lambda: len(room.messages) == 2)
        assert [room.unread(), phone.view(chat).unread, tablet.view(chat).unread] == [0, 0, 0]

        # reading on one is reading on all
        await jun.send(chat, "셋")
        await tablet.hear(lambda: tablet.view(chat).unread == 1)
        await desk.until(lambda: room.unread() == 1)
        await phone.hear(lambda: phone.view(chat).unread == 1)
        await tablet.saw(chat, 3)
        await desk.until(lambda: room.unread() == 0)
        await phone.hear(lambda: phone.view(chat).unread == 0)

        # settings
        await desk.call("chat.settings", chat=chat, muted=True, pinned=True)
        for each in (phone, tablet):
            await each.hear(lambda each=each: each.view(chat).state["muted"])  # type: ignore[misc]
            assert each.view(chat).state["pinned"]
        await desk.until(lambda: room.state["muted"] or desk.disk.chats[chat].state["muted"])

        # deleting for me: here a tombstone, with him nothing
        await desk.forget(chat, 1)
        for each in (phone, tablet):
            await each.hear(lambda each=each: each.view(chat).texts == ["", "둘", "셋"])  # type: ignore[misc]
        mark = len(tablet.journal)
        assert await tablet.page(chat, 0, -3) == ([3, 2, 1], False)
        page = [frame for frame in tablet.journal[mark:] if frame[0] == MSG]
        assert page[-1][5] == ""
        assert "deleted" in page[-1][6]
        await jun.fetch(chat, 0, 10)
        assert jun.disk.chats[chat].messages[1].body == "하나"

        # devices come and go
        assert {row["name"] for row in await desk.call("device.list")} == {"desk", "phone", "tablet"}
