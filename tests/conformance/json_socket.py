"""RFC 6455 from the client's side and HTTP, of the standard library alone, for `json_client`."""

import asyncio
import base64
import hashlib
import http.client
import json
import os
import struct
from typing import Any, Self
from urllib.parse import urlsplit

GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class RefusedError(Exception):
    """An error word, whichever door it came through."""

    def __init__(self, code: str, detail: str, retry_after: int | None = None, status: int = 0) -> None:
        super().__init__(code, detail)
        self.code, self.detail, self.retry_after, self.status = code, detail, retry_after, status


class LostError(Exception):
    """The connection is over; `code` is None when no close frame came."""

    def __init__(self, code: int | None) -> None:
        super().__init__(code)
        self.code = code


async def post(base: str, path: str, body: Any, token: str = "", kind: str = "application/json") -> Any:
    """POST over HTTP: the value, or the error body as an exception."""

    def work() -> tuple[int, bytes]:
        where = urlsplit(base)
        connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=10)
        try:
            headers = {"Content-Type": kind} | ({"Authorization": f"Bearer {token}"} if token else {})
            connection.request("POST", path, json.dumps(body, ensure_ascii=False).encode(), headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    status, data = await asyncio.to_thread(work)
    value = json.loads(data)
    if status == 200:
        return value
    raise RefusedError(value["code"], value["detail"], value.get("retry_after"), status)


class WebSocket:
    """RFC 6455 from the client's side: masks, fragments, ping, close."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer, self.buffer = reader, writer, bytearray()
        self.parts = b""
        self.closing = False

    @classmethod
    async def open(cls, base: str, path: str, subprotocol: str, *headers: str) -> Self:
        where = urlsplit(base)
        reader, writer = await asyncio.open_connection(where.hostname, where.port)
        key = base64.b64encode(os.urandom(16)).decode()
        lines = [
            f"GET {path} HTTP/1.1",
            f"Host: {where.netloc}",
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Key: {key}",
            "Sec-WebSocket-Version: 13",
            f"Sec-WebSocket-Protocol: {subprotocol}",
            *headers,
        ]
        try:
            writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
            await cls._upgraded(reader, key, subprotocol)
        except BaseException:
            writer.transport.abort()
            raise
        return cls(reader, writer)

    @staticmethod
    async def _upgraded(reader: asyncio.StreamReader, key: str, subprotocol: str) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        fields = {name.strip().lower(): text.strip() for name, _, text in (line.partition(":") for line in head[1:])}
        status = int(head[0].split()[1])
        if status != 101:
            body = await reader.readexactly(int(fields["content-length"]))
            plain: dict[str, Any] = {"code": "", "detail": body.decode()}  # as the 400 of a malformed upgrade
            error: dict[str, Any] = json.loads(body) if fields["content-type"] == "application/json" else plain
            raise RefusedError(error["code"], error["detail"], error.get("retry_after"), status)
        expected = base64.b64encode(hashlib.sha1((key + GUID).encode()).digest()).decode()
        assert fields["sec-websocket-accept"] == expected
        assert fields["sec-websocket-protocol"] == subprotocol
        assert "sec-websocket-extensions" not in fields

    @staticmethod
    def pack(opcode: int, payload: bytes) -> bytes:
        size = len(payload)
        if size < 126:
            head = struct.pack("!BB", 0x80 | opcode, 0x80 | size)
        elif size < 65536:
            head = struct.pack("!BBH", 0x80 | opcode, 0x80 | 126, size)
        else:
            head = struct.pack("!BBQ", 0x80 | opcode, 0x80 | 127, size)
        mask = os.urandom(4)
        return head + mask + bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))

    def write(self, opcode: int, payload: bytes) -> None:
        self.writer.write(self.pack(opcode, payload))

    async def receive(self) -> str:
        """The next text message. May be cancelled at any point without losing bytes."""
        while True:
            frame = self._take()
            if frame is None:
                await self._more()
                continue
            final, opcode, payload = frame
            if opcode == 8:
                self._end(payload)
            elif opcode == 9:
                self.write(10, payload)
            elif opcode in (0, 1):
                self.parts += payload
                if final:
                    whole, self.parts = self.parts, b""
                    return whole.decode()

    async def _more(self) -> None:
        try:
            data = await self.reader.read(65536)
        except ConnectionError:
            data = b""
        if not data:
            self.writer.close()
            raise LostError(None)
        self.buffer += data

    def _take(self) -> tuple[bool, int, bytes] | None:
        data = self.buffer
        if len(data) < 2:
            return None
        assert not data[1] & 0x80, "a server does not mask"
        size, start = data[1] & 0x7F, 2
        if size >= 126:
            width = 2 if size == 126 else 8
            start += width
            if len(data) < start:
                return None
            size = int.from_bytes(data[2:start], "big")
        if len(data) < start + size:
            return None
        frame = (bool(data[0] & 0x80), data[0] & 0x0F, bytes(data[start : start + size]))
        del data[: start + size]
        return frame

    def _end(self, payload: bytes) -> None:
        if not self.closing:
            self.write(8, payload)
        self.writer.close()
        raise LostError(int.from_bytes(payload[:2], "big") if len(payload) >= 2 else None)

    def cut(self) -> None:
        """As a tunnel does it: without a word; what is still buffered never leaves."""
        self.writer.transport.abort()
