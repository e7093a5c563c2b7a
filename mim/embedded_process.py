"""The process of an embedded Postgres, and the files in which it wrote its number.

A number alone says nothing: after a restart of a container, or a crash, it may be another program's. So it is believed
only of a process that works in the cluster's folder.
"""

import os
import select
from contextlib import suppress
from pathlib import Path


class Postmaster:
    """A postmaster whose end the kernel tells, through its pidfd."""

    def __init__(self, pidfd: int) -> None:
        self._pidfd = pidfd
        self._poll = select.poll()
        self._poll.register(pidfd, select.POLLIN)

    def is_alive(self) -> bool:
        """Whether it has not ended."""
        return not self._poll.poll(0)

    def close(self) -> None:
        """Look no more."""
        os.close(self._pidfd)


def find_postmaster(cluster: Path) -> Postmaster | None:
    """The postmaster of `cluster`; None when there is none, or nothing can be told: without Linux, or when it runs in
    another container than we do."""
    with suppress(OSError, AttributeError, ValueError, IndexError):
        number = (cluster / "postmaster.pid").read_text().split()[0]
        pidfd = os.pidfd_open(int(number))
        held = Postmaster(pidfd)
        with suppress(OSError):
            if _works_in(cluster, number):  # looked at only now: it is the process that we hold
                return held
        held.close()
    return None


def drop_if_dead(lock: Path, cluster: Path) -> None:
    """Remove a lock file of Postgres whose number says nothing: it belongs to another program by now, as after a
    restart of a container, or to a dead process that nobody reaps. Postgres would take it for alive. Should its
    children still be there, their shared memory keeps the new server from starting."""
    number = lock.read_text().split()[:1] if lock.exists() else []
    if not number:
        return
    with suppress(OSError):  # no such process, or no /proc: Postgres sees to it
        dead = "\nState:\tZ" in Path("/proc", *number, "status").read_text()
        if dead or not _works_in(cluster, *number):
            lock.unlink()


def _works_in(cluster: Path, number: str) -> bool:
    """Whether the process with this number works in the folder. Raises OSError when there is no such process."""
    return Path("/proc", number, "cwd").readlink() == cluster
