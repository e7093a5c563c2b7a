"""`mim chat` by hand: two people in two terminals, and through pipes."""

import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pexpect
import pytest

from mim.client.terminal import Options, state_path, words
from mim.client.terminal_texts import TEXTS, Texts, harmless, language_of
from tests.harness import RunningServer, running

MINA, JUN, SORA = "010-2345-6701", "010-2345-6702", "010-2345-6703"
PROGRAM = (
    "import sys; from mim.client.terminal import run; "
    "url, phone, name, to = (a or None for a in sys.argv[1:]); "
    "sys.exit(run(url, phone, name, None, to))"
)
WHERE_IS_THE_CURSOR = "\x1b[6n"
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]|\x1b[=>]|\r")


@pytest.fixture
async def dev_server(database_url: str) -> AsyncIterator[RunningServer]:
    async with running(database_url, dev=True) as server:
        yield server


class Seat:
    """A person at a terminal."""

    def __init__(self, url: str, folder: Path, phone: str, name: str, to: str = "", lang: str = "en_US.UTF-8") -> None:
        environment = {**os.environ, "XDG_STATE_HOME": str(folder), "LANG": lang, "LC_ALL": lang, "TERM": "xterm"}
        self._child = pexpect.spawn(
            sys.executable,
            ["-W", "error::ResourceWarning", "-c", PROGRAM, url, phone, name, to],
            env=environment,
            encoding="utf-8",
            timeout=20,
            dimensions=(40, 200),
        )

    async def types(self, line: str) -> None:
        await asyncio.to_thread(self._child.send, line + "\r")

    async def presses(self, keys: str) -> None:
        await asyncio.to_thread(self._child.send, keys)

    async def sees(self, pattern: str) -> None:
        try:
            while await asyncio.to_thread(lambda: self._child.expect([pattern, re.escape(WHERE_IS_THE_CURSOR)])):
                await self.presses("\x1b[1;1R")  # as a terminal answers; the toolbar waits for that
        except (pexpect.TIMEOUT, pexpect.EOF):
            raise AssertionError(f"{pattern} is not in:\n{ESCAPES.sub('', self._child.before or '')}") from None

    async def leaves(self, key: str = "\x04") -> int:
        await self.presses(key)
        await asyncio.to_thread(self._child.expect, pexpect.EOF)
        await asyncio.to_thread(self._child.close)
        assert self._child.exitstatus is not None, self._child.signalstatus
        return int(self._child.exitstatus)


async def test_two_people_chat_from_two_terminals(dev_server: RunningServer, tmp_path: Path) -> None:
    mina = Seat(dev_server.http, tmp_path, MINA, "Mina")
    await mina.sees("Signed in as Mina")
    await mina.sees("No chats yet")
    jun = Seat(dev_server.http, tmp_path, JUN, "Jun", to=MINA)
    await jun.sees("— Mina —")
    await jun.presses("안녕")
    await jun.presses(" 미나\r")
    await jun.sees(r"#1 me: 안녕 미나")
    await mina.sees(r"— Jun —")  # the first message opens its chat
    await mina.sees(r"#1 Jun: 안녕 미나")
    await jun.sees(r"#1 read by all")
    for key in "I am stil":  # told at most once in 3 s, so at the speed of a person
        await jun.presses(key)
        await asyncio.sleep(0.4)
    await mina.sees(r"Jun is typing…")
    await jun.presses("l here\r")
    await mina.sees(r"#2 Jun: I am still here")
    await mina.types("/edit 2 no")
    await mina.sees("✗")
    await mina.types("/react 2 👍")
    await jun.sees("👍 Mina on #2")
    assert await mina.leaves() == 0
    await jun.types("are you there?")
    await jun.sees(r"#3 me: are you there\? \(1\)")
    mina = Seat(dev_server.http, tmp_path, MINA, "Mina")  # the same device again
    await mina.sees(r"#2 Jun: I am still here 👍1")
    await mina.sees(r"#3 Jun: are you there\?")
    await jun.sees(r"#3 read by all")
    assert await mina.leaves("\x03") == 0
    assert await jun.leaves() == 0


async def test_an_answer_tells_that_the_question_was_read(dev_server: RunningServer, tmp_path: Path) -> None:
    async with dev_server.phone("bot") as bot:
        mina = Seat(dev_server.http, tmp_path, MINA, "Mina")
        await mina.sees("No chats yet")
        me = (await bot.calls("user.find", phone=MINA))["user"]
        chat = (await bot.calls("chat.create", kind="direct", members=[me]))["chat"]
        await bot.sends(chat, "first")
        await mina.sees("first")
        await mina.types("/open 1")
        await mina.types("a question")
        await bot.gets(18, chat, 2)
        await mina.sees(r"#2 unread 1")
        await bot.sends(chat, "an answer")  # without a READ
        await mina.sees(r"#2 read by all")
        assert await mina.leaves() == 0


async def test_in_korean_with_a_group(dev_server: RunningServer, tmp_path: Path) -> None:
    lang = "ko_KR.UTF-8"
    mina = Seat(dev_server.http, tmp_path, MINA, "미나", lang=lang)
    await mina.sees("미나님으로 로그인했습니다")
    sora = Seat(dev_server.http, tmp_path, SORA, "소라", lang=lang)
    await sora.sees("아직 대화가 없습니다")
    jun = Seat(dev_server.http, tmp_path, JUN, "준", lang=lang)
    await jun.sees("로그인")
    await jun.types(f"/group '산 모임' {MINA} {SORA}")
    await jun.sees("— 산 모임 —")
    await jun.types("토요일에 가요")
    await mina.sees("#1 준: 토요일에 가요")
    await sora.sees("#1 준: 토요일에 가요")
    await jun.sees("#1 모두 읽음")
    await sora.types("/leave")
    await jun.sees("소라님이 나감")
    await jun.types("/members")
    await jun.sees("미나  member")
    await jun.types("/search 토요일")
    await jun.sees("#1 나: 토요일에 가요")
    await jun.types("/delete 1")
    await mina.sees("#1 준님이 삭제함")
    for seat in (mina, jun, sora):
        assert await seat.leaves() == 0


async def through_pipes(server: RunningServer, folder: Path, phone: str, name: str, to: str, typed: str) -> str:
    """What the program says to these lines; its exit code must be 0."""
    program = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PROGRAM, server.http, phone, name, to),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "XDG_STATE_HOME": str(folder), "LC_ALL": "C.UTF-8"},
    )
    async with asyncio.timeout(30):
        out, err = await program.communicate(typed.encode())
    assert program.returncode == 0, (out + err).decode()
    assert err == b""
    return out.decode()


async def test_through_pipes(dev_server: RunningServer, tmp_path: Path) -> None:
    nothing = await through_pipes(dev_server, tmp_path, MINA, "Mina", "", "/nonsense\n/open 1\n/open x\nhello\n/help\n")
    assert "There is no command /nonsense" in nothing
    assert "There is no chat 1" in nothing
    assert "Usage: /open N" in nothing
    assert "No chat is open" in nothing
    assert all(f"/{word}" in nothing for word in ("chats", "history", "quit"))

    typed = (
        "one\ntwo\n/edit 2 zwei\n/delete 1\n\x1b[31mred\n"
        + "".join(f"m{n}\n" for n in range(30))
        + "/new 010-9999-9999\n"
    )
    said = await through_pipes(dev_server, tmp_path, JUN, "Jun", MINA, typed)
    assert "#1 me: one (1)" in said
    assert "✎ #2 me: zwei" in said
    assert "Nobody with the number 010-9999-9999" in said

    heard = await through_pipes(
        dev_server, tmp_path, MINA, "Mina", JUN, "/history\n/chats\n/search m29\n/quit\nnot this\n"
    )
    lines = heard.splitlines()
    assert "#33 Jun: m29" in heard
    assert "#2 Jun: zwei (edited)" in heard  # by /history
    assert "#1 Jun: (deleted)" in heard
    assert "#3 Jun: �[31mred" in heard  # no command to the terminal
    assert "\x1b" not in heard
    assert [line for line in lines if "[1] Jun" in line] == ["[1] Jun"]  # what was shown is read
    assert "not this" not in heard


async def test_what_goes_wrong_is_a_sentence(dev_server: RunningServer, tmp_path: Path) -> None:
    seat = Seat("http://127.0.0.1:1", tmp_path, MINA, "Mina")
    await seat.sees("No answer from http://127.0.0.1:1")
    first = Seat(dev_server.http, tmp_path, MINA, "Mina")
    await first.sees("Signed in")
    second = Seat(dev_server.http, tmp_path, MINA, "Mina")
    await second.sees("in another terminal already")
    assert await first.leaves() == 0


async def test_a_server_that_begins_anew_is_signed_into_again(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(database_url, dev=True) as server:
        await through_pipes(server, tmp_path, JUN, "Jun", "", "")
        await through_pipes(server, tmp_path, MINA, "Mina", JUN, "hello\n")
        url = server.http
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
        path = state_path(Options(url, MINA))
        assert path.stat().st_mode & 0o777 == 0o600
        text = path.read_text()
        path.write_text(re.sub(r'"(token|refresh)":"[^"]+"', r'"\1":"of another life"', text))
        said = await through_pipes(server, tmp_path, MINA, "Mina", JUN, "again\n")
    assert "#2 me: again (1)" in said


def test_every_text_has_both_languages_and_the_same_fields() -> None:
    fields = re.compile(r"{(\w+)}")
    for key, (english, korean) in TEXTS.items():
        assert set(fields.findall(english)) == set(fields.findall(korean)), key


def test_the_language_is_that_of_the_terminal() -> None:
    assert language_of({"LANG": "ko_KR.UTF-8"}) == "ko_KR.UTF-8"
    assert language_of({"LANG": "ko_KR.UTF-8", "LC_ALL": "C"}) == "C"
    assert language_of({}) == "en"
    assert Texts("ko_KR.UTF-8")("me") == "나"
    assert Texts("fr")("me") == "me"


def test_foreign_text_commands_no_terminal() -> None:
    assert harmless("안녕 👩‍👩‍👧 a\tb") == "안녕 👩‍👩‍👧 a b"
    assert harmless("a\nb") == "a\n        b"
    assert harmless("\x1b]0;x\x07\x9b\u202ea") == "�]0;x����a".replace("����", "���")


def test_words() -> None:
    assert words("'산 모임' 010 011", 2) == ["산 모임", "010", "011"]
    assert words("2 it's  fine", 2, at_most=2) == ["2", "it's  fine"]
