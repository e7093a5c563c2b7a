"""Quiet hours in the user's own time zone."""

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from mim.push.quiet import is_quiet
from mim.store.push_plan import Candidate


def candidate(start: int | None, end: int | None, zone: str | None) -> Candidate:
    return Candidate(1, 2, "apns", 5, 9, False, True, True, True, start, end, zone)


@pytest.mark.parametrize(
    ("time", "start", "end", "quiet"),
    [
        ("23:30", 22 * 60, 7 * 60, True),
        ("06:59", 22 * 60, 7 * 60, True),
        ("07:00", 22 * 60, 7 * 60, False),
        ("21:59", 22 * 60, 7 * 60, False),
        ("13:00", 12 * 60, 14 * 60, True),
        ("14:00", 12 * 60, 14 * 60, False),
        ("14:00", None, None, False),
        ("14:00", 14 * 60, 14 * 60, False),
    ],
)
@pytest.mark.parametrize("zone", ["Asia/Seoul", "America/New_York", "Asia/Kathmandu", "UTC"])
def test_hours(time: str, start: int | None, end: int | None, quiet: bool, zone: str) -> None:
    now = datetime.fromisoformat(f"2026-03-08T{time}").replace(tzinfo=ZoneInfo(zone)).timestamp()
    assert is_quiet(candidate(start, end, zone), now) is quiet


def test_a_zone_that_this_machine_does_not_know_is_utc() -> None:
    noon = datetime.fromisoformat("2026-03-08T12:00+00:00").timestamp()
    assert is_quiet(candidate(11 * 60, 13 * 60, "Mars/Olympus"), noon)
