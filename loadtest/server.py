"""The servers under test: a private installation that is started and removed, or servers that run somewhere already.

Scenarios know a :class:`Target` and import it from here; how each kind is made is in :mod:`loadtest.target`.
"""

import shutil
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from loadtest.target.port import Address as Address
from loadtest.target.port import Memory as Memory
from loadtest.target.port import ServerError as ServerError
from loadtest.target.port import Target as Target
from loadtest.target.port import Usage as Usage
from loadtest.target.private import SECRET as SECRET
from loadtest.target.private import PrivateServer as PrivateServer
from loadtest.target.remote import RemoteServers


@asynccontextmanager
async def target(
    url: str | Sequence[str] | None, secret: str | None, core: int, nodes: int = 1, ca: Path | None = None
) -> AsyncIterator[Target]:
    """The servers at `url`, or without one a private installation on `core` that is gone afterwards with its files.

    Several URLs are the nodes of one installation. `ca` has certificates to trust beside those of the system.
    """
    urls = [url] if isinstance(url, str) else list(url or ())
    if urls:
        if not secret:
            raise ServerError(
                "--url needs the server's own MIM_JWT_SECRET in the environment: users are signed in by it"
            )
        yield await RemoteServers.found(urls, secret, ca)
        return
    async with private(core, nodes) as server:
        yield server


@asynccontextmanager
async def private(core: int, nodes: int = 1) -> AsyncIterator[PrivateServer]:
    """A private installation until the block ends, for scenarios that do things to it."""
    folder = Path(tempfile.mkdtemp(prefix="mim-load-"))
    server = PrivateServer(folder, core, nodes)
    try:
        await server.open()
        yield server
    finally:
        server.close()
        shutil.rmtree(folder, ignore_errors=True)
