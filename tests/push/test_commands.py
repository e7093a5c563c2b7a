"""`mim push` and `mim push test` as an operator calls them."""

import asyncio
import os
import sys

import httpx
import pytest

from mim.push_cli import show_metrics
from mim.store.push_settings import register
from tests.faults.process import ROOT
from tests.harness import running
from tests.push.conftest import World
from tests.push.ends import refusal


async def mim(world: World, database_url: str, *arguments: str) -> tuple[int, str]:
    """(exit code, what it printed) of `mim ...` with the settings of the far ends."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MIM_")}
    settings = {f"MIM_{name.upper()}": str(value) for name, value in world.settings.items() if name != "dev"}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "mim", *arguments,
        env={**inherited, **settings, "MIM_DATABASE_URL": database_url, "PYTHONPATH": str(ROOT)},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    out, _ = await asyncio.wait_for(process.communicate(), 60)
    return process.returncode or 0, out.decode()


async def test_a_trial_says_what_came_back(database_url: str, world: World) -> None:
    async with running(database_url, **world.settings) as server:
        pool = server.node.context.pool
        async with server.phone("jun", "one") as one, server.phone("jun", "two") as two:
            await register(pool, one.device, "apns", "a1", None, "ko", 0.0)
            await register(pool, two.device, "fcm", "b2", None, "ko", 0.0)
            user = str(one.user)
    assert await mim(world, database_url, "push", "test", "--user", user) == (
        0, f"device {one.device} (apns): accepted, ok\ndevice {two.device} (fcm): accepted, ok\n",
    )  # fmt: skip
    assert world.apns.got[0].content["aps"]["alert"]["title"] == "알림 시험"
    world.apns.answers["a1"] = refusal(410, "Unregistered")
    code, said = await mim(world, database_url, "push", "test", "--user", user)
    assert (code, said.splitlines()[0]) == (1, f"device {one.device} (apns): gone, Unregistered")
    code, said = await mim(world, database_url, "push", "test", "--user", "4242")
    assert (code, said) == (1, "user 4242 has no device that takes notifications\n")


async def test_workers_need_a_database_to_share(world: World) -> None:
    code, said = await mim(world, "", "push")
    assert code == 2
    assert "MIM_DATABASE_URL" in said


@pytest.mark.parametrize(
    ("token", "given", "status"), [(None, None, 200), ("s", "Bearer s", 200), ("s", "Bearer t", 401), ("s", None, 401)]
)
async def test_workers_show_their_metrics(token: str | None, given: str | None, status: int) -> None:
    port = show_metrics("127.0.0.1", 0, token)
    headers = {} if given is None else {"Authorization": given}
    async with httpx.AsyncClient() as http:
        answer = await http.get(f"http://127.0.0.1:{port}/metrics", headers=headers)
        assert answer.status_code == status
        assert ("mim_push_sent_total" in answer.text) is (status == 200)
