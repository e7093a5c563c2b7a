"""`mim push test`: one notification to each device of a user, past the outbox, and what the providers answered."""

from collections.abc import AsyncIterator
from typing import Final

from mim.clock import Clock
from mim.config import Settings
from mim.push.notice import Answer, Notice, Style, Verdict
from mim.push.service import Providers
from mim.push.texts import words
from mim.store.db import Pool
from mim.store.push_settings import Registered, registered

LIFE_S: Final = 300.0
NO_PROVIDER: Final = Answer(Verdict.REFUSED, "no provider of this platform is set up")


async def trial(
    settings: Settings, pool: Pool, clock: Clock, user: int
) -> AsyncIterator[tuple[Registered, Answer]]:  # fmt: skip
    """Send to each device of a user that takes notifications; yields the device and the answer."""
    providers = Providers(settings, pool, clock)
    try:
        for device in await registered(pool, user):
            able = [one for one in providers.all if device.platform in one.platforms]
            yield device, await able[0].send(_notice(user, device, clock.now())) if able else NO_PROVIDER
    finally:
        for provider in providers.all:
            await provider.close()


def _notice(user: int, device: Registered, now: float) -> Notice:
    said = words(device.locale)
    return Notice(
        id=int(now), attempt=1, device=device.device, user=user, platform=device.platform, token=device.token,
        voip=None, style=Style.ALERT, private=False, title=said["test_title"], body=said["test"], chat=0, seq=0,
        sender=0, count=1, badge=0, loud=False, collapse="test", expires=now + LIFE_S,
    )  # fmt: skip
