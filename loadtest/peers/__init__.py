"""Other servers, to be measured beside this one by the same scenarios: :mod:`loadtest.peers.compare`.

A peer's adapter is one file with two things: a :class:`loadtest.server.Target` that starts the server privately on a
core, and a :class:`PeerClient` that speaks its protocol.
"""

from loadtest.checks.invariants import Verdict
from loadtest.load.client import Client


class PeerClient(Client):
    """What scenarios ask of a client, in another protocol. A user is known by the number it has in the run.

    An adapter overrides how frames are taken and sent (`_take`, `_take_upgrade`, `_send`), and `open`, `create_chat`,
    `knows`, `enter`, `keep_alive`, `close`.
    """

    async def judge(self) -> Verdict:
        """Whether the server kept its promises to this client, at the end of a run in which it had one chat."""
        raise NotImplementedError
