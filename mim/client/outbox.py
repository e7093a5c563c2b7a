"""Messages that are not acknowledged yet, without I/O.

Every message keeps its cid until the server answers for it, over as many connections as that takes: the
server stores a cid once, so sending again is always right and not sending again may lose the message
(proto/messages.md#ack). Messages go out by rising cid; a refusal that passes by itself holds back all of
them, so that order is kept as well as can be.
"""

from dataclasses import dataclass
from typing import Final

from mim.client.errors import OutboxFull
from mim.client.models import Body
from mim.errors import Code

PASSING: Final = frozenset({Code.UNAVAILABLE.value, Code.RATE_LIMITED.value})
"""Codes of a NACK that ask to try the same cid again."""

INTERNAL_REFUSALS: Final = 5
"""How often a message is tried again that the server stumbles over: it must not hold back the rest for ever."""


@dataclass(slots=True)
class Item:
    """One unacknowledged message. `sent` tells whether it is under way on the present connection."""

    cid: int
    chat: int
    body: Body
    sent: bool = False
    refusals: int = 0


class Outbox:
    """The unacknowledged messages of one device by rising cid, at most `limit`. Times are monotonic s."""

    def __init__(self, limit: int = 1000) -> None:
        """At most `limit` messages; `under_way` of them are sent and not answered."""
        self.limit = limit
        self.paused_until = 0.0
        self._items: dict[int, Item] = {}
        self.under_way = 0

    def __len__(self) -> int:
        return len(self._items)

    def items(self) -> list[Item]:
        """Return all of them, oldest first."""
        return [self._items[cid] for cid in sorted(self._items)]

    def add(self, cid: int, chat: int, body: Body) -> Item:
        """Queue a message; raise OutboxFull above the limit and ValueError for a cid that is in use."""
        if len(self._items) >= self.limit:
            raise OutboxFull(f"{self.limit} messages are waiting for their acknowledgement")
        if cid in self._items:
            raise ValueError(f"cid {cid} is in use")
        item = self._items[cid] = Item(cid, chat, body)
        return item

    def due(self, now: float, inflight: int) -> list[Item]:
        """Return what may be sent now, at most `inflight` unanswered; each counts as sent from here on."""
        if now < self.paused_until:
            return []
        due: list[Item] = []
        for item in self._items.values():
            if self.under_way >= inflight:
                break
            if not item.sent:
                item.sent = True
                self.under_way += 1
                due.append(item)
        return due

    def ack(self, cid: int) -> Item | None:
        """Remove an answered message; None if it was answered before."""
        item = self._items.pop(cid, None)
        if item is not None and item.sent:
            self.under_way -= 1
        return item

    def postpone(self, cid: int, now: float, retry_after_ms: int | None) -> float | None:
        """Keep a refused message for later, hold the rest back; return the delay in s, None if unknown.

        Without `retry_after_ms` the delay doubles with each refusal, from 0.5 s to 30 s.
        """
        item = self._items.get(cid)
        if item is None:
            return None
        if item.sent:
            item.sent = False
            self.under_way -= 1
        backoff_s = min(30.0, 0.5 * 2**item.refusals)
        item.refusals = min(item.refusals + 1, 16)
        delay_s = backoff_s if retry_after_ms is None else retry_after_ms / 1000
        self.paused_until = max(self.paused_until, now + delay_s)
        return delay_s

    def may_pass(self, cid: int, code: str, retry_after_ms: int | None) -> bool:
        """Tell whether a refusal of this message may pass by itself (proto/messages.md#ack)."""
        if retry_after_ms is not None or code in PASSING:
            return True
        item = self._items.get(cid)
        return code == Code.INTERNAL and item is not None and item.refusals < INTERNAL_REFUSALS

    def connection_lost(self) -> None:
        """Nothing is under way any more: all of it is to be sent again, in order."""
        for item in self._items.values():
            item.sent = False
        self.under_way = 0
        self.paused_until = 0.0
