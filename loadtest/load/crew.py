"""The users of one load process.

A scenario extends :class:`Crew` with what its users do; the methods are called by :mod:`loadtest.load.crews`, in this
process or from another, so they take and give plain data. Users have numbers, the same in every process of a run:
user n connects to node n modulo the number of nodes, so that the partners 2k and 2k + 1 sit on different ones.
"""

import asyncio
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from loadtest.launch import allow_many_files
from loadtest.load.client import PATIENCE_S, Client, LoadError, make_token
from loadtest.load.many import few_at_a_time
from loadtest.reports.latency import Latencies

PER_ADDRESS: Final = 1000
FIRST_ADDRESS: Final = 2  # 127.0.0.2
ADDRESSES: Final = 250
SPARE_FILES: Final = 100
IP_BIND_ADDRESS_NO_PORT: Final = 24  # of Linux; `socket` names it from Python 3.12 on


@dataclass(frozen=True)
class Place:
    """Who the users of a crew are, and where they connect."""

    addresses: tuple[tuple[str, int], ...]  # host and port of each node
    secret: str
    run: str  # names of users begin with it, so that runs on one server do not meet
    numbers: range
    client: type[Client] = Client  # a peer's server needs another
    tls: bool = False
    ca: str | None = None  # a file with certificates to trust beside the system's


class Snapshot(NamedTuple):
    """How far a crew is. Counts are from its beginning, latencies from the snapshot before."""

    connected: int = 0
    sent: int = 0
    acked: int = 0
    heard: int = 0
    errors: int = 0
    ack_times: Latencies | None = None
    delivery_times: Latencies | None = None


@dataclass
class Progress:
    """Sums over snapshots of several crews."""

    connected: int = 0
    sent: int = 0
    acked: int = 0
    heard: int = 0
    errors: int = 0
    ack_times: Latencies = field(default_factory=Latencies)
    delivery_times: Latencies = field(default_factory=Latencies)

    def add(self, part: Snapshot) -> None:
        """Take in what one crew tells."""
        self.connected += part.connected
        self.sent += part.sent
        self.acked += part.acked
        self.heard += part.heard
        self.errors += part.errors
        if part.ack_times is not None:
            self.ack_times.add(part.ack_times)
        if part.delivery_times is not None:
            self.delivery_times.add(part.delivery_times)


class Crew:
    """Users that sign in and hang up."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.clients: list[Client] = []
        self._tokens: dict[int, str] = {}
        self._ssl = _context(place.ca) if place.tls else None
        if len(place.numbers) + SPARE_FILES > (most := allow_many_files()):
            raise LoadError(
                f"{len(place.numbers)} users, and a process may open {most} files: more --processes, or `ulimit -n`"
            )

    def token(self, number: int) -> str:
        """What user `number` signs in with."""
        if number not in self._tokens:
            self._tokens[number] = make_token(self.place.secret, f"load-{self.place.run}-{number}")
        return self._tokens[number]

    async def sign_in(self, number: int, cursor: str = "") -> Client:
        """Connect as user `number`, up to SYNCED."""
        client = await self.reach(number)
        client.open(self.token(number), cursor)
        try:
            await asyncio.wait_for(asyncio.shield(client.synced), PATIENCE_S)
        except TimeoutError:
            raise LoadError(f"not SYNCED within {PATIENCE_S:.0f} s") from None
        return client

    async def reach(self, number: int, make: Callable[[], Client] | None = None) -> Client:
        """A connection for user `number` on which nothing is said yet; `make` makes it of another kind."""
        host, port = self.place.addresses[number % len(self.place.addresses)]
        loop, make = asyncio.get_running_loop(), make or self.place.client
        if host.startswith("127."):  # from as many addresses as the number of ports needs
            local = f"127.0.0.{FIRST_ADDRESS + number // PER_ADDRESS % ADDRESSES}"
            sock = await _connected(local, host, port)
            name = host if self._ssl else None
            _, client = await loop.create_connection(make, sock=sock, ssl=self._ssl, server_hostname=name)
        else:
            _, client = await loop.create_connection(make, host, port, ssl=self._ssl)
        client.host = f"{host}:{port}"
        return client

    async def connect(self) -> list[int]:
        """Sign everybody in; returns their ids, in the order of their numbers."""
        await few_at_a_time(self._join, self.place.numbers)
        self.clients.sort(key=lambda client: client.number)
        return [client.user for client in self.clients]

    async def _join(self, number: int) -> None:
        client = await self.sign_in(number)
        client.number = number
        self.clients.append(client)

    async def close(self) -> None:
        """Hang up."""
        await few_at_a_time(lambda client: client.close(), self.clients)
        self.clients.clear()

    async def limits(self) -> dict[str, int]:
        """What the server allows, as it told in READY."""
        return dict(self.clients[0].session["limits"]) if self.clients else {}

    async def problems(self) -> list[str]:
        """What went wrong so far, a sentence each; bounded."""
        return [problem for client in self.clients for problem in client.problems][:10]

    async def snapshot(self) -> Snapshot:
        """How far they are, and the latencies since the last one."""
        clients = self.clients
        ack_times, delivery_times = Latencies(), Latencies()
        for client in clients:
            for into, times in ((ack_times, client.ack_times), (delivery_times, client.delivery_times)):
                if times:
                    into.extend(times)
                    del times[:]
        return Snapshot(
            connected=sum(not client.lost.done() for client in clients),
            sent=sum(client.sent for client in clients),
            acked=sum(client.acked for client in clients),
            heard=sum(client.heard for client in clients),
            errors=sum(len(client.problems) + client.lost.done() for client in clients),
            ack_times=ack_times,
            delivery_times=delivery_times,
        )


async def _connected(local: str, host: str, port: int) -> socket.socket:
    """A connected socket with this address of our own.

    Its port is chosen when it connects. Chosen by `bind` it must be free for all peers, so every connection that was
    closed within the last minute is in the way, and after some ten thousand each new one looks for milliseconds.
    """
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
        sock.bind((local, 0))
        await asyncio.get_running_loop().sock_connect(sock, (host, port))
    except BaseException:
        sock.close()
        raise
    return sock


def _context(ca: str | None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if ca is not None:
        context.load_verify_locations(ca)
    return context
