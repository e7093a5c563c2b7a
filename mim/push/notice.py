"""A notification as providers take it, and the words in which they answer."""

import math
from enum import Enum
from typing import Protocol

from msgspec import Struct


class Style(Enum):
    """How a notification shows itself."""

    ALERT = "alert"  # with a sound
    QUIET = "quiet"  # in place of one that is shown, without a sound
    WITHDRAW = "withdraw"  # takes back one that showed no content
    CALL = "call"  # rings


class Notice(Struct, frozen=True):
    """What a device is told. `id` names the outbox row; times are seconds since 1970.

    A private notice holds no content: no text, no sender, no title of a chat; `title` and `body` are words that say
    only that something is new. `collapse` is the same for notifications of which the newer replaces the older.
    """

    id: int
    attempt: int
    device: int
    user: int
    platform: str
    token: str
    voip: str | None
    style: Style
    private: bool
    title: str
    body: str
    chat: int
    seq: int
    sender: int
    count: int
    badge: int
    loud: bool
    collapse: str
    expires: float

    def ttl_s(self, now: float) -> int:
        """Whole seconds for which it is worth something, at least 0."""
        return max(0, int(self.expires - now))


class Verdict(Enum):
    """What a provider's answer means for a notification and for those after it."""

    ACCEPTED = "accepted"
    GONE = "gone"  # the token is dead: forget it
    REFUSED = "refused"  # this notification, whenever it is tried
    LATER = "later"  # this notification, at another time; so often and no more
    AWAY = "away"  # the way of this notification is barred for a while; others may pass
    TROUBLE = "trouble"  # the provider or the way to it: any notification would fail now


class Answer(Struct, frozen=True):
    """A provider's answer. `reason` is a short word for metrics and logs, never a token or a text. `gone_at` is the
    second at which the token was found dead, where that is told: an app that registered it later knows better.
    """

    verdict: Verdict
    reason: str = "ok"
    retry_after_s: float = 0.0
    gone_at: float = math.inf


ACCEPTED = Answer(Verdict.ACCEPTED)


class Provider(Protocol):
    """Takes notifications to devices of its platforms. One file each in mim/push/providers."""

    @property
    def name(self) -> str:
        """What it is called in metrics."""

    @property
    def platforms(self) -> tuple[str, ...]:
        """What `device.push` calls the devices it reaches."""

    async def send(self, notice: Notice) -> Answer:
        """Hand a notification over. Never raises for what a provider or the network does."""

    async def close(self) -> None:
        """Let go of connections."""
