"""For development: tells in the log that a notification would go out, never what it says."""

import structlog

from mim.push.notice import ACCEPTED, Answer, Notice

log = structlog.get_logger("mim.push.log")


class LogProvider:
    """Implements :class:`mim.push.notice.Provider` for platforms that have no provider of their own."""

    name = "log"

    def __init__(self, platforms: tuple[str, ...]) -> None:
        self.platforms = platforms

    async def send(self, notice: Notice) -> Answer:
        log.info(
            "notification", device=notice.device, platform=notice.platform, style=notice.style.value, chat=notice.chat,
            seq=notice.seq, count=notice.count, badge=notice.badge, private=notice.private,
        )  # fmt: skip
        return ACCEPTED

    async def close(self) -> None:
        """Nothing is open."""
