"""Real Redis servers for tests that need no lab: one of one's own, whatever it is told to speak."""

import asyncio
import shutil
import tempfile
from pathlib import Path

import pytest

from tests.faults.redis_server import RedisServer as Server

PROGRAM = shutil.which("redis-server")
needs_redis = pytest.mark.skipif(PROGRAM is None, reason="redis-server 7 is not installed: apt install redis-server")


class RedisServer(Server):
    """A redis-server in a folder of its own. It may speak TLS, want a password, or be a Sentinel: it counts as started
    when it accepts connections.
    """

    def __init__(self, *options: str, kind: str = "redis", conf: str = "") -> None:
        folder = Path(tempfile.mkdtemp(prefix="mim-redis-"))
        super().__init__("redis", folder, *options)
        self._kind = kind
        self._conf = folder / "redis.conf"
        self._conf.write_text(conf)

    @property
    def url(self) -> str:
        """How to reach it."""
        return f"{self._kind}://127.0.0.1:{self.port.number}"

    async def start(self) -> None:
        """Start, empty, and wait until it accepts connections."""
        assert PROGRAM is not None
        self.launch([PROGRAM, str(self._conf), *self.base, *self.options], {})
        async with asyncio.timeout(60):
            while True:
                assert self.is_running, self.log()
                try:
                    _, writer = await asyncio.open_connection(*self.address)
                except OSError:
                    await asyncio.sleep(0.02)
                else:
                    writer.close()
                    return

    def clean_up(self) -> None:
        super().clean_up()
        shutil.rmtree(self.folder, ignore_errors=True)
