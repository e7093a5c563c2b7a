"""A load process: makes a crew and calls its methods as :mod:`loadtest.load.crews` asks, until its input is closed."""

import asyncio
import os
import signal
import sys
from typing import Any

import uvloop

from loadtest.load.client import LoadError
from loadtest.load.crew import Crew
from loadtest.load.crews import read_message, write_message
from loadtest.load.many import first_of


async def main() -> None:
    """Serve the calls; each in a task of its own, because a look at the progress must not wait for a long one."""
    loop = asyncio.get_running_loop()
    stdin = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stdin), os.fdopen(os.dup(0), "rb"))
    transport, protocol = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, os.fdopen(os.dup(1), "wb"))
    stdout = asyncio.StreamWriter(transport, protocol, None, loop)
    sys.stdout = sys.stderr  # the answers have it for themselves
    crew: Crew | None = None

    async def serve(number: int, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        try:
            write_message(stdout, (number, await getattr(crew, method)(*args, **kwargs), None))
        except* (LoadError, OSError, TimeoutError) as group:
            write_message(stdout, (number, None, str(first_of(group)) or type(first_of(group)).__name__))

    async with asyncio.TaskGroup() as tasks:
        running: set[asyncio.Task[None]] = set()
        while (message := await read_message(stdin)) is not None:
            number, method, args, kwargs = message
            if method:
                task = tasks.create_task(serve(number, method, args, kwargs))
                running.add(task)
                task.add_done_callback(running.discard)
                continue
            kind, place = args
            try:
                crew = kind(place)
                write_message(stdout, (number, None, None))
            except LoadError as exc:
                write_message(stdout, (number, None, str(exc)))
        for task in running:  # who closed our input waits for nothing any more
            task.cancel()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then closes our input
    uvloop.run(main())
