"""People on different nodes notice nothing of it."""

import asyncio

from tests.cluster.conftest import two_nodes
from tests.harness import (
    BYE,
    CHANGE,
    CHAT,
    MSG,
    READ,
    READBY,
    SEND,
    TYPING,
    USER_TYPING,
    Phone,
    until,
)
from tests.redis_server import RedisServer


async def elsewhere(*phones: Phone) -> None:
    """Everything on its way between nodes by now has arrived: each settles until nothing more comes."""
    for phone in phones:
        await phone.settles()


async def test_a_direct_chat_between_nodes(database_url: str, redis_server: RedisServer) -> None:
    async with (
        two_nodes(database_url, redis_server.url) as (one, two),
        one.phone("mina") as mina,
        two.phone("jun", codec="json") as jun,
        two.phone("mina", "tablet") as tablet,
    ):
        chat = (await mina.calls("chat.create", kind="direct", members=[jun.user]))["chat"]
        assert (await jun.gets(CHAT))[1] == chat
        await mina.sends(chat, "안녕")
        assert (await jun.gets(MSG, chat))[2:4] == [1, mina.user]
        assert (await tablet.gets(MSG, chat))[5] == "안녕"
        await jun.says(TYPING, chat)
        assert await mina.gets(USER_TYPING) == [USER_TYPING, chat, jun.user]
        await jun.sends(chat, "반가워")
        assert (await mina.gets(MSG, chat))[5] == "반가워"
        await jun.says(READ, chat, 2)
        await mina.says(READ, chat, 2)
        assert await jun.gets(READBY, chat, [mina.user, 2])
        assert await tablet.gets(READBY, chat, [mina.user, 2])
        await mina.calls("message.react", chat=chat, seq=2, reaction="👍")
        assert (await jun.gets(CHANGE, chat))[3] == "react"


async def test_a_group_between_nodes_from_join_to_kick(database_url: str, redis_server: RedisServer) -> None:
    async with (
        two_nodes(database_url, redis_server.url) as (one, two),
        one.phone("mina") as mina,
        two.phone("jun") as jun,
        two.phone("hana") as hana,
    ):
        chat = (await mina.calls("chat.create", kind="group", members=[jun.user], title="모임"))["chat"]
        for number in range(1, 6):  # at once: the other node may only be subscribing
            await mina.says(SEND, number, chat, f"{number}")
        assert [(await jun.gets(MSG, chat, seq))[5] for seq in range(1, 6)] == ["1", "2", "3", "4", "5"]
        await mina.calls("chat.invite", chat=chat, users=[hana.user])
        await mina.sends(chat, "welcome", 6)
        assert (await hana.gets(MSG, chat))[2] == 6
        await mina.calls("chat.kick", chat=chat, users=[jun.user])
        assert (await jun.gets(CHAT, chat, ...))[2]["kind"] in ("group", "left")
        await mina.sends(chat, "secret", 7)
        await hana.gets(MSG, chat, 7)
        await elsewhere(jun)
        assert not [frame for frame in jun.inbox if frame[0] == MSG and frame[2] == 7]


async def test_many_groups_opened_at_once_are_heard_from_their_first_message(
    database_url: str, redis_server: RedisServer
) -> None:
    async with (
        two_nodes(database_url, redis_server.url, request_burst=1000) as (one, two),
        one.phone("mina") as mina,
        two.phone("jun") as jun,
    ):
        for number in range(40):
            chat = (await mina.calls("chat.create", kind="group", members=[jun.user], title=f"{number}"))["chat"]
            await mina.says(SEND, number + 1, chat, f"first of {number}")
            assert (await jun.gets(MSG, chat))[5] == f"first of {number}"


async def test_a_newer_connection_elsewhere_replaces_the_older(database_url: str, redis_server: RedisServer) -> None:
    async with (
        two_nodes(database_url, redis_server.url) as (one, two),
        one.phone("mina") as old,
        two.phone("mina") as new,
    ):
        assert (await old.gets(BYE))[1] == "replaced"
        assert await old.is_closed() == 4501
        await new.settles()
        async with one.phone("mina") as newest:
            assert await new.is_closed() == 4501
            await newest.settles()


async def test_of_connections_at_the_same_instant_one_stays(database_url: str, redis_server: RedisServer) -> None:
    async with two_nodes(database_url, redis_server.url) as (one, two):
        async with one.phone("mina"):
            pass  # the account is there
        for _ in range(8):
            phones = [node.phone("mina") for node in (one, two, one, two)]
            await asyncio.gather(*(phone.connect() for phone in phones))
            await asyncio.gather(*(phone.signs_in() for phone in phones), return_exceptions=True)

            def open_sockets() -> int:
                return sum(not c.is_closing for node in (one, two) for c in node.node.gateway.connections)

            await until(lambda: open_sockets() == 1)
            await asyncio.gather(*(phone.leaves() for phone in phones), return_exceptions=True)
            await until(lambda: open_sockets() == 0)


async def test_a_device_revoked_on_another_node_is_signed_out(database_url: str, redis_server: RedisServer) -> None:
    async with (
        two_nodes(database_url, redis_server.url) as (one, two),
        one.phone("mina") as mina,
        two.phone("mina", "tablet") as tablet,
    ):
        await mina.calls("device.revoke", device=tablet.device)
        assert (await tablet.gets(BYE))[1] == "signed_out"
        assert await tablet.is_closed() == 4502
