"""A launcher of a node that dies between a commit and its publication, when a file says so.

`python -m tests.faults.crashing serve` is `mim serve`, but as soon as the file `crash` lies in the working folder, the
next batch of messages that has been committed is neither acknowledged nor published: the process kills itself first.
"""

import os
import signal
from collections.abc import Sequence
from pathlib import Path

from mim.__main__ import main
from mim.chat.sending import Sending
from mim.store.committer import Pending

FILE = Path("crash")


def die_or_go_on(sending: Sending, batch: Sequence[Pending]) -> None:
    """Stands for `Sending.committed`."""
    if FILE.exists():
        os.kill(os.getpid(), signal.SIGKILL)
    committed(sending, batch)


if __name__ == "__main__":
    committed = Sending.committed
    Sending.committed = die_or_go_on  # type: ignore[method-assign,assignment]
    main()
