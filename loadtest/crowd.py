"""Many clients: signing them in, a few at a time, from as many loopback addresses as their number needs."""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Final, TypeVar

from loadtest.client import PATIENCE_S, Client, LoadError, make_token
from loadtest.server import Target

AT_ONCE: Final = 50
PER_ADDRESS: Final = 1000
FIRST_ADDRESS: Final = 2  # 127.0.0.2

T = TypeVar("T")


class Crowd:
    """Users of one run: their names are new, so that runs on one server do not meet."""

    def __init__(self, target: Target, users: int) -> None:
        self._target = target
        run = secrets.token_hex(4)
        self.tokens = [make_token(target.secret, f"load-{run}-{number}") for number in range(users)]

    async def connect(self, number: int, cursor: str = "") -> Client:
        """Sign user `number` in, up to SYNCED."""
        local = None
        if self._target.host.startswith("127."):
            local = (f"127.0.0.{FIRST_ADDRESS + number // PER_ADDRESS % 250}", 0)
        loop = asyncio.get_running_loop()
        _, client = await loop.create_connection(Client, self._target.host, self._target.port, local_addr=local)
        client.open(self.tokens[number], cursor)
        try:
            await asyncio.wait_for(asyncio.shield(client.synced), PATIENCE_S)
        except TimeoutError:
            raise LoadError(f"not SYNCED within {PATIENCE_S:.0f} s") from None
        return client

    async def connect_all(self) -> list[Client]:
        """Sign everybody in."""
        return await few_at_a_time(self.connect, range(len(self.tokens)))


async def few_at_a_time(work: Callable[[T], Awaitable[Any]], items: Iterable[T], at_once: int = AT_ONCE) -> list[Any]:
    """Do `work` on all items, `at_once` at a time; the answers in order. The first failure ends it."""
    queue = list(enumerate(items))
    answers: list[Any] = [None] * len(queue)
    waiting = iter(queue)

    async def worker() -> None:
        for place, item in waiting:
            answers[place] = await work(item)

    async with asyncio.TaskGroup() as group:
        for _ in range(min(at_once, len(queue))):
            group.create_task(worker())
    return answers


async def wait_until(condition: Callable[[], bool], within_s: float, what: str) -> None:
    """Look again and again until it is so; raises LoadError. What a client notes of each frame sets no event: that
    would cost more than the frame."""
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            raise LoadError(f"{what} did not happen within {within_s:.0f} s")
        await asyncio.sleep(0.01)


async def close_all(clients: Sequence[Client]) -> None:
    """Hang up."""
    await few_at_a_time(Client.close, clients)
