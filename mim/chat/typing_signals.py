"""Who is typing: passed on at most once per 3 s, user and chat; never stored."""

from collections import OrderedDict
from typing import Final

from mim.bus.port import chat_topic
from mim.chat.publisher import Publisher, direct_topics
from mim.clock import Clock
from mim.model import Caller
from mim.store import chats
from mim.store.db import Pool

EVERY_S: Final = 3.0
REMEMBERED: Final = 50_000


class TypingSignals:
    """Passes TYPING on to the others in a chat."""

    def __init__(self, pool: Pool, publisher: Publisher, clock: Clock) -> None:
        self._pool = pool
        self._publisher = publisher
        self._clock = clock
        self._passed: OrderedDict[tuple[int, int], float] = OrderedDict()

    def is_new(self, caller: Caller, chat: int) -> bool:
        """Whether this signal should be passed on, which counts as passing it."""
        now = self._clock.monotonic()
        key = (caller.user, chat)
        if now - self._passed.get(key, -EVERY_S) < EVERY_S:
            return False
        self._passed[key] = now
        self._passed.move_to_end(key)
        if len(self._passed) > REMEMBERED:
            self._passed.popitem(last=False)
        return True

    async def pass_on(self, caller: Caller, chat: int) -> None:
        """Tell the others, if the typist is in the chat."""
        scope = await chats.typing_scope(self._pool, chat, caller.user)
        if scope is None:
            return
        low, high = scope
        topics = [chat_topic(chat)] if low is None or high is None else direct_topics(low, high)
        self._publisher.typing(chat, caller.user, topics)
