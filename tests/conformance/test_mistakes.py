"""Mistakes get the words of proto/codes.md, over both doors; calls over HTTP equal those over the socket."""

from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from tests.conformance.conftest import JUN, SORA, Cast
from tests.conformance.json_client import CALL, CHANGES, FETCH, HELLO, PING, READ, SEND, TYPING
from tests.conformance.json_socket import RefusedError, WebSocket, post
from tests.conformance.msgpack_client import Fault

STATUS = {"bad_frame": 400, "unauthorized": 401, "forbidden": 403, "not_member": 403, "not_found": 404,
          "unsupported": 404, "full": 409, "too_large": 413, "rate_limited": 429}  # fmt: skip


async def test_calls_that_go_wrong_have_the_same_word_over_both_doors(cast: Cast) -> None:
    mina, jun, direct = await cast.pair()
    sora = await cast.by_json(SORA)
    group = await mina.create(kind="group", members=[jun.user])
    foreign = await sora.create(kind="group", members=[jun.user])
    await mina.send(group, "하나")
    mistakes: list[tuple[str, dict[str, Any], str]] = [
        ("chat.get", {}, "bad_frame"),
        ("chat.get", {"chat": "1"}, "bad_frame"),
        ("chat.get", {"chat": 1.0}, "bad_frame"),
        ("chat.get", {"chat": 0}, "bad_frame"),
        ("chat.get", {"chat": foreign}, "not_member"),
        ("chat.get", {"chat": 2**53 - 1}, "not_member"),
        ("chat.gett", {}, "unsupported"),
        ("chat.list", {"limit": 0}, "bad_frame"),
        ("chat.create", {"kind": "direct", "members": [mina.disk.user]}, "bad_frame"),
        ("chat.create", {"kind": "direct", "members": [jun.user, sora.disk.user]}, "bad_frame"),
        ("chat.create", {"kind": "group", "members": [mina.disk.user]}, "bad_frame"),
        ("chat.create", {"kind": "group", "members": [jun.user, 4711]}, "not_found"),
        ("chat.create", {"kind": "channel", "members": [jun.user]}, "bad_frame"),
        ("chat.create", {"kind": "group", "members": [jun.user], "title": "x" * 101}, "too_large"),
        ("chat.create", {"kind": "group", "members": [jun.user], "title": "a\x07b"}, "bad_frame"),
        ("chat.update", {"chat": direct, "title": "x"}, "forbidden"),
        ("chat.invite", {"chat": direct, "users": [sora.disk.user]}, "forbidden"),
        ("chat.invite", {"chat": group, "users": []}, "bad_frame"),
        ("chat.invite", {"chat": group, "users": [4711]}, "not_found"),
        ("chat.kick", {"chat": group, "users": [mina.disk.user]}, "bad_frame"),
        ("chat.role", {"chat": group, "user": mina.disk.user, "role": "member"}, "forbidden"),
        ("chat.role", {"chat": group, "user": sora.disk.user, "role": "manager"}, "not_found"),
        ("chat.send", {"chat": group, "body": "x"}, "bad_frame"),
        ("chat.send", {"chat": group, "cid": 900, "body": ""}, "bad_frame"),
        ("chat.send", {"chat": group, "cid": 900, "body": {"k": "location"}}, "bad_frame"),
        ("chat.send", {"chat": group, "cid": 900, "body": "가" * 10_001}, "too_large"),
        ("message.edit", {"chat": group, "seq": 99, "body": "x"}, "not_found"),
        ("message.react", {"chat": group, "seq": 1}, "bad_frame"),
        ("message.react", {"chat": group, "seq": 1, "reaction": "x" * 33}, "too_large"),
        ("message.delete", {"chat": group, "seq": 1, "scope": "some"}, "bad_frame"),
        ("message.search", {"query": "x" * 101}, "bad_frame"),
        ("message.search", {"query": "점심", "chat": foreign}, "not_member"),
        ("user.find", {}, "bad_frame"),
        ("user.find", {"phone": JUN, "sub": "x"}, "bad_frame"),
        ("user.find", {"phone": "010-9999-9999"}, "not_found"),
        ("profile.get", {"user": 4711}, "not_found"),
        ("device.revoke", {"device": jun.device}, "not_found"),
        ("device.push", {"platform": "pigeon", "token": "x"}, "bad_frame"),
    ]
    wrong = []
    for method, params, word in mistakes:
        for door in ("socket", "http"):
            try:
                if door == "socket":
                    value = await mina.call(method, **params)
                else:
                    value = await post(cast.base, f"/v1/call/{method}", params, mina.disk.token)
                wrong.append((method, params, word, door, value))
            except RefusedError as refused:
                if refused.code != word or (door == "http" and refused.status != STATUS[word]):
                    wrong.append((method, params, word, door, (refused.code, refused.status, refused.detail)))
    assert wrong == []
    with pytest.raises(RefusedError) as error:
        await post(cast.base, "/v1/call/auth.renew", {"token": mina.disk.token}, mina.disk.token)
    assert (error.value.code, error.value.status) == ("unsupported", 404)
    for token, word in (("x", "unauthorized"), (jun.token, "forbidden")):
        with pytest.raises(RefusedError, match=word):
            await mina.call("auth.renew", token=token)
    with pytest.raises(RefusedError) as error:
        await post(cast.base, "/v1/call/chat.list", {}, "nonsense")
    assert (error.value.code, error.value.status) == ("unauthorized", 401)


async def test_frames_that_go_wrong(cast: Cast) -> None:
    mina, _, chat = await cast.pair()
    frames: list[tuple[list[Any], list[Any]]] = [
        ([HELLO, 70, "x", {}], [22, 70, "conflict"]),
        ([77, 71, 1], [22, 71, "unsupported"]),
        ([77, "71"], [22, 0, "unsupported"]),
        ([16, 72, {}], [22, 72, "unsupported"]),
        ([FETCH, 73, chat, 0, 0], [22, 73, "bad_frame"]),
        ([FETCH, 74, 4711, 0, 9], [22, 74, "not_member"]),
        ([CHANGES, 75, chat, 0, -1], [22, 75, "bad_frame"]),
        ([CALL, 76], [22, 76, "bad_frame"]),
        ([CALL, 0, "chat.list"], [22, 0, "bad_frame"]),
        ([READ, chat], [22, 0, "bad_frame"]),
        ([TYPING, "x"], [22, 0, "bad_frame"]),
        ([PING], [22, 0, "bad_frame"]),
        ([SEND, 80, chat, ""], [29, 80, "bad_frame"]),
        ([SEND, 81, chat], [29, 81, "bad_frame"]),
        ([SEND, "82", chat, "x"], [29, 0, "bad_frame"]),
        ([SEND, 83, 4711, "x"], [29, 83, "not_member"]),
        ([SEND, 84, chat, "가" * 10_001], [29, 84, "too_large"]),
        ([SEND, 85, chat, {"t": "x", "f": [{"deep": 2**53}]}], [29, 85, "bad_frame"]),
        ([SEND, 86, chat, {"t": "x", "m": [[1, 1, 1]]}], [29, 86, "bad_frame"]),
        ([CALL, 87, "chat.get", {"chat": chat}, "more", "fields"], [21, 87]),
        ([PING, 1], [27]),
    ]
    for frame, answer in frames:
        mark = len(mina.log)
        mina.emit(frame)
        await mina.until(lambda mark=mark: len(mina.log) > mark)  # type: ignore[misc]
        assert mina.log[mark][: len(answer)] == answer, f"{frame} -> {mina.log[mark]}"
    assert (await mina.call("chat.get", chat=chat))["head"] == 0, "nothing of it was stored"


@pytest.mark.parametrize(
    ("text", "first", "close"),
    [
        ("hello", None, 4503),
        ("{}", None, 4503),
        ('["1"]', None, 4503),
        ("[8,60]", [22, 0, "bad_frame"], 4503),
        ("[99]", [22, 0, "bad_frame"], 4503),
        ('[1,5,"TOKEN",{}]', [22, 5, "unauthorized"], 4500),
        (f'[1,5,"{"x" * 65536}",{{}}]', None, 1009),
    ],
)
async def test_before_hello(cast: Cast, text: str, first: list[Any] | None, close: int) -> None:
    mina = await cast.by_json()
    mina.cut()
    mina.socket = await WebSocket.open(cast.base, "/v1/ws", "mim.json")
    mina.log.clear()
    mina.socket.write(1, text.encode())
    assert await mina.ends() == close
    if first:
        assert [frame[: len(first)] for frame in mina.log] == [first]


async def test_after_hello_bye_comes_first(cast: Cast) -> None:
    for opcode, payload, close in ((1, b"nope", 4503), (2, b"\x92\x08\x3c", 4503), (1, b"[8,60" + b" " * 65536, 1009),
                                   (1, b"[3,\xff]", 4503)):  # fmt: skip
        mina = await cast.by_json()
        assert mina.socket
        mina.socket.write(opcode, payload)
        assert (await mina.ends(), mina.bye and mina.bye[0]) == (close, "protocol")
    with pytest.raises(RefusedError) as refused:
        await WebSocket.open(cast.base, "/v1/ws", "mim.xml")
    assert refused.value.status == 400
    with pytest.raises(RefusedError) as refused:
        await WebSocket.open(cast.base, "/v2/ws", "mim.json")
    assert (refused.value.status, refused.value.code) == (404, "not_found")


async def outcome(door: Callable[..., Awaitable[Any]], method: str, params: dict[str, Any]) -> Any:
    """The value or the error word."""
    try:
        return await door(method, **params)
    except Fault as fault:
        return fault.code


async def test_calls_over_http_equal_calls_over_the_socket(cast: Cast) -> None:
    mina, jun, direct = await cast.pair()
    group = await mina.create(kind="group", members=[jun.user], title="방")
    await mina.call("profile.update", name="민아", status="안녕")
    for text in ("점심 하나", {"t": "점심 둘", "x": [1.5, None]}):
        await mina.send(group, text)
    reads: list[tuple[str, dict[str, Any]]] = [
        ("user.find", {"phone": JUN}),
        ("profile.get", {}),
        ("profile.get", {"user": jun.user}),
        ("device.list", {}),
        ("chat.create", {"kind": "direct", "members": [jun.user]}),
        ("chat.get", {"chat": group}),
        ("chat.list", {}),
        ("chat.list", {"before": group, "limit": 1}),
        ("chat.members", {"chat": group}),
        ("chat.members", {"chat": direct, "after": 1, "limit": 99999}),
        ("chat.watermarks", {"chat": group}),
        ("message.search", {"query": "점심"}),
        ("chat.settings", {"chat": group, "muted": True}),
        ("device.push", {"platform": "fcm", "token": "t"}),
        ("chat.send", {"chat": group, "cid": 1, "body": "another"}),
    ]
    async with jun.online():
        for method, params in reads:
            by_socket = await mina.call(method, **params)
            assert await post(cast.base, f"/v1/call/{method}", params, mina.disk.token) == by_socket
            assert await outcome(jun.call, method, params) == await outcome(jun.over_http, method, params)
    sent = await jun.over_http("chat.send", chat=group, cid=1000, body="HTTP로")
    assert sent["seq"] == (await mina.call("chat.get", chat=group))["head"]
    await mina.until(lambda: sent["seq"] in mina.disk.chats[group].messages)


async def test_http_errors_have_a_body_and_a_header(cast: Cast) -> None:
    async with httpx.AsyncClient(base_url=cast.base, trust_env=False) as http:
        answer = await http.post("/v1/auth/code", json={"phone": "12"})
        assert (answer.status_code, answer.json()["code"]) == (400, "bad_frame")
        assert set(answer.json()) == {"code", "detail"}
        bodies: list[Any] = [{"phone": JUN, "code": "abc"}, {"phone": JUN}, []]
        for body in bodies:
            answer = await http.post("/v1/auth/verify", json=body)
            assert (answer.status_code, answer.json()["code"]) == (400, "bad_frame")
        answer = await http.post("/v1/auth/verify", json={"phone": JUN, "code": "000000"})
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
        answer = await http.post("/v1/call/chat.list", content=b"")
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
        answer = await http.post("/v1/call/chat.list", content=b'{"x":"' + b"y" * 65536 + b'"}')
        assert (answer.status_code, answer.json()["code"]) in ((413, "too_large"), (401, "unauthorized"))
        for _ in range(50):
            answer = await http.post("/v1/auth/code", json={"phone": JUN})
            if answer.status_code != 200:
                break
        wait = answer.json()["retry_after"]
        assert (answer.status_code, answer.json()["code"]) == (429, "rate_limited")
        assert int(answer.headers["Retry-After"]) in (wait // 1000, wait // 1000 + 1)
        for path in ("/healthz", "/readyz", "/metrics"):
            assert (await http.get(path)).status_code == 200
        answer = await http.get("/nowhere")
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
