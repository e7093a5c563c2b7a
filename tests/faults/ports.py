"""Ports of loopback that stay ours while nobody listens on them.

A server that is killed must find its port free when it comes back, and nobody else may have taken it in between. So
each port is held by a socket that is bound and never listens: the kernel gives the number to no other program that
asks for any free one, and the server, which sets SO_REUSEADDR as servers do, may bind it all the same.
"""

import socket


class Port:
    """One held TCP port on 127.0.0.1."""

    def __init__(self) -> None:
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._socket.bind(("127.0.0.1", 0))
        self.number: int = self._socket.getsockname()[1]

    def close(self) -> None:
        """Give it back."""
        self._socket.close()
