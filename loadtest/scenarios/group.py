"""Groups of users."""

from typing import Annotated

import typer

from loadtest.load.client import LoadError
from loadtest.options import Duration, Inflight, Rate, Rounds, Users
from loadtest.running import Run, scenario
from loadtest.scenarios.traffic import talk


@scenario
async def group(
    run: Run, users: Users = 500, group_size: Annotated[int, typer.Option(min=3, help="Members of a group.")] = 50,
    inflight: Inflight = 10, rate: Rate = 0.0, duration: Duration = 5.0, rounds: Rounds = 3,
) -> None:  # fmt: skip
    """Groups with one sender each; every member's watermark is kept and checked."""
    if group_size > users:
        raise LoadError(f"--group-size {group_size}: at most as many as there are --users ({users})")
    await talk(run, users - users % group_size, group_size, 1, inflight, rate, duration, rounds)
