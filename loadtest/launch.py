"""Become a server: `python -m loadtest.launch CORE PARENT MODULE ...` turns into `python -m MODULE ...`.

The process is pinned to one core, and so is what it starts. The kernel ends it when its parent, the load test, dies,
however that dies. Then this program is replaced by the server, so that nothing of the load test is measured with it.
"""

import ctypes
import os
import resource
import signal
import sys
from typing import Final

PR_SET_PDEATHSIG: Final = 1


def main() -> None:
    """Replace this process by the server."""
    core, parent, *module = sys.argv[1:]
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(parent):  # it died before
        sys.exit(1)
    os.sched_setaffinity(0, {int(core)})
    allow_many_files()
    os.execv(sys.executable, [sys.executable, "-m", *module])  # noqa: S606


def allow_many_files() -> int:
    """Let this process open as many sockets as the system allows it; returns how many."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return most


if __name__ == "__main__":
    main()
