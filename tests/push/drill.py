"""Thousands of sleeping phones while things die: a node right after it acknowledged, a worker, a provider.

Real processes: two nodes and two workers on one Postgres and one Redis. The far ends listen in this process. It ends by
comparing what they accepted with what was acknowledged: every device that was away was told of its group's newest
message, no device that was connected was told of anything.

`python -m tests.push.drill` runs the long form: 10,000 phones, an outage of a minute.
"""

import argparse
import asyncio
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import trustme

from mim.embedded import EmbeddedPostgres
from mim.store.migrate import migrate
from tests.faults.process import ROOT, Node
from tests.faults.programs import START_S, Program
from tests.harness import Phone, token_for, until
from tests.push.conftest import World, far_ends, new_keys
from tests.push.ends import refusal
from tests.redis_server import RedisServer

PATIENCE_S = 120.0
GROUP = 2500
PLATFORMS = ("apns", "apns", "fcm", "fcm", "webhook", "webpush")
CONNECTED = 20
AT_ONCE = 50  # unanswered notifications of one process to one provider: that many may be sent again after its death


@dataclass
class Outcome:
    """What became of everybody."""

    devices: int
    missed: list[str]
    told_though_connected: int
    doubled: int
    seconds: float

    def __str__(self) -> str:
        return (
            f"{self.devices} devices away, {len(self.missed)} missed, {self.told_though_connected} told though "
            f"connected, {self.doubled} told twice (one replaces the other), {self.seconds:.1f} s"
        )


class Worker(Program):
    """`mim push` with these MIM_* settings."""

    def __init__(self, name: str, folder: Path, **settings: str) -> None:
        super().__init__(name, folder)
        self.settings = settings

    async def start(self) -> None:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("MIM_")}
        env = {**inherited, "MIM_LOG_FORMAT": "json", **self.settings, "PYTHONPATH": str(ROOT)}
        self.launch([sys.executable, "-m", "mim", "push"], env)
        async with asyncio.timeout(START_S):
            while b"sending push notifications" not in self.said():
                assert self.is_running, self.said().decode(errors="replace")
                await asyncio.sleep(0.02)


async def drill(
    database_url: str, redis_url: str, world: World, folder: Path, *, devices: int, outage_s: float, seed: int
) -> Outcome:
    """Run it on an empty, migrated database."""
    chance = random.Random(seed)
    settings = {f"MIM_{name.upper()}": str(value).lower() if isinstance(value, bool) else str(value)
                for name, value in world.settings.items()}  # fmt: skip
    settings |= {"MIM_DATABASE_URL": database_url, "MIM_REDIS_URL": redis_url, "MIM_DATABASE_POOL": "4"}
    settings |= {"MIM_PUSH_CONCURRENCY": str(AT_ONCE), "MIM_PUSH_TIMEOUT_S": "4", "MIM_PUSH_LEASE_S": "6"}
    async with AsyncExitStack() as stack:
        first, second = (Node(name, folder, **settings) for name in ("first", "second"))
        workers = [Worker(f"worker{number}", folder, **settings) for number in range(2)]
        for program in (first, second, *workers):
            stack.callback(program.clean_up)
        await first.start()
        await asyncio.gather(second.start(), *(worker.start() for worker in workers))
        connection = await asyncpg.connect(database_url)
        stack.push_async_callback(connection.close)

        sender = await stack.enter_async_context(Phone(first.ws, token_for("sender")))
        world.webpush.server_key = (await sender.calls("push.config"))["vapid"]
        platforms = await people(connection, world, devices)
        awake = [await stack.enter_async_context(Phone(second.ws, token_for(f"awake-{n}"))) for n in range(CONNECTED)]
        for number, phone in enumerate(awake):
            await phone.calls("device.push", platform="apns", token=f"ee{number:06x}")
        groups = await gather(connection, sender, awake, devices)

        started = time.monotonic()
        world.apns.down = refusal(503, "ServiceUnavailable")
        for chat in groups:
            await sender.sends(chat, "모두 모여요")
        first.kill()  # what it acknowledged and had not planned yet is another's from now on
        await told(world, len(platforms) // 8)
        chance.choice(workers).kill()
        await asyncio.sleep(max(0.0, started + outage_s - time.monotonic()))
        world.apns.down = None
        await settles(connection)
        took = time.monotonic() - started
        connected = sum(count for token, count in world.apns.tokens().items() if token.startswith("ee"))
        for program in (second, *workers):
            assert "Traceback" not in program.log(), program.log()[-3000:]
    return compare(world, platforms, connected, took)


async def people(connection: asyncpg.Connection, world: World, count: int) -> dict[str, str]:
    """Users whose phones are away; returns platform by token. Names of pages are their tokens, as the ends see it."""
    platforms = {f"{number:08x}": PLATFORMS[number % len(PLATFORMS)] for number in range(count)}
    tokens = [world.webpush.subscribe(name) if platform == "webpush" else name for name, platform in platforms.items()]
    await connection.execute(
        """with a as (
               insert into account (sub, created) select 'asleep-' || n, 0 from unnest($1::text[]) n returning id, sub
           )
           insert into device (user_id, created, seen, push_platform, push_token, push_since)
           select a.id, 0, 0, i.platform, i.token, 0
           from unnest($1::text[], $2::text[], $3::text[]) as i(name, platform, token)
           join a on a.sub = 'asleep-' || i.name""",
        list(platforms), list(platforms.values()), tokens,
    )  # fmt: skip
    return platforms


async def gather(
    connection: asyncpg.Connection, sender: Phone, awake: Sequence[Phone], count: int
) -> list[int]:  # fmt: skip
    """Groups of all of them, the awake ones in each."""
    users = [phone.user for phone in awake]
    groups = []
    for number in range(-(-count // GROUP)):
        state = await sender.calls("chat.create", kind="group", members=users, title=f"모임 {number}")
        groups.append(int(state["chat"]))
    await connection.execute(
        """insert into member (chat_id, user_id, first_seq, read_seq, joined, join_rev, touched)
           select ($1::bigint[])[1 + (row_number() over (order by id) - 1) / $2], id, 1, 0, 0, 0, pg_current_xact_id()
           from account where sub like 'asleep-%'""",
        groups, GROUP,
    )  # fmt: skip
    await connection.execute("update chat set members = $1 where id = any ($2)", GROUP + len(users) + 1, groups)
    return groups


async def told(world: World, count: int) -> None:
    """Wait until the ends accepted this many."""
    await until(lambda: sum(len(end.got) for end in world.ends.values()) >= count, PATIENCE_S)


async def settles(connection: asyncpg.Connection) -> None:
    """Wait until nothing is to be recovered, planned or sent any more.

    A row of dispatch_log stays until its messages are planned.
    """
    async with asyncio.timeout(PATIENCE_S):
        while await connection.fetchval(  # noqa: ASYNC110 - other processes work on it
            "select exists (select from push_outbox) or exists (select from dispatch_log)"
        ):
            await asyncio.sleep(0.1)


def compare(world: World, platforms: dict[str, str], connected: int, took: float) -> Outcome:
    """What the ends accepted against who was away."""
    got: Counter[str] = Counter()
    for end in world.ends.values():
        got += end.tokens()
    missed = [token for token in platforms if not got[token]]
    doubled = sum(got[token] - 1 for token in platforms if got[token] > 1)
    return Outcome(len(platforms), missed, connected, doubled, took)


async def main(devices: int, outage_s: float, seed: int) -> Outcome:
    """The long form, with a Postgres and a Redis of its own."""
    folder = Path(tempfile.mkdtemp(prefix="mim-push-"))
    folder.chmod(0o711)  # noqa: ASYNC240 - as root, Postgres runs as somebody else
    postgres, redis = EmbeddedPostgres(folder / "postgres"), RedisServer()
    try:
        await redis.start()
        url = postgres.start()
        await migrate(url)
        async with far_ends(folder, trustme.CA(), new_keys()) as world:
            return await drill(url, redis.url, world, folder, devices=devices, outage_s=outage_s, seed=seed)
    finally:
        redis.clean_up()
        postgres.stop()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Thousands of sleeping phones while things die.")
    parser.add_argument("--devices", type=int, default=10_000)
    parser.add_argument("--outage", type=float, default=60.0, help="seconds for which APNs answers 503")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    options = parser.parse_args()
    outcome = asyncio.run(main(options.devices, options.outage, options.seed))
    print(f"seed {options.seed}: {outcome}")
    sys.exit(1 if outcome.missed or outcome.told_though_connected else 0)
