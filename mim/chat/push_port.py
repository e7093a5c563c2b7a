"""What the messenger tells of those who may have to be woken, and what clients ask of it: the port of push."""

from collections.abc import Sequence
from typing import Protocol

from mim.store.committer import Pending
from mim.store.dispatch import Dispatch


class PushPort(Protocol):
    """Implemented in mim/push/service.py. What is not `async` does not block."""

    def committed(self, batch: Sequence[Pending], dispatch: Dispatch) -> None:
        """Messages were stored and published. Who still has to plan for them holds the dispatch until then."""

    def recovered(self, chats: Sequence[int], seqs: Sequence[int]) -> bool:
        """Messages of a node that died before it had planned them. False: not now, ask again."""

    def revised(self, chat: int, seq: int) -> None:
        """A message was edited, or deleted for everyone."""

    def unheard(self, user: int, device: int, since: int) -> None:
        """A device seemed connected and heard nothing of what was sent to it from second `since` on."""

    @property
    def platforms(self) -> frozenset[str]:
        """Platforms whose notifications go out."""

    async def public_key(self) -> str:
        """The VAPID key that a browser subscribes with; "" when Web Push is off."""

    async def check_token(self, platform: str, token: str) -> None:
        """PeerError when a token cannot be one of its platform."""
