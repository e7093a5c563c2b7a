"""Postgres behind a proxy that cuts, stalls and refuses: SENDs are answered in time and never stored twice."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import httpx
import pytest

from loadtest.checks.invariants import check
from loadtest.checks.stored import read_stored
from tests.conftest import execute
from tests.faults.crowd import crowd, new_seed
from tests.faults.proxy import PostgresProxy
from tests.harness import (
    ACK,
    CALL,
    ERROR,
    FETCH,
    HELLO,
    NACK,
    PING,
    PONG,
    READ,
    READBY,
    SEND,
    Phone,
    Refused,
    RunningServer,
    direct,
    group,
    running,
    until,
)

WAIT_S = 0.5


async def test_a_connection_cut_in_mid_commit_neither_loses_nor_doubles(
    database_url: str, proxy: PostgresProxy
) -> None:
    async with (
        running(proxy.url, send_rate=1000.0, send_burst=1000) as server,
        crowd(lambda: [server.ws], 40, new_seed()) as people,
    ):
        people.starts_talking()
        for number in range(12):
            await people.talks_on(60)
            cut = proxy.unknown
            if number % 3 == 2:
                proxy.cut()  # whatever is under way, the queries of others too
            else:
                proxy.cut_answers(1 + number % 2)  # committed, and the answer is lost
                await until(lambda: proxy.unknown > cut)  # noqa: B023 - awaited here
        await people.talks_on(60)
        await people.stops_talking()
        await people.catches_up()
        assert proxy.unknown >= 8
        assert not [nack for client in people.clients for nack in client.nacks]
        verdict = check([client.record for client in people.clients], await read_stored(database_url))
        print(verdict)
        verdict.raise_if_broken()


@contextlib.asynccontextmanager
async def two_people(
    proxy: PostgresProxy, wait_s: float = WAIT_S
) -> AsyncIterator[tuple[RunningServer, Phone, Phone, int]]:
    """A server that waits for storage but briefly, Mina, Jun, and their chat with one message in it."""
    async with (
        running(proxy.url, commit_wait_s=wait_s) as server,
        server.phone("mina") as mina,
        server.phone("jun") as jun,
    ):
        chat = await direct(mina, jun)
        await mina.sends(chat, "before")
        await jun.settles()
        jun.inbox.clear()
        yield server, mina, jun, chat
        await proxy.restore()


@pytest.mark.parametrize("fault", ["stall", "refuse"])
async def test_without_storage_a_send_waits_its_time_and_its_cid_stays_good(
    database_url: str, proxy: PostgresProxy, fault: str
) -> None:
    async with two_people(proxy) as (_, mina, jun, chat):
        await away(proxy, fault)
        began = time.monotonic()
        for cid in (2, 3, 4):
            await mina.says(SEND, cid, chat, f"during {cid}")
        nacks = [await mina.gets(NACK) for _ in range(3)]
        assert WAIT_S <= time.monotonic() - began < WAIT_S + 2
        assert [nack[:3] for nack in nacks] == [[NACK, cid, "unavailable"] for cid in (2, 3, 4)]
        assert all(nack[4] > 0 for nack in nacks)
        await mina.settles()  # the socket is open and answers
        await jun.settles()

        await proxy.restore()
        for cid in (2, 3, 4):
            await keeps_sending(mina, chat, f"during {cid}", cid)
        again = [await mina.sends(chat, "another body", cid) for cid in (2, 3, 4)]
        assert sorted(seq for seq, _ in again) == [2, 3, 4]
    stored = await read_stored(database_url)
    assert sorted(row.cid for row in stored.messages[chat]) == [1, 2, 3, 4]
    assert stored.heads[chat] == 4


async def away(proxy: PostgresProxy, fault: str) -> None:
    """Postgres goes away."""
    if fault == "stall":
        proxy.stall()
    else:
        await proxy.refuse()


async def keeps_sending(phone: Phone, chat: int, body: str, cid: int) -> tuple[int, int]:
    """Send with the same cid until it is acknowledged, as a client does that is told `unavailable`."""
    async with asyncio.timeout(10):
        while True:
            try:
                return await phone.sends(chat, body, cid)
            except Refused as refused:
                if refused.code != "unavailable":
                    raise
                await asyncio.sleep((refused.retry_after or 0) / 10_000)


@pytest.mark.parametrize("fault", ["stall", "refuse"])
async def test_readyz_is_red_while_postgres_is_away(proxy: PostgresProxy, fault: str) -> None:
    async with two_people(proxy) as (server, *_), httpx.AsyncClient(base_url=server.http) as http:
        assert (await http.get("/readyz")).status_code == 200
        await away(proxy, fault)
        began = time.monotonic()
        red = await http.get("/readyz")
        assert red.status_code == 503
        assert red.json()["postgres"] == "away"
        assert time.monotonic() - began < 4
        assert (await http.get("/healthz")).status_code == 200
        await proxy.restore()
        assert await comes_back(http)


async def comes_back(http: httpx.AsyncClient) -> bool:
    """Ask until the server is ready again."""
    async with asyncio.timeout(10):
        while (await http.get("/readyz")).status_code != 200:  # noqa: ASYNC110 - it is what is tested
            await asyncio.sleep(0.05)
    return True


def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give up on Postgres soon, so that nobody waits for a test that waits."""
    monkeypatch.setattr("mim.store.db.COMMAND_TIMEOUT_S", 0.5)
    monkeypatch.setattr("mim.store.db.CONNECT_TIMEOUT_S", 0.5)


@pytest.mark.parametrize("fault", ["stall", "refuse"])
async def test_calls_and_pages_are_unavailable_and_sockets_stay(
    proxy: PostgresProxy, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    impatient(monkeypatch)
    async with two_people(proxy) as (server, mina, jun, chat), httpx.AsyncClient(base_url=server.http) as http:
        await away(proxy, fault)
        await mina.says(CALL, 900, "chat.list", {})
        await jun.says(FETCH, 901, chat, 0, 10)
        assert (await mina.gets(ERROR, 900))[2] == "unavailable"
        assert (await jun.gets(ERROR, 901))[2] == "unavailable"
        answer = await http.post("/v1/call/chat.list", json={}, headers={"Authorization": f"Bearer {mina.token}"})
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
        for phone in (mina, jun):
            await phone.says(PING, 600)
            assert await phone.gets(PONG)

        await proxy.restore()
        assert await comes_back(http)
        assert (await mina.calls("chat.get", chat=chat))["head"] == 1
        assert len((await jun.fetches(chat, 0, 10))[0]) == 1


@pytest.mark.parametrize("fault", ["stall", "refuse"])
async def test_signing_in_is_unavailable_and_not_unauthorized(
    proxy: PostgresProxy, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    impatient(monkeypatch)
    async with two_people(proxy) as (server, *_), httpx.AsyncClient(base_url=server.http) as http:
        await away(proxy, fault)
        late = server.phone("late")
        await late.connect()
        await late.says(HELLO, 1, late.token, {})
        assert (await late.gets(ERROR))[2] == "unavailable"
        assert 4000 <= await late.is_closed() < 4500  # it may come back as it is
        refused = await http.get(
            "/v1/ws",
            headers={
                "Authorization": f"Bearer {late.token}",
                "Connection": "Upgrade",
                "Upgrade": "websocket",
                "Sec-WebSocket-Version": "13",
                "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
            },
        )
        assert (refused.status_code, refused.json()["code"]) == (503, "unavailable")

        await proxy.restore()
        assert await comes_back(http)
        async with late:
            assert late.user


async def test_watermarks_survive_a_short_outage(database_url: str, proxy: PostgresProxy) -> None:
    async with two_people(proxy) as (_, mina, jun, chat):
        await mina.sends(chat, "two")
        await proxy.refuse()
        await jun.says(READ, chat, 1)
        await jun.says(READ, chat, 2)
        await jun.settles()
        await proxy.restore()
        assert await mina.gets(READBY, chat) == [READBY, chat, [jun.user, 2]]
        stored = await read_stored(database_url)
        assert stored.members[chat, jun.user] == (1, 2)


POISON = """
    create function no_poison() returns trigger language plpgsql as $$
    begin
        if new.text like '%poison%' then raise exception 'not this one'; end if;
        return new;
    end $$;
    create trigger no_poison before insert on message for each row execute function no_poison();
"""


async def test_a_poisoned_message_fails_alone(database_url: str, proxy: PostgresProxy) -> None:
    await execute(database_url, POISON)
    async with two_people(proxy, wait_s=10) as (_, mina, jun, chat):  # they are tried one by one
        other = await group(mina, jun)
        proxy.stall()  # so that all of them are one batch
        for cid in range(10, 40):
            await mina.says(SEND, cid, chat, "poison" if cid in (10, 25, 39) else "food")
            await jun.says(SEND, cid, other, "poison" if cid == 17 else "food")
        await mina.settles()
        await jun.settles()
        await proxy.restore()
        acks, nacks = await answers(mina, 30)
        assert [nack[1:3] for nack in nacks] == [[cid, "bad_frame"] for cid in (10, 25, 39)]
        assert [ack[2] for ack in acks] == list(range(2, 29))
        acks, nacks = await answers(jun, 30)
        assert [nack[1:3] for nack in nacks] == [[17, "bad_frame"]]
        assert [ack[2] for ack in acks] == list(range(1, 30))
        assert (await mina.sends(chat, "after"))[0] == 29


async def answers(phone: Phone, number: int) -> tuple[list[list[object]], list[list[object]]]:
    """ACKs and NACKs, until there are so many of both."""

    def come() -> list[list[object]]:
        return [frame for frame in phone.inbox if frame[0] in (ACK, NACK)]

    async with asyncio.timeout(10):
        while len(come()) < number:
            await phone.settles()
    return [frame for frame in come() if frame[0] == ACK], [frame for frame in come() if frame[0] == NACK]
