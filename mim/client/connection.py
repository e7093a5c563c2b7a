"""One WebSocket: frames in and out, and answers matched with their requests.

It ends once, with :class:`ConnectionLost`; everything that waits on it ends with the same. What outlives a
connection is no business of this module.
"""

import asyncio
import logging
from typing import Any, Final

import msgpack
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI
from websockets.typing import Subprotocol

from mim.client.auth import socket_url
from mim.client.errors import ABNORMAL, CallError, ConnectionLost, ProtocolMistake
from mim.client.models import MALFORMED, Frame
from mim.client.ops import Op
from mim.errors import CLOSE_CODE, CloseReason, Code

log = logging.getLogger("mim.client")

MAX_CLIENT_FRAME_BYTES: Final = 64 * 1024
MAX_SERVER_FRAME_BYTES: Final = 16 * 1024 * 1024
OPEN_TIMEOUT_S: Final = 15.0
CLOSE_TIMEOUT_S: Final = 2.0

CLOSE_OF_ERROR: Final = {  # for a server that breaks off after its ERROR without a close frame
    Code.UNAUTHORIZED.value: CLOSE_CODE[CloseReason.UNAUTHORIZED],
    Code.BAD_FRAME.value: CLOSE_CODE[CloseReason.PROTOCOL],
    Code.UPDATE_REQUIRED.value: CLOSE_CODE[CloseReason.UPDATE_REQUIRED],
}
CLOSE_OF_BYE: Final = {reason.value: code for reason, code in CLOSE_CODE.items()}
WRONG_DOOR: Final = frozenset({400, 404, 405})
"""HTTP answers to the upgrade that say the address or the subprotocol is wrong; any other may pass."""


def pack(frame: Frame) -> bytes:
    """Return the bytes of a frame; raise TypeError, ValueError or OverflowError if it has none."""
    packed: bytes = msgpack.packb(list(frame))
    return packed


def unpack(data: bytes) -> list[Any] | None:
    """Return a server frame as a list, or None if these bytes are none."""
    try:
        frame = msgpack.unpackb(data, strict_map_key=False)
    except (ValueError, msgpack.UnpackException):
        return None
    return frame if isinstance(frame, list) and frame and isinstance(frame[0], int) else None


class Connection:
    """An open socket. `received_frames` counts what came in."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._pending: dict[int, asyncio.Future[Any]] = {}
        self._ref = 0
        self._farewell: ConnectionLost | None = None
        self._lost: ConnectionLost | None = None
        self.received_frames = 0

    @classmethod
    async def open(cls, url: str) -> "Connection":
        """Connect to the server at `url`. Raises ConnectionLost, or ProtocolMistake if there is none."""
        try:
            socket = await connect(
                socket_url(url),
                subprotocols=[Subprotocol("mim.msgpack")],
                compression=None,  # not negotiated in version 1
                ping_interval=None,  # PING frames keep it alive, with a promise the server can use
                open_timeout=OPEN_TIMEOUT_S,
                close_timeout=CLOSE_TIMEOUT_S,
                max_size=MAX_SERVER_FRAME_BYTES,
            )
        except InvalidStatus as exc:
            status = exc.response.status_code
            if status in WRONG_DOOR:
                raise ProtocolMistake(status, f"{url} refused the WebSocket with HTTP {status}") from exc
            raise ConnectionLost(ABNORMAL, f"HTTP {status}", _retry_after(exc)) from exc
        except (OSError, InvalidHandshake, InvalidURI, TimeoutError, EOFError) as exc:
            raise ConnectionLost(ABNORMAL, f"cannot connect to {url}: {exc or type(exc).__name__}") from exc
        return cls(socket)

    async def hello(self, token: str, options: dict[str, Any], cursor: str | None) -> dict[str, Any]:
        """Open the session as the first frame does; return READY's session. Raises ConnectionLost."""
        self._ref += 1
        await self.send(Op.HELLO, self._ref, token, options, *([cursor] if cursor is not None else []))
        try:
            async with asyncio.timeout(OPEN_TIMEOUT_S):
                while (frame := await self.receive())[0] != Op.READY:
                    if frame[0] == Op.ERROR:
                        self._farewell = _refusal(frame)
                session = frame[2]
                if not isinstance(session, dict):
                    raise ConnectionLost(ABNORMAL, "READY without a session")
                return session
        except TimeoutError:
            raise self._farewell or ConnectionLost(ABNORMAL, "no answer to HELLO") from None
        except MALFORMED as exc:
            raise ConnectionLost(ABNORMAL, "READY cannot be read") from exc

    async def send(self, *frame: Any) -> None:
        """Write one frame; waits while the socket's buffer is full. Raises ConnectionLost."""
        await self.send_packed(pack(frame))

    async def send_packed(self, data: bytes) -> None:
        """Write one frame that is packed already."""
        try:
            await self._socket.send(data)
        except ConnectionClosed as exc:
            raise self._end(exc) from None

    async def request(self, op: Op, *fields: Any) -> Any:
        """Send a frame with a new ref, return the value of its RESULT. Raises CallError, ConnectionLost."""
        if self._lost is not None:
            raise self._lost
        self._ref += 1
        ref = self._ref
        data = pack((op, ref, *fields))
        if len(data) > MAX_CLIENT_FRAME_BYTES:
            raise CallError(Code.TOO_LARGE, f"{len(data)} bytes; a frame holds {MAX_CLIENT_FRAME_BYTES}")
        answer = self._pending[ref] = asyncio.get_running_loop().create_future()
        try:
            await self.send_packed(data)
            return await answer
        finally:
            del self._pending[ref]

    @property
    def closed(self) -> bool:
        """The connection has ended."""
        return self._lost is not None

    @property
    def waiting(self) -> bool:
        """A request is unanswered."""
        return bool(self._pending)

    async def receive(self) -> list[Any]:
        """Return the next frame that answers no request. Raises ConnectionLost when there are no more."""
        while True:
            try:
                data = await self._socket.recv()
            except ConnectionClosed as exc:
                raise self._end(exc) from None
            self.received_frames += 1
            frame = unpack(data) if isinstance(data, bytes) else None
            if frame is None:
                log.warning("the server sent what is no frame")
            elif not self._is_answer(frame):
                return frame

    def _is_answer(self, frame: list[Any]) -> bool:
        try:
            if frame[0] == Op.BYE:
                code = CLOSE_OF_BYE.get(frame[1], ABNORMAL)
                self._farewell = ConnectionLost(code, str(frame[2] or frame[1]), _tail(frame, 3))
                return True
            if frame[0] not in (Op.RESULT, Op.ERROR):
                return False
            answer = self._pending.get(frame[1])
            if answer is None:
                return False
            if not answer.done():
                if frame[0] == Op.RESULT:
                    answer.set_result(frame[2])
                else:
                    answer.set_exception(CallError(str(frame[2]), str(frame[3]), _tail(frame, 4)))
        except MALFORMED:
            log.warning("the server sent a frame %s that cannot be read", frame[0])
        return True

    def _end(self, exc: ConnectionClosed) -> ConnectionLost:
        """Note how the connection ended, once, and tell everyone who waits for an answer."""
        if self._lost is None:
            said = self._farewell
            code = exc.rcvd.code if exc.rcvd else said.code if said else ABNORMAL
            detail = (said.detail if said else "") or (exc.rcvd.reason if exc.rcvd else "")
            self._lost = ConnectionLost(code, detail, said.retry_after if said else None)
            self._give_up(self._lost)
        return self._lost

    def _give_up(self, lost: ConnectionLost) -> None:
        for answer in self._pending.values():
            if not answer.done():
                answer.set_exception(ConnectionLost(lost.code, lost.detail, lost.retry_after))

    async def close(self, reason: ConnectionLost | None = None) -> None:
        """Close the socket; who waits for an answer gets `reason`."""
        if self._lost is None:
            self._lost = reason or ConnectionLost(1000, "closed")
            self._give_up(self._lost)
        await self._socket.close()

    def abort(self) -> None:
        """Break off a connection whose other end does not answer; there is nobody to close it with."""
        self._socket.transport.abort()


def _tail(frame: Frame, index: int) -> int | None:
    value = frame[index] if len(frame) > index else None
    return value if type(value) is int else None


def _refusal(frame: Frame) -> ConnectionLost:
    """Read an ERROR before READY; the close code that follows says more than this one."""
    code = CLOSE_OF_ERROR.get(frame[2], ABNORMAL)
    return ConnectionLost(code, str(frame[3]), _tail(frame, 4))


def _retry_after(exc: InvalidStatus) -> int | None:
    """Return the ms of an HTTP Retry-After header in seconds."""
    value = exc.response.headers.get("Retry-After", "")
    return int(value) * 1000 if value.isdecimal() else None
