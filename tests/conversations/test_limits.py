"""Too much, too slow, too late: every bound answers with its code, and the server stays well.

Time is turned by hand: `clock.advance()` and then one turn of the wheel.
"""

import json
import socket
import time
from typing import Any

import httpx
import pytest

from mim.chat import typing_signals
from mim.clock import ManualClock
from mim.gateway.connection import Connection
from tests.conversations.locks import held, waiting_for_locks
from tests.conversations.raw import CLOSE, WS_PING, Raw, wrap
from tests.harness import (
    ACK,
    BYE,
    ERROR,
    FETCH,
    HELLO,
    MSG,
    NACK,
    PING,
    PONG,
    RESULT,
    SEND,
    TYPING,
    USER_TYPING,
    Phone,
    Refused,
    RunningServer,
    direct,
    group,
    running,
    token_for,
    until,
)

MEMBERS_LOCK = "lock table member in access exclusive mode"


def later(server: RunningServer, clock: ManualClock, seconds: float) -> None:
    """Let time pass, and look who is due."""
    clock.advance(seconds)
    server.node.gateway.wheel.turn()


def sockets_of(server: RunningServer, user: int) -> list[Connection]:
    return [connection for connection in server.node.gateway.connections if connection.user == user]


# -- too much ----------------------------------------------------------------------------------


async def test_sending_too_fast_is_told_when_to_go_on(database_url: str) -> None:
    clock = ManualClock(time.time())
    async with (
        running(database_url, clock, send_rate=2, send_burst=3) as server,
        server.phone("mina") as mina,
        server.phone("jun") as jun,
    ):
        chat = await direct(mina, jun)
        for cid in range(1, 6):
            await mina.says(SEND, cid, chat, f"m{cid}")
        assert [(await mina.gets(ACK))[1:3] for _ in range(3)] == [[1, 1], [2, 2], [3, 3]]
        for cid in (4, 5):
            nack = await mina.gets(NACK)
            assert (nack[1], nack[2], nack[4]) == (cid, "rate_limited", 500)
        clock.advance(0.5)
        assert (await mina.sends(chat, "m4", cid=4))[0] == 4
        assert [(await jun.gets(MSG))[2] for _ in range(4)] == [1, 2, 3, 4]


async def test_asking_too_fast_is_told_when_to_go_on(database_url: str) -> None:
    clock = ManualClock(time.time())
    async with running(database_url, clock, request_rate=4, request_burst=2) as server, server.phone("mina") as mina:
        for _ in range(2):
            assert await mina.calls("chat.list") == []
        with pytest.raises(Refused) as refused:
            await mina.calls("chat.list")
        assert (refused.value.code, refused.value.retry_after) == ("rate_limited", 250)
        clock.advance(0.25)
        assert await mina.calls("chat.list") == []
        async with httpx.AsyncClient(base_url=server.http, headers={"Authorization": f"Bearer {mina.token}"}) as http:
            answers = [await http.post("/v1/call/chat.list", json={}) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200, 200, 429]
        assert answers[2].json()["retry_after"] == 250
        assert answers[2].headers["retry-after"] == "1"


async def test_more_unanswered_sends_than_inflight(database_url: str) -> None:
    async with (
        running(database_url, inflight_limit=2) as server,
        server.phone("mina") as mina,
        server.phone("jun") as jun,
    ):
        assert mina.session["limits"]["inflight"] == 2
        chat = await direct(mina, jun)
        async with held(database_url, "select * from chat for update"):
            for cid in range(1, 5):
                await mina.says(SEND, cid, chat, "m")
            for cid in (3, 4):
                nack = await mina.gets(NACK)
                assert (nack[1], nack[2]) == (cid, "rate_limited")
                assert nack[4] > 0
        assert [(await mina.gets(ACK))[1:3] for _ in range(2)] == [[1, 1], [2, 2]]
        assert (await mina.sends(chat, "m", cid=3))[0] == 3


async def test_more_than_64_waiting_requests(database_url: str) -> None:
    async with running(database_url) as server, server.phone("mina") as mina, server.phone("jun") as jun:
        chat = await direct(mina, jun)
        async with held(database_url, "lock table chat, member, message in access exclusive mode"):
            for ref in range(1, 71):
                await mina.says(FETCH, ref, chat, 0, 10)
            for ref in range(65, 71):
                error = await mina.gets(ERROR)
                assert (error[1], error[2]) == (ref, "rate_limited")
                assert error[4] > 0
        assert [(await mina.gets(RESULT))[1] for _ in range(64)] == list(range(1, 65))


async def test_typing_that_waits_for_storage_is_bounded(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for an answer to TYPING, so what is too much is left out."""
    monkeypatch.setattr(typing_signals, "MAX_WAITING", 3)
    async with running(database_url) as server, server.phone("mina") as mina, server.phone("jun") as jun:
        chats = [await group(mina, jun) for _ in range(6)]
        async with held(database_url, MEMBERS_LOCK) as side:
            await mina.says(TYPING, chats[0])
            await waiting_for_locks(side)
            for chat in chats[1:]:
                await mina.says(TYPING, chat)
            await mina.says(PING, 600)
            await mina.gets(PONG)
        assert [(await jun.gets(USER_TYPING))[1] for _ in range(4)] == chats[:4]
        await mina.says(TYPING, chats[5])  # it was left out, so it does not come too early
        assert (await jun.gets(USER_TYPING))[1] == chats[5]
        assert await jun.heard(USER_TYPING) == []


async def test_typing_that_waited_too_long_tells_of_the_past(database_url: str) -> None:
    clock = ManualClock(time.time())
    async with (
        running(database_url, clock) as server,
        server.phone("mina") as mina,
        server.phone("jun") as jun,
    ):
        late, chat = await group(mina, jun), await group(mina, jun)
        async with held(database_url, MEMBERS_LOCK) as side:
            await mina.says(TYPING, late)
            await waiting_for_locks(side)
            clock.advance(4)
        await mina.says(TYPING, chat)
        assert (await jun.gets(USER_TYPING))[1] == chat
        assert await jun.heard(USER_TYPING) == []


async def test_a_full_commit_queue_is_unavailable(database_url: str) -> None:
    async with (
        running(database_url, commit_queue=2) as server,
        server.phone("mina") as mina,
        server.phone("jun") as jun,
    ):
        chat = await direct(mina, jun)
        committer = server.node.context.committer
        async with held(database_url, "select * from chat for update"):
            await mina.says(SEND, 1, chat, "being committed")
            await until(lambda: not len(committer) and not committer._idle.is_set())
            for cid in (2, 3, 4):
                await mina.says(SEND, cid, chat, f"m{cid}")
            nack = await mina.gets(NACK)
            assert (nack[1], nack[2], nack[4]) == (4, "unavailable", 1000)
            with pytest.raises(Refused, match="unavailable"):
                await jun.calls("chat.send", chat=chat, cid=1, body="by a call")
        assert [(await mina.gets(ACK))[1:3] for _ in range(3)] == [[1, 1], [2, 2], [3, 3]]
        assert (await mina.sends(chat, "m4", cid=4))[0] == 4
        assert [(await jun.gets(MSG))[2] for _ in range(4)] == [1, 2, 3, 4]


async def test_a_full_node_and_a_full_address(database_url: str) -> None:
    limits: list[tuple[dict[str, Any], int, str]] = [
        ({"max_connections": 1}, 503, "unavailable"),
        ({"max_connections_per_address": 1}, 429, "rate_limited"),
    ]
    for limit, status, code in limits:
        async with running(database_url, **limit) as server:
            async with server.phone("mina"):
                for headers in ((), (f"Authorization: Bearer {token_for('jun')}",)):
                    raw = await Raw.to(server)
                    await raw.asks(*headers)
                    assert await raw.status() == status
                    refused = json.loads(await raw.reader.read())
                    assert refused["code"] == code
                    assert refused["retry_after"] > 0
                    raw.hangs_up()
            await until(lambda: not server.node.gateway.connections)
            async with server.phone("jun"):
                pass


# -- too slow ----------------------------------------------------------------------------------


class Unread:
    """A socket of a member who does not read, and how much waits for him."""

    def __init__(self, server: RunningServer, raw: Raw, user: int) -> None:
        self.server = server
        self.raw = raw
        self.user = user
        self.most = 0

    def waiting(self) -> int:
        """Bytes unsent."""
        (connection,) = sockets_of(self.server, self.user) or (None,)
        size = 0 if connection is None else connection._transport.get_write_buffer_size()
        self.most = max(self.most, size)
        return size


async def reader_who_does_not(server: RunningServer, sub: str) -> Unread:
    """Sign in on a socket whose kernel buffers are small, and stop reading."""
    raw = await Raw.to(server)
    raw.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
    user = await raw.signs_in(token_for(sub))
    (connection,) = sockets_of(server, user)
    connection._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    raw.writer.transport.pause_reading()  # type: ignore[attr-defined]
    return Unread(server, raw, user)


BIG = "가" * 10_000  # 30 kB


async def test_a_slow_reader_is_put_out_and_holds_little(database_url: str) -> None:
    async with (
        running(database_url, slow_bytes=200_000) as server,
        server.phone("mina") as mina,
        server.phone("jun") as jun,
    ):
        slow = await reader_who_does_not(server, "kay")
        chat = (await mina.calls("chat.create", kind="group", members=[jun.user, slow.user]))["chat"]
        sent = 0
        while not server.node.gateway.closes["slow"]:
            await mina.sends(chat, BIG)
            sent += 1
            slow.waiting()
        assert slow.most < 200_000 + 31_000
        slow.raw.writer.transport.resume_reading()  # type: ignore[attr-defined]
        ending = await slow.raw.ends()
        assert (ending.code, ending.last[:2]) == (4008, [BYE, "slow"])
        assert ending.last[3] > 0
        seqs = [frame[2] for frame in ending.frames if frame[0] == MSG]
        assert seqs == list(range(1, len(seqs) + 1))  # what came is in order; the rest is for the cursor
        assert len(seqs) <= sent
        assert [(await jun.gets(MSG))[2] for _ in range(sent)] == list(range(1, sent + 1))


async def test_who_said_close_and_does_not_read_is_written_to_no_more(database_url: str) -> None:
    clock = ManualClock(time.time())
    async with running(database_url, clock, slow_bytes=10_000_000) as server, server.phone("mina") as mina:
        slow = await reader_who_does_not(server, "kay")
        chat = await created(mina, slow.user)
        while not slow.waiting():
            await mina.sends(chat, BIG)
        await slow.raw.writes(wrap(b"\x03\xe8", CLOSE))
        await until(lambda: all(c.is_closing for c in sockets_of(server, slow.user)))
        before = slow.waiting()
        for _ in range(5):
            await mina.sends(chat, BIG)
        assert slow.waiting() <= before
        later(server, clock, 5)
        await until(lambda: not sockets_of(server, slow.user))
        slow.raw.hangs_up()


async def created(owner: Phone, *members: int) -> int:
    """A group; the clock of these tests may stand still."""
    return int((await owner.calls("chat.create", kind="group", members=list(members)))["chat"])


async def test_unread_pongs_are_bounded(database_url: str) -> None:
    async with running(database_url, slow_bytes=20_000) as server:
        slow = await reader_who_does_not(server, "kay")
        pings = wrap(b"x" * 125, WS_PING) * 100
        while not server.node.gateway.closes["slow"]:
            await slow.raw.writes(pings)
            slow.waiting()
        assert slow.most < 20_000 + 300_000  # one read of the socket is 256 KiB
        slow.raw.hangs_up()


# -- too late ----------------------------------------------------------------------------------


async def test_no_hello_in_time_is_unauthorized(database_url: str) -> None:
    clock = ManualClock(time.time())
    async with running(database_url, clock) as server:
        mina = server.phone("mina")
        await mina.connect()
        await mina.says(HELLO, 0)  # an answer does not win time
        await mina.gets(ERROR, 0, "bad_frame")
        later(server, clock, 8)
        assert [c.is_closing for c in server.node.gateway.connections] == [False]
        later(server, clock, 3)
        assert await mina.is_closed() == 4500
        assert mina.inbox[0][:3] == [ERROR, 0, "unauthorized"]


async def test_storage_that_stalls_is_not_told_as_unauthorized(database_url: str) -> None:
    clock = ManualClock(time.time())
    async with running(database_url, clock) as server:
        async with server.phone("mina"):
            pass
        mina, raw = server.phone("mina"), await Raw.to(server)
        async with held(database_url, "lock table device in access exclusive mode"):
            await mina.connect()
            await mina.says(HELLO, 1, mina.token)
            await raw.asks(f"Authorization: Bearer {mina.token}")
            await until(lambda: len(server.node.gateway.tasks) == 2)
            later(server, clock, 12)
            assert await mina.is_closed() == 4000
            assert mina.inbox[0][:3] == [ERROR, 0, "unavailable"]
            assert mina.inbox[0][4] > 0
            assert await raw.status() == 503
        await until(lambda: not server.node.gateway.connections and not len(server.node.hub))
        raw.hangs_up()


async def test_no_ping_within_twice_the_promise(database_url: str) -> None:
    clock = ManualClock(time.time())
    async with (
        running(database_url, clock, keepalive_min_s=10, keepalive_max_s=100) as server,
        server.phone("mina") as mina,
        server.phone("jun") as jun,
        server.phone("kay") as kay,
    ):
        assert mina.session["keepalive"] == [10, 100]
        await mina.says(PING, 1)  # counts as 10
        await jun.says(PING, 1000)  # counts as 100
        for phone in (mina, jun):
            await phone.gets(PONG)
        later(server, clock, 19)
        await kay.calls("chat.list")  # said nothing of pings: 100, counted from the last frame
        later(server, clock, 2)
        assert await mina.is_closed() == 4009
        assert mina.inbox[-1][:2] == [BYE, "no_ping"]
        assert mina.inbox[-1][3] > 0
        later(server, clock, 178)
        assert [len(sockets_of(server, phone.user)) for phone in (jun, kay)] == [1, 1]
        later(server, clock, 3)
        assert await jun.is_closed() == 4009
        await kay.settles()


async def test_the_end_of_a_token(database_url: str) -> None:
    clock = ManualClock(time.time())
    async with running(database_url, clock) as server:
        mina = Phone(server.ws, token_for("mina", ttl_s=60))
        jun = Phone(server.ws, token_for("jun", ttl_s=60))
        async with mina, jun:
            later(server, clock, 50)
            with pytest.raises(Refused, match="forbidden"):
                await mina.calls("auth.renew", token=jun.token)
            with pytest.raises(Refused, match="unauthorized"):
                await mina.calls("auth.renew", token="rubbish")
            renewed = await jun.calls("auth.renew", token=token_for("jun", ttl_s=600))
            assert renewed["exp"] > time.time() + 500
            later(server, clock, 15)
            assert await mina.is_closed() == 4500
            assert mina.inbox[-1][:2] == [BYE, "expired"]
            assert len(mina.inbox[-1]) == 3  # not to come back as it is
            await jun.settles()
            later(server, clock, 600)
            assert await jun.is_closed() == 4500
