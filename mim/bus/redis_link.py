"""One connection to one Redis server, which carries everything: publishing, listening and signs of life.

RESP3 (Redis 6 and later) lets a connection that listens publish as well. So there is one order of what this node
says and hears, and one PING proves both directions. redis-py is made for requests one by one; this stream is the hot
path between nodes, so it is packed and parsed by hiredis on a transport (docs/performance.md has both figures).

A reply belongs to the oldest command that waits for one. SUBSCRIBE has no reply but a push for each of its channels;
should it be refused, an error comes that nobody waits for. Any error therefore ends the link: whoever owns it looks
anew where the server is and what it says.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Protocol

import hiredis
from msgspec import Struct

from mim.bus.redis_servers import Address
from mim.clock import Clock

PING_EVERY_S: Final = 1.0
PATIENCE_S: Final = 5.0  # without an answer for so long, Redis counts as away
CONNECT_S: Final = 3.0

pack: Final[Callable[[tuple[Any, ...]], bytes]] = hiredis.pack_command

MESSAGES: Final = frozenset([b"message", b"smessage"])
LISTENING: Final = frozenset([b"subscribe", b"ssubscribe"])
CONFIRMATIONS: Final = LISTENING | {b"unsubscribe", b"sunsubscribe"}


class RedisRefusedError(Exception):
    """Redis answers and does not let us work: wrong password, missing rights, too old. The text is a sentence."""


class Publication(Struct, frozen=True, gc=False):
    """Something published, kept until Redis has it. Numbers rise over all links of a bus."""

    number: int
    topic: str
    payload: bytes


class Owner(Protocol):
    """What a link needs of the bus."""

    def heard(self, topic: bytes, payload: bytes) -> None:
        """A message came. Must not block."""

    def settled(self, topic: str, *, listening: bool) -> None:
        """A subscription or its end is confirmed, or will not be any more."""

    def confirmed(self, size: int) -> None:
        """Redis has some more of what was published: payloads of `size` bytes."""

    def lost(self, link: "Link", reason: str) -> None:
        """The link is gone."""


class Ticket:
    """Waits for a number of confirmations, on whichever links."""

    __slots__ = ("future", "left")

    def __init__(self) -> None:
        self.future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.left = 0

    def tick(self) -> None:
        """One of them came, or will not come any more."""
        self.left -= 1
        if self.left == 0 and not self.future.done():
            self.future.set_result(None)


class Link(asyncio.Protocol):
    """A connection in RESP3. Made by :meth:`open`; everything else is without waiting."""

    def __init__(self, address: Address, owner: Owner, clock: Clock) -> None:
        self.address = address
        self.sharded = address.sharded
        self.unconfirmed: deque[Publication] = deque()
        self.proven = 0.0  # what was published before this monotonic second has come
        self.expected: deque[tuple[str, Ticket | None]] = deque()  # topics whose (un)subscription is to be confirmed
        self.lost = False
        self._owner = owner
        self._clock = clock
        self._reader = hiredis.Reader()
        self._transport: asyncio.Transport | None = None
        self._confirmed_bytes = 0  # of this turn
        self._waiting: deque[Callable[[Any], None] | None] = deque()  # None: PUBLISH, of the oldest unconfirmed
        self._out: list[bytes] = []
        self._pinged_at: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    @classmethod
    async def open(cls, address: Address, owner: Owner, clock: Clock) -> "Link":
        """Connect and authenticate. Raises OSError, TimeoutError, RedisRefusedError."""
        link = cls(address, owner, clock)
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(CONNECT_S):
            if address.path:
                await loop.create_unix_connection(lambda: link, address.path)
            else:
                server_name = address.host if address.tls else None
                await loop.create_connection(
                    lambda: link, address.host, address.port, ssl=address.tls, server_hostname=server_name
                )
            try:
                await link._greet()
            except BaseException:
                link.close()
                raise
        if link.lost:  # between its answer and this line
            raise ConnectionError(f"{address} closed the connection")
        link._ping()
        return link

    async def _greet(self) -> None:
        auth = (b"AUTH", self.address.username or "default", self.address.password) if self.address.password else ()
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.proven = self._clock.monotonic()
        self._ask((b"HELLO", b"3", *auth, b"SETNAME", b"mim"), _answer_to(answer))
        reply = await answer
        if isinstance(reply, ConnectionError):
            raise reply
        if isinstance(reply, Exception):
            raise RedisRefusedError(f"Redis at {self.address} refuses: {reply}")

    # -- out -------------------------------------------------------------------------------

    def publish(self, publication: Publication) -> None:
        """Send to the channel. Must not block."""
        self.unconfirmed.append(publication)
        command = b"SPUBLISH" if self.sharded else b"PUBLISH"
        self._send((command, publication.topic, publication.payload), None)

    def subscribe(self, topics: list[str], ticket: Ticket | None) -> None:
        """Listen to the channels."""
        self._expect(b"SSUBSCRIBE" if self.sharded else b"SUBSCRIBE", topics, ticket)

    def unsubscribe(self, topics: list[str]) -> None:
        """Stop listening to the channels."""
        self._expect(b"SUNSUBSCRIBE" if self.sharded else b"UNSUBSCRIBE", topics, None)

    def _expect(self, command: bytes, topics: list[str], ticket: Ticket | None) -> None:
        if ticket is not None:
            ticket.left += len(topics)
        self.expected.extend((topic, ticket) for topic in topics)
        if self.sharded:  # one command must keep to one slot
            for topic in topics:
                self._write(pack((command, topic)))
        else:
            self._write(pack((command, *topics)))

    async def count(self, topics: list[str]) -> dict[str, int]:
        """How many connections listen to each of the channels. Raises ConnectionError, TimeoutError."""
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        self._ask((b"PUBSUB", b"SHARDNUMSUB" if self.sharded else b"NUMSUB", *topics), _answer_to(answer))
        async with asyncio.timeout(PATIENCE_S):
            reply = await answer
        if isinstance(reply, Exception):
            raise ConnectionError(str(reply))
        return {topic.decode(): number for topic, number in zip(reply[::2], reply[1::2], strict=True) if number}

    def _ask(self, command: tuple[Any, ...], answered: Callable[[Any], None]) -> None:
        self._send(command, answered)

    def _send(self, command: tuple[Any, ...], answered: Callable[[Any], None] | None) -> None:
        self._waiting.append(answered)
        self._write(pack(command))

    def _write(self, data: bytes) -> None:
        """All that one turn of the loop says goes out in one system call."""
        if not self._out:
            asyncio.get_running_loop().call_soon(self._flush)
        self._out.append(data)

    def _flush(self) -> None:
        out, self._out = self._out, []
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(b"".join(out))

    def _ping(self) -> None:
        """Ask for a sign of life every second. What stays silent for PATIENCE_S is given up."""
        now = self._clock.monotonic()
        if self._pinged_at is None:
            self._pinged_at = now
            self._ask((b"PING",), self._ponged)
        elif now - self._pinged_at > PATIENCE_S:
            self.end("no answer")
            return
        self._timer = asyncio.get_running_loop().call_later(PING_EVERY_S, self._ping)

    def _ponged(self, reply: Any) -> None:
        if self._pinged_at is not None and not isinstance(reply, Exception):
            self.proven, self._pinged_at = self._pinged_at, None

    # -- in: asyncio.Protocol --------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        reader = self._reader
        try:
            reader.feed(data)
            while (reply := reader.gets()) is not False:
                if type(reply) is hiredis.PushNotification:
                    self._pushed(reply)
                else:
                    self._replied(reply)
        except (hiredis.HiredisError, LookupError) as exc:
            self.end(f"not the protocol: {exc}")
        if self._confirmed_bytes:
            size, self._confirmed_bytes = self._confirmed_bytes, 0
            self._owner.confirmed(size)

    def _pushed(self, push: Any) -> None:
        kind = push[0]
        if kind in MESSAGES:
            self._owner.heard(push[1], push[2])
        elif kind in CONFIRMATIONS:
            topic = push[1].decode()
            if not self.expected or self.expected[0][0] != topic:
                self.end(f"the server gave {topic} away")  # its slot has moved
                return
            _, ticket = self.expected.popleft()
            self._owner.settled(topic, listening=kind in LISTENING)
            if ticket is not None:
                ticket.tick()

    def _replied(self, reply: Any) -> None:
        if self._waiting and self._waiting[0] is not None:
            answered = self._waiting.popleft()
            assert answered is not None
            answered(reply)
        elif isinstance(reply, Exception):
            self.end(str(reply))
        else:
            self._waiting.popleft()
            self._confirmed_bytes += len(self.unconfirmed.popleft().payload)

    def connection_lost(self, exc: Exception | None) -> None:
        self.end(str(exc or "closed by the server"))

    def close(self) -> None:
        """Drop the connection without telling the owner."""
        self.lost = True
        self._let_go(ConnectionError("closed"))

    def end(self, reason: str) -> None:
        """Drop the connection and tell the owner, once."""
        if self.lost:
            return
        self.lost = True
        self._let_go(ConnectionError(reason))
        self._owner.lost(self, reason)

    def _let_go(self, exc: ConnectionError) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._transport is not None:
            self._transport.abort()
        for answered in self._waiting:
            if answered is not None:
                answered(exc)
        self._waiting.clear()
        for topic, ticket in self.expected:
            self._owner.settled(topic, listening=False)
            if ticket is not None:
                ticket.tick()
        self.expected.clear()


def _answer_to(future: asyncio.Future[Any]) -> Callable[[Any], None]:
    """What takes a reply for somebody who may have given up waiting."""

    def answered(reply: Any) -> None:
        if not future.done():
            future.set_result(reply)

    return answered
