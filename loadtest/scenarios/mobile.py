"""A busy hour of people with phones, in little time: everything that a messenger has to do, in the mix it is done in.

Figures are all in: CPU for a message holds its storing and its deliveries, the sign-ins of phones that wake, reading,
typing, and the notifications of those who sleep.
"""

import asyncio
import secrets
from typing import Annotated, Final

import typer

from loadtest.options import Chats, Duration, Users
from loadtest.phones.crew import check, done, refused
from loadtest.phones.people import PeopleCrew, begin, lateness, per_second, pushes, settle_in
from loadtest.phones.plan import HOUR_S
from loadtest.progress import Round
from loadtest.running import Run, scenario

WARM_UP: Final = 0.1  # of the duration, before it
LATE: Final = "the load behind its plan"
LATE_MS: Final = 10.0
MIB: Final = 1024  # in KiB

Seed = Annotated[int | None, typer.Option(help="Of what people do; the same seed is the same plan.",
                                          show_default="a new one")]  # fmt: skip
Compress = Annotated[
    float,
    typer.Option(min=0.0, help="Seconds of people in each second; 0: as many as put a busy hour into --duration."),
]


@scenario
async def mobile(
    run: Run, users: Users = 1000, chats: Chats = 50, duration: Duration = 60.0, compress: Compress = 0.0,
    seed: Seed = None,
) -> None:  # fmt: skip
    """The real mix: talks in bursts, phones that sleep and resume, reads, typing, notifications to the absent."""
    seed = secrets.randbelow(1 << 32) if seed is None else seed
    compress = compress or HOUR_S / duration
    run.report.settings |= {"seed": seed, "compress": round(compress, 1)}
    run.lasts(2 * duration)
    async with run.crews(PeopleCrew, users) as crews:
        await settle_in(run, crews, users, chats, seed)
        run.watch.doing = "warming up"
        await begin(crews, users, seed, (1 + WARM_UP) * duration, compress)
        await asyncio.sleep(WARM_UP * duration)
        run.watch.doing = "a busy hour"
        before, said = await done(crews) + await pushes(run.target), await refused(crews)
        await lateness(crews)
        async with run.watch.round() as measured:
            await asyncio.sleep(duration)
        run.report.latencies[LATE] = late = await lateness(crews)
        if late.percentile(0.99) > LATE_MS:
            run.report.notes.append("the load itself was late: latencies are not the server's alone")
        figures = figures_of(measured)
        figures |= per_second(await done(crews) + await pushes(run.target) - before, measured.took_s)
        figures["refusals"] = (await refused(crews) - said).total()
        memory = await run.target.memory()
        figures |= {f"memory of {part} MiB": kib / MIB for part, kib in memory._asdict().items() if kib}
        run.report.rounds.append(figures)
        await crews.all(PeopleCrew.rest)
        await check(run, crews, in_order=len(run.target.addresses) == 1)
        await crews.all(PeopleCrew.close)


def figures_of(measured: Round) -> dict[str, float]:
    """Of a time in which people lived by a plan."""
    used, messages = measured.used, max(1, measured.acked)
    figures = {
        "messages/s": measured.acked / measured.took_s,
        "deliveries/s": measured.heard / measured.took_s,
        "CPU µs/message, all in": used.total / messages * 1e6,
        "  of it server µs": used.server / messages * 1e6,
        "  of it Postgres µs": used.postgres / messages * 1e6,
        **({"  of it Redis µs": used.redis / messages * 1e6} if used.redis else {}),
        "due to delivery p50 ms": measured.delivery_times.percentile(0.5),
        "due to delivery p99 ms": measured.delivery_times.percentile(0.99),
        "due to delivery p99.9 ms": measured.delivery_times.percentile(0.999),
        "server's side, share of a core": used.total / measured.took_s,
    }
    return figures | measured.surroundings()
