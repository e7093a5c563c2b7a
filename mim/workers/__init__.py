"""Several processes on one port: a parent that serves nobody, and workers that are each a whole node.

The parent keeps the port, the embedded Postgres and the private Redis, starts the workers, and starts one again that
ends or hangs. A socket pair, the :mod:`line <mim.workers.line>`, joins it with each of them. Over it a worker gets its
orders and says that it is ready, the parent finds out whether the worker's event loop still turns, and the
figures of all workers come together for /metrics. When the line ends, the other side is gone: a worker without a parent
drains and ends, so that none is left behind to keep the port.

uvicorn has a supervisor of its own. It asks its workers one after the other, up to five seconds each; a thread answers
in the worker, also when the event loop hangs; it waits for the end of a stopped worker without a bound; and it does not
tell its workers apart. What would be left of it here is a loop over signals.
"""
