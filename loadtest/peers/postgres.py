"""The Postgres of a peer: the build and the settings of a private mim server's, reached over TCP as well.

Drivers of other servers often have no Unix sockets. An address of loopback of its own keeps it out of the way of any
other Postgres on this machine.
"""

import asyncio
import os
import random
from pathlib import Path
from typing import Final

from loadtest.server import ServerError
from mim.embedded import EmbeddedError, EmbeddedPostgres

PORT: Final = 5432


class PeerPostgres:
    """A cluster in `folder`, on one core. Everybody on this machine may connect, for as long as it lives."""

    def __init__(self, folder: Path, core: int) -> None:
        self.address = "127.{}.{}.{}".format(*(random.randrange(1, 255) for _ in range(3)))  # noqa: S311
        self.url = ""  # its Unix socket
        self.cluster = folder / "cluster"
        self._core = core
        self._folder = folder
        self._postgres = EmbeddedPostgres(folder)

    async def start(self) -> None:
        """Start it; raises ServerError."""
        try:
            self.url = await asyncio.to_thread(self._start)
        except EmbeddedError as exc:
            raise ServerError(str(exc)) from exc

    def _start(self) -> str:
        """In a thread, which moves to the core alone; what it starts inherits that."""
        mine = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {self._core})
        self._folder.parent.chmod(0o711)  # as root, Postgres runs as somebody else
        try:
            self._postgres.start()
            self._postgres.stop()
            (self.cluster / "pg_hba.conf").write_text("local all all trust\nhost all all 127.0.0.0/8 trust\n")
            (self.cluster / "conf.d" / "peer.conf").write_text(f"listen_addresses = '{self.address}'\n")
            return self._postgres.start()
        finally:
            os.sched_setaffinity(0, mine)

    def stop(self) -> None:
        """Stop it."""
        self._postgres.stop()
