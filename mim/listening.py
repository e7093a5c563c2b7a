"""The port: whether it can be had, and how several processes share it.

Each worker has a listening socket of its own with SO_REUSEPORT, and the kernel gives every new connection to one of
them by a hash of its addresses. So long-lived connections spread evenly however the workers are scheduled, and a dead
worker's socket is gone with it.

SO_REUSEPORT would let any other program of the same user join in, silently. So the parent binds first, *without* it,
which fails while anybody listens there, and sets it afterwards, for its workers. The parent never listens: its socket
only keeps the number, also while all workers are away. (Two servers that start within the same second, before either
listens, are not told apart.)
"""

import errno
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from mim.config import Settings

Address = tuple[int, tuple[Any, ...]]
"""(family, what `bind` takes)."""

LISTENING = {
    errno.EADDRINUSE: "{} is in use; stop the program that uses it, or choose another with --port (MIM_PORT)",
    errno.EACCES: "{} needs rights that you do not have; choose one above 1023 with --port (MIM_PORT)",
    errno.EADDRNOTAVAIL: "{} is not of this machine; correct --host (MIM_HOST)",
}


class UnreachableError(Exception):
    """An address that cannot be listened on, or a database that does not answer; the text is a sentence."""


def check_listening(settings: Settings) -> None:
    """Raise UnreachableError when the server could not listen where the settings say."""
    with reserved(settings):
        pass


@contextmanager
def reserved(settings: Settings) -> Iterator[list[Address]]:
    """Keep the port for workers of this process; port 0 becomes a real one. Raises UnreachableError."""
    with ExitStack() as sockets:
        addresses: list[Address] = []
        port = settings.port
        try:
            for family, sockaddr in _resolved(settings):
                keeper = sockets.enter_context(_bound((family, (sockaddr[0], port, *sockaddr[2:])), shared=False))
                port = keeper.getsockname()[1]
                addresses.append((family, keeper.getsockname()))
        except socket.gaierror as exc:
            raise UnreachableError(f"{settings.host} is no address; correct --host (MIM_HOST)") from exc
        except OSError as exc:
            where = f"port {settings.port} of {settings.host}"
            raise UnreachableError(
                LISTENING.get(exc.errno or 0, "{} cannot be used; choose another").format(where)
            ) from exc
        yield addresses


def sharing(addresses: Sequence[Address]) -> list[socket.socket]:
    """Sockets on reserved addresses, to listen on beside those of the other workers."""
    return [_bound(address, shared=True) for address in addresses]


def _resolved(settings: Settings) -> list[Address]:
    """Every address of the host, each once: a name may have one of IPv4 and one of IPv6."""
    found = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return list(dict.fromkeys((family, address) for family, _, _, _, address in found))


def _bound(address: Address, *, shared: bool) -> socket.socket:
    family, sockaddr = address
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if shared:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.bind(sockaddr)
        if hasattr(socket, "SO_REUSEPORT"):
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    except BaseException:
        bound.close()
        raise
    return bound
