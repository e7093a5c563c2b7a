"""`mim chat`: two people in two terminals.

Signs in by phone, shows a chat with history, unread numbers and who is typing, and takes commands that begin
with a slash. On a terminal it has a prompt with a toolbar; with pipes it reads and writes plain lines.
"""

import asyncio
import os
import shlex
import socket
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from mim.client.auth import request_code, sign_in
from mim.client.client import Client
from mim.client.errors import (
    CallError,
    ClientClosed,
    ConnectionLost,
    Replaced,
    SendRefused,
    SignedOut,
    StateInUse,
    Stopped,
    Unreachable,
)
from mim.client.models import Message
from mim.client.state import ClientState, FileState
from mim.client.terminal_screen import Screen, screen
from mim.client.terminal_texts import Texts, harmless, language_of
from mim.client.terminal_view import View
from mim.errors import Code

CONNECT_WAIT_S: Final = 10.0
FAREWELL_WAIT_S: Final = 5.0


def run(url: str, phone: str | None, name: str | None, token: str | None, to: str | None) -> int:
    """Chat until the user leaves; return the exit code. Blocks.

    `phone` or `token` says who the user is, `name` becomes the shown name, `to` is the phone number to talk to.
    """
    texts = Texts(language_of())
    try:
        with screen() as shown:
            return asyncio.run(chat(shown, texts, Options(url, phone, name, token, to)))
    except KeyboardInterrupt:
        return 0


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says."""

    url: str
    phone: str | None = None
    name: str | None = None
    token: str | None = None
    to: str | None = None


async def chat(shown: Screen, texts: Texts, options: Options) -> int:
    """Sign in and chat; return the exit code, having told what went wrong."""
    try:
        state = await signed_in(shown, texts, options)
        if state is None:
            return 0
        try:
            return await connected(shown, texts, options, state)
        except SignedOut:
            if options.phone is None:
                raise
            forgotten(options)  # the server does not know this session any more: once more from the start
            state = await signed_in(shown, texts, options)
            return 0 if state is None else await connected(shown, texts, options, state)
    except (Unreachable, TimeoutError):
        shown.write(texts("unreachable", url=options.url))
    except StateInUse:
        shown.write(texts("in_use", phone=options.phone))
    except Replaced:
        shown.write(texts("replaced"))
    except SignedOut:
        shown.write(texts("signed_out"))
    except (CallError, Stopped, ValueError) as exc:
        shown.write(texts("stopped", detail=exc))
    return 1


# -- signing in


def state_folder() -> Path:
    """Return where programs keep their state for this user."""
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData/Local") / "mim"
    base = os.environ.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local/state") / "mim"


def state_path(options: Options) -> Path:
    """Return the file of this phone on this server."""
    server = "".join(char if char.isalnum() or char in ".-" else "_" for char in urlsplit(options.url).netloc)
    digits = "".join(char for char in options.phone or "" if char.isdigit() or char == "+")
    return state_folder() / server / f"{digits or 'phone'}.json"


def forgotten(options: Options) -> None:
    """Drop the tokens of a session that is over; the message counter stays."""
    state = FileState(state_path(options), first_cid=1)
    state.token = state.refresh = None
    state.close()


async def signed_in(shown: Screen, texts: Texts, options: Options) -> ClientState | None:
    """Return the state of a signed-in device; None if the user left instead. Raises CallError and Unreachable."""
    if options.token is not None:
        state = ClientState()
        state.adopt(options.token, None)
        return state
    assert options.phone is not None
    kept = FileState(state_path(options), first_cid=1)
    try:
        if kept.token is None:
            code = await request_code(options.url, options.phone)
            if code is None and (code := await shown.read(texts("code"))) is None:
                kept.close()
                return None
            device = f"mim chat on {socket.gethostname()}"[:64]
            kept.signed_in(await sign_in(options.url, options.phone, code.strip(), device, "desktop"))
    except BaseException:
        kept.close()
        raise
    return kept


async def connected(shown: Screen, texts: Texts, options: Options, state: ClientState) -> int:
    """Chat until the user leaves (0). Raises Stopped and TimeoutError."""
    client = Client(options.url, state=state, os="desktop", locale=texts.language)
    view = View(client, shown, texts)
    try:
        async with asyncio.timeout(CONNECT_WAIT_S):
            await client.__aenter__()
        loop = asyncio.get_running_loop()
        talking = loop.create_task(Terminal(view).talk(options), name="mim chat")
        running = loop.create_task(client.run_forever(), name="mim chat client")
        try:
            await asyncio.wait({talking, running}, return_when=asyncio.FIRST_COMPLETED)
            if running.done():
                running.result()
            return talking.result() if talking.done() else 1
        finally:
            for task in (talking, running):
                task.cancel()
            await asyncio.gather(talking, running, return_exceptions=True)
    finally:
        await client.close()


# -- commands


class UsageError(Exception):
    """A command was given the wrong words."""


class Terminal:
    """What the user types: text is sent, a line that begins with a slash is a command."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._client = view.client
        self._sending: set[asyncio.Task[None]] = set()

    async def talk(self, options: Options) -> int:
        """Take lines until the user leaves; return the exit code."""
        await self._attempt(self._begin(options))
        while (line := await self._view.screen.read()) is not None:
            if line.strip() in ("/quit", "/q"):
                break
            await self._take(line.rstrip())
        if self._sending:
            await asyncio.wait(self._sending, timeout=FAREWELL_WAIT_S)
        return 0

    async def _begin(self, options: Options) -> None:
        view = self._view
        if options.name:
            await self._client.call("profile.update", name=options.name)
        profile = await self._client.call("profile.get")
        view.say("welcome", name=harmless(profile.get("name") or options.phone or ""))
        chats = self._client.chats
        if options.to:
            await self.new(options.to)
        elif len(chats) == 1:
            await view.open(next(iter(chats)))
        else:
            await view.list_chats()
        view.opens_by_itself = True

    async def _take(self, line: str) -> None:
        if not line.startswith("/"):
            if line:
                await self._send(line)
            return
        word, _, rest = line[1:].partition(" ")
        command = COMMANDS.get(word)
        if command is None:
            self._view.say("unknown", command="/" + word)
            return
        try:
            await self._attempt(command.carry_out(self, rest.strip()))
        except (UsageError, ValueError):
            self._view.say("usage", usage=f"/{word} {command.usage}".rstrip())

    async def _attempt(self, doing: Awaitable[None]) -> None:
        """Do it and tell what the server has against it."""
        try:
            await doing
        except (CallError, SendRefused, UnicodeError) as exc:
            self._view.say("refused", detail=exc)
        except ConnectionLost:
            self._view.say("lost")
        except (ClientClosed, Stopped):
            pass  # told by whoever watches the client

    async def _send(self, text: str) -> None:
        """Send without holding up the prompt; the message shows when it has its place."""
        chat = self._chat()
        if chat is None:
            return

        async def send() -> None:
            await self._client.send(chat, text)

        task = asyncio.get_running_loop().create_task(self._attempt(send()), name="mim chat send")
        self._sending.add(task)
        task.add_done_callback(self._sent)
        self._view.sending = len(self._sending)
        if self._view.screen.in_turn:
            await asyncio.wait({task})

    def _sent(self, task: asyncio.Task[None]) -> None:
        self._sending.discard(task)
        self._view.sending = len(self._sending)
        self._view.screen.refresh()

    def _chat(self) -> int | None:
        if self._view.chat is None:
            self._view.say("none_open")
        return self._view.chat

    async def _call(self, method: str, **params: Any) -> Any:
        """Call a method about the open chat; None if there is none."""
        chat = self._chat()
        return None if chat is None else await self._client.call(method, chat=chat, **params)

    async def _find(self, phone: str) -> int | None:
        try:
            found = await self._client.call("user.find", phone=phone)
        except CallError as exc:
            if exc.code != Code.NOT_FOUND:
                raise
            self._view.say("nobody", phone=harmless(phone))
            return None
        self._view.learn(found["user"], found["name"])
        return int(found["user"])

    async def help(self, _: str) -> None:
        for word, command in COMMANDS.items():
            text = self._view.texts(f"help_{word}")
            self._view.screen.write(f"  {f'/{word} {command.usage}'.rstrip():<24} {text}")

    async def chats(self, _: str) -> None:
        await self._view.list_chats()

    async def open(self, number: str) -> None:
        n = int(number)
        if not self._view.listed:
            self._view.listed = sorted(self._client.chats)
        if not 1 <= n <= len(self._view.listed):
            self._view.say("no_such_chat", n=n)
            return
        await self._view.open(self._view.listed[n - 1])

    async def new(self, phone: str) -> None:
        words(phone, 1)
        if (user := await self._find(phone)) is not None:
            made = await self._client.call("chat.create", kind="direct", members=[user])
            await self._view.open(made["chat"])

    async def group(self, rest: str) -> None:
        title, *phones = words(rest, 2)
        users = [user for phone in phones if (user := await self._find(phone)) is not None]
        if users:
            made = await self._client.call("chat.create", kind="group", title=title, members=users)
            await self._view.open(made["chat"])

    async def members(self, _: str) -> None:
        for row in await self._call("chat.members", limit=200) or []:
            self._view.learn(row["user"], row["name"])
            self._view.screen.write(f"  {self._view.names[row['user']]}  {row['role']}")

    async def invite(self, phone: str) -> None:
        words(phone, 1)
        if self._chat() is not None and (user := await self._find(phone)) is not None:
            await self._call("chat.invite", users=[user])

    async def history(self, _: str) -> None:
        if self._chat() is not None:
            await self._view.older()

    async def edit(self, rest: str) -> None:
        seq, text = words(rest, 2, at_most=2)
        await self._call("message.edit", seq=sequence(seq), body=text)

    async def delete(self, seq: str) -> None:
        await self._call("message.delete", seq=sequence(seq), scope="everyone")

    async def react(self, rest: str) -> None:
        seq, *reaction = words(rest, 1, at_most=2)
        await self._call("message.react", seq=sequence(seq), reaction=reaction[0] if reaction else None)

    async def search(self, query: str) -> None:
        words(query, 1)
        chat = {} if self._view.chat is None else {"chat": self._view.chat}
        found = await self._client.call("message.search", query=query, **chat)
        for row in reversed(found):
            message = Message(row["chat"], row["seq"], row["sender"], row["at"], row["body"])
            self._view.screen.write(await self._view.line(message, unread=0))
        if not found:
            self._view.say("nothing_found")

    async def name(self, name: str) -> None:
        words(name, 1)
        await self._client.call("profile.update", name=name)
        self._view.say("renamed", name=harmless(name))

    async def leave(self, _: str) -> None:
        await self._call("chat.leave")


@dataclass(frozen=True, slots=True)
class Command:
    """A command: what carries it out and how it is used."""

    carry_out: Callable[[Terminal, str], Awaitable[None]]
    usage: str = ""


async def nothing(_: Terminal, __: str) -> None:
    """/quit is seen before commands are."""


COMMANDS: Final[dict[str, Command]] = {
    "help": Command(Terminal.help),
    "chats": Command(Terminal.chats),
    "open": Command(Terminal.open, "N"),
    "new": Command(Terminal.new, "PHONE"),
    "group": Command(Terminal.group, "TITLE PHONE..."),
    "members": Command(Terminal.members),
    "invite": Command(Terminal.invite, "PHONE"),
    "history": Command(Terminal.history),
    "edit": Command(Terminal.edit, "SEQ TEXT"),
    "delete": Command(Terminal.delete, "SEQ"),
    "react": Command(Terminal.react, "SEQ EMOJI"),
    "search": Command(Terminal.search, "WORD"),
    "name": Command(Terminal.name, "NAME"),
    "leave": Command(Terminal.leave),
    "quit": Command(nothing),
}


def words(rest: str, at_least: int, at_most: int | None = None) -> list[str]:
    """Split what follows a command; with `at_most` the last word is the rest as it stands. Raises UsageError."""
    found = rest.split(None, at_most - 1) if at_most else shlex.split(rest)
    if len(found) < at_least:
        raise UsageError
    return found


def sequence(text: str) -> int:
    """Return the number of a message, written with or without its #. Raises ValueError."""
    return int(text.removeprefix("#"))
