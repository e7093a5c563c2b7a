"""`python -m loadtest self`: the load against a stub."""

import asyncio
import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("processes", [1, 2])
async def test_the_load_tells_what_it_costs_itself(processes: int) -> None:
    options = ("--users", "10", "--duration", "0.5", "--rounds", "1", "--processes", str(processes), "--json")
    command = (sys.executable, "-m", "loadtest", "self", *options)
    run = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=asyncio.subprocess.PIPE)
    said, _ = await run.communicate()
    assert run.returncode == 0
    *_, summary = (json.loads(line) for line in said.splitlines())
    assert summary["scenario"] == "self"
    assert summary["violations"] == []
    figures = summary["median"]
    assert figures["messages/s"] > 100
    assert 0 < figures["CPU µs/message of the load"] < 1000
    assert figures["messages/s that it would fill a core with"] * figures["CPU µs/message of the load"] == (
        pytest.approx(1e6, rel=0.01)
    )
