"""Many faults at random, overlapping, for as long as one likes; the seed repeats their order, not their timing."""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable

from tests.faults.process import Node
from tests.faults.programs import Program
from tests.faults.proxy import Proxy
from tests.faults.stage import Stage

AT_ONCE = 3  # faults that overlap
LONGEST_S = 6.0
CALM_S = 4.0
START_ATTEMPTS = 30
SERVED_S = 90.0


class Mischief:
    """Does one thing at a time to each part, and up to AT_ONCE things together."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._rng = stage.rng
        self._busy: set[str] = set()  # parts that something is done to
        self.done: Counter[str] = Counter()

    async def goes_on(self, seconds: float) -> None:
        """Make trouble for so long; what has begun is ended."""
        self._ends = time.monotonic() + seconds
        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(self._one_after_another())

    async def _one_after_another(self) -> None:
        while time.monotonic() < self._ends:
            part, name, work = self._rng.choice(self._choices())
            if part in self._busy:
                await asyncio.sleep(0.1)
                continue
            self._busy.add(part)
            try:
                self._stage.tell(f"{self._stage.people.acknowledged()} acknowledged; {part}: {name}")
                await work()
            finally:
                self._busy.discard(part)
            self.done[name] += 1
            await asyncio.sleep(self._rng.uniform(0, CALM_S))

    def _choices(self) -> list[tuple[str, str, Callable[[], Awaitable[None]]]]:
        lab = self._stage.lab
        choices: list[tuple[str, str, Callable[[], Awaitable[None]]]] = []
        for node in lab.nodes:
            choices += [
                (node.name, "node killed", lambda node=node: self._restarts(node)),  # type: ignore[misc]
                (node.name, "node frozen", lambda node=node: self._freezes(node)),  # type: ignore[misc]
                (node.name, "node drained", lambda node=node: self._drains(node)),  # type: ignore[misc]
            ]
        choices += [
            ("redis", "Redis killed", lambda: self._restarts(lab.redis)),
            ("redis", "Redis frozen", lambda: self._freezes(lab.redis)),
            ("redis", "Redis flushed", self._flushes),
            ("redis", "Redis clients killed", self._kills_clients),
            ("redis", "Redis wire", lambda: self._tampers(lab.redis_proxy)),
            ("postgres", "Postgres killed", lambda: self._restarts(lab.primary)),
            ("postgres", "Postgres restarted", self._restarts_database),
            ("postgres", "Postgres wire", lambda: self._tampers(lab.database_proxy)),
            ("postgres", "commits cut", self._cuts_commits),
            ("postgres", "standby promoted", self._fails_over),
        ]
        return choices

    def _some(self) -> float:
        return self._rng.uniform(0.2, LONGEST_S)

    async def _restarts(self, program: Program) -> None:
        program.kill()
        await asyncio.sleep(self._some())
        await self._starts(program)

    async def _starts(self, program: Program) -> None:
        """A node cannot start while Postgres is away; whoever looks after it tries again."""
        for attempt in range(START_ATTEMPTS):
            try:
                await program.start()
            except AssertionError:
                if not isinstance(program, Node) or attempt == START_ATTEMPTS - 1:
                    raise
                await asyncio.sleep(1)
            else:
                return

    async def _freezes(self, program: Program) -> None:
        program.freeze()
        await asyncio.sleep(self._some())
        program.thaw()

    async def _drains(self, node: Node) -> None:
        node.terminate()
        await node.ends(within_s=30)
        await self._starts(node)

    async def _flushes(self) -> None:
        await self._stage.lab.redis.asks("FLUSHALL")

    async def _kills_clients(self) -> None:
        await self._stage.lab.redis.kills_clients()

    async def _tampers(self, proxy: Proxy) -> None:
        way = self._rng.randrange(4)
        if way == 0:
            proxy.cut()
        elif way == 1:
            proxy.stall()
        elif way == 2:
            await proxy.refuse()
        else:
            proxy.delay(0.1)
        await asyncio.sleep(self._some())
        await proxy.restore()

    async def _restarts_database(self) -> None:
        """Politely: every connection is told to end, the standby gets the rest, then it starts again."""
        await self._stage.lab.primary.stop()
        await self._stage.lab.primary.start()

    async def _cuts_commits(self) -> None:
        self._stage.lab.database_proxy.cut_answers(1 + self._rng.randrange(5))
        await asyncio.sleep(self._some())
        await self._stage.lab.database_proxy.restore()

    async def _fails_over(self) -> None:
        await self._stage.lab.fails_over()
        await asyncio.sleep(self._some())
        await self._stage.lab.follows()


async def at_random(stage: Stage) -> float:
    """Overlapping faults for `seconds`."""
    mischief = Mischief(stage)
    before = stage.people.acknowledged()
    await mischief.goes_on(stage.seconds)
    await stage.lab.mends()
    back_s = await stage.people.is_served(SERVED_S)
    done = ", ".join(f"{times} {name}" for name, times in sorted(mischief.done.items()))
    stage.notes.append(f"{sum(mischief.done.values())} faults: {done}")
    assert stage.people.acknowledged() > before
    return back_s
