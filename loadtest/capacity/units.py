"""What one of each thing costs, and the command that measures it. The model knows nothing of the server but this table.

Much of what a server does costs less when there is more of it to do at once: a commit, a wake-up, a system call serves
all that came together. Such a cost has two parts, one for the thing itself and one for each batch, shared by what is in
it. The defaults are from docs/capacity.md; `--unit NAME=VALUE` puts your own machine's in their place.
"""

from dataclasses import Field, dataclass, field, fields
from typing import Any, Final, NamedTuple


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


def unit(value: float | Cost, name: str, what: str, command: str) -> Any:
    """A field of the table."""
    return field(default=value, metadata={"unit": name, "what": what, "command": command})


CHAT: Final = "chat --users 2000 --inflight 1; chat --rate 500"
BURSTS: Final = "chat --inflight 10"
SIGNALS: Final = "signals --users 4000 --rate 3000; signals --rate 150"
BUS: Final = "bus"
REDIS: Final = "redis"
STORAGE: Final = "storage"
WIRE: Final = "wire"
PUSH: Final = "push"
LOGIN: Final = "login"
IDLE: Final = "idle --users 5000"
GROUP: Final = "group"


@dataclass(frozen=True)
class Units:
    """Of one core of the machine that the figures are from."""

    server_message: Cost = unit(Cost(33, 157), "µs", "a SEND taken, judged, acknowledged, by the messages of a commit", CHAT)
    server_delivery: Cost = unit(Cost(4.3), "µs", "a MSG written to a socket", GROUP)
    postgres_message: Cost = unit(Cost(18, 195), "µs", "a message stored, by the messages of a commit", CHAT)
    server_turn: Cost = unit(Cost(15), "µs", "of it what is shared by messages that come in one piece", BURSTS)
    postgres_turn: Cost = unit(Cost(8), "µs", "the same in Postgres, when they are of one chat", BURSTS)
    server_read: Cost = unit(Cost(38, 1340), "µs", "a READ, by those that are stored together", SIGNALS)
    postgres_read: Cost = unit(Cost(11, 1050), "µs", "its watermark", SIGNALS)
    server_typing: Cost = unit(Cost(243), "µs", "a TYPING passed on", SIGNALS)
    postgres_typing: Cost = unit(Cost(90), "µs", "whose chat it is", SIGNALS)
    server_login: Cost = unit(Cost(1100), "µs", "a phone that comes back, with its cursor, up to SYNCED, and goes", LOGIN)
    postgres_login: Cost = unit(Cost(300), "µs", "what is read for it", LOGIN)
    keep_alive: Cost = unit(Cost(25), "µs", "a PING answered", IDLE)
    server_push: Cost = unit(Cost(104), "µs", "a notification planned and sent to APNs", PUSH)
    postgres_push: Cost = unit(Cost(73), "µs", "its place in the outbox", PUSH)
    server_index: Cost = unit(Cost(8), "µs", "a message's share of the search index, in Python", STORAGE)
    postgres_index: Cost = unit(Cost(20), "µs", "the same in Postgres", STORAGE)
    publish: Cost = unit(Cost(1.9, 5.9), "µs", "an envelope to Redis, by those that go to one Redis at a time", BUS)
    receive: Cost = unit(Cost(1.1, 5.8), "µs", "an envelope from Redis, by those that one read brings", BUS)
    redis_publish: Cost = unit(Cost(0.55, 15.5), "µs", "an envelope taken by Redis, by those that come together", REDIS)
    redis_listener: Cost = unit(Cost(0.6, 6.4), "µs", "the same for each node that listens to it", REDIS)
    connection_kib: float = unit(3.5, "KiB", "memory of the server for a silent connection", IDLE)
    send_bytes: float = unit(84, "bytes", "SEND of 64 bytes of text, with ids of a large deployment", WIRE)
    ack_bytes: float = unit(15, "bytes", "ACK", WIRE)
    msg_bytes: float = unit(86, "bytes", "MSG", WIRE)
    read_bytes: float = unit(16, "bytes", "READ", WIRE)
    readby_bytes: float = unit(18, "bytes", "READBY", WIRE)
    typing_bytes: float = unit(13, "bytes", "TYPING, up or down", WIRE)
    keep_alive_bytes: float = unit(14, "bytes", "PING and PONG", WIRE)
    login_bytes: float = unit(617, "bytes", "a sign-in, both ways", WIRE)
    handshake_bytes: float = unit(5000, "bytes", "of TLS for a sign-in, both ways", "assumed")
    bus_bytes: float = unit(158, "bytes", "an envelope on the way to Redis, or from it", REDIS)
    stored_bytes: float = unit(258, "bytes", "a message with its two indexes", STORAGE)
    search_bytes: float = unit(74, "bytes", "its share of the search index", STORAGE)
    log_bytes: float = unit(800, "bytes", "of write-ahead log for it", STORAGE)
    search_log_bytes: float = unit(1375, "bytes", "of write-ahead log for its search index", STORAGE)
    commit_ms: float = unit(2.0, "ms", "a commit alone, with its way over the network and its standby's answer", "assumed")

    def with_own(self, words: list[str]) -> "Units":
        """With NAME=VALUE or NAME=EACH,BATCH in place; raises ValueError with a sentence."""
        own: dict[str, Any] = {}
        known = {entry.name: entry for entry in fields(self)}
        for word in words:
            name, _, value = word.partition("=")
            if name not in known:
                raise ValueError(f"--unit {word}: there is no unit {name}; one of {', '.join(known)}")
            try:
                numbers = [float(part) for part in value.split(",")]
            except ValueError:
                raise ValueError(f"--unit {word}: NAME=NUMBER, or NAME=EACH,BATCH") from None
            own[name] = Cost(*numbers[:2]) if isinstance(known[name].default, Cost) else numbers[0]
        return type(self)(**{**{name: getattr(self, name) for name in known}, **own})

    def rows(self) -> list[tuple[str, str, str, str]]:
        """Name, value, what it is, and its command."""
        return [_row(entry, getattr(self, entry.name)) for entry in fields(self)]


def _row(entry: "Field[Any]", value: float | Cost) -> tuple[str, str, str, str]:
    if isinstance(value, Cost):
        said = f"{value.each:.3g}" + (f" + {value.batch:.3g} a batch" if value.batch else "")
    else:
        said = f"{value:,.4g}"
    return entry.name, f"{said} {entry.metadata['unit']}", entry.metadata["what"], entry.metadata["command"]
