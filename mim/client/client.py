"""The client: what a program calls, and the loop that keeps it connected."""

import asyncio
import logging
from contextlib import suppress
from typing import Any, Final, Self

from mim.client.callbacks import Callbacks
from mim.client.connection import Connection
from mim.client.core import UNAUTHORIZED, Core, hello_options
from mim.client.errors import ABNORMAL, ClientClosed, ConnectionLost, Stopped, stop_for
from mim.client.history import Histories
from mim.client.models import MALFORMED, Body, Change, Chat, Event, Message, Sent
from mim.client.ops import Op
from mim.client.pacing import Backoff
from mim.client.session import Session, flatten
from mim.client.state import ClientState

log = logging.getLogger("mim.client")

SAVE_EVERY_S: Final = 1.0
LAST_WORDS_S: Final = 1.0


class Client(Callbacks):
    """A device of one user, connected for as long as it runs.

    `url` is the server's address (http or https). `token` is an access token and `refresh` the token to get
    the next one with; both may instead come from `state`, which also keeps the message counter, the cursor and
    what is not acknowledged. `app` is the version of the program, `os` one of ios, android, web, desktop, bot.
    Give a refresh token together with a :class:`FileState`: each is good once, and using an old one again
    signs the device out.
    With `recv` the client confirms what it receives, so that the server finds a dead connection sooner.

    A chat met for the first time is told from the user's own watermark on, at most `backlog` messages back.
    Use it as `async with Client(...) as client:` (entered when the first sync is complete; register callbacks
    before, or right after without an await between) or `await client.run_forever()`. Either ends with
    :class:`Stopped` when the server says not to come back, and closes `state`.
    """

    def __init__(
        self,
        url: str,
        token: str | None = None,
        refresh: str | None = None,
        state: ClientState | None = None,
        *,
        app: str | None = None,
        os: str = "bot",
        locale: str | None = None,
        recv: bool = False,
        backlog: int = 50,
        outbox_limit: int = 1000,
    ) -> None:
        super().__init__()
        self.url = url
        self._state = state or ClientState()
        self._state.adopt(token, refresh)
        if self._state.token is None and self._state.refresh is None:
            raise ValueError("a client needs a token: sign in, or give one that your app signed")
        self._options = hello_options(app, os, locale, recv=recv)
        self._core = Core(url, self._state, self._handle, backlog=backlog, outbox_limit=outbox_limit, recv=recv)
        self._histories = Histories(self._core.inbox, self._ask)
        self._session: Session | None = None
        self._changed = asyncio.Event()
        self._over: Exception | None = None
        self._runner: asyncio.Task[None] | None = None
        self._tasks: asyncio.TaskGroup | None = None
        self._refused = False

    # -- what is known

    @property
    def user(self) -> int:
        """The id of this user; 0 before the first connection."""
        return self._state.user

    @property
    def device(self) -> int:
        """The id of this device; 0 before the first connection."""
        return self._state.device

    @property
    def connected(self) -> bool:
        """A session is open and its sync is complete."""
        return self._session is not None and self._session.synced.is_set()

    @property
    def chats(self) -> dict[int, Chat]:
        """The chats this user is in, as they are now."""
        views = (room.view() for room in self._core.inbox.rooms.values())
        return {view.id: view for view in views if view is not None and not view.left}

    def unread(self, chat: int) -> int:
        """Return how many messages of this chat the user has not read; 0 for a chat the user is not in."""
        room = self._core.inbox.rooms.get(chat)
        view = room.view() if room else None
        return 0 if view is None or view.left else max(0, view.head - view.read)

    async def unread_by(self, chat: int, seq: int) -> int:
        """Return how many present members have not read this message, its sender not counted.

        Asks for the watermarks once in a connection and follows them from there. Raises CallError.
        """
        marks = self._core.inbox.room(chat).marks
        while not marks.loaded:
            marks.loading()
            rows = await self._ask(Op.CALL, "chat.watermarks", {"chat": chat})
            marks.load((user, seq) for user, seq in rows)
        return marks.unread_by(seq)

    # -- what can be done

    async def send(self, chat: int, body: Body) -> Sent:
        """Send a message and return its place once it is durable.

        Waits through lost connections and a full outbox. Giving up on the wait does not unsend: the message
        stays in the outbox. Raises SendRefused, TypeError or ValueError for a body that no frame can hold,
        and Stopped or ClientClosed when the client ends before the answer.
        """
        self._check_running()
        answer = await self._core.queue(chat, body)
        self._check_running()
        if self._session is not None:
            self._session.wake()
        return await answer

    def read(self, chat: int, seq: int) -> None:
        """The user has read this chat up to `seq`: moves the watermark, never back, and tells the server."""
        room = self._core.inbox.room(chat)
        if seq > room.read:
            room.read = seq
            room.marks.saw(self.user, seq)
            self._state.reads[chat] = seq
            self._core.dirty.set()
            if self._session is not None:
                self._session.read(chat)

    def typing(self, chat: int) -> None:
        """The user is typing. Told at most once in 3 s, and not at all while offline."""
        if self._session is not None:
            self._session.typing(chat)

    async def call(self, method: str, **params: Any) -> Any:
        """Call a method of proto/calls.md and return its value, waiting for a connection if there is none.

        Raises CallError(code, detail, retry_after in ms), and ConnectionLost when the connection broke before
        the answer: the call may or may not have been carried out.
        """
        session = await self._live()
        return await session.request(Op.CALL, method, params)

    async def history(self, chat: int, before: int = 0, limit: int = 50) -> list[Message]:
        """Return up to `limit` messages with seq < `before` (0: the newest), oldest first; raise CallError."""
        return await self._histories.page(chat, before, limit)

    async def renew(self, token: str) -> None:
        """Go on with a new token that the app signed for the same user and device. Raises CallError."""
        self._core.credentials.replace(token)
        await self.call("auth.renew", token=token)

    # -- lifecycle

    async def __aenter__(self) -> Self:
        self._start()
        try:
            await self._core.opened.wait()
        except BaseException:
            await self.close()
            raise
        if self._over is not None:
            raise self._over
        # Not before the body's first await, so that callbacks it registers see everything.
        asyncio.get_running_loop().call_soon(self._call_back_from_here)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: object) -> None:
        over = self._over
        await self.close()
        if kind is None and over is not None and not isinstance(over, ClientClosed):
            raise over

    async def run_forever(self) -> None:
        """Stay connected until cancelled, closed, or told to stop (raises Stopped)."""
        runner = self._runner
        if runner is not None and not runner.done():  # within `async with`
            await asyncio.wait({runner})
        else:
            runner = self._start()
            asyncio.get_running_loop().call_soon(self._call_back_from_here)
            try:
                await asyncio.wait({runner})
            finally:
                await self.close()
        if self._over is not None and not isinstance(self._over, ClientClosed):
            raise self._over

    async def close(self) -> None:
        """Leave: close the connection, save and close the state. What is not acknowledged stays in the outbox."""
        if self._runner is not None and not self._runner.done():
            if self._session is not None:
                with suppress(ConnectionLost, TimeoutError):
                    async with asyncio.timeout(LAST_WORDS_S):
                        await self._session.write_reads()
            self._runner.cancel()
            await asyncio.wait({self._runner})

    def _start(self) -> asyncio.Task[None]:
        if self._runner is not None:
            raise ClientClosed("this client was used before: make a new one")
        self._runner = asyncio.get_running_loop().create_task(self._run(), name="mim.client")
        return self._runner

    def _call_back_from_here(self) -> None:
        if self._tasks is not None:
            self._core.lanes.start(self._tasks)

    async def _run(self) -> None:
        """Live. Ends by being cancelled or with what the server said; `_over` tells which."""
        over: Exception = ClientClosed("the client was closed")
        try:
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                if self._state.on_disk:
                    tasks.create_task(self._save_now_and_then(), name="mim.client state")
                await self._stay_connected()
        except* Stopped as group:
            over = next(exc for exc in flatten(group) if isinstance(exc, Stopped))
        except* Exception as group:
            log.exception("the client failed")
            over = group
        finally:
            self._tasks = None
            self._core.lanes.stop()
            self._over = over
            self._core.give_up(over)
            self._changed.set()
            self._core.opened.set()
            self._core.save()
            self._state.close()

    async def _save_now_and_then(self) -> None:
        while True:
            await self._core.dirty.wait()
            await asyncio.sleep(SAVE_EVERY_S)
            try:
                self._core.save()
            except OSError:
                log.exception("the state cannot be saved")

    async def _stay_connected(self) -> None:
        """Connect, serve, and come back, until the server says not to (raises Stopped)."""
        backoff = Backoff()
        while True:
            lost, synced = await self._one_session()
            if synced:
                backoff.reset()
            if lost.code == UNAUTHORIZED and self._core.credentials.refreshable and not self._refused:
                self._refused = True  # one refresh, then it is final
            elif stop := stop_for(lost):
                raise stop
            delay_s = backoff.next_s(lost.retry_after)
            log.info("%s; back in %.1f s", lost, delay_s)
            await asyncio.sleep(delay_s)

    async def _one_session(self) -> tuple[ConnectionLost, bool]:
        """Open a session and serve it; return how it ended and whether its sync was complete."""
        try:
            await self._fresh_token()
            connection = await Connection.open(self.url)
        except ConnectionLost as lost:
            return lost, False
        try:
            ready = await connection.hello(self._core.credentials.token, self._options, self._state.cursor)
            session = Session(connection, self._core, ready)
            self._refused = False
            self._session_is(session)
            return await session.run(), session.synced.is_set()
        except ConnectionLost as lost:
            return lost, False
        except MALFORMED as exc:
            return ConnectionLost(ABNORMAL, f"READY cannot be read: {exc}"), False
        finally:
            self._session_is(None)
            await connection.close()

    async def _fresh_token(self) -> None:
        credentials = self._core.credentials
        left_s = credentials.renew_in_s()
        if self._refused or not credentials.token or (left_s is not None and left_s <= 0):
            await credentials.refresh(credentials.token)

    def _session_is(self, session: Session | None) -> None:
        self._session = session
        self._changed.set()
        self._tell_online(online=session is not None)

    def _check_running(self) -> None:
        if self._over is not None:
            raise self._over

    async def _live(self) -> Session:
        """Return the open session, waiting for one."""
        while self._session is None:
            self._check_running()
            self._changed.clear()
            await self._changed.wait()
        return self._session

    async def _ask(self, op: Op, *fields: Any) -> Any:
        """Send a request that only reads, again after a lost connection."""
        while True:
            session = await self._live()
            try:
                return await session.request(op, *fields)
            except ConnectionLost:
                while self._session is session:
                    self._changed.clear()
                    await self._changed.wait()

    async def _handle(self, event: Event) -> None:
        await self._call_back(event, self.user)
        if isinstance(event, Message | Change):
            self._core.inbox.handled(event)
            self._core.dirty.set()
