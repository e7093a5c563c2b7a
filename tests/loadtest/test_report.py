"""What a report tells in a terminal and to programs."""

import json

from loadtest.reports.latency import Latencies
from loadtest.reports.report import Point, Report


def told() -> Report:
    """A report with everything in it."""
    latencies = Latencies()
    latencies.extend(number / 1e3 for number in range(1, 1001))
    return Report(
        "chat",
        {"users": 100, "core": 0},
        rounds=[{"messages/s": 100.0}, {"messages/s": 300.0}],
        checked=["none lost"],
        notes=["a busy machine"],
        series=[Point(1.00004, 100, 200.5, 200.0, 199.0, 0, 1.5, 2.5, {"server": 0.5}, {"server": 50_000.0})],
        latencies={"send to ACK": latencies, "send to delivery": Latencies()},
    )


def test_the_table_has_the_tail_of_each_histogram_that_counted() -> None:
    table = told().table()
    assert [line.split() for line in table.splitlines() if "send to" in line] == [
        ["send", "to", "ACK", "500", "990", "999", "1,000", "1,000"]
    ]
    assert "p99.9" in table
    assert "latency" not in Report("wire", {}, [{"bytes": 3}]).table()


def test_json_lines_are_seconds_then_rounds_then_the_whole() -> None:
    second, first, third, whole = map(json.loads, told().json_lines())
    assert second == {
        "scenario": "chat", "second": 1.0, "connected": 100, "sent": 200.5, "acked": 200.0, "delivered": 199.0,
        "errors": 0, "p50_ms": 1.5, "p99_ms": 2.5, "cpu": {"server": 0.5}, "memory": {"server": 50_000.0},
    }  # fmt: skip
    assert (first["round"], third["round"]) == (1, 2)
    assert whole["median"] == {"messages/s": 200.0}
    assert whole["latency_ms"]["send to ACK"]["count"] == 1000
    assert 990 <= whole["latency_ms"]["send to ACK"]["p99"] <= 991
