"""Callbacks, one after another within a chat, side by side between chats.

A callback may take its time and may itself wait for the server (an echo waits for its ACK), so it must not
run in the task that reads the socket. Each chat has a lane: a queue and, while that is not empty, one task.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final

from mim.client.models import Event, Note, ReadBy, Typing

log = logging.getLogger("mim.client")

LANE_LIMIT: Final = 1000
"""Events that may wait in one lane before messages are left for later."""


def lane_of(event: Event) -> int:
    """Return the chat whose order this event belongs to; 0 for none."""
    match event:
        case Note():
            return 0
        case _:
            return getattr(event, "chat", 0) or getattr(event, "id", 0)


class Lanes:
    """Queues of events by chat. Without :meth:`start` they only fill."""

    def __init__(self, handle: Callable[[Event], Awaitable[None]], *, limit: int = LANE_LIMIT) -> None:
        self._handle = handle
        self._limit = limit
        self._queues: dict[int, deque[Event]] = {}
        self._running: set[int] = set()
        self._tasks: asyncio.TaskGroup | None = None
        self._drained = asyncio.Condition()

    def start(self, tasks: asyncio.TaskGroup) -> None:
        """Begin to call back, in tasks of this group."""
        self._tasks = tasks
        for key in list(self._queues):
            self._run(key)

    def stop(self) -> None:
        """Start no more tasks."""
        self._tasks = None
        self._running.clear()

    def put(self, event: Event) -> None:
        """Queue an event. Above the limit what only informs (typing, reading) is dropped; the rest is not
        offered to a full lane in the first place."""
        key = lane_of(event)
        queue = self._queues.setdefault(key, deque())
        if len(queue) >= self._limit and isinstance(event, Typing | ReadBy | Note):
            return
        queue.append(event)
        self._run(key)

    def accepts(self, key: int) -> bool:
        """There is room for more messages of this chat."""
        queue = self._queues.get(key)
        return queue is None or len(queue) < self._limit

    async def room(self, key: int) -> None:
        """Wait until the lane is half empty."""
        async with self._drained:
            await self._drained.wait_for(lambda: len(self._queues.get(key, ())) <= self._limit // 2)

    def _run(self, key: int) -> None:
        if self._tasks is not None and key not in self._running:
            self._running.add(key)
            self._tasks.create_task(self._drain(key), name=f"mim.client lane {key}")

    async def _drain(self, key: int) -> None:
        queue = self._queues[key]
        try:
            while queue:
                await self._handle(queue[0])
                queue.popleft()
                if len(queue) == self._limit // 2:
                    async with self._drained:
                        self._drained.notify_all()
        finally:
            self._running.discard(key)
            if not queue:
                self._queues.pop(key, None)
