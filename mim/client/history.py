"""Pages of a chat's past.

The frames that answer a FETCH are MSG frames like any other, without its ref. So while a page is asked for,
every message of that chat that comes by is collected, and the page is the unbroken run of them below the
place that was asked for: what else came in between is as true as the answer.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

from mim.client.inbox import Inbox
from mim.client.models import Message
from mim.client.ops import Op

PAGE: Final = 200


class Histories:
    """History of all chats, one request at a time. `ask` sends a request and is allowed to repeat it."""

    def __init__(self, inbox: Inbox, ask: Callable[..., Awaitable[Any]]) -> None:
        self._inbox = inbox
        self._ask = ask
        self._one_at_a_time = asyncio.Lock()

    async def page(self, chat: int, before: int, limit: int) -> list[Message]:
        """Return up to `limit` messages with seq < `before` (0: the newest), oldest first."""
        found: dict[int, Message] = {}
        async with self._one_at_a_time:
            self._inbox.collecting[chat] = found
            try:
                run: list[Message] = []
                while len(run) < limit:
                    lowest = run[0].seq if run else before
                    value = await self._ask(Op.FETCH, chat, lowest, -min(PAGE, limit - len(run)))
                    known = len(run)
                    run = unbroken(found, before)
                    if not value["more"] or len(run) == known:
                        break
                return run[-limit:] if limit > 0 else []
            finally:
                del self._inbox.collecting[chat]


def unbroken(found: dict[int, Message], before: int) -> list[Message]:
    """Return the messages without a hole from the highest below `before` (0: of all) downwards, oldest first."""
    seq = max((seq for seq in found if seq < before or before == 0), default=0)
    run: list[Message] = []
    while (message := found.get(seq)) is not None:
        run.append(message)
        seq -= 1
    return run[::-1]
