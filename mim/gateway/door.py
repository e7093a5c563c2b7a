"""Where sockets come in: uvicorn's HTTP protocol, but that an upgrade is handed on as it was parsed.

uvicorn writes the request out again for the WebSocket library to parse, which cost more than the rest of the handshake.
"""

from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from websockets.datastructures import Headers
from websockets.http11 import Request

from mim.gateway.websocket import WebSocket

MAX_HEADERS: Final = 128
MAX_HEAD_BYTES: Final = 32 * 1024


class Door(HttpToolsProtocol):
    """For `uvicorn.Config(http=Door, ws=gateway.protocol)`."""

    def handle_websocket_upgrade(self) -> None:
        """Let the gateway's connection have the transport and the request."""
        size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        if size > MAX_HEAD_BYTES or len(self.headers) > MAX_HEADERS:
            self.send_400_response("The head of the request is too large.")
            return
        headers = Headers()
        for name, value in self.headers:
            headers.set_insecure(name.decode("latin-1"), value.decode("latin-1"))  # the parser has checked them
        version = f"HTTP/{self.scope['http_version']}"
        request = Request(self.url.decode("latin-1"), headers, self.scope["method"], version)
        self.connections.discard(self)
        protocol: Any = self.ws_protocol_class
        connection: WebSocket = protocol(
            config=self.config, server_state=self.server_state, app_state=self.app_state
        )  # fmt: skip
        connection.connection_made(self.transport)
        self.transport.set_protocol(connection)
        self.parser = None  # type: ignore[assignment]  # it holds this object, which nobody closes any more
        connection.upgrade(request)
