"""What processes used, from /proc. CPU times come in ticks of 10 ms: measure over seconds, not milliseconds."""

import os
from collections.abc import Iterable, Mapping, Sequence
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


def shared_once_kib(pids: Iterable[int]) -> float:
    """Resident memory of processes that share much of it, as those of a Postgres do.

    The kernel divides what is shared by its owners (PSS). To others than their own user it does not tell that: then
    everything that one of them alone holds, and once the most that one of them shares.
    """
    total = most_shared = 0.0
    for pid in pids:
        with suppress(OSError):
            rollup = _rollup(pid)
            if "Pss" in rollup:
                total += rollup["Pss"]
            else:
                _, resident, shared, *_ = map(int, (PROC / str(pid) / "statm").read_text().split())
                total += (resident - shared) * PAGE_KIB
                most_shared = max(most_shared, shared * PAGE_KIB)
    return total + most_shared


def _rollup(pid: int) -> dict[str, int]:
    with suppress(OSError):
        lines = (PROC / str(pid) / "smaps_rollup").read_text().splitlines()[1:]
        return {name: int(words.split()[0]) for name, _, words in (line.partition(":") for line in lines)}
    return {}


def open_files(pid: int) -> int:
    """Descriptors that a process holds; 0 for one that is gone or is somebody else's."""
    with suppress(OSError):
        return sum(1 for _ in os.scandir(PROC / str(pid) / "fd"))
    return 0


def name(pid: int) -> str:
    """The name of its program, 15 characters of it; empty for one that is gone."""
    with suppress(OSError):
        return (PROC / str(pid) / "comm").read_text().rstrip("\n")
    return ""


def is_alive(pid: int) -> bool:
    """Whether the process runs; one that has ended and that nobody has waited for does not."""
    with suppress(OSError):
        return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


def parent(pid: int) -> int:
    """Who started it, or who adopted it; 0 for one that is gone."""
    with suppress(OSError):
        return int((PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[1])
    return 0


def started_s(pid: int) -> float:
    """When it was started, in seconds since 1970, to a second; 0 for one that is gone."""
    with suppress(OSError):
        ticks = int((PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[19])
        for line in (PROC / "stat").read_text().splitlines():
            if line.startswith("btime "):
                return int(line.split()[1]) + ticks / TICKS
    return 0.0


def pids() -> list[int]:
    """All processes that this one may see."""
    return [int(entry.name) for entry in os.scandir(PROC) if entry.name.isdigit()]


def children() -> dict[int, list[int]]:
    """Who started, or adopted, whom: of all processes, now."""
    found: dict[int, list[int]] = {}
    for pid in pids():
        found.setdefault(parent(pid), []).append(pid)
    return found


def tree(roots: Iterable[int], children: Mapping[int, Sequence[int]]) -> set[int]:
    """These processes, of those that live, with all that descends from them."""
    found: set[int] = set()
    waiting = [pid for pid in roots if is_alive(pid)]
    while waiting:
        pid = waiting.pop()
        if pid not in found:
            found.add(pid)
            waiting += children.get(pid, ())
    return found
