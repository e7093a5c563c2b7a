"""A launcher of a node that dies between a commit and its publication, when a file says so.

`python -m tests.faults.crashing serve` is `mim serve`, but as soon as the file `crash` lies in the working folder, the
next batch of messages that has been committed is neither acknowledged nor published: the process kills itself first.
"""

import os
import signal
from pathlib import Path
from typing import Any

from mim.__main__ import main
from mim.chat.sending import Sending

FILE = Path("crash")


def die_or_go_on(sending: Sending, *batch: Any) -> None:
    """Stands for `Sending.committed`, with whatever it takes."""
    if FILE.exists():
        os.kill(os.getpid(), signal.SIGKILL)
    committed(sending, *batch)


if __name__ == "__main__":
    committed = Sending.committed
    Sending.committed = die_or_go_on  # type: ignore[method-assign,assignment]
    main()
