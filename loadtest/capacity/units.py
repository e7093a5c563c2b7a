"""What one of each thing costs, and the command that measures it. The model knows nothing of the server but this table.

Much of what a server does costs less when there is more of it to do at once: a commit, a wake-up, a system call serves
all that came together. Such a cost has two parts, one for the thing itself and one for each batch, shared by what is in
it. The defaults are from docs/capacity.md; `--unit NAME=VALUE` puts your own machine's in their place.
"""

from typing import Annotated, Any, Final, NamedTuple, get_type_hints


class Cost(NamedTuple):
    """µs of CPU: for each, and for each batch of them."""

    each: float
    batch: float = 0.0

    def of(self, batch: float) -> float:
        """µs of one that comes in a batch of this size."""
        return self.each + self.batch / max(1.0, batch)

    def times(self, factor: float) -> "Cost":
        """On a machine that is slower by this factor."""
        return Cost(self.each * factor, self.batch * factor)


CHAT: Final = "chat --users 2000 --inflight 1; chat --rate 500"
BURSTS: Final = "chat --inflight 10"
SIGNALS: Final = "signals --users 4000 --rate 3000; signals --users 3000 --rate 100 --beside 2000"
TYPINGS: Final = "signals --users 6000 --rate 300; signals --users 6000 --rate 600"
BUS: Final = "bus"
REDIS: Final = "redis"
STORAGE: Final = "storage"
WIRE: Final = "wire"
PUSH: Final = "push"
LOGIN: Final = "login"
IDLE: Final = "idle --users 5000"
GROUP: Final = "group --inflight 1; group --users 1000 --group-size 200"


class Units(NamedTuple):
    """Of one core of the machine that the figures are from. Each is annotated with what it is counted in, what it is
    for, and the command that measures it."""

    server_message: Annotated[Cost, "µs", "a SEND taken, judged, acknowledged, by the messages of a commit", CHAT] = (
        Cost(22, 240)
    )
    server_delivery: Annotated[Cost, "µs", "a MSG to a socket, by those that one write takes", GROUP] = Cost(0.5, 7.8)
    postgres_message: Annotated[Cost, "µs", "a message stored, by the messages of a commit", CHAT] = Cost(18, 320)
    server_turn: Annotated[Cost, "µs", "of it what is shared by messages that come in one piece", BURSTS] = Cost(19)
    postgres_turn: Annotated[Cost, "µs", "the same in Postgres, when they are of one chat", BURSTS] = Cost(9)
    server_read: Annotated[Cost, "µs", "a READ, by those that are stored together", SIGNALS] = Cost(47, 170)
    postgres_read: Annotated[Cost, "µs", "its watermark", SIGNALS] = Cost(19, 300)
    server_typing: Annotated[Cost, "µs", "a TYPING passed on, by those of one look", TYPINGS] = Cost(73, 240)
    postgres_typing: Annotated[Cost, "µs", "whose chat it is", TYPINGS] = Cost(13, 80)
    server_login: Annotated[Cost, "µs", "a phone that comes back, with its cursor, up to SYNCED, and goes", LOGIN] = (
        Cost(330)
    )
    postgres_login: Annotated[Cost, "µs", "what is read for it", LOGIN] = Cost(140)
    keep_alive: Annotated[Cost, "µs", "a PING answered", IDLE] = Cost(20)
    server_push: Annotated[Cost, "µs", "a notification planned and sent to APNs", PUSH] = Cost(104)
    postgres_push: Annotated[Cost, "µs", "its place in the outbox", PUSH] = Cost(73)
    server_index: Annotated[Cost, "µs", "a message's share of the search index, in Python", STORAGE] = Cost(17)
    postgres_index: Annotated[Cost, "µs", "the same in Postgres", STORAGE] = Cost(25)
    publish: Annotated[Cost, "µs", "an envelope to Redis, by those that go to one Redis at a time", BUS] = Cost(
        1.9, 5.9
    )
    receive: Annotated[Cost, "µs", "an envelope from Redis, by those that one read brings", BUS] = Cost(1.1, 5.8)
    redis_publish: Annotated[Cost, "µs", "an envelope taken by Redis, by those that come together", REDIS] = Cost(
        0.55, 4.2
    )
    redis_listener: Annotated[Cost, "µs", "the same for each node that listens to it", REDIS] = Cost(0.6, 8.1)
    connection_kib: Annotated[float, "KiB", "memory of the server for a silent connection", IDLE] = 3.5
    send_bytes: Annotated[float, "bytes", "SEND of 64 bytes of text, with ids of a large deployment", WIRE] = 84
    ack_bytes: Annotated[float, "bytes", "ACK", WIRE] = 15
    msg_bytes: Annotated[float, "bytes", "MSG", WIRE] = 86
    read_bytes: Annotated[float, "bytes", "READ", WIRE] = 16
    readby_bytes: Annotated[float, "bytes", "READBY", WIRE] = 18
    typing_bytes: Annotated[float, "bytes", "TYPING, up or down", WIRE] = 13
    keep_alive_bytes: Annotated[float, "bytes", "PING and PONG", WIRE] = 14
    login_bytes: Annotated[float, "bytes", "a sign-in, both ways", WIRE] = 617
    handshake_bytes: Annotated[float, "bytes", "of TLS for a sign-in, both ways", "assumed"] = 5000
    bus_bytes: Annotated[float, "bytes", "an envelope on the way to Redis, or from it", REDIS] = 158
    stored_bytes: Annotated[float, "bytes", "a message with its two indexes", STORAGE] = 256
    search_bytes: Annotated[float, "bytes", "its share of the search index", STORAGE] = 170
    log_bytes: Annotated[float, "bytes", "of write-ahead log for it", STORAGE] = 1000
    search_log_bytes: Annotated[float, "bytes", "of write-ahead log for its search index", STORAGE] = 1150
    commit_ms: Annotated[
        float, "ms", "a commit alone, with its way over the network and its standby's answer", "assumed"
    ] = 2.0

    def times(self, factor: float) -> "Units":
        """On a machine that is slower by this factor; sizes stay."""
        own: dict[str, Any] = {
            name: unit.times(factor) for name, unit in self._asdict().items() if isinstance(unit, Cost)
        }
        return self._replace(**own)

    def with_own(self, words: list[str]) -> "Units":
        """With NAME=VALUE or NAME=EACH,BATCH in place; raises ValueError with a sentence."""
        own: dict[str, Any] = {}
        for word in words:
            name, _, value = word.partition("=")
            if name not in self._fields:
                raise ValueError(f"--unit {word}: there is no unit {name}; one of {', '.join(self._fields)}")
            try:
                numbers = [float(part) for part in value.split(",")]
            except ValueError:
                raise ValueError(f"--unit {word}: NAME=NUMBER, or NAME=EACH,BATCH") from None
            own[name] = Cost(*numbers[:2]) if isinstance(getattr(self, name), Cost) else numbers[0]
        return self._replace(**own)

    def rows(self) -> list[tuple[str, ...]]:
        """Name, value, what it is, and its command."""
        hints = get_type_hints(type(self), include_extras=True)
        return [_row(name, getattr(self, name), *hints[name].__metadata__) for name in self._fields]


def _row(name: str, value: float | Cost, unit: str, what: str, command: str) -> tuple[str, ...]:
    if isinstance(value, Cost):
        said = f"{value.each:,.4g}" + (f" + {value.batch:,.4g} a batch" if value.batch else "")
    else:
        said = f"{value:,.4g}"
    return name, f"{said} {unit}", what, command
