"""An HTTP/2 server over TLS for the far ends of push: what arrives goes to a handler, which may also misbehave."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import h2.config
import h2.connection
import h2.events
import h2.exceptions

BODY_LIMIT = 1 << 20


@dataclass
class Request:
    """A whole request. Names of headers are in lower case."""

    path: str
    headers: dict[str, str]
    body: bytearray = field(default_factory=bytearray)


@dataclass
class Response:
    """What goes back. With `cut` the connection is dropped instead, with `hang` nothing is ever said."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    cut: bool = False
    hang: bool = False


Handler = Callable[[Request], Awaitable[Response]]


class H2Server:
    """Listens on loopback from `start` to `close`. `connections` counts those that ever came."""

    def __init__(self, handler: Handler, context: ssl.SSLContext, port: int = 0) -> None:
        context.set_alpn_protocols(["h2"])
        self._handler = handler
        self._context = context
        self._port = port
        self._server: asyncio.Server | None = None
        self.open: set[_Connection] = set()
        self.connections = 0
        self.tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Connection(self), "127.0.0.1", self._port, ssl=self._context)
        self._port = self._server.sockets[0].getsockname()[1]

    @property
    def url(self) -> str:
        """Where it listens; the certificate is for localhost."""
        return f"https://localhost:{self._port}"

    async def close(self) -> None:
        """Stop listening and drop all connections; `start` listens on the same port again."""
        assert self._server is not None
        self._server.close()
        for connection in list(self.open):
            connection.drop()
        for task in list(self.tasks):
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def answer(self, connection: "_Connection", stream: int, request: Request) -> None:
        response = await self._handler(request)
        if response.cut:
            connection.drop()
        elif not response.hang:
            connection.respond(stream, response)


class _Connection(asyncio.Protocol):
    """One client's connection."""

    def __init__(self, server: H2Server) -> None:
        self._server = server
        self._h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))
        self._requests: dict[int, Request] = {}
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._server.connections += 1
        self._server.open.add(self)
        self._h2.initiate_connection()
        self._h2.update_settings({h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: 1000})
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.open.discard(self)
        self._transport = None

    def data_received(self, data: bytes) -> None:
        try:
            events = self._h2.receive_data(data)
        except h2.exceptions.ProtocolError:
            self._flush()
            self.drop()
            return
        for event in events:
            self._on(event)
        self._flush()

    def _on(self, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.RequestReceived):
            headers = {str(name): str(value) for name, value in event.headers}
            self._requests[event.stream_id] = Request(headers[":path"], headers)
        elif isinstance(event, h2.events.DataReceived):
            request = self._requests.get(event.stream_id)
            if request is not None and len(request.body) < BODY_LIMIT:
                request.body += event.data
            self._h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.StreamEnded) and event.stream_id in self._requests:
            request = self._requests.pop(event.stream_id)
            answering = self._server.answer(self, event.stream_id, request)
            task = asyncio.get_running_loop().create_task(answering)
            self._server.tasks.add(task)
            task.add_done_callback(self._server.tasks.discard)
        elif isinstance(event, h2.events.StreamReset):
            self._requests.pop(event.stream_id, None)

    def respond(self, stream: int, response: Response) -> None:
        """Send a whole answer; small enough for any window."""
        if self._transport is None:
            return
        headers = [(":status", str(response.status)), *response.headers.items()]
        try:
            self._h2.send_headers(stream, headers, end_stream=not response.body)
            if response.body:
                self._h2.send_data(stream, response.body, end_stream=True)
        except h2.exceptions.ProtocolError:  # the client gave the stream up
            return
        self._flush()

    def drop(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _flush(self) -> None:
        if self._transport is not None and (data := self._h2.data_to_send()):
            self._transport.write(data)
