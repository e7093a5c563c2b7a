"""The command line of the drills: `python -m tests.faults.drill`, or `make drill`."""

import asyncio
import logging
import random
import resource
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from typing import Annotated, Final

import structlog
import typer

from loadtest.checks.invariants import Verdict
from tests.faults.drills.catalogue import DRILLS
from tests.faults.lab import Lab, lab
from tests.faults.stage import LONG, Drill, Outcome, Scale, carry_out

ABOUT = """Drills: break a small installation on purpose, fault by fault, and prove that nothing acknowledged is lost.

Starts three nodes, Redis, and a Postgres primary with a synchronous standby on loopback, lets a few dozen people talk
one to one and in groups, does one fault after another, and compares what every client was told with what every other
received and with the database. It ends by itself, with everything that it started; Ctrl-C ends it too.

\b
Try:
  python -m tests.faults.drill                             every drill, some ten minutes
  python -m tests.faults.drill --list                      their names
  python -m tests.faults.drill --only redis-killed         one of them; may be repeated
  python -m tests.faults.drill --only node --seconds 5     those that begin so, with faults of five seconds
  python -m tests.faults.drill --only random --minutes 10  many faults at random, overlapping
  python -m tests.faults.drill --seed 7                    the same traffic and the same choices

\b
The table's columns:
  acked         messages that were acknowledged
  lost          acknowledged and missing or altered, holes in a chat's numbers, or not with a member that should have it
  doubled       stored twice, or stored though nobody sent it
  disordered    against the order of their sending, or in which time goes back
  unread        watermarks that are not what was sent and read, or clients that show other counts than the database
  back s        seconds until everybody was served as before: after the fault, or where it lasts a while, after its end

The exit code is 1 when any of them is not zero or a drill did not end as it must, 2 when the lab could not start.
"""

BROKEN: Final = 1
WRONG: Final = 2
FILES: Final = 16_384
FAILURES: Final = (AssertionError, TimeoutError, OSError, ExceptionGroup)


def main(
    only: Annotated[list[str] | None, typer.Option(help="Drills whose names begin so.", metavar="NAME")] = None,
    seconds: Annotated[float | None, typer.Option(min=1, help="How long a fault lasts; else each drill's own.")] = None,
    minutes: Annotated[float | None, typer.Option(min=0.1, help="How long the random faults go on.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of the traffic and the choices; else a new one.")] = None,
    names: Annotated[bool, typer.Option("--list", help="List the drills and end.")] = False,
) -> None:
    """Choose drills, carry them out, print the table."""
    if names:
        for drill in DRILLS:
            print(f"{drill.name:16} {drill.fault}")
        return
    chosen = [drill for drill in DRILLS if not only or drill.name.startswith(tuple(only))]
    if not chosen:
        raise typer.BadParameter(f"no drill begins with {' or '.join(only or ())}; --list tells them")
    if minutes is not None:
        chosen = [replace(drill, long_s=60 * minutes) if drill.name == "random" else drill for drill in chosen]
    seed = random.randrange(1 << 32) if seed is None else seed
    quieten()
    allow_many_files()
    sys.exit(asyncio.run(_until_told(chosen, seed, seconds)))


async def _until_told(chosen: Sequence[Drill], seed: int, seconds: float | None) -> int:
    """SIGTERM ends it as Ctrl-C does: by cancelling, so that everything that was started is ended."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    print(f"seed {seed}; repeat with --seed {seed}")
    outcomes: list[Outcome] = []
    try:
        for _, drills in groupby(chosen, key=lambda drill: drill.bus):
            outcomes += await _all(list(drills), seed, seconds)
    except FAILURES as exc:  # those of a drill are told in its row
        print(f"the lab does not start: {exc or type(exc).__name__}", file=sys.stderr)
        return WRONG
    except asyncio.CancelledError:
        print("ended before its end", file=sys.stderr)
        return WRONG
    print("\n" + table(outcomes))
    return 0 if all(outcome.is_sound for outcome in outcomes) else BROKEN


async def _all(drills: list[Drill], seed: int, seconds: float | None) -> list[Outcome]:
    """Drills on one kind of lab; after one that failed, the next gets a new lab."""
    outcomes: list[Outcome] = []
    while drills:
        async with lab(3, drills[0].bus) as built:
            while drills:
                outcomes.append(await _one(drills.pop(0), built, seed, seconds))
                if not outcomes[-1].is_sound:
                    break
    return outcomes


async def _one(drill: Drill, built: Lab, seed: int, seconds: float | None) -> Outcome:
    scale: Scale = replace(LONG, **drill.crowd)
    began = time.monotonic()
    try:
        outcome = await carry_out(drill, built, scale, seed, seconds or drill.long_s, _say)
    except FAILURES as exc:
        problem = str(exc) or type(exc).__name__
        outcome = Outcome(drill, Verdict(), 0.0, time.monotonic() - began, [], problem)
    for note in outcome.notes:
        _say(f"{drill.name}: {note}")
    if outcome.problem:
        _say(f"{drill.name}: FAILED: {outcome.problem}")
    _say(f"{drill.name}: {outcome.verdict}")
    return outcome


def _say(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')}  {line}", flush=True)


def table(outcomes: Sequence[Outcome]) -> str:
    """One row a drill."""
    head = ("fault", "acked", "lost", "doubled", "disordered", "unread", "back s", "")
    rows: list[tuple[str, ...]] = [head]
    for outcome in outcomes:
        counts = outcome.verdict.counts
        zeros = [str(counts[column]) for column in ("lost", "doubled", "out of order", "unread wrong")]
        if outcome.problem:
            rows.append((outcome.drill.fault, *["-"] * 6, "FAILED"))
        else:
            acked, back = f"{outcome.verdict.acknowledged:,}", f"{outcome.back_s:.1f}"
            rows.append((outcome.drill.fault, acked, *zeros, back, "" if outcome.is_sound else "BROKEN"))
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def quieten() -> None:
    """What the libraries that we share with the server would log is not for whoever watches a drill."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)


def allow_many_files() -> None:
    """Two thousand clients are two thousand sockets here."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < FILES:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(FILES, hard), hard))


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None,
                      context_settings={"help_option_names": ["-h", "--help"]})  # fmt: skip
    app.command(help=ABOUT)(main)
    app()
