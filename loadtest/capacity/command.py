"""`python -m loadtest capacity`: the model's answer as a table, or its check against runs on this machine."""

import dataclasses
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from loadtest.capacity import check as checking
from loadtest.capacity import page
from loadtest.capacity.model import YEAR_D, Costs, Load, Plan, Room, plan
from loadtest.capacity.units import Units
from loadtest.options import Core
from loadtest.running import refuse

DEFAULT: Final = Load(1, 1)
ROOM: Final = Room()
Share = Annotated[float, typer.Option(min=0.0, max=1.0)]


def capacity(
    users: Annotated[int, typer.Option(min=1, help="Connections at the busiest time.")] = 1_000_000,
    messages: Annotated[float, typer.Option(min=1, help="Messages a day.")] = 83_000_000,
    peak: Annotated[float, typer.Option(min=1, help="Messages/s at the peak, to the mean of the day.")] = DEFAULT.peak,
    groups: Annotated[float, typer.Option(min=0, max=1, help="Share of messages in groups.")] = DEFAULT.groups,
    members: Annotated[float, typer.Option(min=2, help="Members of their groups.")] = DEFAULT.members,
    devices: Annotated[float, typer.Option(min=1, help="Devices of a user.")] = DEFAULT.devices,
    away: Annotated[float, typer.Option(min=0, max=1, help="Share of devices not connected.")] = DEFAULT.away,
    reads: Annotated[float, typer.Option(min=0, help="READs for a delivery.")] = DEFAULT.reads,
    typing: Annotated[float, typer.Option(min=0, help="TYPINGs for a message.")] = DEFAULT.typing,
    logins: Annotated[float, typer.Option(min=0, help="Sign-ins of a connection a day.")] = DEFAULT.logins,
    busy: Annotated[float, typer.Option(min=0.05, max=1, help="Share of a core to use at the peak.")] = ROOM.busy,
    connections: Annotated[int, typer.Option(min=1, help="Connections of a node.")] = ROOM.connections,
    postgres_cores: Annotated[int, typer.Option(min=1, help="Cores of one database server.")] = ROOM.postgres_cores,
    years: Annotated[float, typer.Option(min=0, help="Years of messages on disk.")] = ROOM.kept_years,
    unit: Annotated[list[str] | None, typer.Option(help="NAME=VALUE: a unit cost of your own.")] = None,
    show_units: Annotated[bool, typer.Option("--units", help="Show the unit costs, and what measures each.")] = False,
    check: Annotated[bool, typer.Option(help="Hold the model against runs on this machine, about 6 minutes.")] = False,
    into: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Bring the tables of DIR/capacity.md up to date, or with --check that one."),
    ] = None,
    core: Core = 0,
    json: Annotated[bool, typer.Option("--json", help="JSON instead of a table.")] = False,
) -> None:
    """How many nodes, Redis and Postgres a load asks for, reckoned from measured unit costs (docs/capacity.md)."""
    try:
        units = Units().with_own(unit or [])
    except ValueError as exc:
        refuse(str(exc))
    if check:
        checking.main(core, json=json, into=None if into is None else Path(into))
    elif into is not None:
        page.write(Path(into))
    elif show_units:
        _print_table(["unit", "costs", "for", "python -m loadtest"], units.rows())
    else:
        load = Load(
            users, messages, peak, groups=groups, members=members, devices=devices, away=away, reads=reads,
            typing=typing, logins=logins,
        )  # fmt: skip
        room = Room(busy=busy, connections=connections, postgres_cores=postgres_cores, kept_years=years)
        _answer(load, room, units, as_json=json)


def _answer(load: Load, room: Room, units: Units, *, as_json: bool) -> None:
    plans = {
        "mean": plan(load, room, units, peak=False),
        "peak": plan(load, room, units),
        "peak, brought to the shard": plan(load, room, units, brought=True),
    }
    if plans["peak"].postgres == 1:
        del plans["peak, brought to the shard"]
    if as_json:
        said = {name: _plain(found) for name, found in plans.items()}
        print(json.dumps({"load": dataclasses.asdict(load), "room": dataclasses.asdict(room), "plan": said}))  # noqa: T201
        return
    print(  # noqa: T201
        f"{load.sessions:,} connections, {load.messages_a_day:,.0f} messages a day, {load.peak:g} times as many at the "
        f"peak; each is delivered to {load.deliveries:.2f} devices and wakes {load.pushes:.2f}."
    )
    columns = [dict(_lines(found)) for found in plans.values()]
    _print_table(["", *plans], [(name, *(column[name] for column in columns)) for name in columns[0]])


def _plain(found: Plan) -> dict[str, Any]:
    return {name: value._asdict() if hasattr(value, "_asdict") else value for name, value in found._asdict().items()}


def _lines(found: Plan) -> Iterator[tuple[str, str]]:
    yield "messages/s", f"{found.rate:,.0f}"
    yield "nodes, of one core each", f"{found.nodes:,} (for {found.nodes_for})"
    yield f"  on machines of {ROOM.machine_cores} cores", f"{found.machines:,}"
    yield "Redis, of one core each", f"{found.redis:,}" if found.redis else "none"
    yield "Postgres primaries", f"{found.postgres:,} (for {found.postgres_for})"
    yield "cores wholly busy: nodes", f"{found.server_cores.total:,.2f}"
    yield from _parts("nodes", found.server_cores)
    yield "cores wholly busy: Redis", f"{found.redis_cores:,.2f}"
    yield "cores wholly busy: Postgres", f"{found.postgres_cores.total:,.2f}"
    yield from _parts("Postgres", found.postgres_cores)
    yield "messages of a commit", f"{found.batch:,.1f}"
    yield "envelopes to a Redis at a time", f"{found.published:,.1f}"
    yield "memory of the nodes, GiB", f"{found.memory_gib:,.1f}"
    yield "network, clients, Gbit/s", f"{found.network.clients:,.3f}"
    yield "network, Redis, Gbit/s", f"{found.network.redis:,.3f}"
    yield "network, Postgres' standbys, Gbit/s", f"{found.network.postgres_log:,.3f}"
    yield "a copy of a year's messages, TB", f"{found.stored_tb_a_year:,.2f}"
    yield "the same, GB a day", f"{found.stored_tb_a_year * 1000 / YEAR_D:,.2f}"


def _parts(of: str, costs: Costs) -> Iterator[tuple[str, str]]:
    for name, value in costs._asdict().items():
        yield f"  {of}: {name.replace('_', '-')}", f"{value:,.2f}"


def _print_table(heads: list[str], rows: list[tuple[str, ...]]) -> None:
    widths = [max(len(row[column]) for row in [tuple(heads), *rows]) for column in range(len(heads))]
    for row in [tuple(heads), *rows]:
        cells = (f"{cell:{width}}" for cell, width in zip(row, widths, strict=True))
        sys.stdout.write("  ".join(cells).rstrip() + "\n")
