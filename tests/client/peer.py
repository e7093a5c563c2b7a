"""A server that does what a test says, frame by frame, for faults at the wire that a sound server never makes.

A test reads as a transcript: `line = await peer.accepts()`, `await line.opens()`, `await line.gets(Op.SEND)`,
`await line.tells(Op.ACK, 1, 1, 0)`. What it says follows proto/frames.md.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgpack
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from mim.client.ops import Op

PATIENCE_S = 5.0
ME, MINA, JUN = 1, 2, 3
CHAT = 7


class Line:
    """One connection of the client, after its HELLO. PING is answered unless `mute`."""

    def __init__(self, socket: ServerConnection, hello: list[Any]) -> None:
        self.hello = hello
        self.mute = False
        self.pings: list[int] = []
        self.over = asyncio.Event()
        self._socket = socket
        self._frames: asyncio.Queue[list[Any]] = asyncio.Queue()

    @property
    def token(self) -> str:
        return str(self.hello[2])

    @property
    def options(self) -> dict[str, Any]:
        return dict(self.hello[3])

    @property
    def cursor(self) -> str | None:
        return self.hello[4] if len(self.hello) > 4 else None

    async def listens(self) -> None:
        try:
            async for data in self._socket:
                frame = msgpack.unpackb(data)
                if frame[0] == Op.PING:
                    self.pings.append(frame[1])
                    if not self.mute:
                        await self.tells(Op.PONG)
                else:
                    self._frames.put_nowait(frame)
        except ConnectionClosed:
            pass
        finally:
            self.over.set()

    async def tells(self, *frame: Any) -> None:
        await self._socket.send(msgpack.packb(frame))

    async def tells_raw(self, data: bytes | str) -> None:
        await self._socket.send(data)

    async def gets(self, op: Op) -> list[Any]:
        """The next frame of the client, which must be of this op; without the op."""
        async with asyncio.timeout(PATIENCE_S):
            frame = await self._frames.get()
        assert frame[0] == op, f"{op.name} was expected, not {frame}"
        return list(frame[1:])

    async def gets_nothing(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        assert self._frames.empty(), self._frames.get_nowait()

    async def ready(self, *, resumed: bool = False, inflight: int = 8, user: int = ME) -> None:
        limits = {"text": 5000, "fetch": 200, "inflight": inflight}
        session = {"user": user, "device": user, "time": 0, "resumed": resumed, "keepalive": [1, 240], "limits": limits}
        await self.tells(Op.READY, self.hello[1], session)

    async def opens(self, *states: dict[str, Any], cursor: str = "c1", **ready: Any) -> None:
        """READY, the chats CHAT, CHAT + 1, ..., and SYNCED."""
        await self.ready(**ready)
        for index, state in enumerate(states):
            await self.tells(Op.CHAT, CHAT + index, state)
        await self.tells(Op.SYNCED, cursor)

    async def says(self, seq: int, body: str = "", sender: int = MINA, chat: int = CHAT) -> None:
        await self.tells(Op.MSG, chat, seq, sender, 100, body or f"m{seq}")

    async def answers_fetch(self, *seqs: int, start: int, more: bool = False) -> None:
        """Expect FETCH from `start` and answer with these messages."""
        ref, chat, after, _ = await self.gets(Op.FETCH)
        assert (chat, after) == (CHAT, start)
        for seq in seqs:
            await self.says(seq)
        await self.tells(Op.RESULT, ref, {"more": more})

    async def closes(self, code: int, word: str = "", detail: str = "", retry_after: int | None = None) -> None:
        if word:
            await self.tells(Op.BYE, word, detail, *([] if retry_after is None else [retry_after]))
        await self._socket.close(code)

    def breaks(self) -> None:
        """The network is gone, without a close frame."""
        self._socket.transport.abort()


class Peer:
    """The scripted server; `url` is what a client is given."""

    def __init__(self) -> None:
        self.url = ""
        self._lines: asyncio.Queue[Line] = asyncio.Queue()

    async def accepts(self, *, within_s: float = PATIENCE_S) -> Line:
        """The next connection that said HELLO."""
        async with asyncio.timeout(within_s):
            return await self._lines.get()

    async def serves(self, socket: ServerConnection) -> None:
        try:
            hello = msgpack.unpackb(await socket.recv())
        except ConnectionClosed:
            return
        assert hello[0] == Op.HELLO
        line = Line(socket, hello)
        self._lines.put_nowait(line)
        await line.listens()


@asynccontextmanager
async def scripted_peer() -> AsyncIterator[Peer]:
    peer = Peer()
    async with serve(
        peer.serves, "127.0.0.1", 0, subprotocols=[Subprotocol("mim.msgpack")], compression=None, ping_interval=None
    ) as server:
        peer.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield peer


def group(head: int = 0, **fields: Any) -> dict[str, Any]:
    """The state of a group chat that was read to its head."""
    state = {"kind": "group", "title": "모임", "count": 3, "head": head, "rev": 0, "first": 1, "read": head}
    return {**state, "role": "member", "muted": False, "pinned": False, **fields}


async def eventually(holds: Callable[[], bool]) -> None:
    """Wait until a condition holds that nothing announces."""
    async with asyncio.timeout(PATIENCE_S):
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
