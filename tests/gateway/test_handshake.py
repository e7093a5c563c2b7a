"""The usual upgrade request is answered without the WebSocket library: as the library would answer it."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.datastructures import Headers
from websockets.http11 import Request
from websockets.server import ServerProtocol

from mim.gateway.door import MAX_HEAD_BYTES, MAX_HEADERS
from mim.gateway.handshake import accept, select_subprotocol
from tests.conversations.raw import Raw
from tests.harness import running, token_for

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
USUAL = {
    "connection": "Upgrade",
    "upgrade": "websocket",
    "sec-websocket-key": KEY,
    "sec-websocket-version": "13",
    "sec-websocket-protocol": "mim.msgpack",
    "origin": "https://mim.example",
}
VALUES = {
    "connection": ["Upgrade", "upgrade", "keep-alive, Upgrade", "close", "Upgrade, Upgrade", "", "Upgrade;"],
    "upgrade": ["websocket", "WebSocket", "websocket/1", "h2c", "websocket, h2c", ""],
    "sec-websocket-key": [KEY, "x", "", KEY[:-3] + "x==", KEY + "\n", KEY[:-1], " " + KEY, "A" * 24, "A" * 22 + "=="],
    "sec-websocket-version": ["13", "8", "13 ", ""],
    "sec-websocket-protocol": ["mim.msgpack", "mim.json", "mim.json, mim.msgpack", "chat, mim.json", "chat", "", ","],
    "sec-websocket-extensions": ["permessage-deflate; client_max_window_bits", ";;"],
    "origin": ["null", "https://a", ""],
}
headers = st.lists(
    st.sampled_from(sorted(VALUES)).flatmap(lambda name: st.tuples(st.just(name), st.sampled_from(VALUES[name]))),
    max_size=3,
)


def request_of(fields: list[tuple[str, str]], **parts: Any) -> Request:
    """An upgrade request with these headers."""
    made = Headers()
    for name, value in fields:
        made.set_insecure(name, value)
    return Request("/v1/ws", made, **parts)


def library_says(request: Request) -> tuple[int, dict[str, str], str | None]:
    """Status, headers and subprotocol of the library's answer; the date is left out."""
    rules = ServerProtocol(select_subprotocol=select_subprotocol)
    response = rules.accept(request)
    return (
        response.status_code,
        {n.lower(): v for n, v in response.headers.raw_items() if n != "Date"},
        rules.subprotocol,
    )


def we_say(request: Request) -> tuple[int, dict[str, str], str | None]:
    """The same of ours."""
    answer = accept(request)
    first, *lines = answer.data.partition(b"\r\n\r\n")[0].decode().split("\r\n")
    assert first.startswith(f"HTTP/1.1 {answer.status} ")
    found = dict(line.split(": ", 1) for line in lines)
    return answer.status, {n.lower(): v for n, v in found.items() if n != "Date"}, answer.subprotocol


@given(changed=headers, more=headers, dropped=st.sets(st.sampled_from(sorted(USUAL)), max_size=1))
def test_it_is_the_library_s_answer(
    changed: list[tuple[str, str]], more: list[tuple[str, str]], dropped: set[str]
) -> None:
    fields = [*{name: value for name, value in {**USUAL, **dict(changed)}.items() if name not in dropped}.items()]
    request = request_of(fields + more[:1])
    status, said, subprotocol = library_says(request)
    ours = we_say(request)
    assert (ours[0], ours[2]) == (status, subprotocol if status == 101 else ours[2])
    if status == 101:
        assert ours[1] == said


@pytest.mark.parametrize("subprotocol", ["mim.msgpack", "mim.json", None])
def test_the_usual_request(subprotocol: str | None) -> None:
    fields = {**USUAL, "sec-websocket-protocol": subprotocol}
    request = request_of([(name, value) for name, value in fields.items() if value is not None])
    answer = accept(request)
    assert we_say(request) == library_says(request)
    assert (answer.status, answer.subprotocol, b"Date" in answer.data) == (101, subprotocol, False)


@pytest.mark.parametrize(
    ("parts", "more", "status"),
    [
        ({"method": "POST"}, [], 405),
        ({"protocol": "HTTP/1.0"}, [], 505),
        ({}, [("content-length", "5")], 400),
        ({}, [("transfer-encoding", "chunked")], 400),
        ({}, [("content-length", "0")], 101),
        ({}, [("content-length", "0"), ("content-length", "0")], 400),
    ],
)
def test_requests_that_are_no_upgrade(parts: dict[str, str], more: list[tuple[str, str]], status: int) -> None:
    assert accept(request_of([*USUAL.items(), *more], **parts)).status == status


async def test_the_head_of_a_request_is_bounded(database_url: str) -> None:
    async with running(database_url) as server:
        fitting: list[Any] = [
            (["Authorization: Bearer " + "x" * 9000], 401),
            ([f"X-{n}: y" for n in range(MAX_HEADERS - 10)], 101),
        ]
        large: list[Any] = [
            (["X: " + "y" * MAX_HEAD_BYTES], 400),
            ([f"X-{n}: y" for n in range(MAX_HEADERS)], 400),
        ]
        for headers, status in fitting + large:
            raw = await Raw.to(server)
            await raw.asks(*headers)
            assert await raw.status() == status
            raw.hangs_up()
        raw = await Raw.to(server)
        await raw.asks(f"Authorization: Bearer {token_for('mina')}")
        assert await raw.status() == 101
        raw.hangs_up()
