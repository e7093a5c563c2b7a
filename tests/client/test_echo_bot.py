"""The echo bots of the package's docstring and of the README, run as they stand there."""

import asyncio
import os
import sys
import textwrap
from pathlib import Path

import pytest

import mim.client
from mim.client import Client
from tests.client.peer import eventually
from tests.harness import RunningServer, token_for

ROOT = Path(__file__).parents[2]


def docstring_example() -> str:
    """The indented block of the docstring."""
    lines = (mim.client.__doc__ or "").splitlines()
    return textwrap.dedent("\n".join(line for line in lines if line.startswith("    ") or not line))


def readme_example() -> str:
    """The first Python block of the README, told where the server is."""
    text = (ROOT / "README.md").read_text("utf-8")
    return text.split("```python\n")[1].split("```")[0].replace('"http://127.0.0.1:8080"', 'os.environ["BOT_URL"]')


@pytest.mark.parametrize("code", [docstring_example(), readme_example()], ids=["docstring", "README"])
async def test_the_bot_echoes(server: RunningServer, code: str, tmp_path: Path) -> None:
    assert len([line for line in code.splitlines() if line.strip()]) <= 10
    environment = {**os.environ, "BOT_URL": server.http, "BOT_TOKEN": token_for("echo"), "PYTHONPATH": str(ROOT)}
    async with server.phone("echo") as phone:
        echo = phone.user
    bot = await asyncio.create_subprocess_exec(sys.executable, "-W", "error", "-c", code, env=environment, cwd=tmp_path)
    try:
        async with Client(server.http, token_for("mina")) as mina:
            chat = (await mina.call("chat.create", kind="direct", members=[echo]))["chat"]
            heard: list[str] = []
            mina.on_message(lambda message: heard.append(message.text))
            await mina.send(chat, "안녕")
            await mina.send(chat, {"t": "hello", "x": {"a": 1}})
            await eventually(lambda: heard == ["안녕", "hello"])
            await eventually(lambda: mina.chats[chat].head == 4)
            assert await mina.unread_by(chat, 2) == 0
    finally:
        bot.terminate()
        await bot.wait()
