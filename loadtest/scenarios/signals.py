"""What people send beside messages: READs and TYPINGs, each alone and evenly spaced in time.

A READ is stored as a watermark and told to the other side; what comes within 40 ms is stored together, so a READ costs
more at a low rate. A TYPING is looked up and passed on; more than one in 3 s of the same person is dropped, so users
take turns, and there are no more of them than that allows.

What wakes an idle process pays for the wake-up. On a busy one it comes for nothing, which is what `--beside` shows:
messages go on all the time, and what they cost is taken off.
"""

import asyncio
import time
from collections.abc import Iterable
from itertools import count, cycle
from typing import Annotated, Final

import typer

from loadtest.load.client import PATIENCE_S, READBY, Client, LoadError
from loadtest.load.many import few_at_a_time, wait_until
from loadtest.meter import OTHERS
from loadtest.options import Duration, Rounds, Users
from loadtest.progress import Round
from loadtest.running import Run, scenario
from loadtest.scenarios.traffic import WARM_UP_S, TrafficCrew

READ: Final = 3
TYPING: Final = 4
USER_TYPING: Final = 23
HEARD: Final = {READ: READBY, TYPING: USER_TYPING}
NAMES: Final = {READ: "READ", TYPING: "TYPING"}
TYPING_EVERY_S: Final = 5.0  # what comes late must not come too soon after


class SignalCrew(TrafficCrew):
    """Pairs; the first of each wrote, the second reads and types."""

    async def write(self, messages: int) -> None:
        """Have so many messages in every chat, and nothing of them read."""

        async def write(client: Client) -> None:
            client.send(messages)
            await wait_until(lambda: client.acked == client.sent, PATIENCE_S, "ACK of every message")

        await few_at_a_time(write, self._senders)

    async def signal(self, op: int, rate: float, duration_s: float, first: int) -> int:
        """The seconds of each pair send frames with this op, by turns, and the firsts hear them; returns how many.
        READs are of seq `first` and on, one higher with each turn."""
        own = [client for client in self.clients if client.number % 2]
        others = [client for client in self.clients if client.number % 2 == 0]
        for client in others:
            client.frame_sizes = {}
        expected = int(rate * duration_s)
        began = time.perf_counter()
        for sent, (client, turn) in enumerate(_by_turns(own)):
            if sent == expected:
                break
            if (early := began + sent / rate - time.perf_counter()) > 0:
                await asyncio.sleep(early)
            client.write(op, client.chat, *((first + turn,) if op == READ else ()))

        def heard() -> int:
            return sum(len((client.frame_sizes or {}).get(HEARD[op], ())) for client in others)

        await wait_until(lambda: heard() >= expected, PATIENCE_S, f"{NAMES[op]} at the other side")
        if heard() > expected:
            raise LoadError(f"{expected} {NAMES[op]} were told {heard()} times")
        return expected


def _by_turns(clients: list[Client]) -> Iterable[tuple[Client, int]]:
    turns = count()
    turn = 0
    for client in cycle(clients):
        if client is clients[0]:
            turn = next(turns)
        yield client, turn


@scenario
async def signals(
    run: Run, users: Users = 2000,
    rate: Annotated[float, typer.Option(min=1.0, help="Signals/s of all users together.")] = 300.0,
    beside: Annotated[
        float, typer.Option(min=0.0, help="Messages/s of the others meanwhile: a node that is busy anyway.")
    ] = 0.0,
    duration: Duration = 5.0, rounds: Rounds = 3,
) -> None:  # fmt: skip
    """READs and TYPINGs in pairs: CPU of each, at a rate; of TYPINGs no more than one in 3 s of a user counts."""
    users += users % 2
    rates = {READ: rate, TYPING: min(rate, users / 2 / TYPING_EVERY_S)}
    run.lasts(2 * rounds * duration)
    turns = int(rate * duration / (users / 2)) + 1
    async with run.crews(SignalCrew, users) as crews:
        run.watch.doing = "opening chats"
        ids = [user for part in await crews.all(SignalCrew.connect) for user in part]
        chats = {first: chat for part in await crews.all(SignalCrew.create, 2, ids) for first, chat in part.items()}
        await crews.all(SignalCrew.enter, 2, 1, chats)
        await crews.all(SignalCrew.write, turns * rounds)
        if beside:
            await crews.all(SignalCrew.run_at, beside / len(crews), run.name)
            await asyncio.sleep(WARM_UP_S)
        run.watch.doing = "no signals"
        async with run.watch.round() as silent:
            await asyncio.sleep(duration)
        for number in range(rounds):
            figures: dict[str, float] = {}
            for op, name in NAMES.items():
                run.watch.doing = f"round {number + 1} of {rounds}, {name}"
                share = rates[op] / len(crews)
                async with run.watch.round() as measured:
                    told = sum(await crews.all(SignalCrew.signal, op, share, duration, 1 + number * turns))
                figures[f"{name}: a second"] = told / measured.took_s
                figures |= _figures(name, told, measured, silent)
            run.report.rounds.append(figures)
        await crews.all(SignalCrew.stop)
        run.report.checked.append("every READ and TYPING was told to the other side, once")
        await crews.all(SignalCrew.close)


def _figures(name: str, told: int, measured: Round, silent: Round) -> dict[str, float]:
    """Of each signal, without what the server uses in so much time without them."""
    parts = ("total", "server", "postgres")
    used = {
        part: getattr(measured.used, part) - getattr(silent.used, part) * measured.took_s / silent.took_s
        for part in parts
    }
    return {
        f"{name}: CPU µs": used["total"] / told * 1e6,
        f"{name}: of it server µs": used["server"] / told * 1e6,
        f"{name}: of it Postgres µs": used["postgres"] / told * 1e6,
        f"{name}: {OTHERS}": measured.surroundings()[OTHERS],
    }
