"""What people do in the tests of push, and what can be seen of it."""

from typing import Any

from prometheus_client import REGISTRY

from mim.push.service import Push
from tests.harness import Phone, RunningServer, until
from tests.push.ends import Got


def push_of(server: RunningServer) -> Push:
    push = server.node.context.push
    assert isinstance(push, Push)
    return push


def suppressed(reason: str) -> float:
    """How many devices were not told for this reason, since the process began."""
    return REGISTRY.get_sample_value("mim_push_suppressed_total", {"reason": reason}) or 0.0


async def settled(server: RunningServer) -> None:
    """Nothing waits to be planned or sent any more."""
    pool = server.node.context.pool
    push = push_of(server)
    assert push.planner is not None
    await until(lambda: not push.planner and push.planner._idle.is_set())  # type: ignore[union-attr]
    while await pool.fetchval("select count(*) from push_outbox"):
        await pool.execute("select pg_sleep(0.01)")


async def registers(phone: Phone, token: str, platform: str = "apns", **more: Any) -> None:
    await phone.calls("device.push", platform=platform, token=token, **more)


async def away(server: RunningServer, name: str, token: str, platform: str = "apns", **more: Any) -> int:
    """A person whose phone takes notifications and is not connected; returns the user's id."""
    async with server.phone(name) as phone:
        await registers(phone, token, platform, **more)
        user = phone.user
    await until(lambda: f"u:{user}" not in server.node.context.bus._topics)  # type: ignore[attr-defined]
    return user


async def chat_with(mina: Phone, *users: int, title: str | None = None) -> int:
    kind = "direct" if title is None else "group"
    return int((await mina.calls("chat.create", kind=kind, members=list(users), title=title))["chat"])


def alert(got: Got) -> Any:
    return got.content["aps"]["alert"]
