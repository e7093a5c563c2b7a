"""Half of the users lose their connections at the same moment and come back at once, while the others talk on.

Everybody is in a direct chat and in a group of ten. Of each four users two stay, so every group has both kinds, and who
returns has missed what the others wrote. Those who are turned away at the door come again when the server said, as
real clients do.
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Iterable
from typing import Annotated, Any, Final

import typer

from loadtest.load.client import LoadError
from loadtest.load.crews import Crews
from loadtest.load.many import wait_until
from loadtest.options import Rounds, Users
from loadtest.phones.crew import PhoneCrew, check, gather, refused
from loadtest.phones.outbox import text_of
from loadtest.phones.phone import Phone
from loadtest.phones.plan import DIRECT, GROUP, Chat
from loadtest.progress import Round
from loadtest.running import Run, scenario

GROUP_SIZE: Final = 10
IN_GROUPS: Final = 0.25  # of the messages
TEXT_SIZE: Final = 40
WARM_UP_S: Final = 1.0
RETURN_S: Final = 120.0
SHARES: Final = ((0.5, "50 %"), (0.9, "90 %"), (0.99, "99 %"), (1.0, "100 %"))


def stays(number: int) -> bool:
    """Whether this user is one of those who keep their connections."""
    return number % 4 < 2


def chats_of(users: int) -> list[Chat]:
    """A direct chat of every two, a group of every ten."""
    pairs = [Chat(DIRECT, (first, first + 1)) for first in range(0, users - 1, 2)]
    groups = [tuple(range(first, min(first + GROUP_SIZE, users))) for first in range(0, users, GROUP_SIZE)]
    return [*pairs, *(Chat(GROUP, members) for members in groups if len(members) > 2)]


class StormCrew(PhoneCrew):
    """Those who stay, and those who drop."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._droppers = [phone for number, phone in self.phones.items() if not stays(number)]
        self._stayers = [phone for number, phone in self.phones.items() if stays(number)]
        self._talking: asyncio.Task[None] | None = None

    def timed(self) -> Iterable[Phone]:
        """Who was away hears late through no fault of the server."""
        return self._stayers

    async def talk(self, rate: float) -> None:
        """Those who stay write, `rate` messages a second together, from now on."""
        if self._stayers:
            self._talking = asyncio.get_running_loop().create_task(self._talks(rate), name="talk")

    async def hush(self) -> None:
        """No more."""
        if self._talking is not None:
            self._talking.cancel()
            await asyncio.gather(self._talking, return_exceptions=True)

    async def _talks(self, rate: float) -> None:
        chance = random.Random(f"storm/{self.place.numbers.start}")  # noqa: S311
        due_ns = time.perf_counter_ns()
        while True:
            due_ns += int(chance.expovariate(rate) * 1e9)
            await asyncio.sleep(max(0.0, (due_ns - time.perf_counter_ns()) / 1e9))
            phone = chance.choice(self._stayers)
            chats = list(phone.books.chats)
            chat = chats[-1] if chance.random() < IN_GROUPS else chats[0]
            phone.send(chat, text_of(due_ns, TEXT_SIZE))
            phone.read(chat)

    async def drop(self) -> None:
        """Half of those who drop are reset, half close."""
        for number, phone in enumerate(self._droppers):
            phone.drop(reset=number % 2 == 0)

    async def return_by(self, since: float) -> list[float]:
        """Wait until all who dropped are SYNCED again; seconds after `since` (perf_counter) at which each was."""
        await wait_until(
            lambda: all(phone.is_synced and phone.synced_at > since for phone in self._droppers), RETURN_S,
            "the return of everybody",
        )  # fmt: skip
        return [phone.synced_at - since for phone in self._droppers]


@scenario
async def storm(
    run: Run, users: Users = 2000,
    rate: Annotated[float, typer.Option(min=0.1, help="Messages/s of those who stay.")] = 50.0,
    quiet: Annotated[float, typer.Option(min=0.5, help="Seconds of talk before each storm, to compare with.")] = 5.0,
    rounds: Rounds = 3,
) -> None:  # fmt: skip
    """Half of the users drop and return at once: time until all are SYNCED, and how those fare who stay."""
    if users < 4:
        raise LoadError(f"--users {users}: of four users two drop, so 4 at least")
    run.lasts(rounds * (quiet + RETURN_S))
    async with run.crews(StormCrew, users) as crews:
        await gather(run, crews, chats_of(users))
        await crews.all(StormCrew.talk, rate / len(crews))
        await asyncio.sleep(WARM_UP_S)
        for number in range(1, rounds + 1):
            run.watch.doing = f"before storm {number} of {rounds}"
            async with run.watch.round() as before:
                await asyncio.sleep(quiet)
            run.watch.doing = f"storm {number} of {rounds}"
            run.report.rounds.append(await _storm(run, crews, before))
        await crews.all(StormCrew.hush)
        await check(run, crews, in_order=len(run.target.addresses) == 1)
        await crews.all(StormCrew.close)
    run.report.notes.append("latencies are those of the users who stayed, from when a message was due to its delivery")


async def _storm(run: Run, crews: Crews[StormCrew], before: Round) -> dict[str, float]:
    said = await refused(crews)
    async with run.watch.round() as during:
        since = time.perf_counter()
        await crews.all(StormCrew.drop)
        times = sorted(at for part in await crews.all(StormCrew.return_by, since) for at in part)
    refusals = await refused(crews) - said
    talk_s = before.used.total / before.took_s * during.took_s
    figures = {f"until {name} are SYNCED s": times[int(share * (len(times) - 1))] for share, name in SHARES}
    figures |= {
        "returns/s": len(times) / times[-1],
        "CPU ms/return, the talk taken out": (during.used.total - talk_s) / len(times) * 1e3,
        "those who stay, before: p50 ms": before.delivery_times.percentile(0.5),
        "those who stay, before: p99 ms": before.delivery_times.percentile(0.99),
        "those who stay, before: max ms": before.delivery_times.most,
        "those who stay, during: p50 ms": during.delivery_times.percentile(0.5),
        "those who stay, during: p99 ms": during.delivery_times.percentile(0.99),
        "those who stay, during: max ms": during.delivery_times.most,
        **_told(refusals),
        **during.surroundings(),
    }
    return figures


def _told(refusals: Counter[str]) -> dict[str, float]:
    return {"refused in all": refusals.total(), **{f"  of it {word}": refusals[word] for word in sorted(refusals)}}
