"""How a drill is carried out: steady talk before, a fault, everything mended, more talk, and then the reckoning."""

import random
import time
import zlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from loadtest.checks.invariants import Verdict
from tests.faults.crowd import Crowd, crowd
from tests.faults.lab import Bus, Lab

ERROR_SHOWN = 2000


@dataclass(frozen=True)
class Scale:
    """How large and how long a drill is."""

    people: int = 60
    desktops: int = 6
    pace_s: float = 0.5  # between two messages of a person
    ping_s: float = 2.0
    pong_s: float = 3.0
    talkers: int | None = None
    steady: int = 200  # messages before a fault and after it


LONG = Scale()
SHORT = Scale(people=20, desktops=4, pace_s=0.25, ping_s=1.0, pong_s=2.0, steady=40)


@dataclass
class Stage:
    """What a drill has at hand."""

    lab: Lab
    people: Crowd
    seconds: float
    rng: random.Random
    tell: Callable[[str], None]  # progress, for a person who watches
    notes: list[str] = field(default_factory=list)


Act = Callable[[Stage], Awaitable[float]]
"""Does the fault; returns how many seconds after it service was back."""


@dataclass(frozen=True)
class Drill:
    """A fault, and how long it lasts unless it is told otherwise."""

    name: str
    fault: str
    act: Act
    long_s: float = 10.0
    short_s: float = 2.0
    bus: Bus = "redis"
    crowd: dict[str, Any] = field(default_factory=dict)  # what differs from the scale in the long form
    small: dict[str, Any] = field(default_factory=dict)  # and in the short one


@dataclass
class Outcome:
    """A row of the table."""

    drill: Drill
    verdict: Verdict
    back_s: float
    took_s: float
    notes: list[str]
    problem: str = ""  # what kept the drill from its end

    @property
    def is_sound(self) -> bool:
        """Whether everything held."""
        return not self.problem and not self.verdict.violations


async def carry_out(
    drill: Drill, lab: Lab, scale: Scale, seed: int, seconds: float, tell: Callable[[str], None] = print
) -> Outcome:
    """One drill on a lab in which everything runs. Raises AssertionError or TimeoutError when it cannot end."""
    began = time.monotonic()
    before = {node: len(node.mistakes()) for node in lab.nodes}
    seed = zlib.crc32(f"{seed}/{drill.name}".encode())
    tell(f"{drill.name}: {scale.people} people, seed {seed}")
    async with crowd(
        lab.addresses, scale.people, seed, desktops=scale.desktops, pace_s=scale.pace_s, ping_s=scale.ping_s,
        pong_s=scale.pong_s, talkers=scale.talkers,
    ) as people:  # fmt: skip
        stage = Stage(lab, people, seconds, random.Random(seed), tell)
        people.starts_talking()
        await people.is_served()
        await people.talks_on(scale.steady)
        tell(f"{drill.name}: {drill.fault}")
        back_s = await drill.act(stage)
        tell(f"{drill.name}: service is back after {back_s:.1f} s")
        await lab.mends()
        if not people.is_talking:
            people.starts_talking()
        await people.is_served()
        await people.talks_on(scale.steady)
        await people.stops_talking()
        await people.have_everything()
        verdict = await people.verdict(lab.database_url)
        dismissed = [client.dismissed for client in people.everyone if client.dismissed]
    assert not dismissed, f"clients were told not to come back: {dismissed}"
    mistakes = [line for node in lab.nodes for line in node.mistakes()[before[node] :]]
    assert not mistakes, f"{len(mistakes)} errors were logged, the first: {mistakes[0][:ERROR_SHOWN]}"
    return Outcome(drill, verdict, back_s, time.monotonic() - began, stage.notes)
