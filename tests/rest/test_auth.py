"""Signing in over HTTP, through a small app with the routes and the handler of PeerError."""

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
import pytest_asyncio
from fastapi import FastAPI, Request, Response

from mim.auth import Identity, LogSms
from mim.clock import ManualClock
from mim.config import Settings
from mim.errors import PeerError
from mim.rest.auth import auth_router
from mim.rest.bodies import BODY_LIMIT, failure_answer
from mim.store.db import open_pool

PHONE = "010-2345-6789"

MakeClient = Callable[..., httpx.AsyncClient]


async def on_peer_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, PeerError)
    return failure_answer(error)


@pytest_asyncio.fixture
async def make_client(database_url: str) -> AsyncIterator[MakeClient]:
    """Builds a client of an app with settings of one's own; `host` is where it seems to come from."""
    pool = await open_pool(database_url, 4)
    clock = ManualClock()
    async with httpx.AsyncClient() as outward:

        def make(host: str = "192.0.2.1", **settings: Any) -> httpx.AsyncClient:
            identity = Identity(pool, Settings(**settings), clock, LogSms(), outward)
            app = FastAPI(exception_handlers={PeerError: on_peer_error})
            app.include_router(auth_router(identity))
            transport = httpx.ASGITransport(app, client=(host, 4000))
            return httpx.AsyncClient(transport=transport, base_url="http://mim/v1/auth")

        yield make
    await pool.close()


@pytest.fixture
def client(make_client: MakeClient) -> httpx.AsyncClient:
    return make_client(dev=True)


async def ask_code(client: httpx.AsyncClient) -> str:
    answer = await client.post("/code", json={"phone": PHONE})
    assert answer.status_code == 200
    code: str = answer.json()["code"]
    return code


async def test_from_a_phone_number_to_tokens_that_rotate(client: httpx.AsyncClient) -> None:
    body = {"phone": PHONE, "code": await ask_code(client), "device": {"name": "Galaxy", "os": "android"}}
    answer = await client.post("/verify", json=body)
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["content-type"] == "application/json"
    signed_in = answer.json()
    assert (signed_in["user"], signed_in["device"]) == (1, 1)
    assert set(signed_in) == {"token", "refresh", "user", "device"}
    answer = await client.post("/refresh", json={"refresh": signed_in["refresh"]})
    assert answer.status_code == 200
    assert set(answer.json()) == {"token", "refresh"}
    assert answer.json()["refresh"] != signed_in["refresh"]


async def test_the_code_is_not_told_outside_development(
    make_client: MakeClient, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = await make_client().post("/code", json={"phone": PHONE})
    assert (answer.status_code, answer.json()) == (200, {})
    printed = capsys.readouterr().out
    assert "one-time code" in printed
    assert "6789" in printed
    assert "23456789" not in printed


async def test_wrong_codes_are_401(client: httpx.AsyncClient) -> None:
    code = await ask_code(client)
    body = {"phone": PHONE, "code": f"{(int(code) + 1) % 1_000_000:06}", "device": {}}
    answer = await client.post("/verify", json=body)
    assert answer.status_code == 401
    assert answer.json()["code"] == "unauthorized"
    answer = await client.post("/refresh", json={"refresh": "made up"})
    assert answer.status_code == 401


async def test_too_often_is_429_with_when_to_come_back(make_client: MakeClient) -> None:
    client = make_client(code_per_address_hour=1)
    await client.post("/code", json={"phone": PHONE})
    answer = await client.post("/code", json={"phone": PHONE})
    assert answer.status_code == 429
    assert answer.json() == {
        "code": "rate_limited",
        "detail": "too often; try again in 60 min",
        "retry_after": 3_600_000,
    }
    assert answer.headers["retry-after"] == "3600"
    elsewhere = make_client("192.0.2.2", code_per_address_hour=1)
    assert (await elsewhere.post("/code", json={"phone": PHONE})).status_code == 200


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/code", b""),
        ("/code", b"{}"),
        ("/code", b"[]"),
        ("/code", b"null"),
        ("/code", b"{"),
        ("/code", b'{"phone": 1}'),
        ("/code", b'{"phone": "\xff"}'),
        ("/code", b'{"phone": "12"}'),
        ("/code", json.dumps({"phone": "1" * 65}).encode()),
        ("/code", b"[" * 20_000),
        ("/verify", b'{"phone": "010-2345-6789"}'),
        ("/verify", b'{"phone": "010-2345-6789", "code": "1", "device": {}}'),
        ("/verify", b'{"phone": "010-2345-6789", "code": 123456, "device": {}}'),
        ("/verify", json.dumps({"phone": PHONE, "code": "123456", "device": {"name": "x" * 65}}).encode()),
        ("/refresh", b"{}"),
        ("/refresh", json.dumps({"refresh": "x" * 257}).encode()),
    ],
)
async def test_unsound_bodies_are_400_with_what_is_wrong(client: httpx.AsyncClient, path: str, body: bytes) -> None:
    answer = await client.post(path, content=body)
    assert answer.status_code == 400
    assert answer.json()["code"] == "bad_frame"
    assert len(answer.json()["detail"]) > 10


async def test_a_body_above_the_limit_is_413_and_not_read_to_its_end(client: httpx.AsyncClient) -> None:
    chunks = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal chunks
        while True:
            chunks += 1
            yield b" " * 8192

    answer = await client.post("/code", content=endless())
    assert answer.status_code == 413
    assert answer.json()["code"] == "too_large"
    assert chunks <= BODY_LIMIT // 8192 + 2


async def test_a_body_at_the_limit_is_read(client: httpx.AsyncClient) -> None:
    body = json.dumps({"phone": PHONE}).encode().ljust(BODY_LIMIT)
    assert (await client.post("/code", content=body)).status_code == 200


async def test_openapi_tells_the_shapes_without_references(client: httpx.AsyncClient) -> None:
    document = (await client.get("http://mim/openapi.json")).json()
    assert "$ref" not in json.dumps(document)
    verify = document["paths"]["/v1/auth/verify"]["post"]
    schema = verify["requestBody"]["content"]["application/json"]["schema"]
    assert schema["required"] == ["phone", "code"]
    assert schema["properties"]["device"]["properties"]["name"]["maxLength"] == 64
    assert set(verify["responses"]) == {"200", "400", "401", "413", "429", "503"}
    answer = verify["responses"]["200"]["content"]["application/json"]["schema"]
    assert set(answer["properties"]) == {"token", "refresh", "user", "device"}
