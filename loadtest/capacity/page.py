"""What docs/capacity.md says of unit costs and of three worked examples, from the table and the model themselves."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

from loadtest.capacity.model import DAY_S, YEAR_D, Load, Plan, Room, plan
from loadtest.capacity.units import Units

PAGE: Final = "capacity.md"

COMPANY: Final = Load(5_000, 150_000, away=0.3)
COUNTRY: Final = Load(1_000_000, 83_000_000)
NATION: Final = Load(40_000_000, 500_000 * DAY_S, 13)

LINES: Final[tuple[tuple[str, Callable[[Plan], str]], ...]] = (
    ("messages/s", lambda found: _few(found.rate)),
    ("nodes of one core", lambda found: f"{found.nodes:,}, for {found.nodes_for}"),
    ("Redis of one core", lambda found: f"{found.redis:,}" if found.redis else "none"),
    ("Postgres primaries of 32 cores", lambda found: f"{found.postgres:,}, for {found.postgres_for}"),
    ("busy cores: nodes", lambda found: _few(found.server_cores.total)),
    (
        "of them messages and deliveries",
        lambda found: _few(found.server_cores.messages + found.server_cores.deliveries),
    ),
    ("of them the bus", lambda found: _few(found.server_cores.bus)),
    ("of them READs and TYPINGs", lambda found: _few(found.server_cores.reads + found.server_cores.typing)),
    ("of them notifications", lambda found: _few(found.server_cores.pushes)),
    ("of them sign-ins", lambda found: _few(found.server_cores.sign_ins)),
    ("busy cores: Redis", lambda found: _few(found.redis_cores)),
    ("busy cores: Postgres", lambda found: _few(found.postgres_cores.total)),
    ("of them messages", lambda found: _few(found.postgres_cores.messages)),
    ("of them READs", lambda found: _few(found.postgres_cores.reads)),
    ("messages of a commit", lambda found: f"{found.batch:.1f}"),
    ("memory of all nodes, GiB", lambda found: _few(found.memory_gib)),
    ("network to clients, Gbit/s", lambda found: _few(found.network.clients)),
    ("network of Redis, Gbit/s", lambda found: _few(found.network.redis)),
    ("network to standbys, Gbit/s", lambda found: _few(found.network.postgres_log)),
    ("disk, a copy, GB a day", lambda found: _few(found.stored_tb_a_year * 1000 / YEAR_D)),
    ("disk, a copy, TB a year", lambda found: _few(found.stored_tb_a_year)),
)


def _few(value: float) -> str:
    """Two digits that count: more would be a lie."""
    if value >= 100:
        digits = len(str(int(value)))
        return f"{round(value, 2 - digits):,.0f}"
    return f"{value:.2g}" if value >= 0.01 else "0"


def tables() -> dict[str, str]:
    """By name of their place in the page."""
    room, units = Room(), Units()
    plans = {
        "a company, at its peak": plan(COMPANY, room, units),
        "a country's app, at its peak": plan(COUNTRY, room, units),
        "a nation, mean of a day": plan(NATION, room, units, peak=False),
        "a nation, New Year": plan(NATION, room, units),
        "New Year, brought to the shard": plan(NATION, room, units, brought=True),
    }
    asked = [("connections", [COMPANY, COUNTRY, NATION, NATION, NATION])]
    rows = [f"| {name} | {' | '.join(f'{load.sessions:,}' for load in loads)} |" for name, loads in asked]
    rows += [f"| {name} | {' | '.join(tell(found) for found in plans.values())} |" for name, tell in LINES]
    costs = [f"| `{name}` | {value} | {what} | {_command(by)} |" for name, value, what, by in units.rows()]
    return {
        "units": "\n".join(["| unit | costs | for | measured by `python -m loadtest` |", "|---|---|---|---|", *costs]),
        "worked": "\n".join([f"| | {' | '.join(plans)} |", "|---" * (len(plans) + 1) + "|", *rows]),
    }


def _command(by: str) -> str:
    return by if by == "assumed" else ", ".join(f"`{part.strip()}`" for part in by.split(";"))


def with_tables(text: str) -> str:
    """The page with the tables in their places."""
    for name, table in tables().items():
        text = _with(text, name, table)
    return text


def _with(text: str, name: str, table: str) -> str:
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    pattern = f"{re.escape(begin)}.*{re.escape(end)}"
    return re.sub(pattern, lambda _: f"{begin}\n{table}\n{end}", text, flags=re.DOTALL)


def put(folder: Path, name: str, table: str) -> None:
    """Put one table into `folder`/capacity.md."""
    page = folder / PAGE
    page.write_text(_with(page.read_text("utf-8"), name, table), "utf-8")


def write(folder: Path) -> None:
    """Bring `folder`/capacity.md up to date."""
    page = folder / PAGE
    page.write_text(with_tables(page.read_text("utf-8")), "utf-8")
