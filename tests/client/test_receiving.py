"""What comes in, in whatever order: callbacks once and in sequence, gaps filled, counts exact."""

import asyncio

import pytest

from mim.client import Change, Client, Message, ReadBy
from mim.client.ops import Op
from tests.client.conftest import Opens
from tests.client.peer import CHAT, JUN, ME, MINA, eventually, group


class Heard:
    """What the callbacks of a client were given."""

    def __init__(self, client: Client, *, own: bool = False) -> None:
        self.messages: list[Message] = []
        self.changes: list[Change] = []
        self._more = asyncio.Event()
        client.on_message(self._on_message, own=own)
        client.on_change(self._on_change)

    def _on_message(self, message: Message) -> None:
        self.messages.append(message)
        self._more.set()

    def _on_change(self, change: Change) -> None:
        self.changes.append(change)
        self._more.set()

    async def until(self, *, seq: int = 0, rev: int = 0) -> list[int]:
        """Wait for the message `seq` and the change `rev`; return the seqs heard."""
        async with asyncio.timeout(5):
            while not ((not seq or seq in self.seqs) and (not rev or rev in self.revs)):
                self._more.clear()
                await self._more.wait()
        return self.seqs

    @property
    def seqs(self) -> list[int]:
        return [message.seq for message in self.messages]

    @property
    def revs(self) -> list[int]:
        return [change.rev for change in self.changes]


async def test_swapped_and_doubled_frames_are_told_once_and_in_order(opens: Opens) -> None:
    client, line = await opens(group(head=4))
    heard = Heard(client)
    for seq in (5, 5, 7, 4, 6, 7, 6, 8):
        await line.says(seq)
    assert await heard.until(seq=8) == [5, 6, 7, 8]
    await line.gets_nothing(0.4)  # no FETCH for a swap


async def test_a_gap_is_filled_by_fetch_from_the_last_seq_page_by_page(opens: Opens) -> None:
    client, line = await opens(group(head=4))
    heard = Heard(client)
    await line.says(9)
    await line.answers_fetch(5, 6, start=4, more=True)
    await line.answers_fetch(7, 8, 9, start=6)
    assert await heard.until(seq=9) == [5, 6, 7, 8, 9]


async def test_a_readby_of_a_message_that_never_came_brings_it(opens: Opens) -> None:
    client, line = await opens(group(head=4))
    heard = Heard(client)
    await line.tells(Op.READBY, CHAT, [MINA, 5])
    await line.answers_fetch(5, start=4)
    assert await heard.until(seq=5) == [5]


async def test_changes_come_in_order_after_their_messages_and_gaps_are_asked_for(opens: Opens) -> None:
    client, line = await opens(group(head=4, rev=2))
    heard = Heard(client)
    await line.tells(Op.CHANGE, CHAT, 4, "delete", MINA, 100, {"after": 5, "seq": 5})
    await line.says(5)
    assert await heard.until(seq=5) == [5]
    ref, chat, after, _ = await line.gets(Op.CHANGES)
    assert (chat, after) == (CHAT, 2)
    await line.tells(Op.CHANGE, CHAT, 3, "react", JUN, 100, {"after": 4, "seq": 4, "reaction": "👍"})
    await line.tells(Op.CHANGE, CHAT, 4, "delete", MINA, 100, {"after": 5, "seq": 5})
    await line.tells(Op.RESULT, ref, {"more": False})
    await heard.until(rev=4)
    assert heard.revs == [3, 4]


async def test_a_message_of_an_unknown_chat_waits_for_its_state(opens: Opens) -> None:
    client, line = await opens()
    heard = Heard(client)
    await line.says(1)
    ref, method, params = await line.gets(Op.CALL)
    assert (method, params) == ("chat.get", {"chat": CHAT})
    assert heard.seqs == []
    await line.tells(Op.RESULT, ref, {"chat": CHAT, **group(head=1, read=0)})
    assert await heard.until(seq=1) == [1]
    assert client.chats[CHAT].title == "모임"


async def test_messages_of_a_chat_that_this_user_is_not_in_are_dropped(opens: Opens) -> None:
    client, line = await opens()
    heard = Heard(client)
    await line.says(1)
    ref, _, _ = await line.gets(Op.CALL)
    await line.tells(Op.ERROR, ref, "not_member", "you are not in this chat")
    await line.gets_nothing(0.5)
    assert heard.seqs == []


async def test_a_server_that_cannot_fill_a_gap_stops_nobody(opens: Opens, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mim.client.session.GAP_WAIT_S", 0.01)
    client, line = await opens(group(head=4))
    heard = Heard(client)
    await line.says(6)
    for _ in range(4):
        await line.answers_fetch(6, start=4)
    assert await heard.until(seq=6) == [6]


async def test_a_fetch_refused_for_now_is_asked_again_and_nothing_is_skipped(opens: Opens) -> None:
    client, line = await opens(group(head=4))
    heard = Heard(client)
    await line.says(6)
    for _ in range(6):
        ref, *_ = await line.gets(Op.FETCH)
        await line.tells(Op.ERROR, ref, "unavailable", "storage is down", 10)
    await line.answers_fetch(5, 6, start=4)
    assert await heard.until(seq=6) == [5, 6]


async def test_callbacks_that_lag_leave_messages_on_the_server(opens: Opens, monkeypatch: pytest.MonkeyPatch) -> None:
    client, line = await opens(group(head=0))
    monkeypatch.setattr(client._core.lanes, "_limit", 4)
    heard, go_on = Heard(client), asyncio.Event()
    client.on_message(lambda message: go_on.wait())
    for seq in range(1, 21):
        await line.says(seq)
    await eventually(lambda: client.chats[CHAT].head == 20)
    assert heard.seqs == [1]
    go_on.set()
    ref, _, after, _ = await line.gets(Op.FETCH)
    while after < 20:
        for seq in range(after + 1, 21):
            await line.says(seq)
        await line.tells(Op.RESULT, ref, {"more": False})
        if 20 in await heard.until(seq=after + 1):
            break
        ref, _, after, _ = await line.gets(Op.FETCH)
    assert await heard.until(seq=20) == list(range(1, 21))


async def test_a_callback_may_wait_for_its_own_message(opens: Opens) -> None:
    client, line = await opens(group(head=0))
    answered = asyncio.Event()

    @client.on_message
    async def echo(message: Message) -> None:
        await client.send(message.chat, message.text)
        answered.set()

    await line.says(1, "hi")
    cid, chat, body = await line.gets(Op.SEND)
    assert (chat, body) == (CHAT, "hi")
    await line.tells(Op.ACK, cid, 2, 100)
    async with asyncio.timeout(5):
        await answered.wait()
    await line.gets_nothing(0.1)  # an own message is not echoed


async def test_a_callback_that_fails_stops_nobody(opens: Opens, caplog: pytest.LogCaptureFixture) -> None:
    client, line = await opens(group(head=0))

    @client.on_message
    def fail(message: Message) -> None:
        raise RuntimeError("oops")

    heard = Heard(client)
    await line.says(1)
    await line.says(2)
    assert await heard.until(seq=2) == [1, 2]
    assert "oops" in caplog.text


async def test_what_is_no_frame_or_unknown_is_passed_over(opens: Opens) -> None:
    client, line = await opens(group(head=0))
    heard = Heard(client)
    await line.tells_raw(b"\xc1")
    await line.tells_raw("text")
    await line.tells(99, "from the future")
    await line.tells(Op.MSG, CHAT)
    await line.tells(Op.ACK, "x")
    await line.tells(Op.CHAT, CHAT, None)
    await line.tells(Op.MSG, CHAT, 1, MINA, 100, "hi", {}, "extra")
    assert await heard.until(seq=1) == [1]


async def test_messages_as_an_iterator(opens: Opens) -> None:
    client, line = await opens(group(head=0))
    async with client.messages() as messages:
        await line.says(1)
        await line.says(2)
        assert [(await anext(messages)).seq, (await anext(messages)).seq] == [1, 2]


async def test_own_messages_from_here_and_from_other_devices_take_their_place(opens: Opens) -> None:
    client, line = await opens(group(head=0))
    heard = Heard(client, own=True)
    sending = asyncio.ensure_future(client.send(CHAT, "from here"))  # noqa: TID251
    cid, *_ = await line.gets(Op.SEND)
    await line.says(2, "from the other", sender=MINA)
    await line.says(3, "from my tablet", sender=ME)
    await line.tells(Op.ACK, cid, 1, 100)
    assert (await sending).seq == 1
    assert await heard.until(seq=3) == [1, 2, 3]
    assert heard.messages[0].text == "from here"
    assert client.unread(CHAT) == 0  # an own message says that all before it was read


async def test_unread_is_head_less_read(opens: Opens) -> None:
    client, line = await opens(group(head=5, read=3))
    assert client.unread(CHAT) == 2
    await line.says(6)
    await eventually(lambda: client.unread(CHAT) == 3)
    client.read(CHAT, 5)
    assert client.unread(CHAT) == 1
    assert await line.gets(Op.READ) == [CHAT, 5]
    client.read(CHAT, 2)  # never back
    assert client.unread(CHAT) == 1
    await line.tells(Op.READBY, CHAT, [ME, 6])  # on another device
    await eventually(lambda: client.unread(CHAT) == 0)
    await line.gets_nothing(0.1)


async def test_the_number_beside_a_message(opens: Opens) -> None:
    client, line = await opens(group(head=5))
    moved = asyncio.Event()

    @client.on_read
    def on_read(event: ReadBy) -> None:
        moved.set()

    counting = asyncio.ensure_future(client.unread_by(CHAT, 5))  # noqa: TID251
    ref, method, _ = await line.gets(Op.CALL)
    assert method == "chat.watermarks"
    await line.tells(Op.RESULT, ref, [[ME, 5], [MINA, 5], [JUN, 3], [4, 0]])
    assert await counting == 2
    await line.tells(Op.READBY, CHAT, [JUN, 5, JUN, 4])
    async with asyncio.timeout(5):
        await moved.wait()
    assert await client.unread_by(CHAT, 5) == 1
    heard = Heard(client)
    await line.tells(Op.CHANGE, CHAT, 1, "leave", 4, 100, {"after": 5})
    await heard.until(rev=1)
    assert await client.unread_by(CHAT, 5) == 0
    assert client.chats[CHAT].count == 2
    await line.gets_nothing(0.1)  # asked for once
