"""What the load itself costs and how much of it one load process makes: `chat`, against a stub that stores nothing.

How many messages come in one segment decides most of it, for a segment costs a system call at both ends. With a window
of one it is one message each, the most that the load pays; a server that acknowledges in batches lies in between.
"""

from typing import Final

from loadtest.meter import LOAD
from loadtest.options import Core, Duration, Folder, Inflight, Json, Processes, Rounds, Users
from loadtest.running import Run, finish, start
from loadtest.scenarios.traffic import talk
from loadtest.target.stub_server import stub

STUB_FULL: Final = 0.9  # share of its core above which the stub is what bounds the messages


def self_(
    users: Users = 100, inflight: Inflight = 10, duration: Duration = 5.0, rounds: Rounds = 3,
    core: Core = 0, processes: Processes = 1, report: Folder = None, json: Json = False,
) -> None:  # fmt: skip
    """The load that this tool makes by itself: pairs of users, as in `chat`, against a stub on the server's core."""
    options = {"users": users + users % 2, "inflight": inflight, "duration": duration, "rounds": rounds}
    finish(start(self_load, options, None, None, core, 1, processes, stub(core)), report, json)


async def self_load(run: Run, users: int, inflight: int, duration: float, rounds: int) -> None:
    await talk(run, users, 2, 2, inflight, 0.0, duration, rounds)
    report = run.report
    measured, report.rounds = report.rounds, []
    for figures in measured:
        cost = figures[LOAD] / figures["messages/s"]  # sending one, hearing its ACK, hearing another's
        report.rounds.append(
            {
                "messages/s": figures["messages/s"],
                "CPU µs/message of the load": cost * 1e6,
                "messages/s that it would fill a core with": 1 / cost,
                "CPU µs/message of the stub": figures["CPU µs/message"],
                "stub, share of a core": figures["server's side, share of a core"],
                **{name: value for name, value in figures.items() if "share of a core" in name and "side" not in name},
            }
        )
    if any(figures["stub, share of a core"] > STUB_FULL for figures in report.rounds):
        report.notes.append("the stub filled its core: the load can make more messages/s than there were")


self_load.__name__ = "self"
