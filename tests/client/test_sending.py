"""What goes out: one cid a message for ever, retried until answered, bounded, and refused in the open."""

import asyncio
from pathlib import Path

import pytest

from mim.client import ClientClosed, FileState, SendRefused, Sent
from mim.client.ops import Op
from tests.client.conftest import Opens
from tests.client.peer import CHAT, Peer, eventually, group


async def test_a_message_whose_ack_was_lost_goes_out_again_under_its_cid(opens: Opens, peer: Peer) -> None:
    client, line = await opens(group())
    async with asyncio.TaskGroup() as tasks:
        one = tasks.create_task(client.send(CHAT, "one"))
        two = tasks.create_task(client.send(CHAT, "two"))
        first, second = await line.gets(Op.SEND), await line.gets(Op.SEND)
        assert second[0] > first[0]
        line.breaks()
        again = await peer.accepts()
        assert again.cursor == "c1"
        await again.ready(resumed=True)
        # Stored before the line broke: the sync brings it, and the ACK of the second sending the same place.
        await again.says(1, "one", sender=1)
        await again.tells(Op.SYNCED, "c2")
        assert [await again.gets(Op.SEND), await again.gets(Op.SEND)] == [first, second]
        await again.tells(Op.ACK, first[0], 1, 100)
        await again.tells(Op.ACK, second[0], 2, 101)
    assert (one.result(), two.result()) == (Sent(1, 100), Sent(2, 101))


async def test_a_refusal_that_passes_is_retried_with_the_same_cid_in_its_time(opens: Opens) -> None:
    client, line = await opens(group())
    async with asyncio.TaskGroup() as tasks:
        sent = tasks.create_task(client.send(CHAT, "x"))
        frame = await line.gets(Op.SEND)
        await line.tells(Op.NACK, frame[0], "unavailable", "storage is down", 300)
        await line.gets_nothing(0.2)
        assert await line.gets(Op.SEND) == frame
        await line.tells(Op.NACK, frame[0], "rate_limited", "slower")
        assert await line.gets(Op.SEND) == frame
        await line.tells(Op.ACK, frame[0], 1, 100)
    assert sent.result() == Sent(1, 100)


async def test_any_other_refusal_is_told(opens: Opens) -> None:
    client, line = await opens(group())
    async with asyncio.TaskGroup() as tasks:
        sending = tasks.create_task(refused(client.send(CHAT, "x")))
        cid, *_ = await line.gets(Op.SEND)
        await line.tells(Op.NACK, cid, "blocked", "this user does not want to hear from you")
    assert sending.result().code == "blocked"


async def refused(sending: object) -> SendRefused:
    with pytest.raises(SendRefused) as error:
        await sending  # type: ignore[misc]
    return error.value


async def test_no_more_are_unanswered_than_the_server_allows(opens: Opens) -> None:
    client, line = await opens(group(), inflight=2)
    async with asyncio.TaskGroup() as tasks:
        for index in range(5):
            tasks.create_task(client.send(CHAT, str(index)))
        under_way = [await line.gets(Op.SEND), await line.gets(Op.SEND)]
        for seq in range(1, 6):
            await line.gets_nothing(0.05)
            cid, _, body = under_way.pop(0)
            assert body == str(seq - 1)
            await line.tells(Op.ACK, cid, seq, 100)
            if seq <= 3:
                under_way.append(await line.gets(Op.SEND))


async def test_a_full_outbox_makes_the_next_wait(opens: Opens) -> None:
    client, line = await opens(group(), client={"outbox_limit": 1})
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(client.send(CHAT, "one"))
        tasks.create_task(client.send(CHAT, "two"))
        cid, *_ = await line.gets(Op.SEND)
        await line.gets_nothing(0.1)
        await line.tells(Op.ACK, cid, 1, 100)
        cid, _, body = await line.gets(Op.SEND)
        assert body == "two"
        await line.tells(Op.ACK, cid, 2, 100)


async def test_what_no_frame_can_hold_is_refused_before_it_is_sent(opens: Opens) -> None:
    client, line = await opens(group())
    with pytest.raises(SendRefused, match="too_large"):
        await client.send(CHAT, "x" * 65_536)
    with pytest.raises(TypeError):
        await client.send(CHAT, 5)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        await client.send(CHAT, {"t": object()})
    with pytest.raises(UnicodeEncodeError):
        await client.send(CHAT, "\ud800")
    await line.gets_nothing(0.1)


async def test_typing_is_told_once_in_three_seconds(opens: Opens) -> None:
    client, line = await opens(group())
    for _ in range(5):
        client.typing(CHAT)
    assert await line.gets(Op.TYPING) == [CHAT]
    await line.gets_nothing(0.1)


async def test_who_closes_hears_what_was_not_answered(opens: Opens) -> None:
    client, line = await opens(group())
    sending = asyncio.gather(client.send(CHAT, "x"), return_exceptions=True)
    await line.gets(Op.SEND)
    await client.close()
    assert isinstance((await sending)[0], ClientClosed)
    with pytest.raises(ClientClosed):
        await client.send(CHAT, "y")


async def test_after_a_restart_of_the_program_it_goes_on_where_it_was(opens: Opens, peer: Peer, tmp_path: Path) -> None:
    path = tmp_path / "device.json"
    client, line = await opens(group(head=4), client={"state": FileState(path)})
    sending = asyncio.gather(client.send(CHAT, "안녕"), return_exceptions=True)
    frame = await line.gets(Op.SEND)
    client.read(CHAT, 5)
    await line.gets(Op.READ)
    await client.close()
    await sending

    heard: list[int] = []
    again = FileState(path)
    client, line = await opens(resumed=True, client={"state": again}, cursor="c2")
    client.on_message(lambda message: heard.append(message.seq))
    assert line.cursor == "c1"
    assert await line.gets(Op.READ) == [CHAT, 5]  # it may not have arrived
    assert await line.gets(Op.SEND) == frame
    await line.tells(Op.ACK, frame[0], 5, 100)
    await line.says(5, sender=1)
    await line.says(6)
    await eventually(lambda: heard == [6] and len(client._core.outbox) == 0)
    await client.close()
    kept = FileState(path)
    kept.close()
    assert kept.outbox == []
