"""What every use case may reach: storage, the bus, the clock, the settings. Built once per node by the composition
root.
"""

from dataclasses import dataclass

from mim.auth.identity import Identity
from mim.bus.port import Bus
from mim.chat.publisher import Publisher
from mim.chat.push_port import PushPort
from mim.chat.reading import Reading
from mim.chat.sending import Sending
from mim.chat.typing_signals import TypingSignals
from mim.clock import Clock
from mim.config import Settings
from mim.store.committer import Committer
from mim.store.db import Pool
from mim.store.dispatch import Dispatches
from mim.wire.rate import RateLimiter


@dataclass(frozen=True, slots=True)
class Context:
    """The node's services, below the gateway and the HTTP app. `sessions` are connections for sessions that open."""

    settings: Settings
    clock: Clock
    pool: Pool
    sessions: Pool
    bus: Bus
    publisher: Publisher
    committer: Committer
    dispatches: Dispatches
    push: PushPort
    sending: Sending
    reading: Reading
    typing: TypingSignals
    identity: Identity
    finds: RateLimiter

    def now(self) -> int:
        """The present second since 1970."""
        return int(self.clock.now())
