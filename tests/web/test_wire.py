"""A path that loses, swaps and repeats frames between a real server and the page: the room ends whole all the same."""

import json
from collections.abc import Callable
from typing import Any

from playwright.async_api import WebSocketRoute, expect

from tests.harness import ACK, CHANGE, CHAT, MSG, RESULT, SEND, SYNCED
from tests.web.conftest import Joins
from tests.web.person import Person

Frame = list[Any]


class BadPath:
    """Stands between one page and the server. `down` decides what becomes of each frame of the server."""

    def __init__(self) -> None:
        self.down: Callable[[Frame], list[Frame]] = lambda frame: [frame]
        self.sent: list[Frame] = []  # by the page
        self.sockets: list[WebSocketRoute] = []
        self.servers: list[WebSocketRoute] = []

    async def stand_before(self, person: Person) -> None:
        await person.page.route_web_socket("**/v1/ws", self._joined)

    def _joined(self, page: WebSocketRoute) -> None:
        server = page.connect_to_server()
        self.sockets.append(page)
        self.servers.append(server)

        def up(message: str | bytes) -> None:
            self.sent.append(json.loads(message))
            server.send(message)

        def down(message: str | bytes) -> None:
            for frame in self.down(json.loads(message)):
                page.send(json.dumps(frame))

        page.on_message(up)
        server.on_message(down)

    def sends(self) -> list[Frame]:
        return [frame for frame in self.sent if frame[0] == SEND]

    async def breaks(self) -> None:
        """The connection is lost, for both."""
        await self.servers[-1].close()
        await self.sockets[-1].close(code=4000)


async def test_lost_swapped_and_repeated_frames(joins: Joins) -> None:
    mina, jun = await joins("Mina"), await joins("Jun", signed_in=False)
    path = BadPath()
    await path.stand_before(jun)
    await jun.signs_in()
    await mina.starts_chat_with(jun)
    chat = int(await mina.page.locator(".chat-row").get_attribute("data-chat") or 0)
    await mina.says("first")
    await jun.opens_chat("Mina")
    await jun.sees("first")

    held: list[Frame] = []

    def spoil(frame: Frame) -> list[Frame]:
        if frame[0] == MSG and frame[2] == 5 and not held:  # live, and held back until the next one has passed
            held.append(frame)
            return []
        if frame[0] == MSG and held and frame[2] == 6:
            return [frame, held[0], frame]
        if frame[0] == MSG and frame[2] in (8, 9) and frame[2] not in lost:
            lost.add(frame[2])
            return []
        if frame[0] == CHANGE and frame[2] == 1 and "change" not in lost:
            lost.add("change")
            return []
        return [frame]

    lost: set[Any] = set()
    path.down = spoil
    for number in range(2, 12):
        await mina.calls("chat.send", chat=chat, cid=1000 + number, body=f"m{number}")
    await mina.calls("message.edit", chat=chat, seq=2, body="m2, edited")
    await mina.calls("message.delete", chat=chat, seq=3, scope="everyone")
    await jun.sees("m2, edited", "m11")
    await expect(jun.page.locator(".bubble-deleted")).to_have_count(1)
    await expect(jun.page.locator(".placeholder")).to_have_count(0)
    assert lost == {8, 9, "change"}
    assert await jun.texts() == ["first", "m2, edited", "Deleted message", *(f"m{number}" for number in range(4, 12))]


async def test_an_ack_that_is_lost_is_asked_for_with_the_same_cid(joins: Joins) -> None:
    mina, jun = await joins("Mina", signed_in=False), await joins("Jun")
    path = BadPath()
    await path.stand_before(mina)
    await mina.signs_in()
    await mina.starts_chat_with(jun)
    path.down = lambda frame: [] if frame[0] == ACK else [frame]
    await mina.says("once")
    await expect(mina.page.locator(".row[data-cid]")).to_have_count(1)
    await jun.opens_chat("Mina")
    await jun.sees("once")
    path.down = lambda frame: [frame]
    await path.breaks()
    await expect(mina.page.locator(".row[data-cid]")).to_have_count(0)
    await mina.sees("once")
    first, again = path.sends()
    assert first == again
    await mina.says("twice")
    await mina.sees_unread("twice", 0)
    await jun.sees("twice")
    assert await jun.texts() == await mina.texts() == ["once", "twice"]
    assert path.sends()[-1][1] == first[1] + 1


async def test_the_server_syncs_again_in_mid_session(joins: Joins) -> None:
    """As after a fault between nodes: CHAT, MSG, SYNCED without a READY before them."""
    mina, jun = await joins("Mina"), await joins("Jun", signed_in=False)
    path = BadPath()
    await path.stand_before(jun)
    await jun.signs_in()
    await mina.starts_chat_with(jun)
    chat = int(await mina.page.locator(".chat-row").get_attribute("data-chat") or 0)
    await mina.says("before")
    await jun.opens_chat("Mina")
    await jun.sees("before")
    await mina.sees_unread("before", 0)
    path.down = lambda frame: [frame] if frame[0] == RESULT else []  # the fault: nothing live comes through
    sent = [await mina.calls("chat.send", chat=chat, cid=1000 + number, body=f"missed {number}") for number in range(3)]
    state = await jun.calls("chat.get", chat=chat)
    del state["chat"]
    for frame in (
        [CHAT, chat, state],
        *([MSG, chat, one["seq"], mina.user, one["at"], f"missed {number}"] for number, one in enumerate(sent)),
    ):
        path.sockets[-1].send(json.dumps(frame))
    path.sockets[-1].send(json.dumps([SYNCED, "a new cursor"]))
    await jun.sees("missed 0", "missed 1", "missed 2")
    path.down = lambda frame: [frame]
    await mina.says("after")
    await jun.sees("after")
    assert await jun.texts() == ["before", "missed 0", "missed 1", "missed 2", "after"]
    await jun.until("""async (user) => {
        const { openDatabase, get } = await import('/js/store/database.js');
        return await get(await openDatabase(user), 'meta', 'cursor') !== null;
    }""", jun.user)  # fmt: skip
