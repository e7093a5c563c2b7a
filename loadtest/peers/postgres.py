"""The Postgres of a peer: the build and the settings of a private mim server's, reached over TCP as well.

Drivers of other servers often have no Unix sockets. An address of loopback of its own keeps it out of the way of any
other Postgres on this machine.

`python -m loadtest.peers.postgres FOLDER ADDRESS` keeps it, as :mod:`loadtest.target.keeper` keeps that of a private
mim: told to end, by the load test or by the kernel in its stead, it waits for the peer, which works in
FOLDER/peer, ends the Postgres, and removes FOLDER.
"""

import random
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Final

import orjson

from loadtest import proc
from loadtest.target.program import Program
from mim import logs
from mim.embedded import EmbeddedError, EmbeddedPostgres

READY: Final = "kept"
PEER: Final = Path("peer")  # in which the peer's processes work
CLUSTER: Final = Path("postgres", "cluster")
DRAIN_S: Final = 30.0  # of the peer


class PeerPostgres:
    """A cluster in `folder`, on one core. Everybody on this machine may connect, for as long as it lives."""

    def __init__(self, folder: Path, core: int) -> None:
        self.address = "127.{}.{}.{}".format(*(random.randrange(1, 255) for _ in range(3)))  # noqa: S311
        self.url = ""  # its Unix socket
        self.cluster = folder / CLUSTER
        self._folder = folder
        self._keeper = Program("keeper", folder, core, cwd=Path("/"), settings={})

    async def start(self) -> None:
        """Start it; raises ServerError."""
        self._folder.chmod(0o711)  # as root, Postgres runs as somebody else
        self._keeper.launch("loadtest.peers.postgres", str(self._folder), self.address)
        self.url = (await self._keeper.says(READY))["database_url"]

    def stop(self) -> None:
        """End it, and remove the folder. Blocks."""
        self._keeper.terminate()
        self._keeper.wait()


def keep(folder: Path, address: str) -> None:
    """Until SIGTERM."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    postgres = EmbeddedPostgres(folder / CLUSTER.parent)
    try:
        postgres.start()
        postgres.stop()
        (folder / CLUSTER / "pg_hba.conf").write_text("local all all trust\nhost all all 127.0.0.0/8 trust\n")
        (folder / CLUSTER / "conf.d" / "peer.conf").write_text(f"listen_addresses = '{address}'\n")
        _say(event=READY, database_url=postgres.start())
        signal.sigwait({signal.SIGTERM})
        deadline = time.monotonic() + DRAIN_S
        while any(map(proc.is_alive, proc.pids_in(folder / PEER))) and time.monotonic() < deadline:
            time.sleep(0.05)
    except EmbeddedError as exc:
        _say(event="not ready", reason=str(exc))
    finally:
        postgres.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _say(**event: str) -> None:
    sys.stdout.buffer.write(orjson.dumps(event) + b"\n")
    sys.stdout.flush()


if __name__ == "__main__":
    logs.configure("warning", "json")
    keep(Path(sys.argv[1]), sys.argv[2])
