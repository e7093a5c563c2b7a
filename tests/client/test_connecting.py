"""Coming back, staying away, keeping alive."""

import asyncio
import base64
import json
import time
from typing import Any

import pytest

from mim.client import (
    CallError,
    Client,
    ConnectionLost,
    ProtocolMistake,
    Replaced,
    SignedOut,
    Stopped,
    UpdateRequired,
)
from mim.client.auth import http_url, renew_at, socket_url
from mim.client.ops import Op
from tests.client.conftest import Opens
from tests.client.peer import CHAT, Peer, eventually, group


def token(name: str, life_s: float) -> str:
    """A JWT as far as a client looks into it."""
    now = time.time()
    payload = json.dumps({"sub": name, "iat": now, "exp": now + life_s}).encode()
    return f"h.{base64.urlsafe_b64encode(payload).decode().rstrip('=')}.s"


async def test_hello_says_who_it_is(opens: Opens) -> None:
    _, line = await opens(client={"app": "1.4.2", "os": "desktop", "locale": "ko", "recv": True})
    assert line.token == "token"
    assert line.options == {"app": "1.4.2", "os": "desktop", "locale": "ko", "recv": True}
    assert line.cursor is None


async def test_it_comes_back_with_the_newest_cursor(opens: Opens, peer: Peer) -> None:
    client, line = await opens(group(head=2))
    online: list[bool] = []
    client.on_online(online.append)
    await line.tells(Op.SYNCED, "c9")
    line.breaks()
    again = await peer.accepts()
    assert again.cursor == "c9"
    await again.opens(resumed=True)
    await eventually(lambda: client.connected)
    assert online == [False, True]
    assert list(client.chats) == [CHAT]  # what did not change is not told again


async def test_a_full_sync_ends_what_it_does_not_tell(opens: Opens, peer: Peer) -> None:
    client, line = await opens(group(), group())
    left: list[Any] = []
    client.on_chat(lambda chat: left.append((chat.id, chat.kind)))
    line.breaks()
    again = await peer.accepts()
    await again.opens(group(), resumed=False)
    await eventually(lambda: (CHAT + 1, "left") in left)
    assert list(client.chats) == [CHAT]


@pytest.mark.parametrize("code", [1012, 4000, 4001, 4008, 4009, 4010, 4099])
async def test_it_comes_back_after(opens: Opens, peer: Peer, code: int) -> None:
    _, line = await opens()
    await line.closes(code)
    assert (await peer.accepts()).cursor == "c1"


async def test_it_comes_back_when_the_server_asks_it_to(opens: Opens, peer: Peer) -> None:
    _, line = await opens()
    before = time.monotonic()
    await line.closes(4000, "shutting_down", "a new version", retry_after=700)
    await peer.accepts()
    assert 0.7 <= time.monotonic() - before < 3


@pytest.mark.parametrize(
    ("code", "word", "kind"),
    [
        (4500, "expired", SignedOut),
        (4501, "replaced", Replaced),
        (4502, "signed_out", SignedOut),
        (4503, "protocol", ProtocolMistake),
        (4506, "update_required", UpdateRequired),
        (4599, "", Stopped),
        (1002, "protocol", ProtocolMistake),
    ],
)
async def test_it_stays_away_after(opens: Opens, code: int, word: str, kind: type[Stopped]) -> None:
    client, line = await opens()
    running = asyncio.gather(client.run_forever(), client.send(CHAT, "x"), return_exceptions=True)
    await line.gets(Op.SEND)
    await line.closes(code, word, "because")
    forever, sending = await running
    assert type(forever) is kind
    assert forever.code == code
    assert forever.detail == ("because" if word else "")
    assert type(sending) is kind
    with pytest.raises(kind):
        await client.call("chat.list")


async def test_a_refusal_before_ready_ends_the_entering(peer: Peer) -> None:
    async def refuse() -> None:
        line = await peer.accepts()
        await line.tells(Op.ERROR, line.hello[1], "update_required", "https://store.example/mim")
        await line.closes(4506)

    refusing = asyncio.gather(refuse())
    with pytest.raises(UpdateRequired) as error:
        async with Client(peer.url, "token", app="0.1"):
            pass
    assert error.value.detail == "https://store.example/mim"
    await refusing


async def test_an_address_without_a_server_of_ours_is_told() -> None:
    async def wrong(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(wrong, "127.0.0.1", 0) as server:
        with pytest.raises(ProtocolMistake, match="404"):
            async with Client(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", "token"):
                pass


async def test_it_waits_for_a_server_that_is_not_there_yet() -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3), Client("http://127.0.0.1:1", "token"):
            pass


async def test_a_refused_token_is_refreshed_once(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[str] = []

    async def refresh(url: str, old: str) -> tuple[str, str]:
        used.append(old)
        return f"token {len(used)}", f"refresh {len(used)}"

    monkeypatch.setattr("mim.client.core.refresh_tokens", refresh)

    async def serve() -> None:
        line = await peer.accepts()
        assert line.token == "token"
        await line.tells(Op.ERROR, line.hello[1], "unauthorized", "expired")
        await line.closes(4500)
        line = await peer.accepts()
        assert line.token == "token 1"
        await line.opens()
        await line.closes(4500, "expired", "sign in again")
        line = await peer.accepts()
        await line.tells(Op.ERROR, line.hello[1], "unauthorized", "no")
        await line.closes(4500)

    serving = asyncio.gather(serve())
    with pytest.raises(SignedOut):
        await Client(peer.url, "token", "refresh").run_forever()
    await serving
    assert used == ["refresh", "refresh 1"]


async def test_the_token_is_renewed_before_it_ends(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = token("old", 3), token("new", 600)

    async def refresh(url: str, refresh: str) -> tuple[str, str]:
        return new, "refresh 2"

    monkeypatch.setattr("mim.client.core.refresh_tokens", refresh)

    async def serve() -> None:
        line = await peer.accepts()
        limits = {"text": 1, "fetch": 1, "inflight": 1}
        session = {"user": 1, "device": 1, "time": int(time.time()), "resumed": False}
        await line.tells(Op.READY, line.hello[1], {**session, "keepalive": [1, 9], "limits": limits})
        await line.tells(Op.SYNCED, "c")
        ref, method, params = await line.gets(Op.CALL)
        assert (method, params) == ("auth.renew", {"token": new})
        await line.tells(Op.RESULT, ref, {"exp": 1})

    async with asyncio.TaskGroup() as tasks:
        serving = tasks.create_task(serve())
        async with Client(peer.url, old, "refresh"):
            await serving


def test_when_to_renew() -> None:
    assert renew_at("no jwt") is None
    assert renew_at("a.b.c") is None
    soon = renew_at(token("x", 3600))
    assert soon is not None
    assert soon - time.time() == pytest.approx(3540, abs=5)


def test_addresses() -> None:
    assert socket_url("http://h:1/") == "ws://h:1/v1/ws"
    assert socket_url("https://h/chat") == "wss://h/chat/v1/ws"
    assert http_url("wss://h") == "https://h"
    with pytest.raises(ValueError, match="http://"):
        socket_url("localhost:8080")


async def test_calls_and_their_errors(opens: Opens) -> None:
    client, line = await opens()
    calling = asyncio.gather(client.call("user.find", phone="+82"), client.call("chat.list"), return_exceptions=True)
    one, two = await line.gets(Op.CALL), await line.gets(Op.CALL)
    assert one[1:] == ["user.find", {"phone": "+82"}]
    await line.tells(Op.RESULT, two[0], [])
    await line.tells(Op.ERROR, one[0], "rate_limited", "slower", 1500)
    error, value = await calling
    assert isinstance(error, CallError)
    assert (error.code, error.detail, error.retry_after) == ("rate_limited", "slower", 1500)
    assert value == []
    with pytest.raises(CallError, match="too_large"):
        await client.call("profile.update", name="x" * 70_000)


async def test_a_call_under_way_is_told_that_the_line_broke(opens: Opens) -> None:
    client, line = await opens()
    calling = asyncio.gather(client.call("chat.list"), return_exceptions=True)
    await line.gets(Op.CALL)
    line.breaks()
    assert isinstance((await calling)[0], ConnectionLost)


async def test_history_is_an_unbroken_run_and_asks_again_after_a_break(opens: Opens, peer: Peer) -> None:
    client, line = await opens(group(head=9))
    asking = asyncio.gather(client.history(CHAT, before=8, limit=3))
    await line.gets(Op.FETCH)
    line.breaks()
    line = await peer.accepts()
    await line.opens(resumed=True)
    ref, chat, start, limit = await line.gets(Op.FETCH)
    assert (chat, start, limit) == (CHAT, 8, -3)
    await line.says(10)  # live, in between
    await line.says(3)
    for seq in (7, 6, 5):
        await line.says(seq)
    await line.tells(Op.RESULT, ref, {"more": True})
    assert [message.seq for message in (await asking)[0]] == [5, 6, 7]


async def test_pings_promise_the_next_and_do_not_depend_on_other_traffic(peer: Peer) -> None:
    async with asyncio.TaskGroup() as tasks:
        client = Client(peer.url, "token")
        entering = tasks.create_task(client.__aenter__())
        line = await peer.accepts()
        session = {"user": 1, "device": 1, "time": 0, "resumed": False, "keepalive": [1, 1]}
        await line.tells(Op.READY, 1, {**session, "limits": {"text": 1, "fetch": 1, "inflight": 1}})
        await line.tells(Op.SYNCED, "c")
        await entering
        began = time.monotonic()
        async with asyncio.timeout(10):
            while len(line.pings) < 2:
                client.typing(CHAT)  # never a second of silence
                await asyncio.sleep(0.05)
        took_s = time.monotonic() - began
        await client.close()
    assert set(line.pings) == {1}
    assert len(line.pings) <= took_s + 1, "oftener than was promised"


async def test_a_line_that_gives_no_answer_is_found_dead(
    opens: Opens, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mim.client.session.ANSWER_WAIT_S", 0.1)
    monkeypatch.setattr("mim.client.session.PONG_WAIT_S", 0.1)
    client, line = await opens(group())
    line.mute = True
    interval = client._core.keepalive.interval_s
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(client.send(CHAT, "x"))
        frame = await line.gets(Op.SEND)
        line = await peer.accepts()
        await line.opens(resumed=True)
        assert await line.gets(Op.SEND) == frame
        await line.tells(Op.ACK, frame[0], 1, 100)
    assert client._core.keepalive.interval_s < interval


async def test_received_frames_are_counted(opens: Opens, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mim.client.session.RECV_WITHIN_S", 0.2)
    _, line = await opens(group(), client={"recv": True})
    for seq in range(1, 31):
        await line.says(seq)
    (count,) = await line.gets(Op.RECV)
    assert 24 <= count <= 30
    await line.says(30)  # a duplicate counts as well
    while count < 31:
        (count,) = await line.gets(Op.RECV)
    assert count == 31
    await line.gets_nothing(0.4)


async def test_another_device_behind_the_same_state_starts_clean(opens: Opens, peer: Peer) -> None:
    client, line = await opens(group(head=4))
    line.breaks()
    line = await peer.accepts()
    await line.opens(group(head=1), user=9)
    await eventually(lambda: client.user == 9 and CHAT in client.chats)
    assert client.chats[CHAT].head == 1
