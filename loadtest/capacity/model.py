"""So many people, so many messages: how much CPU, memory, network and disk, and of which kind.

Everything is a rate times a unit cost. What makes it more than a multiplication is that costs fall as things come
together, and things come apart as there are more machines: a node with one database commits what has gathered; a node
with forty has a fortieth in each commit. So the number of machines and the cost of a message depend on each other, and
:func:`plan` goes round until they agree.
"""

import math
from dataclasses import dataclass
from typing import Final, NamedTuple

from loadtest.capacity.units import Units

DAY_S: Final = 86_400
YEAR_D: Final = 365
KIB_A_GIB: Final = 1 << 20
GATHER_S: Final = 0.04  # what mim.chat.reading waits for READs
TYPING_GATHER_S: Final = 0.02  # and mim.chat.typing_signals for TYPINGs
MOST_A_COMMIT: Final = 500  # MIM_COMMIT_BATCH
PACKET: Final = 40 + 12 + 22  # bytes of IPv4, TCP with timestamps, and a TLS 1.3 record, around a frame
BARE: Final = 52  # bytes of a TCP acknowledgement by itself
ROUNDS: Final = 200
STEADY: Final = 1e-6


@dataclass(frozen=True)
class Load:
    """What people do. Shares are of 1."""

    sessions: int  # connections at the busiest time
    messages_a_day: float
    peak: float = 4.0  # messages a second at the busiest time, to the mean of the day
    groups: float = 0.3  # share of messages that go to groups
    members: float = 20.0  # of the group of such a message, the sender included
    devices: float = 1.2  # of a user
    away: float = 0.6  # share of devices that are not connected
    told: float = 0.5  # notifications for each away device and message: more messages of a chat are one notification
    reads: float = 0.5  # READs for each delivery
    typing: float = 0.3  # TYPINGs for each message
    logins: float = 20.0  # of a session a day
    login_peak: float = 3.0  # sign-ins a second at the busiest time, to the mean of the day
    keep_alive_s: float = 240.0

    @property
    def reachable(self) -> float:
        """Connected devices of a user, on average."""
        return self.devices * (1 - self.away)

    def heard_in(self, members: float) -> float:
        """Connected devices that a message in a chat of this size is delivered to: the others', and the sender's
        other ones."""
        return (members - 1) * self.reachable + (self.devices - 1) * (1 - self.away)

    @property
    def deliveries(self) -> float:
        """For a message."""
        return (1 - self.groups) * self.heard_in(2) + self.groups * self.heard_in(self.members)

    @property
    def pushes(self) -> float:
        """Notifications for a message."""
        others = (1 - self.groups) + self.groups * (self.members - 1)
        return others * self.devices * self.away * self.told

    @property
    def publishes(self) -> float:
        """Envelopes on the bus for a message: to each of the two of a direct chat, or to a group."""
        return 2 - self.groups

    def nodes_told(self, nodes: float) -> float:
        """Nodes that an envelope of a message reaches by Redis, over all its publishes: those on which the sender or a
        hearer is connected."""

        def of(sockets: float) -> float:
            return nodes * (1 - (1 - 1 / nodes) ** sockets) if nodes > 1 else 1.0

        return (1 - self.groups) * (1 + self.heard_in(2)) + self.groups * of(1 + self.heard_in(self.members))


@dataclass(frozen=True)
class Room:
    """What a machine may be asked for."""

    busy: float = 0.5  # share of a core that is used at the peak
    connections: int = 18_000  # of a node: MIM_MAX_CONNECTIONS
    node_mib: float = 110.0  # memory of a node without connections
    socket_kib: float = 4.0  # the kernel's, of a connection, beside the server's memory
    machine_cores: int = 32  # of a machine that runs nodes
    turn_ms: float = 1.0  # of an event loop that is half busy: what comes meanwhile comes together
    postgres_cores: int = 32  # of one database server
    postgres_tb: float = 16.0  # of its disk
    log_mb_s: float = 200.0  # that it writes, and sends to its standbys
    standbys: int = 2  # of each database
    kept_years: float = 1.0
    stream: float = 15_000.0  # messages/s of one committer, where messages are brought to the shard's own


class Costs(NamedTuple):
    """Cores that are wholly busy, by part, and what they do."""

    messages: float
    deliveries: float
    bus: float
    reads: float
    typing: float
    sign_ins: float
    keep_alives: float
    pushes: float
    indexing: float

    @property
    def total(self) -> float:
        """Of all."""
        return sum(self)

    def cores(self) -> "Costs":
        """From µs a second."""
        return Costs(*(part / 1e6 for part in self))


class Network(NamedTuple):
    """Gbit/s at the peak, both directions together."""

    clients: float
    redis: float
    postgres_log: float


class Plan(NamedTuple):
    """What a load asks for at one moment."""

    rate: float
    nodes: int
    nodes_for: str  # what decides their number: connections or CPU
    machines: int  # on which these nodes are
    redis: int  # 0: one node needs none
    postgres: int
    postgres_for: str
    server_cores: Costs
    redis_cores: float
    postgres_cores: Costs
    batch: float  # messages of a commit
    published: float  # envelopes that a node sends to one Redis at a time
    received: float  # envelopes that one read brings
    memory_gib: float  # of all nodes, the kernel's sockets included
    network: Network
    stored_tb_a_year: float  # of one copy


class _State(NamedTuple):
    nodes: float = 1.0
    redis: float = 0.0
    postgres: float = 1.0


def batch_of(rate: float, commit_ms: float, each_us: float) -> float:
    """Messages of one commit on a stream with this many a second: what comes while the one before is committed, which
    takes longer the more there are."""
    grows = rate * each_us / 1e6
    if grows >= 1:
        return MOST_A_COMMIT
    return min(MOST_A_COMMIT, max(1.0, rate * commit_ms / 1e3 / (1 - grows)))


def plan(load: Load, room: Room, units: Units, *, peak: bool = True, brought: bool = False) -> Plan:
    """How much is needed. `brought`: messages are brought to the one committer of their shard, instead of every node
    committing to every shard; that is not built, see docs/capacity.md."""
    state = _State()
    for _ in range(ROUNDS):
        found = _plan(load, room, units, state, peak=peak, brought=brought)
        wanted = _State(found.nodes, found.redis, found.postgres)
        if all(abs(a - b) <= STEADY * max(1.0, b) for a, b in zip(wanted, state, strict=True)):
            break
        state = _State(*(max(old, new) if old < new else old + (new - old) / 2
                         for old, new in zip(state, wanted, strict=True)))  # fmt: skip
    return found


def _plan(load: Load, room: Room, units: Units, state: _State, *, peak: bool, brought: bool) -> Plan:
    rate = load.messages_a_day / DAY_S * (load.peak if peak else 1.0)
    streams = max(state.postgres, rate / room.stream) if brought else state.nodes * state.postgres
    batch = batch_of(rate / streams, units.commit_ms, units.postgres_message.each)
    several = state.nodes > 1
    links = max(1.0, state.nodes * state.redis)
    envelopes = rate * (load.publishes * (1 + load.typing) + _readbys(load))
    told = rate * load.nodes_told(state.nodes) * (1 + load.typing + load.reads * load.deliveries)
    published = max(1.0, batch * load.publishes / max(1.0, state.redis)) if several else 1.0
    received = max(1.0, told / links * room.turn_ms / 1e3) if several else 1.0
    at_redis = max(1.0, envelopes / links * room.turn_ms / 1e3, published)
    server = _server(load, units, rate, batch, streams, peak=peak)
    postgres = _postgres(load, units, rate, batch, streams, peak=peak)
    redis = 0.0
    if several:
        hop = rate * (units.publish.of(published) + units.receive.of(received)) if brought else 0.0
        bus = envelopes * units.publish.of(published) + told * units.receive.of(received) + hop
        server = server._replace(bus=bus / 1e6)
        redis = (envelopes * units.redis_publish.of(at_redis) + told * units.redis_listener.of(received)) / 1e6
    nodes, nodes_for = _most({"CPU": server.total / room.busy, "connections": load.sessions / room.connections})
    log = rate * (units.log_bytes + units.search_log_bytes)
    stored = load.messages_a_day * YEAR_D * (units.stored_bytes + units.search_bytes) / 1e12
    shards, shards_for = _most(
        {
            "CPU": postgres.total / (room.postgres_cores * room.busy),
            "disk": stored * room.kept_years / room.postgres_tb,
            "log": log / 1e6 / room.log_mb_s,
        }
    )
    return Plan(
        rate, nodes, nodes_for, math.ceil(nodes / room.machine_cores),
        math.ceil(redis / room.busy) if nodes > 1 else 0, shards, shards_for, server, redis,
        postgres, batch, published, received,
        (load.sessions * (units.connection_kib + room.socket_kib) + nodes * room.node_mib * 1024) / KIB_A_GIB,
        Network(
            _clients(load, units, rate, peak=peak) * 8 / 1e9,
            (envelopes + told) * units.bus_bytes * 8 / 1e9 if several else 0.0,
            log * room.standbys * 8 / 1e9,
        ),
        stored,
    )  # fmt: skip


def _readbys(load: Load) -> float:
    """Envelopes for the READs of a message: as for a message itself."""
    return load.reads * load.deliveries * load.publishes


def _server(load: Load, units: Units, rate: float, batch: float, streams: float, *, peak: bool) -> Costs:
    reads, typings = rate * load.deliveries * load.reads, rate * load.typing
    together = reads / streams * GATHER_S
    return Costs(
        messages=rate * units.server_message.of(batch),
        deliveries=rate * load.deliveries * units.server_delivery.of(1),
        bus=0.0,
        reads=reads * units.server_read.of(together),
        typing=typings * units.server_typing.of(typings / streams * TYPING_GATHER_S),
        sign_ins=_sign_ins(load, peak=peak) * units.server_login.of(1),
        keep_alives=load.sessions / load.keep_alive_s * units.keep_alive.of(1),
        pushes=rate * load.pushes * units.server_push.of(1),
        indexing=rate * units.server_index.of(1),
    ).cores()


def _postgres(load: Load, units: Units, rate: float, batch: float, streams: float, *, peak: bool) -> Costs:
    reads, typings = rate * load.deliveries * load.reads, rate * load.typing
    together = reads / streams * GATHER_S
    return Costs(
        messages=rate * units.postgres_message.of(batch),
        deliveries=0.0,
        bus=0.0,
        reads=reads * units.postgres_read.of(together),
        typing=typings * units.postgres_typing.of(typings / streams * TYPING_GATHER_S),
        sign_ins=_sign_ins(load, peak=peak) * units.postgres_login.of(1),
        keep_alives=0.0,
        pushes=rate * load.pushes * units.postgres_push.of(1),
        indexing=rate * units.postgres_index.of(1),
    ).cores()


def _sign_ins(load: Load, *, peak: bool) -> float:
    """A second."""
    return load.sessions * load.logins / DAY_S * (load.login_peak if peak else 1.0)


def _clients(load: Load, units: Units, rate: float, *, peak: bool) -> float:
    """Bytes a second between nodes and clients, both ways: each frame in a packet of its own, which the other side
    acknowledges by itself."""
    around = PACKET + BARE
    hearers = load.deliveries
    frames = (
        (rate, units.send_bytes + units.ack_bytes + 2 * around),
        (rate * hearers, units.msg_bytes + around),
        (rate * hearers * load.reads, units.read_bytes + around + hearers * (units.readby_bytes + around)),
        (rate * load.typing, units.typing_bytes + around + hearers * (units.typing_bytes + around)),
        (load.sessions / load.keep_alive_s, units.keep_alive_bytes + 2 * around),
        (_sign_ins(load, peak=peak), units.login_bytes + units.handshake_bytes + 4 * around),
    )
    return sum(number * size for number, size in frames)


def _most(reasons: dict[str, float]) -> tuple[int, str]:
    """The largest, rounded up, and why."""
    reason = max(reasons, key=lambda name: reasons[name])
    return max(1, math.ceil(reasons[reason])), reason
