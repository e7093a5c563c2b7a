"""A timing wheel: one timer for the deadlines of all connections.

A connection's deadline moves with every frame it sends, so the wheel does not follow it: it asks at the time that was
known last, and files the item again at the time it is told then. Touching a connection costs nothing.
"""

import asyncio
from collections import defaultdict
from typing import Protocol

import structlog

from mim.clock import Clock
from mim.tasks import TaskSet

log = structlog.get_logger("mim.wheel")


class Timed(Protocol):
    """Something with a deadline. `wheel_slot` belongs to the wheel: where the item is filed."""

    wheel_slot: int

    def due(self, now: float) -> float | None:
        """Called when the deadline known so far has come. Act if it is over; return the next one, or None for never."""


class TimingWheel:
    """Slots of one second of monotonic time."""

    def __init__(self, clock: Clock, slot_s: float = 1.0) -> None:
        self._clock = clock
        self._slot_s = slot_s
        self._slots: defaultdict[int, set[Timed]] = defaultdict(set)
        self._done = int(clock.monotonic() / slot_s)
        self._tasks = TaskSet()

    def add(self, item: Timed, deadline: float) -> None:
        """Ask `item` at the monotonic second `deadline`, at most one slot late. An item is forgotten when `due`
        says None.
        """
        item.wheel_slot = max(int(deadline / self._slot_s) + 1, self._done + 1)
        self._slots[item.wheel_slot].add(item)

    def discard(self, item: Timed) -> None:
        """Forget an item at once, so that nothing keeps what is gone in memory until its deadline."""
        slot = self._slots.get(item.wheel_slot)
        if slot is not None:
            slot.discard(item)
            if not slot:
                del self._slots[item.wheel_slot]

    def turn(self) -> None:
        """Ask everything that is due."""
        now = self._clock.monotonic()
        upto = int(now / self._slot_s)
        while self._done < upto:
            self._done += 1
            for item in self._slots.pop(self._done, ()):
                try:
                    following = item.due(now)
                except Exception:  # one item's mistake must not stop the wheel for all
                    log.exception("a deadline could not be judged")
                    continue
                if following is not None:
                    self.add(item, following)

    def start(self) -> None:
        """Turn once a slot until closed."""
        self._tasks.spawn(self._run(), name="timing wheel")

    async def close(self) -> None:
        """Stop turning."""
        await self._tasks.close()

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._slot_s)
            self.turn()
