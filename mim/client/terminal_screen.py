"""Where the terminal client writes and reads: a prompt with a toolbar, or plain lines for pipes."""

import asyncio
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from prompt_toolkit import PromptSession
from prompt_toolkit.patch_stdout import patch_stdout


class Screen(Protocol):
    """Lines out, lines in."""

    toolbar: Callable[[], str]
    on_typing: Callable[[str], None]
    in_turn: bool
    """One line is done with before the next is taken."""

    def write(self, line: str) -> None:
        """Show a line above what is being typed."""

    def refresh(self) -> None:
        """The toolbar has something new."""

    async def read(self, prompt: str = "> ") -> str | None:
        """Return the next line typed, None at the end (Ctrl-D, Ctrl-C, end of file)."""


class PromptScreen:
    """A prompt at the bottom of a real terminal."""

    def __init__(self) -> None:
        self.toolbar: Callable[[], str] = str
        self.on_typing: Callable[[str], None] = lambda _: None
        self.in_turn = False
        self._session: PromptSession[str] = PromptSession(
            bottom_toolbar=lambda: self.toolbar() or None,
            erase_when_done=True,  # an own message is shown when it has its place
        )
        self._session.default_buffer.on_text_changed += lambda buffer: self.on_typing(buffer.text)

    def write(self, line: str) -> None:
        """Show a line above the prompt."""
        sys.stdout.write(line + "\n")
        sys.stdout.flush()

    def refresh(self) -> None:
        """Draw the toolbar again."""
        self._session.app.invalidate()

    async def read(self, prompt: str = "> ") -> str | None:
        """Return the next line; None for Ctrl-D and Ctrl-C."""
        try:
            return await self._session.prompt_async(prompt)
        except (EOFError, KeyboardInterrupt):
            return None


class PlainScreen:
    """Lines from stdin and to stdout, whatever they are: a pipe, a file, a test."""

    def __init__(self) -> None:
        self.toolbar: Callable[[], str] = str
        self.on_typing: Callable[[str], None] = lambda _: None
        self.in_turn = True
        self._lines: asyncio.Queue[str | None] = asyncio.Queue()
        self._reader: threading.Thread | None = None

    def write(self, line: str) -> None:
        """Write a line."""
        sys.stdout.write(line + "\n")
        sys.stdout.flush()

    def refresh(self) -> None:
        """There is no toolbar."""

    async def read(self, prompt: str = "> ") -> str | None:
        """Return the next line of stdin; None at its end."""
        if prompt != "> ":
            sys.stdout.write(prompt)
            sys.stdout.flush()
        if self._reader is None:
            # A thread of its own, as a read from a pipe cannot be cancelled and must not hold up the end.
            loop = asyncio.get_running_loop()
            self._reader = threading.Thread(target=self._read_stdin, args=(loop,), daemon=True)
            self._reader.start()
        return await self._lines.get()

    def _read_stdin(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            for line in sys.stdin:
                loop.call_soon_threadsafe(self._lines.put_nowait, line.rstrip("\r\n"))
            loop.call_soon_threadsafe(self._lines.put_nowait, None)
        except RuntimeError:  # the loop has ended
            return


@contextmanager
def screen() -> Iterator[Screen]:
    """Yield the screen that fits stdin and stdout."""
    if sys.stdin.isatty() and sys.stdout.isatty():
        with patch_stdout():
            yield PromptScreen()
    else:
        yield PlainScreen()
