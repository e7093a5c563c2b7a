"""What happens to a user while one of the user's sessions opens: between the query that tells which groups to listen to
and the moment they are listened to, and around the query that tells what was missed.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import pytest_asyncio

from mim.gateway.connection import Connection
from tests.harness import (
    BYE,
    CHAT,
    ERROR,
    HELLO,
    LEFT,
    MSG,
    READY,
    SYNCED,
    Phone,
    RunningServer,
    direct,
    group,
    running,
    token_for,
    until,
)

Act = Callable[[], Awaitable[Any]]


@pytest_asyncio.fixture
async def server(database_url: str) -> AsyncIterator[RunningServer]:
    """A node on an empty database."""
    async with running(database_url, request_rate=1e6, request_burst=10**6) as server:
        yield server


async def nothing() -> None:
    """A moment in which nothing happens."""


class Moments:
    """Lets something happen in the midst of the next session that opens, once each."""

    def __init__(self, server: RunningServer, monkeypatch: pytest.MonkeyPatch) -> None:
        self.before_listening: Act = nothing
        self.before_reading: Act = nothing
        self.after_reading: Act = nothing
        self.reads = 0
        gateway = server.node.gateway
        attach, since = gateway.hub.attach_user, gateway._opening._missing.since

        async def listens(*args: Any) -> None:
            await self._once("before_listening")
            await attach(*args)

        async def reads(*args: Any) -> Any:
            await self._once("before_reading")
            self.reads += 1
            found = await since(*args)
            await self._once("after_reading")
            return found

        monkeypatch.setattr(gateway.hub, "attach_user", listens)
        monkeypatch.setattr(gateway._opening._missing, "since", reads)

    async def _once(self, name: str) -> None:
        act = getattr(self, name)
        setattr(self, name, nothing)
        await act()


@pytest.fixture
def moments(server: RunningServer, monkeypatch: pytest.MonkeyPatch) -> Moments:
    return Moments(server, monkeypatch)


@pytest.fixture(params=["resumed", "full"])
def resumed(request: pytest.FixtureRequest) -> bool:
    """Whether the session comes with a cursor."""
    return bool(request.param == "resumed")


def states(phone: Phone, chat: int) -> list[Any]:
    """What CHAT frames told of a chat."""
    return [frame[2] for frame in phone.inbox if frame[:2] == [CHAT, chat]]


def texts(phone: Phone, chat: int) -> list[str]:
    """The messages of a chat, each once: what comes twice is dropped by its seq."""
    return list({frame[2]: frame[5] for frame in phone.inbox if frame[:2] == [MSG, chat]}.values())


async def test_nothing_happens_and_it_is_read_once(server: RunningServer, moments: Moments, resumed: bool) -> None:
    async with server.phone("mina") as mina, server.phone("jun", "desktop") as jun:
        club, chat = await group(mina, jun), await direct(mina, jun)
        moments.reads = 0
        async with server.phone("jun", cursor=jun.cursor if resumed else None) as phone:
            assert moments.reads == 1
            await mina.sends(club, "to all")
            await mina.sends(chat, "to jun")
            assert (await phone.gets(MSG, club))[5] == "to all"
            assert (await phone.gets(MSG, chat))[5] == "to jun"


async def test_who_is_kicked_hears_nothing_more(server: RunningServer, moments: Moments, resumed: bool) -> None:
    async with server.phone("mina") as mina, server.phone("jun", "desktop") as jun:
        club = await group(mina, jun)

        async def kick() -> None:
            await mina.calls("chat.kick", chat=club, users=[jun.user])

        async def secret() -> None:
            await mina.sends(club, "secret")

        moments.before_listening, moments.before_reading, moments.after_reading = kick, secret, secret
        async with server.phone("jun", cursor=jun.cursor if resumed else None) as phone:
            await mina.sends(club, "secret")
            await phone.settles()
            assert states(phone, club) == ([LEFT] if resumed else [])
            assert texts(phone, club) == []


async def test_a_kick_that_comes_while_it_is_read(server: RunningServer, moments: Moments, resumed: bool) -> None:
    async with server.phone("mina") as mina, server.phone("jun", "desktop") as jun:
        club = await group(mina, jun)

        async def kick() -> None:
            await mina.calls("chat.kick", chat=club, users=[jun.user])
            await mina.sends(club, "secret")

        moments.after_reading = kick
        async with server.phone("jun", cursor=jun.cursor if resumed else None) as phone:
            await mina.sends(club, "secret")
            await phone.settles()
            assert states(phone, club) == ([LEFT] if resumed else [])
            assert texts(phone, club) == []


async def test_who_is_invited_hears_everything_from_then_on(
    server: RunningServer, moments: Moments, resumed: bool
) -> None:
    async with server.phone("mina") as mina, server.phone("jun", "desktop") as jun:
        clubs: list[int] = []

        async def invite() -> None:
            clubs.append(await group(mina, jun))

        async def say(text: str) -> None:
            await mina.sends(clubs[0], text)

        moments.before_listening = invite
        moments.before_reading = lambda: say("before it is read")
        moments.after_reading = lambda: say("after it is read")
        async with server.phone("jun", cursor=jun.cursor if resumed else None) as phone:
            assert phone.session["resumed"] is resumed
            await say("live")
            await phone.settles()
            assert states(phone, clubs[0])
            assert texts(phone, clubs[0]) == ["before it is read", "after it is read", "live"]


async def test_out_and_in_again_sees_from_the_second_joining(
    server: RunningServer, moments: Moments, resumed: bool
) -> None:
    async with server.phone("mina") as mina, server.phone("jun", "desktop") as jun:
        club = await group(mina, jun)

        async def out_and_in() -> None:
            await mina.calls("chat.kick", chat=club, users=[jun.user])
            await mina.sends(club, "unseen")
            await mina.calls("chat.invite", chat=club, users=[jun.user])

        async def edit() -> None:
            await mina.calls("message.edit", chat=club, seq=1, body="unseen, edited")

        moments.before_listening, moments.before_reading, moments.after_reading = out_and_in, edit, edit
        async with server.phone("jun", cursor=jun.cursor if resumed else None) as phone:
            await edit()
            await mina.sends(club, "seen")
            await phone.settles()
            assert states(phone, club)[-1]["first"] == 2
            assert texts(phone, club) == ["seen"]
            assert "unseen" not in str(phone.inbox)


@pytest.mark.parametrize("moment", ["before_listening", "before_reading", "after_reading"])
@pytest.mark.parametrize("auth", ["hello", "upgrade"])
async def test_a_device_that_is_revoked_does_not_come_in(
    server: RunningServer, moments: Moments, moment: str, auth: str
) -> None:
    async with server.phone("mina", "desktop") as desktop:
        async with server.phone("mina") as phone:
            device = phone.device

        async def revoke() -> None:
            await desktop.calls("device.revoke", device=device)

        setattr(moments, moment, revoke)
        lost = server.phone("mina", auth=auth)
        if auth == "upgrade":
            with pytest.raises(Exception, match=r"HTTP 401|did not receive a valid HTTP response"):
                await lost.connect()
        else:
            await lost.connect()
            await lost.says(HELLO, 5, lost.token)
            assert await lost.is_closed() == 4502
            assert [(frame[0], frame[2]) for frame in lost.inbox] == [(ERROR, "unauthorized")]
        await desktop.settles()


async def test_the_later_of_two_connections_stays(server: RunningServer, moments: Moments) -> None:
    later: list[Phone] = []

    async def opens_again() -> None:
        later.append(server.phone("mina"))
        await later[0].connect()
        await later[0].signs_in()

    for moment in ("before_listening", "before_reading", "after_reading"):
        later.clear()
        setattr(moments, moment, opens_again)
        earlier = server.phone("mina")
        await earlier.connect()
        await earlier.says(HELLO, 1, earlier.token)
        if moment == "before_listening":  # it claims the device after the other one did
            await earlier.gets(READY)
            assert await later[0].is_closed() == 4501
            assert later[0].inbox[-1][:2] == [BYE, "replaced"]
            await earlier.gets(SYNCED)
            await earlier.leaves()
        else:
            assert await earlier.is_closed() == 4501
            await until(lambda: later[0].cursor)
            await later[0].settles()
            await later[0].leaves()


async def test_a_group_that_is_listened_to_late_is_told_when_the_session_is_open(
    server: RunningServer, moments: Moments
) -> None:
    """It may be confirmed while a session opens: nothing may be said to that one before its upgrade is answered."""
    async with server.phone("mina") as mina, server.phone("jun", "desktop") as jun:
        club = await group(mina, jun)
        catching_up = server.node.gateway.catching_up

        async def confirmed() -> None:
            await mina.sends(club, "said before it was listened to")
            for connection in server.node.gateway.connections:
                if connection.horizon is None:
                    connection.forget_held()  # it did not listen yet
            catching_up.joined(club, 0)
            await until(lambda: not len(catching_up._tasks))

        moments.after_reading = confirmed
        async with server.phone("jun", cursor=jun.cursor, auth="upgrade") as phone:
            message = await phone.gets(MSG, club)
            assert message[5] == "said before it was listened to"


async def test_a_storm_of_sign_ins_is_each_answered_with_its_own(server: RunningServer) -> None:
    """Those who come together are asked for in one query: everybody gets what is his."""
    async with server.phone("mina") as mina:
        rooms: dict[str, int] = {}
        for number in range(40):
            async with server.phone(f"user {number}") as phone:
                rooms[phone.token] = await group(mina, phone, title=f"room {number}")
        tokens = [*rooms, *(token_for(f"stranger {number}") for number in range(10)), "rubbish"]
        phones = [Phone(server.ws, token) for token in tokens]
        for phone in phones:
            await phone.connect()
        for phone in phones:
            await phone.says(HELLO, 1, phone.token)
        for number, phone in enumerate(phones):
            if phone.token == "rubbish":
                assert await phone.is_closed() == 4500
                continue
            await phone.gets(SYNCED)
            told = [(frame[1], frame[2]["title"]) for frame in phone.inbox if frame[0] == CHAT]
            assert told == ([(rooms[phone.token], f"room {number}")] if phone.token in rooms else [])
            await phone.leaves()


def test_what_is_let_go_is_what_waits_for_ready() -> None:
    connection = Connection.__new__(Connection)
    connection._held_out, connection._held_bytes = [(b"frame", True)], 5
    connection.forget_held()
    assert (connection._held_out, connection._held_bytes) == ([], 0)
    connection._held_out = None
    connection.forget_held()  # READY is out
    assert connection._held_out is None
