"""Processes that faults are done to: started, frozen, killed, started again, and never left behind.

A :class:`Program` is one process with a folder and a log. It has a session of its own, so that Ctrl-C reaches only us,
who then end it; and where `setpriv` is there, the kernel ends it when we end without a chance to.
"""

import asyncio
import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

START_S = 60.0


class Program:
    """What every process under test has. A subclass says what to start and how to tell that it is there."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.folder = folder
        self._log = folder / f"{name}.log"
        self._said = 0  # where in the log the present process began
        self._process: subprocess.Popen[bytes] | None = None
        self.is_frozen = False

    def launch(self, command: Sequence[str], env: Mapping[str, str], user: int | None = None) -> None:
        """Start the process; it is not there yet when this returns."""
        assert not self.is_running, f"{self.name} runs already"
        self._said = self._log.stat().st_size if self._log.exists() else 0
        if setpriv := shutil.which("setpriv"):
            command = [setpriv, "--pdeathsig", "KILL", *command]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                cwd=self.folder,
                env=dict(env),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                user=user,
                start_new_session=True,
            )
        self.is_frozen = False

    async def start(self) -> None:
        """Start and wait until it serves."""
        raise NotImplementedError

    @property
    def pid(self) -> int:
        """The process."""
        assert self._process is not None
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether the process is there, frozen or not."""
        return self._process is not None and self._process.poll() is None

    def log(self) -> str:
        """Everything that was logged since the first start."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def said(self) -> bytes:
        """What the present process logged."""
        return self._log.read_bytes()[self._said :]

    # -- faults ----------------------------------------------------------------------------

    def terminate(self) -> None:
        """SIGTERM."""
        assert self._process is not None
        self._process.terminate()

    async def ends(self, within_s: float) -> int:
        """Wait for the end; returns the exit code, negative for the signal that killed it."""
        assert self._process is not None
        async with asyncio.timeout(within_s):
            while self._process.poll() is None:  # noqa: ASYNC110 - of processes nobody tells
                await asyncio.sleep(0.02)
        return int(self._process.returncode)

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        self.is_frozen = False

    def freeze(self) -> None:
        """SIGSTOP: connections stay open and are accepted, and nothing is answered."""
        os.kill(self.pid, signal.SIGSTOP)
        self.is_frozen = True

    def thaw(self) -> None:
        """SIGCONT."""
        os.kill(self.pid, signal.SIGCONT)
        self.is_frozen = False

    def clean_up(self) -> None:
        """Whatever happened: leave no process behind."""
        if self.is_running:
            with suppress(ProcessLookupError):
                self.kill()
