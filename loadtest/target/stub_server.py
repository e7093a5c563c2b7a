"""The stub as a server under test."""

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from loadtest.target.parts import Parts
from loadtest.target.port import Address, Memory, Usage
from loadtest.target.program import Program
from loadtest.target.stub import HOST


class StubServer:
    """:mod:`loadtest.target.stub` on the core of a server."""

    secret = "believed whatever it is, if it is 32 bytes or more"  # noqa: S105
    ssl = None

    def __init__(self, program: Program, port: int, core: int) -> None:
        self.about: dict[str, Any] = {"core": core, "cpu": "of a stub that stores nothing"}
        self.addresses: list[Address] = [(HOST, port)]
        self.host, self.port = self.addresses[0]
        self._parts = Parts(frozenset({program.pid}), frozenset())

    async def usage(self) -> Usage:
        """CPU of the stub."""
        return self._parts.usage()

    async def memory(self) -> Memory:
        """Memory of the stub."""
        return await self._parts.memory()

    async def files(self) -> int:
        """Descriptors of the stub."""
        return self._parts.files()


@asynccontextmanager
async def stub(core: int) -> AsyncIterator[StubServer]:
    """A stub until the block ends."""
    with tempfile.TemporaryDirectory(prefix="mim-load-") as folder:
        program = Program("stub", Path(folder), core, cwd=Path(folder), settings={})
        program.launch("loadtest.target.stub")
        try:
            yield StubServer(program, int((await program.says("listening"))["port"]), core)
        finally:
            program.kill()
