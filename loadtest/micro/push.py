"""What a notification costs: the HTTP clients side by side, each provider alone, and a fan-out through a whole server
while two people talk, whose messages must not wait for it.
"""

import asyncio
import os
import secrets
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any, Final, cast

import asyncpg
import msgpack
from msgspec import structs
from websockets.asyncio.client import ClientConnection, connect

from loadtest import proc
from loadtest.load.client import LoadError, make_token
from loadtest.micro.http_clients import CLIENTS, cost
from loadtest.micro.push_end import FarEnd, far_end
from loadtest.reports.report import Report, percentile
from loadtest.server import SECRET, PrivateServer
from mim.clock import SystemClock
from mim.config import Settings
from mim.push.notice import Notice, Style, Verdict
from mim.push.providers.apns import payload
from mim.push.service import Providers
from mim.store.db import Pool

GROUP: Final = 2500
PROBE_EVERY_S: Final = 0.01
QUIET_S: Final = 3.0
PLATFORMS: Final = ("apns", "fcm", "webpush", "webhook")
PATIENCE_S: Final = 120.0

PEOPLE: Final = (
    "insert into account (sub, created) select 'asleep-' || n, 0 from generate_series(1, $1::int) n",
    """insert into device (user_id, created, seen, push_platform, push_token, push_since)
       select a.id, 0, 0, $1, $2, 0 from account a where a.sub like 'asleep-%'""",
)
MEMBERS: Final = """
    insert into member (chat_id, user_id, first_seq, read_seq, joined, join_rev, touched)
    select ($1::bigint[])[1 + (row_number() over (order by id) - 1) / $2], id, 1, 0, 0, 0, pg_current_xact_id()
    from account where sub like 'asleep-%'
"""


async def clients(count: int, at_once: int, rounds: int) -> Report:
    """Each HTTP client that is installed."""
    report = Report("push: HTTP/2 clients", {"requests": count, "at_once": at_once, "cpu": "of the client's process"})
    folder = Path(tempfile.mkdtemp(prefix="mim-load-"))
    try:
        with far_end(folder) as end:
            for number in range(rounds + 1):  # the first warms up
                figures: dict[str, float] = {}
                for name, opened in CLIENTS.items():
                    try:
                        async with opened(end.ca) as post:
                            await _one_client(name, post, end, count, at_once, figures)
                    except ModuleNotFoundError as exc:
                        if not number:
                            report.notes.append(f"{name} was not measured: {exc.name} is not installed")
                if number:
                    report.rounds.append(figures)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return report


async def _one_client(
    name: str, post: Any, end: FarEnd, count: int, at_once: int, figures: dict[str, float]
) -> None:  # fmt: skip
    notice = _notice("apns", end.token("apns"))
    headers = {
        "apns-topic": "com.example.mim", "apns-push-type": "alert", "apns-collapse-id": "chat-5",
        "authorization": "bearer " + "x" * 180,
    }  # fmt: skip
    url, body = f"{end.url}/3/device/{notice.token}", payload(notice)

    async def one(number: int) -> None:
        if await post(url, headers, body) != 200:
            raise LoadError(f"{name}: the far end did not accept")

    await one(0)
    took = await cost(count, at_once, one)
    figures[f"{name}: requests/s"] = took.per_s
    figures[f"{name}: CPU µs"] = took.cpu_us
    figures[f"{name}: of it on the event loop µs"] = took.loop_us


async def providers(count: int, at_once: int, rounds: int) -> Report:
    """Each provider, from the notification to its acceptance."""
    report = Report("push: providers", {"notifications": count, "at_once": at_once, "cpu": "of the sender's process"})
    folder = Path(tempfile.mkdtemp(prefix="mim-load-"))
    key = "A" * 42 + "E"
    try:
        with far_end(folder) as end:
            made = Providers(Settings(**end.settings, push_vapid_key=key), cast(Pool, None), SystemClock())
            able = {platform: one for one in made.all for platform in one.platforms}
            for number in range(rounds + 1):
                figures: dict[str, float] = {}
                for platform in PLATFORMS:
                    provider, notice = able[platform], _notice(platform, end.token(platform))

                    async def one(number: int, provider: Any = provider, notice: Notice = notice) -> None:
                        answer = await provider.send(structs.replace(notice, id=number))
                        if answer.verdict is not Verdict.ACCEPTED and answer.reason != "busy":
                            raise LoadError(f"{provider.name}: {answer.verdict.value}, {answer.reason}")

                    await one(0)
                    took = await cost(count, at_once, one)
                    figures[f"{platform}: notifications/s"] = took.per_s
                    figures[f"{platform}: CPU µs"] = took.cpu_us
                    figures[f"{platform}: of it on the event loop µs"] = took.loop_us
                if number:
                    report.rounds.append(figures)
            for provider in made.all:
                await provider.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return report


def _notice(platform: str, token: str) -> Notice:
    return Notice(
        id=1, attempt=1, device=3, user=2, platform=platform, token=token, voip=None, style=Style.ALERT, private=False,
        title="민아", body="점심 같이 먹을래요? 열두 시에 늘 가던 데서 봐요.", chat=5, seq=812, sender=42, count=1,
        badge=3, loud=False, collapse="chat-5", expires=time.time() + 3600,
    )  # fmt: skip


# -- a whole server ------------------------------------------------------------------------------


async def fan_out(members: int, platform: str, rounds: int, core: int) -> Report:
    """One message to groups of GROUP sleeping members each, `rounds` times, while two people talk."""
    report = Report("push: fan-out", {"members": members, "platform": platform, "core": core})
    folder = Path(tempfile.mkdtemp(prefix="mim-load-"))
    folder.chmod(0o711)  # noqa: ASYNC240 - nothing else runs yet
    (folder / "end").mkdir()
    server = PrivateServer(folder, core)
    try:
        with far_end(folder / "end") as end:
            (folder / "mim.toml").write_text(
                "".join(f"{name} = {_toml(value)}\n" for name, value in end.settings.items())
                + "push_chat_gap_s = 0.01\n"
            )
            await server.open()
            connection = await asyncpg.connect(server.database_url)
            await connection.execute(PEOPLE[0], members)
            await connection.execute(PEOPLE[1], platform, end.token(platform))
            await _FanOut(server, connection, members, report).run(rounds)
            await connection.close()
    finally:
        server.close()
        shutil.rmtree(folder, ignore_errors=True)
    return report


class _FanOut:
    """One run against one server."""

    def __init__(self, server: PrivateServer, connection: Any, members: int, report: Report) -> None:
        self._server = server
        self._connection = connection
        self._members = members
        self._report = report
        self._cids = iter(range(1, 1 << 30))

    async def run(self, rounds: int) -> None:
        async with self._socket("one") as one, self._socket("two") as two:
            chat = await self._call(one, "chat.create", kind="direct", members=[await self._user(two)])
            groups = [
                await self._call(one, "chat.create", kind="group", members=[await self._user(two)], title="모임")
                for _ in range(-(-self._members // GROUP))
            ]
            await self._connection.execute(MEMBERS, groups, GROUP)
            await self._connection.execute("update chat set members = $1 where id = any ($2)", GROUP + 2, groups)
            await self._connection.execute("analyze")
            for _ in range(rounds):
                self._report.rounds.append(await self._round(one, two, chat, groups))

    async def _round(
        self, one: ClientConnection, two: ClientConnection, chat: int, groups: list[int]
    ) -> dict[str, float]:  # fmt: skip
        alone = await self._talk(one, two, chat, asyncio.sleep(QUIET_S))
        before, sent, busy = await self._server.usage(), await self._sent(), proc.machine_s()
        started = time.perf_counter()
        for group in groups:
            await one.send(msgpack.packb([2, next(self._cids), group, "모두 모여요"]))
        during = await self._talk(one, two, chat, self._until_sent(sent + self._members))
        took = time.perf_counter() - started
        used = (await self._server.usage()).since(before)
        extra = (await self._sent()) - sent - self._members
        if extra:
            self._report.violations.append(f"{extra:.0f} notifications more than devices")
        return {
            "notifications/s": self._members / took,
            "CPU µs/notification, the conversation included": used.total / self._members * 1e6,
            "  of it server µs": used.server / self._members * 1e6,
            "  of it Postgres µs": used.postgres / self._members * 1e6,
            "delivery alone, p50 ms": percentile(alone, 0.5) * 1000,
            "delivery alone, p99 ms": percentile(alone, 0.99) * 1000,
            "delivery during it, p50 ms": percentile(during, 0.5) * 1000,
            "delivery during it, p99 ms": percentile(during, 0.99) * 1000,
            "delivery during it, most ms": max(during) * 1000,
            "others on this machine, share of a core": max(0.0, proc.machine_s() - busy - used.total) / took,
        }

    async def _talk(self, one: ClientConnection, two: ClientConnection, chat: int, until: Any) -> list[float]:
        """Send small messages until `until` is done; seconds from sending to arrival."""
        task = asyncio.ensure_future(until)  # noqa: TID251 - awaited below
        times: list[float] = []
        while not task.done():
            started = time.perf_counter()
            await one.send(msgpack.packb([2, next(self._cids), chat, "응"]))
            while True:
                frame = msgpack.unpackb(await asyncio.wait_for(two.recv(), PATIENCE_S))
                if frame[0] == 18 and frame[1] == chat:
                    break
            times.append(time.perf_counter() - started)
            await asyncio.sleep(PROBE_EVERY_S)
        await task
        return times

    async def _until_sent(self, count: float) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while await self._sent() < count:  # noqa: ASYNC110 - the server's work, seen in its tables
                await asyncio.sleep(0.05)

    async def _sent(self) -> float:
        """Devices that were told, times told: every message makes each device's row newer."""
        return float(await self._connection.fetchval("select coalesce(sum(seq), 0) from push_told"))

    def _socket(self, name: str) -> connect:
        token = make_token(SECRET, f"{name}-{secrets.token_hex(3)}")
        return connect(
            f"ws://127.0.0.1:{self._server.port}/v1/ws", subprotocols=["mim.msgpack"],  # type: ignore[list-item]
            additional_headers={"Authorization": f"Bearer {token}"}, compression=None, proxy=None, max_queue=None,
        )  # fmt: skip

    async def _user(self, socket: ClientConnection) -> int:
        return int((await self._ask(socket, [7, next(self._cids), "profile.get", {}]))["user"])

    async def _call(self, socket: ClientConnection, method: str, **params: Any) -> int:
        return int((await self._ask(socket, [7, next(self._cids), method, params]))["chat"])

    async def _ask(self, socket: ClientConnection, frame: list[Any]) -> dict[str, Any]:
        await socket.send(msgpack.packb(frame))
        while True:
            got = msgpack.unpackb(await asyncio.wait_for(socket.recv(), PATIENCE_S), strict_map_key=False)
            if got[0] == 22 and got[1] == frame[1]:
                raise LoadError(f"{frame[2]}: {got[2]}")
            if got[0] == 21 and got[1] == frame[1]:
                return dict(got[2])


def _toml(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else f'"{value}"'


def free_core(core: int) -> None:
    """Leave the server's core to it."""
    others = os.sched_getaffinity(0) - {core}
    if others:
        os.sched_setaffinity(0, others)
