"""Pairs of users."""

from loadtest.options import Duration, Inflight, Rate, Rounds, Users
from loadtest.running import Run, scenario
from loadtest.scenarios.traffic import talk


@scenario
async def chat(
    run: Run,
    users: Users = 100,
    inflight: Inflight = 10,
    rate: Rate = 0.0,
    duration: Duration = 5.0,
    rounds: Rounds = 3,
) -> None:
    """Pairs of users, each sending 64-byte texts as fast as they are acknowledged, or at a --rate."""
    await talk(run, users + users % 2, 2, 2, inflight, rate, duration, rounds)
