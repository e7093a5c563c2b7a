"""Every scenario's check finds one message that was lost, doubled, swapped or not acknowledged, and nothing where
there is nothing; and the command says so by its exit code."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest

from loadtest.checks import tally
from loadtest.phones import crew as phones
from loadtest.reports.report import Report
from loadtest.running import BROKEN, finish, measure
from loadtest.scenarios import broadcast, chat, group, mobile, soak, storm, traffic
from loadtest.server import Memory, Usage
from tests.harness import SECRET, RunningServer, running
from tests.loadtest.frame_proxy import Doubles, Drops, EatsAck, Fault, FrameProxy, Swaps

LIFTED: dict[str, Any] = {"send_rate": 1e9, "send_burst": 10**9, "request_rate": 1e9, "request_burst": 10**9}
SMALL: dict[str, tuple[Any, dict[str, Any]]] = {
    "chat": (chat.chat, {"users": 4, "inflight": 2, "rate": 60.0, "duration": 1.0, "rounds": 1}),
    "group": (group.group, {"users": 4, "group_size": 4, "inflight": 2, "rate": 60.0, "duration": 1.0, "rounds": 1}),
    "broadcast": (broadcast.broadcast, {"users": 5, "rate": 20.0, "duration": 1.0, "rounds": 1}),
    "storm": (storm.storm, {"users": 12, "rate": 60.0, "quiet": 1.0, "rounds": 1}),
    "mobile": (mobile.mobile, {"users": 30, "chats": 6, "duration": 4.0, "compress": 100.0, "seed": 11}),
    "soak": (
        soak.soak,
        {"users": 30, "chats": 6, "duration": 4.0, "compress": 100.0, "seed": 11, "faults": False},
    ),
}
FAULTS: list[tuple[type[Fault], set[str]]] = [
    (Fault, set()),
    (Drops, {"everybody has everything"}),
    (Doubles, {"nothing is delivered twice", "everybody has everything", "live messages come in order"}),
    (Swaps, {"live messages come in order"}),
    (EatsAck, {"every message is acknowledged in the end"}),
]


@pytest.fixture
async def server(database_url: str) -> AsyncIterator[RunningServer]:
    async with running(database_url, None, **LIFTED) as server:
        yield server


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not come is not waited for so long."""
    monkeypatch.setattr(tally, "SETTLE_S", 2.0)
    monkeypatch.setattr(phones, "SETTLE_S", 2.0)
    monkeypatch.setattr(broadcast, "ARRIVE_S", 2.0)
    monkeypatch.setattr(traffic, "WARM_UP_S", 0.1)


class Unmeasured:
    """A target whose costs nobody asks for: looking for its processes would cost more than the test."""

    secret = SECRET
    ssl = None
    host = "127.0.0.1"

    def __init__(self, port: int) -> None:
        self.about: dict[str, Any] = {}
        self.port = port
        self.addresses = [(self.host, port)]

    async def usage(self) -> Usage:
        return Usage(0.0, 0.0)

    async def memory(self) -> Memory:
        return Memory(0.0, 0.0)

    async def files(self) -> int:
        return 0


def port_of(server: RunningServer) -> int:
    return int(server.http.rpartition(":")[2])


async def run_through(
    server: RunningServer, fault: Fault, work: Any, options: dict[str, Any], processes: int = 0
) -> Report:
    async with FrameProxy(port_of(server), fault) as proxy:
        return await measure(work.work, options, Unmeasured(proxy.port), processes)


@pytest.mark.parametrize("name", SMALL)
async def test_a_fault_of_one_message_is_found(name: str, server: RunningServer, hurried: None) -> None:
    work, options = SMALL[name]
    faults = [kind() for kind, _ in FAULTS]
    reports = await asyncio.gather(*(run_through(server, fault, work, options) for fault in faults))
    for fault, report, (kind, invariants) in zip(faults, reports, FAULTS, strict=True):
        assert fault.times or not invariants, f"{kind.__name__} had no message to spoil"
        found = {sentence.partition(":")[0] for sentence in report.violations}
        assert bool(found) == bool(invariants), (kind.__name__, report.violations)
        assert not invariants or found & invariants, (kind.__name__, report.violations)


async def test_the_books_of_several_processes_lie_side_by_side(server: RunningServer, hurried: None) -> None:
    work, options = SMALL["storm"]
    faults = [Fault(), Drops()]
    right, wrong = await asyncio.gather(*(run_through(server, fault, work, options, 2) for fault in faults))
    assert not right.violations
    assert any("did not come live" in sentence for sentence in wrong.violations), wrong.violations


def test_a_violation_ends_the_command_with_an_exit_code() -> None:
    finish(Report("chat", {}), None, json=True)
    with pytest.raises(SystemExit) as ended:
        finish(Report("chat", {}, violations=["something"]), None, json=True)
    assert ended.value.code == BROKEN


@pytest.mark.parametrize("kind", [Fault, Doubles])
async def test_the_command_itself(kind: type[Fault], server: RunningServer) -> None:
    async with FrameProxy(port_of(server), kind()) as proxy:
        command = [
            "storm",
            "--url",
            f"http://127.0.0.1:{proxy.port}",
            "--users",
            "8",
            "--quiet",
            "0.5",
            "--rounds",
            "1",
        ]
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "loadtest", *command, env={**os.environ, "MIM_JWT_SECRET": SECRET},
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        said, errors = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == (BROKEN if kind is Doubles else 0), (said, errors)
    assert (b"VIOLATION: nothing is delivered twice" in said) == (kind is Doubles), said
