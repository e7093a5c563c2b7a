"""One process of a private installation: pinned, ended with the load test, its log in a file."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import orjson

from loadtest.target.port import ServerError

ROOT: Final = Path(__file__).parents[2]
START_S: Final = 60.0
STOP_S: Final = 60.0


class Program:
    """`python -m MODULE` on one core. It may be started again after its end."""

    def __init__(self, name: str, folder: Path, core: int, cwd: Path, settings: Mapping[str, str]) -> None:
        self.name = name
        self._log = folder / f"{name}.log"
        self._core = core
        self._cwd = cwd
        self._settings = dict(settings)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process, or the last one that there was."""
        assert self._process is not None
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether it has been started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def launch(self, module: str, *arguments: str) -> None:
        """Start it; `says` waits until it is there. From the main thread: the kernel takes the end of that for ours."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("MIM_")}
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        launched = ("loadtest.launch", str(self._core), str(os.getpid()), module, *arguments)
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603
                [sys.executable, "-m", *launched],
                cwd=self._cwd,
                env={**inherited, **self._settings, "PYTHONPATH": path},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the load test, which then ends the server
            )

    async def says(self, event: str) -> dict[str, Any]:
        """Wait for this line of its log. Raises ServerError."""
        try:
            async with asyncio.timeout(START_S):
                while (line := self._said(event)) is None:
                    if not self.is_running:
                        raise ServerError(f"{self.name} does not start:\n{self._last_lines()}")
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise ServerError(f"{self.name} is not ready within {START_S:.0f} s:\n{self._last_lines()}") from None
        return line

    def kill(self) -> None:
        """SIGKILL, and wait for its end."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def terminate(self) -> None:
        """SIGTERM; `wait` waits for what that leads to."""
        if self._process is not None:
            self._process.terminate()

    def wait(self) -> None:
        """Wait for its end; kill what takes too long."""
        if self._process is None:
            return
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.kill()

    def _said(self, event: str) -> dict[str, Any] | None:
        for line in self._log.read_bytes().splitlines():
            with suppress(orjson.JSONDecodeError):
                said = orjson.loads(line)
                if isinstance(said, dict) and said.get("event") == event:
                    return said
        return None

    def _last_lines(self) -> str:
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-5:])
