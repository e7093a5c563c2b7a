"""A real server in a process of its own, to be killed, and everything that it leaves behind."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import orjson

from tests.faults.programs import START_S, Program
from tests.harness import SECRET

ROOT = Path(__file__).parents[2]
END_S = 10.0


class Node(Program):
    """`mim serve` with these MIM_* settings. Starts, is told to end or killed, starts again."""

    def __init__(self, name: str, folder: Path, **settings: str) -> None:
        super().__init__(name, folder)
        self.settings = settings
        self.module: Sequence[str] = ("mim",)  # what `python -m` runs, with its first arguments
        self.url = "http://127.0.0.1:1"

    @property
    def ws(self) -> str:
        """Where its socket is, or was."""
        return self.url.replace("http", "ws", 1) + "/v1/ws"

    async def start(self) -> None:
        """Start and wait until it listens."""
        self.begins()
        await self.listens()

    def begins(self) -> None:
        """Start, without waiting."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("MIM_")}
        defaults = {"MIM_JWT_SECRET": SECRET, "MIM_LOG_FORMAT": "json", "MIM_PORT": "0", "MIM_DATA_DIR": "data"}
        self.launch(
            [sys.executable, "-m", *self.module, "serve"],
            {**inherited, **defaults, **self.settings, "PYTHONPATH": str(ROOT)},
        )

    async def listens(self) -> None:
        """Wait until it listens."""
        async with asyncio.timeout(START_S):
            while (url := self._listens_at()) is None:
                assert self.is_running, f"{self.name} does not start:\n{self.said().decode(errors='replace')}"
                await asyncio.sleep(0.02)
        self.url = url

    def _listens_at(self) -> str | None:
        for line in self._lines():
            if line.get("event") == "listening":
                return str(line["url"])
        return None

    def _lines(self) -> list[dict[str, object]]:
        found = []
        for line in self.said().splitlines():
            with suppress(orjson.JSONDecodeError):
                found.append(orjson.loads(line))
        return [line for line in found if isinstance(line, dict)]

    def mistakes(self) -> list[str]:
        """What was logged as an error, which is always a mistake of the server: faults of others are warnings."""
        return [line for line in self.log().splitlines() if '"level": "error"' in line or '"level":"error"' in line]

    def complaints(self) -> list[str]:
        """Lines of the log that must not be there: errors and tracebacks."""
        return self.mistakes() + [line for line in self.log().splitlines() if "Traceback" in line]

    def worker_pids(self) -> list[int]:
        """The processes of its workers, by age."""
        return self._children("mim.workers.node")

    def redis_pid(self) -> int | None:
        """The process of its private Redis."""
        return next(iter(self._children("unixsocket:")), None)

    def _children(self, word: str) -> list[int]:
        """Living children of the process with a word in their command line."""
        found = []
        for entry in Path("/proc").iterdir():
            with suppress(OSError, ValueError):
                state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
                if int(parent) == self.pid and state != "Z" and word.encode() in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
        return sorted(found)

    def hang_up(self) -> None:
        """SIGHUP."""
        os.kill(self.pid, signal.SIGHUP)


class ServerProcess(Node):
    """A node with an embedded Postgres of its own, which outlives it."""

    @property
    def cluster(self) -> Path:
        """The embedded Postgres' files, its socket among them."""
        return self.folder / "data" / "postgres" / "cluster"

    @property
    def database_url(self) -> str:
        """For looking into the database from outside."""
        return f"postgresql://postgres@/mim?host={quote(str(self.cluster))}&port=5432"

    def kill_postgres(self) -> int:
        """SIGKILL every process of this server's Postgres; returns how many there were."""
        return kill_all(self.postgres_pids())

    def postgres_pids(self) -> list[int]:
        """The processes of this server's Postgres."""
        return pids_in(self.cluster)

    async def is_gone(self, within_s: float = 10) -> None:
        """Wait until no process of the server or its Postgres is left."""
        async with asyncio.timeout(within_s):
            while self.postgres_pids():  # noqa: ASYNC110
                await asyncio.sleep(0.05)

    def clean_up(self) -> None:
        """Whatever happened: leave no process behind."""
        super().clean_up()
        end_postgres(self.cluster)


def pids_in(folder: Path) -> list[int]:
    """The processes whose working folder this is, as that of all of a Postgres is its cluster; the dead that nobody has
    reaped do not count."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                if (entry / "cwd").readlink() == folder and "\nState:\tZ" not in (entry / "status").read_text():
                    found.append(int(entry.name))
    return found


def end_postgres(cluster: Path) -> None:
    """Whatever runs of a Postgres ends at once, and gives back its shared memory, which nobody else would."""
    pid_file = cluster / "postmaster.pid"
    said = pid_file.read_text().split() if pid_file.exists() else []
    if said and (postmaster := int(said[0])) in pids_in(cluster):
        os.kill(postmaster, signal.SIGCONT)
        os.kill(postmaster, signal.SIGQUIT)
        deadline = time.monotonic() + END_S
        while pids_in(cluster) and time.monotonic() < deadline:
            time.sleep(0.01)
    kill_all(pids_in(cluster))


def kill_all(pids: Sequence[int]) -> int:
    """SIGKILL them; returns how many there were."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return len(pids)
