"""What a client remembers across its connections, and the few rules that join the parts together."""

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

from mim.client.auth import refresh_tokens, renew_at
from mim.client.connection import MAX_CLIENT_FRAME_BYTES, pack
from mim.client.errors import CallError, ConnectionLost, SendRefused, SignedOut, Unreachable
from mim.client.inbox import Inbox
from mim.client.lanes import Lanes
from mim.client.models import Body, Event, Frame, Message, Sent, number
from mim.client.ops import Op
from mim.client.outbox import Outbox
from mim.client.pacing import KeepAlive
from mim.client.state import ClientState
from mim.errors import CLOSE_CODE, CloseReason, Code

log = logging.getLogger("mim.client")

LARGEST_CID: Final = 2**53 - 1
UNAUTHORIZED: Final = CLOSE_CODE[CloseReason.UNAUTHORIZED]


class Credentials:
    """The tokens of one device, refreshed one at a time; kept in the state as soon as they change."""

    def __init__(self, url: str, state: ClientState) -> None:
        self._url = url
        self._state = state
        self._one_at_a_time = asyncio.Lock()
        self.skew_s = 0.0
        """Server time minus local time, in seconds."""

    @property
    def token(self) -> str:
        """The newest token."""
        return self._state.token or ""

    @property
    def refreshable(self) -> bool:
        """There is a refresh token."""
        return self._state.refresh is not None

    def renew_in_s(self) -> float | None:
        """Return how long the token is good without a thought, in seconds; None if it does not say."""
        at = renew_at(self.token)
        return None if at is None else at - (time.time() + self.skew_s)

    async def refresh(self, instead_of: str) -> None:
        """Get new tokens unless another task did. Raises SignedOut if refused, ConnectionLost if unreachable."""
        async with self._one_at_a_time:
            refresh = self._state.refresh
            if self.token != instead_of or refresh is None:
                return
            try:
                self._state.token, self._state.refresh = await refresh_tokens(self._url, refresh)
            except CallError as exc:
                if exc.code in (Code.UNAUTHORIZED, Code.FORBIDDEN, Code.BAD_FRAME, Code.NOT_FOUND):
                    raise SignedOut(UNAUTHORIZED, exc.detail) from exc
                raise ConnectionLost(detail=str(exc), retry_after=exc.retry_after) from exc
            except Unreachable as exc:
                raise ConnectionLost(detail=str(exc)) from exc
            self._state.save()

    def replace(self, token: str) -> None:
        """Use a token that the app signed itself."""
        self._state.token = token
        self._state.save()


class Core:
    """The parts that outlive a connection. `handle` runs the callbacks of one event."""

    def __init__(
        self,
        url: str,
        state: ClientState,
        handle: Callable[[Event], Awaitable[None]],
        *,
        backlog: int,
        outbox_limit: int,
        recv: bool,
    ) -> None:
        self.state = state
        self.credentials = Credentials(url, state)
        self.lanes = Lanes(handle)
        self.inbox = Inbox(self.lanes.put, self.lanes.accepts, backlog=backlog)
        self.inbox.user = state.user
        self.inbox.restore(state.chats)
        self.outbox = Outbox(outbox_limit + len(state.outbox))
        for cid, chat, body in state.outbox:
            self.outbox.add(cid, chat, body)
        self.keepalive = KeepAlive()
        self.recv = recv
        self.dirty = asyncio.Event()
        self.opened = asyncio.Event()
        """Set by the first complete sync."""
        self._answers: dict[int, asyncio.Future[Sent]] = {}
        self._places = asyncio.Semaphore(outbox_limit)

    # -- sending

    async def queue(self, chat: int, body: Body) -> asyncio.Future[Sent]:
        """Put a message into the outbox, waiting for a place; return the future of its answer.

        Raises SendRefused for what no frame can hold and TypeError or ValueError for what cannot be packed.
        """
        check_body(chat, body, as_json=self.state.on_disk)
        await self._places.acquire()
        item = self.outbox.add(self.state.next_cid(), chat, body)
        self.dirty.set()
        answer = self._answers[item.cid] = asyncio.get_running_loop().create_future()
        answer.add_done_callback(lambda _: self._answers.pop(item.cid, None))
        return answer

    def on_ack(self, frame: Frame) -> None:
        """A message is durable: it takes its place in the timeline like any other."""
        cid, seq, at = number(frame[1]), number(frame[2]), number(frame[3])
        item = self.outbox.ack(cid)
        if item is None:
            return
        self._answered(cid, Sent(seq, at))
        self.inbox.on_message(Message(item.chat, seq, self.inbox.user, at, item.body))

    def on_nack(self, frame: Frame) -> float | None:
        """A message was not stored: refuse it for good, or return in how many s it may be sent again."""
        cid, code, detail = number(frame[1]), str(frame[2]), str(frame[3])
        retry_after = frame[4] if len(frame) > 4 else None
        if self.outbox.may_pass(cid, code, retry_after):
            return self.outbox.postpone(cid, time.monotonic(), retry_after)
        if self.outbox.ack(cid) is not None:
            self._answered(cid, SendRefused(code, detail))
        return None

    def _answered(self, cid: int, answer: Sent | SendRefused) -> None:
        self._places.release()
        self.dirty.set()
        future = self._answers.get(cid)
        if isinstance(answer, Sent):
            if future is not None and not future.done():
                future.set_result(answer)
        elif future is not None and not future.done():
            future.set_exception(answer)
        else:
            log.warning("a message that nobody waits for was refused: %s", answer.code)

    def give_up(self, reason: Exception) -> None:
        """Tell everyone who waits for an ACK that this client comes to its end."""
        for future in list(self._answers.values()):
            if not future.done():
                future.set_exception(reason)

    # -- state

    def on_ready(self, user: int, device: int, *, resumed: bool) -> None:
        """Take up what READY says; another device's memory is dropped rather than mixed with this one's."""
        if not self.state.belongs_to(user, device):
            self.inbox.rooms.clear()
            for item in self.outbox.items():
                if item.cid not in self._answers:
                    self.outbox.ack(item.cid)
        self.inbox.on_ready(user, resumed=resumed)

    def on_synced(self) -> None:
        """Keep the newest cursor."""
        self.state.cursor = self.inbox.cursor
        self.opened.set()
        self.dirty.set()

    def save(self) -> None:
        """Write down what must outlive the process."""
        self.dirty.clear()
        self.state.chats = self.inbox.keep()
        self.state.outbox = [[item.cid, item.chat, item.body] for item in self.outbox.items()]
        self.state.save()


def check_body(chat: int, body: Body, *, as_json: bool) -> None:
    """Refuse what could never be stored, before it gets a cid: such a frame would be sent for ever."""
    if not isinstance(body, str | dict):
        raise TypeError(f"a body is a string or a map, not {type(body).__name__}")
    size = len(pack((Op.SEND, LARGEST_CID, number(chat), body)))
    if size > MAX_CLIENT_FRAME_BYTES:
        raise SendRefused(Code.TOO_LARGE, f"{size} bytes; a frame holds {MAX_CLIENT_FRAME_BYTES}")
    if as_json:
        json.dumps(body)


def hello_options(app: str | None, os: str | None, locale: str | None, *, recv: bool) -> dict[str, Any]:
    """Return HELLO's options, without those that say nothing."""
    options: dict[str, Any] = {"app": app, "os": os, "locale": locale, "recv": recv or None}
    return {name: value for name, value in options.items() if value is not None}
