"""One round's measuring: what the server used, and who else used the machine.

On shared hardware the same instructions take up to twice the CPU time while somebody else uses the caches, the memory
and the other half of the core. What runs on this machine is told here; what its neighbours on the host do is not seen,
so take several rounds, and compare only what was measured in turns.
"""

import os
import time
from collections.abc import Sequence
from typing import Final, Self

from loadtest import proc
from loadtest.server import Target, Usage

LOAD: Final = "load test, share of a core"
OTHERS: Final = "others on this machine, share of a core"


class Meter:
    """`async with Meter(target) as meter`: between entering and leaving it counts; the figures are there afterwards.

    `pids` are the load processes, this one included.
    """

    def __init__(self, target: Target, pids: Sequence[int] = ()) -> None:
        self._target = target
        self._pids = pids or [os.getpid()]
        self.used = Usage(0.0, 0.0, 0.0)
        self.took_s = 0.0
        self._own_s = self._all_s = 0.0

    async def __aenter__(self) -> Self:
        self._before = await self._target.usage()
        self._own_s, self._all_s, self._began = self._load_s(), proc.machine_s(), time.perf_counter()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.used = (await self._target.usage()).since(self._before)
        self.took_s = time.perf_counter() - self._began
        self._own_s = self._load_s() - self._own_s
        self._all_s = proc.machine_s() - self._all_s

    def _load_s(self) -> float:
        return sum(map(proc.cpu_s, self._pids))

    def surroundings(self) -> dict[str, float]:
        """What a reader must know to judge the figures of the round."""
        others = self._all_s - self._own_s - self.used.total
        return {LOAD: self._own_s / self.took_s, OTHERS: round(max(others, 0.0) / self.took_s, 3)}
