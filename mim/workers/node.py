"""What runs in a worker: a node like that of a single process, which reports to its parent.

`python -m mim.workers.node FD`, where FD is its end of the line.
"""

import asyncio
import os
import signal
import socket
import sys
from typing import Final

import structlog

from mim import logs
from mim.app import Server, loop_factory, run_node
from mim.listening import sharing
from mim.metrics import encode_families, own_families, render_merged
from mim.tasks import TaskSet
from mim.workers.line import Line, LineEndedError
from mim.workers.orders import Orders

log = structlog.get_logger("mim.workers")

PARENT_S: Final = 10.0  # for the parent to answer at the start
SCRAPE_S: Final = 3.0  # for the parent to gather the figures of all
ORPHAN_S: Final = 20  # beyond drain_s, after which an orphan ends in whatever state


def main() -> None:
    """Serve until SIGTERM or until the parent is gone. Before it serves, SIGTERM kills: there is nothing to drain."""
    end = socket.socket(fileno=int(sys.argv[1]))
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(Worker().run(end))


class Worker:
    """The node and its line to the parent."""

    def __init__(self) -> None:
        self._line: Line = None  # type: ignore[assignment]  # set by run()
        self._orders: Orders = None  # type: ignore[assignment]  # set by run()
        self._tasks = TaskSet()
        self._scrape: asyncio.Task[bytes] | None = None

    async def run(self, end: socket.socket) -> None:
        """Ask for orders and follow them."""
        self._line = await Line.over(end, {"ping": self._pong, "figures": self._figures})
        self._tasks.spawn(self._hold(), name="line to the parent")
        self._orders = orders = Orders.decode(await self._line.ask("orders", PARENT_S))
        settings = orders.settings
        structlog.contextvars.bind_contextvars(worker=orders.index)
        logs.configure(settings.log_level, settings.log_format, settings.dev)
        async with run_node(settings, orders.database_url) as node:
            server = Server(settings, node, scrape=self.scrape, on_listening=self._report)
            await server.serve(sharing(orders.addresses))
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # asked once more, as by a service manager: it is ending
        await self._tasks.close()

    async def _hold(self) -> None:
        """When the line ends, there is no parent any more: drain as at SIGTERM, and end for certain."""
        await self._line.run()
        log.warning("the parent is gone; this worker drains and ends")
        drain_s = self._orders.settings.drain_s if self._orders is not None else 0.0
        signal.alarm(int(drain_s) + ORPHAN_S)
        os.kill(os.getpid(), signal.SIGTERM)

    def _report(self, _: int) -> None:
        self._tasks.spawn(self._line.ask("ready", PARENT_S), name="telling that it is ready")

    async def _pong(self) -> bytes:
        return b""

    async def _figures(self) -> bytes:
        return encode_families(own_families())

    async def scrape(self) -> bytes:
        """The figures of all workers. However many ask at once, the parent is asked once at a time."""
        if self._scrape is None or self._scrape.done():
            self._scrape = self._tasks.spawn(self._ask_all(), name="figures of all workers")
        return await asyncio.shield(self._scrape)

    async def _ask_all(self) -> bytes:
        try:
            return await self._line.ask("scrape", SCRAPE_S)
        except (TimeoutError, LineEndedError):  # the parent is busy or gone: better the own ones than none
            return render_merged({str(self._orders.index): own_families()}, {})


if __name__ == "__main__":
    main()
