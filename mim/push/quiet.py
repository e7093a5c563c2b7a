"""Quiet hours: minutes of the day in the user's own time zone, over midnight too."""

from datetime import datetime
from functools import lru_cache
from zoneinfo import ZoneInfo

from mim.store.push_plan import Candidate


def is_quiet(candidate: Candidate, now: float) -> bool:
    """Whether second `now` lies in the quiet hours of the candidate's user: from `quiet_from` up to `quiet_until`."""
    start, end = candidate.quiet_from, candidate.quiet_until
    if start is None or end is None or start == end:
        return False
    minute = minute_of_day(candidate.zone or "UTC", int(now) // 60)
    return start <= minute < end if start < end else minute >= start or minute < end


@lru_cache(maxsize=4096)
def minute_of_day(zone: str, minute: int) -> int:
    """The minute of the day in a time zone at `minute` since 1970; of UTC where this machine does not know the zone."""
    try:
        there = datetime.fromtimestamp(minute * 60, ZoneInfo(zone))
    except (LookupError, OSError, ValueError):
        there = datetime.fromtimestamp(minute * 60, ZoneInfo("UTC"))
    return there.hour * 60 + there.minute
