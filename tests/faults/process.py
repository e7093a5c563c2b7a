"""A real server in a process of its own, to be killed, and everything that it leaves behind."""

import asyncio
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import orjson

from tests.harness import SECRET

ROOT = Path(__file__).parents[2]
START_S = 60.0


class ServerProcess:
    """`mim serve` on a data folder. Starts, is told to end or killed, starts again."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self._folder = folder
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        self._log = folder / "server.log"
        self._said = 0  # where in the log the present process began
        self.port = 0  # any that is free
        self.url = "http://127.0.0.1:1"

    @property
    def ws(self) -> str:
        """Where its socket is, or was."""
        return self.url.replace("http", "ws", 1) + "/v1/ws"

    @property
    def cluster(self) -> Path:
        """The embedded Postgres' files, its socket among them."""
        return self._folder / "data" / "postgres" / "cluster"

    @property
    def database_url(self) -> str:
        """For looking into the database from outside."""
        return f"postgresql://postgres@/mim?host={quote(str(self.cluster))}&port=5432"

    async def start(self) -> None:
        """Start and wait until it listens."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("MIM_")}
        settings = {"MIM_JWT_SECRET": SECRET, "MIM_LOG_FORMAT": "json", **self._settings, "PYTHONPATH": str(ROOT)}
        self._said = self._log.stat().st_size if self._log.exists() else 0
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: ASYNC220 - it returns at once
                [
                    sys.executable,
                    "-m",
                    "mim",
                    "serve",
                    "--data-dir",
                    str(self._folder / "data"),
                    "--port",
                    str(self.port),
                ],
                cwd=self._folder,
                env={**inherited, **settings},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        async with asyncio.timeout(START_S):
            while (url := self._listens_at()) is None:
                assert self._process.poll() is None, self.log()
                await asyncio.sleep(0.02)
        self.url = url

    def _listens_at(self) -> str | None:
        for line in self._lines():
            if line.get("event") == "listening":
                return str(line["url"])
        return None

    def _lines(self) -> list[dict[str, object]]:
        found = []
        for line in self._log.read_bytes()[self._said :].splitlines():
            with suppress(orjson.JSONDecodeError):
                found.append(orjson.loads(line))
        return [line for line in found if isinstance(line, dict)]

    def log(self) -> str:
        """Everything that was logged since the first start."""
        return self._log.read_text(errors="replace")

    def complaints(self) -> list[str]:
        """Lines of the log that must not be there: errors and tracebacks."""
        return [line for line in self.log().splitlines() if '"level": "error"' in line or '"level":"error"' in line
                or "Traceback" in line]  # fmt: skip

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
        """SIGKILL, and wait until it is gone. Its Postgres goes on."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def kill_postgres(self) -> int:
        """SIGKILL every process of this server's Postgres; returns how many there were."""
        pids = self.postgres_pids()
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return len(pids)

    def postgres_pids(self) -> list[int]:
        """The processes whose working folder is this server's cluster; the dead that nobody has reaped do not count."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with suppress(OSError):
                    if (entry / "cwd").readlink() == self.cluster and "\nState:\tZ" not in (
                        entry / "status"
                    ).read_text():
                        found.append(int(entry.name))
        return found

    async def is_gone(self, within_s: float = 10) -> None:
        """Wait until no process of the server or its Postgres is left."""
        async with asyncio.timeout(within_s):
            while self.postgres_pids():  # noqa: ASYNC110
                await asyncio.sleep(0.05)

    def clean_up(self) -> None:
        """Whatever happened: leave no process behind."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self.kill_postgres()
