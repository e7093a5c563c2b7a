"""The bus over Redis pub/sub: one server, a Sentinel's master, or a cluster (docs/architecture.md#routing).

Redis carries, it keeps nothing: it may die at any moment and come back empty.

- What a node publishes reaches its own sockets at once; Redis brings it to the other nodes. So a node's own people do
  not notice when Redis is away. Only the claims on a device go through Redis for everybody: their order matters.
- What Redis has not confirmed is kept, within a bound, and said again on the next connection: the others drop what
  they have. Above the bound it is given up, and `confirm` says so.
- A connection is whole while its PINGs are answered. When one is lost, everything published since the last answered
  PING may not have come; `restored` says so once all topics are listened to again.
"""

import asyncio
import secrets
from collections import Counter, deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from itertools import count
from typing import Final

import msgspec
import prometheus_client as prometheus
import structlog
from msgspec import structs
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from mim.bus.port import CloseDevice, Deliver, Envelope, Restored
from mim.bus.redis_link import Link, Publication, RedisRefusedError, Ticket
from mim.bus.redis_servers import Address, Layout, Servers
from mim.clock import Clock, SystemClock
from mim.tasks import TaskSet

log = structlog.get_logger("mim.bus")

LOST = prometheus.Counter("mim_bus_lost_total", "Connections to Redis that were lost.")
GIVEN_UP = prometheus.Counter("mim_bus_given_up_total", "Envelopes that could not be kept until Redis was back.")
FOREIGN = prometheus.Counter("mim_bus_foreign_total", "Messages on our topics that are not ours to read.")

FIRST_S: Final = 5.0  # how long a start waits for Redis before it goes on without
BACKOFF_S: Final = (0.05, 0.1, 0.2, 0.4, 0.8, 1.0)
KEPT_BYTES: Final = 32 << 20
CHUNK: Final = 500  # topics in one command
TELL_EVERY: Final = 30  # attempts to connect between two lines of the log
FIND_S: Final = 10.0
LOOK_EVERY_S: Final = 10.0  # where servers may move: how often to ask where they are

AWAY: Final = (OSError, TimeoutError, RedisError, RedisRefusedError)

# How a payload begins: the version of this format, whether the publisher has told its own sockets, and the publisher.
TOLD: Final = b"\x01\x00"
UNTOLD: Final = b"\x01\x01"
HEAD: Final = 10

encode = msgspec.msgpack.Encoder().encode
decode = msgspec.msgpack.Decoder(Envelope).decode


class RedisBus:
    """Implements :class:`mim.bus.port.Bus`; also the owner of its links."""

    def __init__(self, url: str, clock: Clock, *, kept_bytes: int = KEPT_BYTES) -> None:
        self._servers = Servers(url)
        self._clock = clock
        self._kept_bytes = kept_bytes
        me = secrets.token_bytes(HEAD - 2)
        self._own_told = TOLD + me
        self._own_untold = UNTOLD + me
        self._deliver: Deliver = lambda *_: None
        self._restored: Restored = lambda _: None
        self._topics: set[str] = set()
        self._confirmed: set[str] = set()  # of them: those that a link listens to for certain
        self._layout: Layout | None = None
        self._links: dict[Address, Link] = {}
        self._numbers = count(1)
        self._newest = 0  # number of the newest publication
        self._backlog: deque[Publication] = deque()  # without a link to go by
        self._kept = 0  # bytes of what is not confirmed
        self._given_up = 0  # number of the newest publication when the bound was reached
        self._asked: Counter[str] = Counter()  # topics with (un)subscriptions that are not answered
        self._marks: deque[tuple[int, Callable[[bool], None]]] = deque()
        self._gap_since: float | None = clock.monotonic()  # None: whole
        self._broken = asyncio.Event()
        self._whole = asyncio.Event()
        self._tasks = TaskSet()
        self._closed = False

    # -- the port --------------------------------------------------------------------------

    def listen(self, deliver: Deliver, restored: Restored) -> None:
        self._deliver = deliver
        self._restored = restored

    async def start(self) -> None:
        """Connect. After FIRST_S without Redis the node begins without it."""
        self._tasks.spawn(self._run(), name="connections to Redis")
        try:
            async with asyncio.timeout(FIRST_S):
                await self._whole.wait()
        except TimeoutError:
            log.warning("Redis is away: this node serves its own sockets until it is back")

    async def close(self) -> None:
        """Say what there is to say, then drop the links."""
        if self._gap_since is None:
            await asyncio.sleep(0)  # the links write once a turn of the loop
        self._closed = True
        await self._tasks.close()
        for link in self._links.values():
            link.close()
        self._links.clear()
        self._topics.clear()

    def publish(self, topic: str, envelope: Envelope) -> None:
        if self._closed:
            return
        link = self._link_of(topic)
        head, control = self._own_told, envelope.control
        if isinstance(control, CloseDevice):
            if link is not None:
                head = self._own_untold
            else:
                envelope = structs.replace(envelope, control=structs.replace(control, ordered=False))
        publication = Publication(next(self._numbers), topic, head + encode(envelope))
        self._newest = publication.number
        self._keep(publication, link)
        if head is self._own_told and topic in self._topics:
            self._deliver(topic, envelope)

    def _keep(self, publication: Publication, link: Link | None) -> None:
        self._kept += len(publication.payload)
        if self._kept > self._kept_bytes:
            self._give_up()
        elif link is not None:
            link.publish(publication)
        else:
            self._backlog.append(publication)

    def confirm(self, told: Callable[[bool], None]) -> None:
        if self._newest <= self._given_up:
            told(self._newest == 0)
        elif self._kept == 0:
            told(True)
        else:
            self._marks.append((self._newest, told))

    def subscribe(self, topics: Iterable[str]) -> "asyncio.Future[None]":
        ticket = Ticket()
        fresh = [topic for topic in topics if topic not in self._confirmed]
        self._topics.update(fresh)
        ticket.left += 1  # until all commands are out
        self._ask_for(fresh, ticket)
        ticket.tick()
        return ticket.future

    def unsubscribe(self, topics: Iterable[str]) -> None:
        gone = self._topics.intersection(topics)
        self._topics -= gone
        self._confirmed -= gone
        for link, some in self._by_link(gone).items():
            self._asked.update(some)
            link.unsubscribe(some)

    async def listening(self, topics: Iterable[str]) -> dict[str, int]:
        wanted = list(dict.fromkeys(topics))
        links = self._by_link(wanted)
        if sum(map(len, links.values())) < len(wanted):
            raise ConnectionError("Redis is away")
        found: dict[str, int] = {}
        for link, some in links.items():
            for start in range(0, len(some), CHUNK):
                found |= await link.count(some[start : start + CHUNK])
        return found

    def whole_until(self) -> float:
        if self._gap_since is not None:
            return self._gap_since
        return min((link.proven for link in self._links.values()), default=0.0)

    # -- what links say --------------------------------------------------------------------

    def heard(self, topic: bytes, payload: bytes) -> None:
        """A message came by Redis."""
        if payload.startswith(self._own_told):
            return
        try:
            if payload[:2] not in (TOLD, UNTOLD):
                raise ValueError("another format")
            envelope = decode(payload[HEAD:])
        except (msgspec.MsgspecError, ValueError):
            FOREIGN.inc()
            return
        self._deliver(topic.decode(), envelope)

    def settled(self, topic: str, *, listening: bool) -> None:
        """One of the commands about a topic is answered. While more of them wait, nothing is certain."""
        self._asked[topic] -= 1
        if not self._asked[topic]:
            del self._asked[topic]
            if listening and topic in self._topics:
                self._confirmed.add(topic)

    def confirmed(self, size: int) -> None:
        """Redis has payloads of `size` bytes more."""
        self._kept -= size
        if self._marks:
            waiting = [*(link.unconfirmed for link in self._links.values()), self._backlog]
            oldest = min((kept[0].number for kept in waiting if kept), default=self._newest + 1)
            while self._marks and self._marks[0][0] < oldest:
                self._marks.popleft()[1](True)

    def lost(self, link: Link, reason: str) -> None:
        """A link is gone: what it did not get confirmed waits for the next."""
        if self._links.get(link.address) is not link:
            return
        LOST.inc()
        log.warning("connection to Redis lost", server=str(link.address), reason=reason)
        self._gap_since = link.proven if self._gap_since is None else min(self._gap_since, link.proven)
        self._take_back(link)
        self._broken.set()

    def _take_back(self, link: Link) -> None:
        del self._links[link.address]
        kept = sorted((*self._backlog, *link.unconfirmed), key=lambda publication: publication.number)
        self._backlog = deque(kept)
        self._confirmed.clear()  # asked anew when all links are there; to ask twice does no harm

    # -- links and topics ------------------------------------------------------------------

    def _link_of(self, topic: str) -> Link | None:
        return None if self._layout is None else self._links.get(self._layout.of(topic))

    def _by_link(self, topics: Iterable[str]) -> dict[Link, list[str]]:
        found: dict[Link, list[str]] = {}
        for topic in topics:
            if (link := self._link_of(topic)) is not None:
                found.setdefault(link, []).append(topic)
        return found

    def _ask_for(self, topics: Iterable[str], ticket: Ticket) -> None:
        for link, some in self._by_link(topics).items():
            self._asked.update(some)
            for start in range(0, len(some), CHUNK):
                link.subscribe(some[start : start + CHUNK], ticket)

    def _give_up(self) -> None:
        """Too much is kept: let go of all of it, and of the links that did not take it."""
        self._given_up = self._newest
        for link in list(self._links.values()):
            if link.unconfirmed:
                link.end("too much waits for its confirmation")
        GIVEN_UP.inc(len(self._backlog) + 1)
        self._backlog.clear()
        self._kept = 0
        marks, self._marks = self._marks, deque()
        for _, told in marks:
            told(False)

    # -- connecting ------------------------------------------------------------------------

    async def _run(self) -> None:
        """Have a link to every server, and all topics heard, for ever."""
        tries = 0
        while True:
            self._broken.clear()
            try:
                await self._connect()
            except Exception as exc:  # whatever it is: a bus that gave up would never come back
                if not isinstance(exc, AWAY):
                    log.exception("connecting to Redis failed")
                elif tries % TELL_EVERY == 0:
                    log.warning("Redis is away", reason=str(exc) or type(exc).__name__)
                await asyncio.sleep(BACKOFF_S[min(tries, len(BACKOFF_S) - 1)])
                tries += 1
                continue
            tries = 0
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY_S if self._servers.may_move else None):
                    await self._broken.wait()

    async def _connect(self) -> None:
        """Bring links and topics in line with where the servers are now."""
        async with asyncio.timeout(FIND_S):
            layout = await self._servers.find()
        for link in [link for address, link in self._links.items() if address not in layout.addresses]:
            link.end("the server has no part of the cluster any more")
        if self._layout is not None and layout != self._layout:
            self._confirmed.clear()
        self._layout = layout
        for address in layout.addresses:
            if address not in self._links:
                self._links[address] = await Link.open(address, self, self._clock)
                self._say_backlog()
        ticket = Ticket()
        ticket.left += 1
        self._ask_for([topic for topic in self._topics if topic not in self._confirmed], ticket)
        ticket.tick()
        await ticket.future
        if self._gap_since is not None and not self._broken.is_set():
            since, self._gap_since = self._gap_since, None
            self._whole.set()
            log.info("connected to Redis", servers=len(self._links), topics=len(self._topics))
            self._restored(since)

    def _say_backlog(self) -> None:
        """Publish what waits for a link and has one now, before anything newer."""
        waiting, self._backlog = self._backlog, deque()
        for publication in waiting:
            link = self._link_of(publication.topic)
            if link is None:
                self._backlog.append(publication)
            else:
                link.publish(publication)


async def probe_redis(url: str) -> None:
    """Try a URL: RedisRefusedError for a server that answers and refuses, ValueError for a URL that is none; nothing
    for one that works or is away.
    """
    servers, clock = Servers(url), SystemClock()
    with suppress(OSError, TimeoutError, RedisConnectionError, RedisTimeoutError):
        try:
            async with asyncio.timeout(FIND_S):
                for address in (await servers.find()).addresses:
                    (await Link.open(address, RedisBus(url, clock), clock)).close()
        except RedisError as exc:
            if isinstance(exc, RedisConnectionError | RedisTimeoutError):
                raise
            raise RedisRefusedError(f"Redis refuses: {exc}") from exc
