"""Every drill in its short form, on one lab for all of a kind; `make drill` carries out the long ones."""

import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace

import pytest
import pytest_asyncio

from loadtest.checks.invariants import Verdict
from tests.faults.drill import allow_many_files, table
from tests.faults.drills.catalogue import DRILLS
from tests.faults.lab import Bus, Lab, lab
from tests.faults.stage import SHORT, Drill, Outcome, carry_out


class Labs:
    """The lab that runs. Another kind, or one after a failure, takes its place."""

    def __init__(self) -> None:
        self._running: Lab | None = None
        self._stack = AsyncExitStack()

    async def of(self, bus: Bus) -> Lab:
        """A sound lab of this kind."""
        if self._running is None or self._running.bus != bus:
            await self.close()
            self._running = await self._stack.enter_async_context(lab(3, bus))
        return self._running

    async def close(self) -> None:
        """End what runs."""
        self._running = None
        await self._stack.aclose()


@pytest_asyncio.fixture(scope="module")
async def labs() -> AsyncIterator[Labs]:
    """For the drills of this file."""
    allow_many_files()
    labs = Labs()
    yield labs
    await labs.close()


@pytest.mark.parametrize("drill", DRILLS, ids=lambda drill: drill.name)
async def test_drill(labs: Labs, drill: Drill) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    running = await labs.of(drill.bus)
    try:
        outcome = await carry_out(drill, running, replace(SHORT, **drill.small), seed, drill.short_s)
        print(outcome.notes, outcome.verdict)
        outcome.verdict.raise_if_broken()
    except BaseException:
        for node in running.nodes:
            print(node.name, *node.mistakes()[-3:], node.log()[-1000:], sep="\n")
        await labs.close()
        raise


def test_the_table_tells_what_is_broken() -> None:
    drill = DRILLS[0]
    broken = Verdict(acknowledged=1000)
    broken.broken("nothing acknowledged is lost", "device 1 cid 2", 3)
    broken.broken("clients show what is stored", "device 1")
    rows = table([
        Outcome(drill, Verdict(acknowledged=2000), 1.26, 9.0, []),
        Outcome(drill, broken, 2.0, 9.0, []),
        Outcome(drill, Verdict(), 0.0, 9.0, [], "it did not come back"),
    ]).splitlines()  # fmt: skip
    assert rows[0].split()[:4] == ["fault", "acked", "lost", "doubled"]
    assert [row.removeprefix(drill.fault).split() for row in rows[1:]] == [
        ["2,000", "0", "0", "0", "0", "1.3"],
        ["1,000", "3", "0", "0", "1", "2.0", "BROKEN"],
        ["-", "-", "-", "-", "-", "-", "FAILED"],
    ]


def test_an_outcome_is_sound_only_without_violations_and_problems() -> None:
    broken = Verdict()
    broken.broken("seq runs 1 to head", "chat 1")
    assert Outcome(DRILLS[0], Verdict(), 0.0, 0.0, []).is_sound
    assert not Outcome(DRILLS[0], broken, 0.0, 0.0, []).is_sound
    assert not Outcome(DRILLS[0], Verdict(), 0.0, 0.0, [], "it did not come back").is_sound
