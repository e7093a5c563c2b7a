"""What processes used, from /proc. CPU times come in ticks of 10 ms: measure over seconds, not milliseconds."""

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

PROC: Final = Path("/proc")
TICKS: Final = os.sysconf("SC_CLK_TCK")
PAGE_KIB: Final = os.sysconf("SC_PAGE_SIZE") / 1024


def cpu_s(pid: int) -> float:
    """CPU seconds of a process and of its children that ended, user and system; 0 for one that is gone."""
    with suppress(OSError):
        fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
        return sum(map(int, fields[11:15])) / TICKS  # utime, stime, cutime, cstime
    return 0.0


def machine_s() -> float:
    """CPU seconds of everything on this machine, stolen ones included."""
    user, nice, system, _, _, irq, softirq, steal, *_ = (PROC / "stat").read_text().split("\n", 1)[0].split()[1:]
    return sum(map(int, (user, nice, system, irq, softirq, steal))) / TICKS


def rss_kib(pid: int) -> float:
    """Resident memory of a process; 0 for one that is gone."""
    with suppress(OSError):
        return int((PROC / str(pid) / "statm").read_text().split()[1]) * PAGE_KIB
    return 0.0


def pids_in(folder: Path) -> list[int]:
    """Processes whose working folder this is: a Postgres and all its backends work in their data folder."""
    found = []
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                if (entry / "cwd").readlink() == folder:
                    found.append(int(entry.name))
    return found
