"""Bots and back ends that need no socket."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio

from tests.harness import MSG, RunningServer, direct, group, token_for


@pytest_asyncio.fixture
async def http(server: RunningServer) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the server."""
    async with httpx.AsyncClient(base_url=server.http) as client:
        yield client


async def post(http: httpx.AsyncClient, bearer: str, method: str, **params: Any) -> httpx.Response:
    """POST /v1/call/{method}."""
    return await http.post(f"/v1/call/{method}", json=params, headers={"Authorization": f"Bearer {bearer}"})


async def test_a_message_sent_over_http_goes_to_all_sockets(server: RunningServer, http: httpx.AsyncClient) -> None:
    async with server.phone("mina", "bot") as bot, server.phone("mina") as mina, server.phone("jun") as jun:
        chat = await direct(bot, jun)
        answer = await post(
            http, bot.token, "chat.send", chat=chat, cid=1, body={"t": "order shipped", "k": "alim", "x": {}}
        )
        assert answer.status_code == 200
        sent = answer.json()
        assert set(sent) == {"seq", "at"}
        for phone in (bot, mina, jun):
            assert (await phone.gets(MSG))[2] == sent["seq"]
        again = await post(http, bot.token, "chat.send", chat=chat, cid=1, body="whatever")
        assert again.json() == sent


async def test_both_doors_answer_alike(server: RunningServer, http: httpx.AsyncClient) -> None:
    async with server.phone("mina") as mina, server.phone("jun") as jun:
        chat = await group(mina, jun)
        await mina.sends(chat, "hello")
        for method, params in (
            ("chat.get", {"chat": chat}),
            ("chat.list", {}),
            ("chat.members", {"chat": chat}),
            ("chat.watermarks", {"chat": chat}),
            ("message.search", {"query": "hello"}),
            ("profile.get", {}),
            ("profile.get", {"user": jun.user}),
            ("user.find", {"sub": "jun"}),
        ):
            answer = await post(http, mina.token, method, **params)
            assert answer.status_code == 200, answer.text
            assert answer.json() == await mina.calls(method, **params)


@pytest.mark.parametrize(
    ("method", "params", "status", "code"),
    [
        ("chat.get", {"chat": 77}, 403, "not_member"),
        ("chat.get", {"chat": "x"}, 400, "bad_frame"),
        ("chat.get", {"chat": 0}, 400, "bad_frame"),
        ("chat.create", {"kind": "direct", "members": [999]}, 404, "not_found"),
        ("profile.get", {"user": 999}, 404, "not_found"),
        ("device.revoke", {"device": 999}, 404, "not_found"),
        ("no.such", {}, 404, "unsupported"),
        ("auth.renew", {"token": "x"}, 404, "unsupported"),
        ("user.find", {}, 400, "bad_frame"),
        ("user.find", {"phone": "12"}, 400, "bad_frame"),
        ("device.push", {"platform": "pager", "token": "x"}, 400, "bad_frame"),
        ("profile.update", {"name": "x" * 65}, 413, "too_large"),
        ("profile.update", {"name": "a\0b"}, 400, "bad_frame"),
        ("user.find", {"sub": "a\0b"}, 400, "bad_frame"),
    ],
)
async def test_mistakes_have_their_status(
    server: RunningServer, http: httpx.AsyncClient, method: str, params: dict[str, Any], status: int, code: str
) -> None:
    answer = await post(http, token_for("mina"), method, **params)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.json()["detail"]


async def test_profiles_devices_and_push(server: RunningServer, http: httpx.AsyncClient) -> None:
    async with server.phone("mina") as mina, server.phone("mina", "tablet") as tablet:
        profile = (await post(http, mina.token, "profile.update", name=" 미나 ", status="산에 있음\n바빠요")).json()
        assert profile == {"user": mina.user, "name": "미나", "status": "산에 있음\n바빠요", "photo": ""}
        assert await mina.calls("profile.get", user=mina.user) == profile
        devices = {row["device"] for row in await mina.calls("device.list")}
        assert devices == {mina.device, tablet.device}
        pool = server.node.context.pool
        for phone in (mina, tablet):  # one token is one device's: the last that says so
            assert await phone.calls("device.push", platform="fcm", token="t1") == {}
        rows = await pool.fetch("select id from device where push_token = 't1'")
        assert [row["id"] for row in rows] == [tablet.device]


async def test_no_token_no_answer(server: RunningServer, http: httpx.AsyncClient) -> None:
    for headers in ({}, {"Authorization": "Basic x"}, {"Authorization": "Bearer"}, {"Authorization": "Bearer x.y.z"}):
        answer = await http.post("/v1/call/chat.list", json={}, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
