"""What the messenger tells of those who may have to be woken: the port of push, and nobody behind it."""

from collections.abc import Sequence
from typing import Protocol

from prometheus_client import Counter

from mim.store.committer import Pending
from mim.store.dispatch import Dispatch

UNHEARD = Counter("mim_unheard_devices_total", "Devices that were taken for connected and did not hear.")


class PushPort(Protocol):
    """Nothing here blocks."""

    def committed(self, batch: Sequence[Pending], dispatch: Dispatch) -> None:
        """Messages were stored and published. Who still has to plan for them holds the dispatch until then."""

    def recovered(self, chats: Sequence[int], seqs: Sequence[int]) -> bool:
        """Messages of a node that died before it had planned them. False: not now, ask again."""

    def revised(self, chat: int, seq: int) -> None:
        """A message was edited, or deleted for everyone."""

    def unheard(self, user: int, device: int, since: int) -> None:
        """A device seemed connected and heard nothing of what was sent to it from second `since` on."""


class NoPush:
    """Nobody is woken."""

    def committed(self, batch: Sequence[Pending], dispatch: Dispatch) -> None:
        """They see it when they come back."""

    def recovered(self, chats: Sequence[int], seqs: Sequence[int]) -> bool:
        return True

    def revised(self, chat: int, seq: int) -> None:
        """They see it when they come back."""

    def unheard(self, user: int, device: int, since: int) -> None:
        UNHEARD.inc()
