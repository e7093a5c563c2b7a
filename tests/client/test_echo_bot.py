"""The echo bot of the package's docstring, run as it stands there."""

import asyncio
import os
import sys
import textwrap

import mim.client
from mim.client import Client
from tests.client.peer import eventually
from tests.harness import RunningServer, token_for


def docstring_example() -> str:
    """The indented block of the docstring."""
    lines = (mim.client.__doc__ or "").splitlines()
    return textwrap.dedent("\n".join(line for line in lines if line.startswith("    ") or not line))


async def test_the_bot_of_the_docstring_echoes(server: RunningServer) -> None:
    code = docstring_example()
    assert len([line for line in code.splitlines() if line.strip()]) <= 10
    environment = {**os.environ, "MIM_URL": server.http, "MIM_TOKEN": token_for("echo")}
    async with server.phone("echo") as phone:
        echo = phone.user
    bot = await asyncio.create_subprocess_exec(sys.executable, "-W", "error", "-c", code, env=environment)
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
