"""proto/walkthrough.md, typed as it stands there: the page is read, its lines are sent, its answers are awaited.

The ids are those of the page (users 42 and 43, chat 5); only seconds, tokens, codes, cursors and the device differ.
"""

import asyncio
import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.conftest import Cast
from tests.conformance.json_client import Disk
from tests.conformance.json_socket import LostError, WebSocket, post
from tests.harness import token_for

PAGE = Path(__file__).parents[2] / "proto" / "walkthrough.md"
FORM = "application/x-www-form-urlencoded"  # what `curl -d` says of any body
VARYING = {"token", "refresh", "code", "device"}


def blocks() -> list[list[str]]:
    """The lines of every fenced block before the bytes."""
    text = PAGE.read_text("utf-8").partition("## The same in bytes")[0]
    return [block.strip().splitlines() for block in re.findall(r"^```\n(.*?)^```", text, re.DOTALL | re.MULTILINE)]


def pattern(text: str) -> Any:
    """A line of the page as JSON; `...` stands for other keys."""
    return json.loads(re.sub(r",?\.\.\.(,?)", lambda m: m.group(1) and ',"...":0,', text).replace("{,", "{"))


def fits(want: Any, have: Any) -> bool:
    if isinstance(want, dict) and isinstance(have, dict):
        keys = {key for key in want if key != "..."}
        whole = "..." in want or keys == set(have)
        return whole and all(key in have and (key in VARYING or fits(want[key], have[key])) for key in keys)
    if isinstance(want, list) and isinstance(have, list):
        if want[:1] == [25]:
            return have[:1] == [25]
        return len(want) == len(have) and all(map(fits, want, have))
    if isinstance(want, int) and want > 1_700_000_000:
        return isinstance(have, int) and have > 1_700_000_000
    return type(want) is type(have) and want == have


class Terminal:
    """curl and websocat."""

    def __init__(self, base: str) -> None:
        self.base = base
        self.token = ""
        self.cursor = ""
        self.socket: WebSocket | None = None

    async def curl(self, line: str, phone: str, code: str) -> Any:
        words = shlex.split(line.removeprefix("$ "))
        assert words[:2] == ["curl", "-s"]
        body = json.loads(words[words.index("-d") + 1])
        body |= {"phone": phone} if "phone" in body else {}
        body |= {"code": code} if "code" in body else {}
        token = self.token if "-H" in words else ""
        return await post(self.base, words[2].removeprefix("localhost:8080"), body, token, FORM)

    async def websocat(self, line: str) -> None:
        words = shlex.split(line.removeprefix("$ "))
        path = words[-1].removeprefix("ws://localhost:8080").replace("AAEC", self.cursor)
        headers = [words[at + 1].replace("TOKEN", self.token) for at, word in enumerate(words) if word == "-H"]
        self.socket = await WebSocket.open(self.base, path, words[words.index("--protocol") + 1], *headers)

    async def types(self, lines: list[str]) -> None:
        """Does what `$` and `→` say; what `←` says must come, and nothing else."""
        expected: list[str] = []
        for line in [*lines, "→"]:
            if line.startswith("←"):
                expected.append(line[2:])
                continue
            await self.hears(expected)
            expected = []
            assert self.socket
            if line.startswith("$"):
                await self.websocat(line)
            elif line != "→":
                self.socket.write(1, line[2:].replace("TOKEN", self.token).encode())

    async def hears(self, expected: list[str]) -> None:
        assert self.socket
        waiting = [pattern(line) for line in expected if not line.startswith("close")]
        while waiting:
            async with asyncio.timeout(10):
                frame = json.loads(await self.socket.receive())
            found = [want for want in waiting if fits(want, frame)]
            assert found, f"{frame} is not on the page, but {waiting}"
            first_of_kind = next(want for want in waiting if want[0] == frame[0])
            assert found[0] is first_of_kind
            waiting.remove(found[0])
            if frame[0] == 25 and not self.cursor:
                self.cursor = frame[1]
        for line in expected:
            if line.startswith("close"):
                with pytest.raises(LostError) as lost:
                    await self.socket.receive()
                assert lost.value.code == int(line.split()[1])


async def crowd(base: str) -> None:
    """Others came before 민아: 41 users and 4 chats."""
    for number in range(1, 42):
        profile = await post(base, "/v1/call/profile.get", {}, token_for(f"u{number}"))
        assert profile["user"] == number
    for _ in range(4):
        await post(base, "/v1/call/chat.create", {"kind": "group", "members": [2, 3]}, token_for("u1"))


async def test_the_walkthrough_is_true(cast: Cast) -> None:
    await crowd(cast.base)
    sign_in, name, connect, ready, hello, find, say, heard, again, answer, read, change, ping, back, mistakes = blocks()
    terminal = Terminal(cast.base)

    async def signs_in(phone: str) -> dict[str, Any]:
        code = (await terminal.curl(sign_in[0], phone, ""))["code"]
        return dict(await terminal.curl(sign_in[3], phone, code))

    mina, signed = await signs_in("010-1234-5678"), await signs_in("010-8765-4321")
    assert fits(pattern(sign_in[4]), mina)
    terminal.token = signed["token"]
    assert fits(pattern(name[1]), await terminal.curl(name[0], "", ""))
    terminal.token = mina["token"]

    await terminal.websocat(re.sub(r" -H '.*?'", "", connect[0]))
    await terminal.types([*hello, ready[0].replace("[16,0", "[16,1"), ready[1]])
    assert terminal.socket
    terminal.socket.cut()
    terminal.cursor = ""
    await terminal.types([*connect, *ready])

    jun = await cast.again(Disk(signed["token"], signed["user"], signed["device"]))
    await terminal.types(find)
    await terminal.types(say)
    await jun.until(lambda: any(fits(pattern(heard[0][2:]), frame) for frame in jun.log))
    await terminal.types(again)
    jun.read(5, 1)
    await terminal.types(answer[:1])
    jun.emit([4, 5])
    await terminal.types(answer[1:2])
    assert await jun.send(5, "뭐해?") == 2
    await terminal.types(answer[2:])
    await terminal.types(read)
    await terminal.types(change)
    await terminal.types(ping)
    assert terminal.socket
    terminal.socket.cut()
    await jun.until(lambda: any(frame[:2] == [20, 5] and frame[2] == [42, 2] for frame in jun.log))
    for text in ("자?", "ㅋㅋ"):
        await jun.send(5, text)
    await terminal.types(back)
    await terminal.types(mistakes)
