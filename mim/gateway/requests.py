"""What a connection's queue holds and how each kind is answered."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Protocol

from mim.chat import calls, history
from mim.chat.context import Context
from mim.chat.profile_calls import Renewed
from mim.model import Caller
from mim.wire.codec import Codec
from mim.wire.frames import Call, Changes, Error, Fetch, Result, ServerFrame


class Asker(Protocol):
    """What answering needs of a connection."""

    caller: Caller

    @property
    def codec(self) -> Codec:
        """In what the parameters of a CALL are written."""

    def renewed(self, expires: int) -> None:
        """The session is good until this second."""


async def answer(context: Context, asker: Asker, frame: Any) -> Sequence[ServerFrame]:
    """The frames that answer a queued frame. Never raises for what a peer did."""
    try:
        async with asyncio.timeout(calls.patience_s(context)):
            return await ANSWERS[type(frame)](context, asker, frame)
    except Exception as exc:  # noqa: BLE001 - whatever it is, this request alone fails
        error = calls.peer_error(exc)
        ref = getattr(frame, "ref", 0)
        return [Error(ref, error.code, error.detail, error.retry_after_ms)] if ref else []


async def _call(context: Context, asker: Asker, frame: Call) -> Sequence[ServerFrame]:
    value = await calls.carry_out(context, asker.caller, frame.method, frame.params, asker.codec)
    if isinstance(value, Renewed):
        asker.renewed(value.exp)
    return [Result(frame.ref, value)]


async def _fetch(context: Context, asker: Asker, frame: Fetch) -> Sequence[ServerFrame]:
    return await history.fetch(context, asker.caller, frame)


async def _changes(context: Context, asker: Asker, frame: Changes) -> Sequence[ServerFrame]:
    return await history.changes_page(context, asker.caller, frame)


ANSWERS: Final[dict[type[Any], Callable[[Context, Any, Any], Awaitable[Sequence[ServerFrame]]]]] = {
    Call: _call,
    Fetch: _fetch,
    Changes: _changes,
}
