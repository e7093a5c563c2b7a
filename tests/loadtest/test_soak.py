"""What a soak compares, and one of some seconds with a node that is killed."""

import os

import pytest

from loadtest.progress import Round
from loadtest.reports.latency import Latencies
from loadtest.reports.report import Report
from loadtest.running import measure
from loadtest.scenarios import soak
from loadtest.server import Memory, Usage, private

CORE = min(os.sched_getaffinity(0))
MIB = 1024


class Quarter(Round):
    """One that is over."""

    def __init__(self, cpu_s: float, ms: float) -> None:
        self.used = Usage(cpu_s, 0.0)
        self.acked = 1000
        self.delivery_times = Latencies()
        self.delivery_times.extend([ms / 1e3] * 2000)


def wrong(growths: list[soak.Growth]) -> set[str]:
    return {growth.what for growth in growths if not growth.is_fine}


def grown(*server_mib: float, killed: bool = False, cpu_s: float = 1.0, ms: float = 5.0) -> set[str]:
    memory = [Memory(mib * MIB, 100 * MIB, 10 * MIB) for mib in server_mib]
    quarters = [Quarter(1.0, 5.0), Quarter(9.0, 99.0), Quarter(9.0, 99.0), Quarter(cpu_s, ms)]
    return wrong(soak.growths_of(quarters, memory, killed=killed))


def test_what_stays_within_its_bounds_is_fine() -> None:
    assert grown(50, 60, 65, 70, 75) == set()


def test_what_grows_or_drifts_is_told() -> None:
    assert grown(50, 60, 65, 70, 77) == {"memory of server"}
    assert grown(50, 60, 60, 60, 60, cpu_s=2.1) == {"CPU a message"}
    assert grown(50, 60, 60, 60, 60, ms=11.0) == {"due to delivery, p50", "due to delivery, p99"}


def test_a_node_that_was_killed_is_compared_with_itself() -> None:
    assert grown(500, 500, 500, 60, 70, killed=True) == set()
    assert grown(500, 500, 500, 60, 77, killed=True) == {"memory of server"}


@pytest.mark.parametrize(
    ("nodes", "private", "duration_s", "faults"),
    [
        (1, False, 60.0, ["phones", "phones"]),
        (1, True, 60.0, ["node 0", "phones"]),
        (2, True, 3600.0, ["node 0", "node 1", "redis", "phones", "node 0", "node 1", "redis", "phones"]),
    ],
)
def test_what_fails_is_what_there_is(nodes: int, private: bool, duration_s: float, faults: list[str]) -> None:
    assert soak.faults_of(nodes, duration_s, private=private) == faults


async def test_nothing_is_lost_when_a_node_is_killed_and_phones_lose_their_network() -> None:
    options = {"users": 20, "chats": 6, "duration": 4.0, "compress": 200.0, "seed": 3, "faults": True}
    async with private(CORE) as server:
        report: Report = await measure(soak.soak.work, options, server, processes=0)  # type: ignore[attr-defined]
    assert not report.violations
    assert report.notes[-1] == "faults: node 0, phones"
    assert sum(figures["refusals and lost connections"] for figures in report.rounds) > 0
    assert any(line.startswith("descriptors") for line in report.checked)
