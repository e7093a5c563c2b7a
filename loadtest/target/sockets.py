"""Whose sockets are whose on this machine: who listens on a port, and which programs a process is connected to.

The kernel lists TCP sockets with both addresses in /proc/net, so that the two ends of a connection on this machine find
each other. Of Unix sockets only its netlink interface tells the other end (sock_diag(7)). Which process holds a socket
is seen in its descriptors, which others than its own user may not look into.
"""

import re
import socket
import struct
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Final, NamedTuple

from loadtest import proc

LISTENS: Final = 0x0A
SOCKET: Final = re.compile(r"socket:\[(\d+)\]")

# sock_diag(7)
NETLINK_SOCK_DIAG: Final = 4
SOCK_DIAG_BY_FAMILY: Final = 20
DUMP_REQUEST: Final = 0x301
NLMSG_ERROR: Final = 2
NLMSG_DONE: Final = 3
UDIAG_SHOW_PEER: Final = 4
UNIX_DIAG_PEER: Final = 2
MESSAGE_HEAD: Final = struct.Struct("=IHHII")  # length, type, flags, sequence, port
UNIX_REQUEST: Final = struct.Struct("=BBHIIIII")  # family, protocol, padding, states, inode, what to show, cookie
UNIX_ANSWER: Final = struct.Struct("=BBBBIII")  # family, type, state, padding, inode, cookie
ATTRIBUTE: Final = struct.Struct("=HH")  # length, type
ANSWER_S: Final = 5.0


class Tcp(NamedTuple):
    """One TCP socket. Ends are (IPv4 or IPv6 address as the kernel writes it, port)."""

    here: tuple[str, int]
    there: tuple[str, int]
    state: int
    inode: int


def listeners(ports: Iterable[int]) -> set[int]:
    """Processes that listen on one of these TCP ports, of those that may be seen."""
    wanted = set(ports)
    inodes = {found.inode for found in _tcp() if found.state == LISTENS and found.here[1] in wanted}
    return {pid for inode, pid in _holders(proc.pids()) if inode in inodes}


def connected_to(pids: Iterable[int]) -> set[int]:
    """Other processes on this machine at the far ends of these processes' connections."""
    own = list(pids)
    peers = {**_unix_peers(), **_tcp_peers()}
    far = {peers[inode] for inode, _ in _holders(own) if inode in peers}
    return {pid for inode, pid in _holders(proc.pids()) if inode in far} - set(own)


def is_here(host: str) -> bool:
    """Whether a name leads to this machine. Raises OSError when it leads nowhere."""
    for family, _, _, _, address in socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM):
        with suppress(OSError), socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.bind((address[0], 0, *address[2:]))  # one can only bind what is one's own
            return True
    return False


def _holders(pids: Iterable[int]) -> Iterator[tuple[int, int]]:
    """(inode, pid) of sockets."""
    for pid in pids:
        folder = proc.PROC / str(pid) / "fd"
        with suppress(OSError):
            for entry in folder.iterdir():
                with suppress(OSError):
                    if found := SOCKET.fullmatch(str(entry.readlink())):
                        yield int(found[1]), pid


def _tcp() -> Iterator[Tcp]:
    for table in ("tcp", "tcp6"):
        with suppress(OSError):
            for line in (proc.PROC / "net" / table).read_text().splitlines()[1:]:
                _, here, there, state, _, _, _, _, _, inode, *_ = line.split()
                yield Tcp(_end(here), _end(there), int(state, 16), int(inode))


def _end(text: str) -> tuple[str, int]:
    address, port = text.split(":")
    return address[-8:], int(port, 16)  # of IPv6 the last four bytes, in which an IPv4 address stands


def _tcp_peers() -> dict[int, int]:
    sockets = [found for found in _tcp() if found.state != LISTENS and found.inode]
    by_ends = {(found.here, found.there): found.inode for found in sockets}
    pairs = ((found.inode, by_ends.get((found.there, found.here))) for found in sockets)
    return {inode: peer for inode, peer in pairs if peer is not None}


def _unix_peers() -> dict[int, int]:
    """Inode to inode; empty where the kernel does not tell."""
    request = UNIX_REQUEST.pack(socket.AF_UNIX, 0, 0, 0xFFFFFFFF, 0, UDIAG_SHOW_PEER, 0, 0)
    head = MESSAGE_HEAD.pack(MESSAGE_HEAD.size + len(request), SOCK_DIAG_BY_FAMILY, DUMP_REQUEST, 1, 0)
    peers: dict[int, int] = {}
    with suppress(OSError), socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG) as diag:
        diag.settimeout(ANSWER_S)
        diag.send(head + request)
        while True:
            for kind, message in _parts(diag.recv(1 << 20), MESSAGE_HEAD):
                if kind in (NLMSG_DONE, NLMSG_ERROR):
                    return peers
                inode = UNIX_ANSWER.unpack_from(message)[4]
                for attribute, value in _parts(message[UNIX_ANSWER.size :], ATTRIBUTE):
                    if attribute == UNIX_DIAG_PEER:
                        peers[inode] = int.from_bytes(value, "little")
    return peers


def _parts(data: bytes, head: struct.Struct) -> Iterator[tuple[int, bytes]]:
    """(type, content) of what netlink packs one after the other, each beginning with its length."""
    at = 0
    while at + head.size <= len(data):
        length, kind, *_ = head.unpack_from(data, at)
        yield kind, data[at + head.size : at + length]
        at += max(length + 3 & ~3, head.size)
