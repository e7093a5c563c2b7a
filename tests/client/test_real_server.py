"""The SDK against a real node on a real Postgres."""

import asyncio
import time
from itertools import chain
from pathlib import Path

import pytest

from mim.client import (
    CallError,
    Change,
    Client,
    ClientState,
    FileState,
    Message,
    SendRefused,
    SignedOut,
    request_code,
    sign_in,
)
from mim.client.auth import renew_at
from tests.client.cutter import cutter
from tests.client.peer import eventually
from tests.harness import RunningServer, running, token_for


async def talk(one: Client, *others: Client) -> int:
    """Open a chat of these clients; returns when all of them know it."""
    kind = "direct" if len(others) == 1 else "group"
    made = await one.call("chat.create", kind=kind, members=[other.user for other in others])
    chat = int(made["chat"])
    await eventually(lambda: all(chat in client.chats for client in (one, *others)))
    return chat


def seqs(client: Client, *, own: bool = False) -> list[int]:
    """The seqs that this client is told from now on."""
    heard: list[int] = []
    client.on_message(lambda message: heard.append(message.seq), own=own)
    return heard


async def test_two_people_chat_and_see_who_has_read(server: RunningServer) -> None:
    async with Client(server.http, token_for("mina")) as mina, Client(server.http, token_for("jun")) as jun:
        chat = await talk(mina, jun)
        heard: list[Message] = []
        jun.on_message(heard.append)
        typists: list[int] = []
        jun.on_typing(lambda event: typists.append(event.user))
        mina.typing(chat)
        sent = await mina.send(chat, "안녕, 준")
        await eventually(lambda: len(heard) == 1 and typists == [mina.user])
        assert heard[0] == Message(chat, sent.seq, mina.user, sent.at, "안녕, 준")
        assert (jun.unread(chat), mina.unread(chat)) == (1, 0)
        assert await mina.unread_by(chat, sent.seq) == 1
        moved = asyncio.Event()
        mina.on_read(lambda event: moved.set())
        jun.read(chat, sent.seq)
        async with asyncio.timeout(5):
            await moved.wait()
        assert await mina.unread_by(chat, sent.seq) == 0
        assert jun.unread(chat) == 0
        assert [message.text for message in await jun.history(chat)] == ["안녕, 준"]


async def test_three_devices_of_one_user_are_in_step(server: RunningServer) -> None:
    async with (
        Client(server.http, token_for("mina", "phone")) as phone,
        Client(server.http, token_for("mina", "desktop")) as desktop,
        Client(server.http, token_for("mina", "web")) as web,
        Client(server.http, token_for("jun")) as jun,
    ):
        chat = await talk(phone, jun)
        told = [seqs(client, own=True) for client in (phone, desktop, web, jun)]
        for index in range(10):
            await (phone, desktop, web, jun)[index % 4].send(chat, str(index))
        expected = list(range(1, 11))
        await eventually(lambda: all(heard == expected for heard in told))
        jun.read(chat, 10)
        desktop.read(chat, 10)
        await eventually(lambda: all(client.unread(chat) == 0 for client in (phone, desktop, web, jun)))


async def test_changes_and_membership_are_followed(server: RunningServer) -> None:
    async with (
        Client(server.http, token_for("mina")) as mina,
        Client(server.http, token_for("jun")) as jun,
        Client(server.http, token_for("sora")) as sora,
        Client(server.http, token_for("late")) as late,
    ):
        chat = await talk(mina, jun, sora)
        changes: list[Change] = []
        jun.on_change(changes.append)
        late_heard = seqs(late)
        seq = (await mina.send(chat, "one")).seq
        assert await jun.unread_by(chat, seq) == 2
        await mina.call("message.edit", chat=chat, seq=seq, body="eins")
        await sora.call("message.react", chat=chat, seq=seq, reaction="👍")
        await jun.call("chat.invite", chat=chat, users=[late.user])
        await eventually(lambda: chat in late.chats)
        await sora.call("chat.leave", chat=chat)
        await mina.call("chat.update", chat=chat, title="새 모임")
        await eventually(lambda: [c.kind for c in changes] == ["edit", "react", "join", "leave", "title"])
        assert [change.rev for change in changes] == [1, 2, 3, 4, 5]
        assert await jun.unread_by(chat, seq) == 1  # sora left, late has read what was before
        await eventually(lambda: chat not in sora.chats and jun.chats[chat].title == "새 모임")
        assert jun.chats[chat].count == 3
        await mina.send(chat, "two")
        await eventually(lambda: late_heard == [2])
        assert late.unread(chat) == 1
        with pytest.raises(SendRefused, match="not_member"):
            await sora.send(chat, "three")
        await mina.call("chat.kick", chat=chat, users=[late.user])
        await eventually(lambda: chat not in late.chats)
        assert late.unread(chat) == 0


async def test_everything_arrives_once_and_in_order_while_lines_are_cut(server: RunningServer) -> None:
    count = 60
    async with cutter(server.http) as relay:
        clients = [Client(relay.url, token_for(f"user{n}"), recv=True) for n in range(4)]
        for client in clients:
            await client.__aenter__()
        try:
            chat = await talk(*clients)
            told = [seqs(client, own=True) for client in clients]

            async def say(client: Client) -> list[int]:
                async def one(index: int) -> int:
                    await asyncio.sleep(index * 0.05)
                    return (await client.send(chat, f"{client.user}:{index}")).seq

                return await asyncio.gather(*(one(index) for index in range(count)))

            cutting = asyncio.gather(relay.keep_cutting((0.1, 0.5)))
            sent = await asyncio.gather(*(say(client) for client in clients))
            cutting.cancel()
            expected = list(range(1, 4 * count + 1))
            assert sorted(chain.from_iterable(sent)) == expected  # each stored once
            await eventually(lambda: all(heard == expected for heard in told))
            assert relay.accepted > 8
            history = await clients[0].history(chat, limit=1000)
            assert [message.seq for message in history] == expected
            assert len({message.text for message in history}) == 4 * count
        finally:
            for client in clients:
                await client.close()


async def test_a_restart_of_the_server_loses_nothing(database_url: str) -> None:
    async with cutter("http://127.0.0.1:1") as relay:
        mina, jun = Client(relay.url, token_for("mina")), Client(relay.url, token_for("jun"))
        async with running(database_url) as server:
            relay.upstream = server.http
            async with asyncio.timeout(20):
                await mina.__aenter__()
                await jun.__aenter__()
            chat = await talk(mina, jun)
            heard = seqs(jun)
            await mina.send(chat, "before")
        waiting = asyncio.gather(*(mina.send(chat, f"while it was away {n}") for n in range(5)))
        async with running(database_url) as server:
            relay.upstream = server.http
            async with asyncio.timeout(30):
                assert [sent.seq for sent in await waiting] == [2, 3, 4, 5, 6]
            await eventually(lambda: heard == [1, 2, 3, 4, 5, 6])
            await mina.close()
            await jun.close()


async def test_a_bot_with_a_file_hears_what_it_missed(server: RunningServer, tmp_path: Path) -> None:
    path = tmp_path / "bot.json"
    async with Client(server.http, token_for("mina")) as mina:
        async with Client(server.http, token_for("bot"), state=FileState(path)) as bot:
            chat = await talk(mina, bot)
            heard = seqs(bot)
            await mina.send(chat, "0")
            await eventually(lambda: heard == [1])
        await asyncio.gather(*(mina.send(chat, str(n)) for n in range(1, 121)))  # more than a sync brings
        again = Client(server.http, token_for("bot"), state=FileState(path))
        heard = seqs(again)
        async with again:
            await eventually(lambda: len(heard) == 120)
        assert heard == list(range(2, 122))
        once_more = Client(server.http, token_for("bot"), state=FileState(path))
        heard = seqs(once_more)
        async with once_more:
            assert once_more.chats[chat].head == 121
            await mina.send(chat, "last")
            await eventually(lambda: heard == [122])


async def test_without_a_state_it_hears_what_is_unread(server: RunningServer) -> None:
    async with Client(server.http, token_for("mina")) as mina:
        async with Client(server.http, token_for("bot")) as bot:
            chat = await talk(mina, bot)
            user = bot.user
        await asyncio.gather(*(mina.send(chat, str(n)) for n in range(8)))
        bot = Client(server.http, token_for("bot"))
        heard = seqs(bot)
        async with bot:
            assert bot.user == user
            await eventually(lambda: heard == list(range(1, 9)))
            assert await mina.unread_by(chat, 6) == 1
            bot.read(chat, 6)  # and leave at once
        async with asyncio.timeout(5):
            while await mina.unread_by(chat, 6):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        bot = Client(server.http, token_for("bot"))
        heard = seqs(bot)
        async with bot:
            await eventually(lambda: heard == [7, 8])


async def test_signing_in_by_phone_and_refreshing(database_url: str) -> None:
    async with running(database_url, dev=True) as server:
        code = await request_code(server.http, "010-2345-6701")
        assert code is not None
        with pytest.raises(CallError) as error:
            await sign_in(server.http, "010-2345-6701", "000000" if code != "000000" else "1", "test")
        assert error.value.code == "unauthorized"
        session = await sign_in(server.http, "010-2345-6701", code, "test", "desktop")
        renewing = renew_at(session.token)
        assert renewing is not None
        assert renewing > time.time()
        state = ClientState()
        async with Client(server.http, session.token, session.refresh, state) as client:
            assert (client.user, client.device) == (session.user, session.device)
            devices = await client.call("device.list")
            assert [device["name"] for device in devices] == ["test"]
        async with Client(server.http, "no token", session.refresh) as client:  # refused, refreshed
            assert client.user == session.user
            await client._core.credentials.refresh(client._core.credentials.token)
            await client.call("auth.renew", token=client._core.credentials.token)
        with pytest.raises(SignedOut):
            await Client(server.http, "no token", "no refresh").run_forever()


async def test_a_revoked_device_is_signed_out(server: RunningServer) -> None:
    async with Client(server.http, token_for("mina", "phone")) as phone:
        lost = Client(server.http, token_for("mina", "lost"))
        async with asyncio.timeout(10):
            await lost.__aenter__()
            running = asyncio.gather(lost.run_forever(), return_exceptions=True)
            await phone.call("device.revoke", device=lost.device)
            assert isinstance((await running)[0], SignedOut)
