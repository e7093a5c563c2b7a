"""The servers under test: private installations are complete, counted rightly and gone afterwards; the processes of a
server that runs already are found.
"""

import asyncio
import itertools
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest
import trustme

from loadtest import proc
from loadtest.load.client import Client, make_token
from loadtest.load.many import few_at_a_time
from loadtest.server import SECRET, PrivateServer, ServerError, Target, private, target
from loadtest.target.remote import RemoteServers
from tests.faults.ports import Port
from tests.faults.process import Node
from tests.faults.proxy import Proxy
from tests.harness import MSG, Phone, direct, running, until
from tests.harness import SECRET as HARNESS_SECRET

ROOT = Path(__file__).parents[2]
TICK_S = 0.01
ROUNDS = itertools.count(1)
CORE = min(os.sched_getaffinity(0))

KILLED = f"""
import asyncio
from loadtest.server import private

async def main():
    async with private({CORE}, 2) as server:
        print(server.folder, *server.processes(), flush=True)
        await asyncio.sleep(600)

asyncio.run(main())
"""


@pytest.fixture(scope="module")
async def installation() -> AsyncIterator[PrivateServer]:
    """Two nodes."""
    async with private(CORE, 2) as server:
        yield server


def phone(server: PrivateServer, node: int, name: str) -> Phone:
    """A phone at one of the nodes."""
    host, port = server.addresses[node]
    return Phone(f"ws://{host}:{port}/v1/ws", make_token(SECRET, name))


async def talk(server: PrivateServer) -> None:
    """Two people on different nodes hear each other."""
    async with phone(server, 0, f"mina-{next(ROUNDS)}") as mina, phone(server, 1, "jun") as jun:
        chat = await direct(mina, jun)
        for speaker, listener in ((mina, jun), (jun, mina)):
            seq, _ = await speaker.sends(chat, "안녕")
            await listener.gets(MSG, chat, seq)


@asynccontextmanager
async def found(server: PrivateServer) -> AsyncIterator[RemoteServers]:
    """The same installation, by its addresses alone."""
    async with target([f"http://{host}:{port}" for host, port in server.addresses], SECRET, CORE) as remote:
        assert isinstance(remote, RemoteServers)
        yield remote


# -- private installations -------------------------------------------------------------------


async def test_partners_on_two_nodes_hear_each_other(installation: PrivateServer) -> None:
    assert len(set(installation.addresses)) == 2
    await talk(installation)


async def test_usage_is_what_the_work_took_on_one_core(installation: PrivateServer) -> None:
    messages = 3000
    mina, jun = [await signed_in(installation, name, node) for node, name in enumerate(("busy-mina", "busy-jun"))]
    mina.enter((await mina.call("chat.create", kind="direct", members=[jun.user]))["chat"], "x" * 64)
    before, began = await installation.usage(), time.perf_counter()
    mina.run(100)
    await until(lambda: mina.acked >= messages and installation.parts().usage().redis > before.redis, 60)
    mina.stop()
    used, took = (await installation.usage()).since(before), time.perf_counter() - began
    await few_at_a_time(Client.close, [mina, jun])
    # A message costs the server tens of microseconds, Postgres about ten, Redis so little that a tick takes a while.
    assert used.server > messages * 10e-6
    assert used.postgres > messages * 3e-6
    rounding = TICK_S * len(installation.processes())
    assert used.total < took + rounding, "more than the core has: something is counted twice or is not pinned"


async def test_memory_and_descriptors_are_told_by_part(installation: PrivateServer) -> None:
    memory = await installation.memory()
    assert memory.server > 2 * 20_000
    assert memory.postgres > 10_000
    assert memory.redis > 1_000
    before = await installation.files()
    clients = [await signed_in(installation, f"user-{number}", node=number % 2) for number in range(20)]
    assert await installation.files() >= before + len(clients)
    await few_at_a_time(Client.close, clients)


async def test_what_a_postgres_shares_counts_once(installation: PrivateServer, monkeypatch: pytest.MonkeyPatch) -> None:
    pids = installation.parts().postgres
    told = proc.shared_once_kib(pids)
    monkeypatch.setattr(proc, "_rollup", lambda pid: {})  # as the kernel answers to other users
    reckoned = proc.shared_once_kib(pids)
    assert told == pytest.approx(reckoned, rel=0.3)
    assert max(told, reckoned) < sum(map(proc.rss_kib, pids)) / 2


async def test_a_killed_node_returns_to_its_port(installation: PrivateServer) -> None:
    before, address, pid = await installation.usage(), installation.addresses[1], installation.pids[1]
    installation.kill(1)
    assert installation.pids == [installation.pids[0]]
    assert (await installation.usage()).server >= before.server
    await installation.start(1)
    assert installation.addresses[1] == address
    assert installation.pids[1] != pid
    await talk(installation)


async def test_a_killed_redis_is_replaced(installation: PrivateServer) -> None:
    before = installation.parts().redis
    await installation.restart_redis()
    after = installation.parts().redis
    assert len(after) == 1
    assert not after & before
    await talk(installation)


async def test_the_database_can_be_read(installation: PrivateServer) -> None:
    connection = await asyncpg.connect(installation.database_url)
    try:
        assert await connection.fetchval("select count(*) from account") > 0
    finally:
        await connection.close()


async def test_nothing_is_left_afterwards() -> None:
    async with private(CORE) as server:
        folder, processes = server.folder, server.processes()
        assert len(processes) > 3
        with pytest.raises(ServerError, match="no Redis"):
            await server.restart_redis()
    assert not folder.exists()
    assert not [pid for pid in processes if proc.is_alive(pid)]


async def test_nothing_is_left_when_the_load_test_is_killed() -> None:
    load = await asyncio.create_subprocess_exec(sys.executable, "-c", KILLED, cwd=ROOT, stdout=subprocess.PIPE)
    assert load.stdout is not None
    folder, *pids = (await load.stdout.readline()).decode().split()
    assert len(pids) > 4
    assert all(map(proc.is_alive, map(int, pids)))
    load.kill()
    await load.wait()
    await until(lambda: not any(map(proc.is_alive, map(int, pids))), 60)
    await until(lambda: not Path(folder).exists(), 60)


# -- servers that run already ----------------------------------------------------------------


async def test_proc_finds_the_servers_that_metrics_tell_of(installation: PrivateServer) -> None:
    async with found(installation) as remote:
        assert remote.about["cpu"] == "of the server, its Postgres, its Redis, from /proc"
        assert await remote.parts() == installation.parts()
        before, told, after = await remote.usage(), await remote._scraped(), await remote.usage()
        cpu = sum(node.cpu_s for node in told)
        assert before.server - 2 * TICK_S <= cpu <= after.server + 2 * TICK_S
        memory = sum(node.memory_kib for node in told)
        assert (await remote.memory()).server == pytest.approx(memory, rel=0.05)


async def test_behind_a_proxy_the_metrics_are_read(installation: PrivateServer) -> None:
    port = Port()
    async with (
        Proxy(installation.addresses[0], ("127.0.0.1", port.number)),
        target(f"http://127.0.0.1:{port.number}", SECRET, CORE) as remote,
    ):
        assert "from /metrics: it is not the server itself" in remote.about["cpu"]
        usage, memory = await remote.usage(), await remote.memory()
        assert usage.postgres == 0
        assert usage.server == pytest.approx(proc.cpu_s(installation.pids[0]), abs=0.1)
        assert memory.server == pytest.approx(proc.rss_kib(installation.pids[0]), rel=0.05)
        assert await remote.files() > 10
    port.close()


async def test_workers_are_one_server_with_their_redis(tmp_path: Path, database_url: str) -> None:
    node = Node("workers", tmp_path, MIM_WORKERS="2", MIM_DATABASE_URL=database_url)
    await node.start()
    try:
        async with target(node.url, HARNESS_SECRET, CORE) as remote:
            assert isinstance(remote, RemoteServers)
            seen = await remote.parts()
            assert seen.server == {node.pid, *node.worker_pids()}
            assert seen.redis == {node.redis_pid()}
            assert seen.postgres
    finally:
        node.terminate()
        await node.ends(60)
        node.clean_up()


async def test_tls_is_spoken(tmp_path: Path, database_url: str) -> None:
    pem, ca = tmp_path / "server.pem", tmp_path / "ca.pem"
    authority = trustme.CA()
    authority.cert_pem.write_to_path(ca)
    authority.issue_cert("localhost", "127.0.0.1").private_key_and_cert_chain_pem.write_to_path(pem)
    async with running(database_url, tls_certificate=pem, tls_key=pem) as server:
        url = server.http.replace("http", "https", 1)
        with pytest.raises(ServerError, match="does not answer"):
            async with target(url, HARNESS_SECRET, CORE):
                pass
        async with target(url, HARNESS_SECRET, CORE, ca=ca) as remote:
            assert "from /proc" in remote.about["cpu"]
            client = await signed_in(remote, "mina")
            await few_at_a_time(Client.close, [client])


async def test_wrong_urls_are_refused_in_a_sentence() -> None:
    port = Port()
    for url, sentence in {
        "ftp://127.0.0.1": "http://HOST:PORT",
        "http://127.0.0.1/chat": "http://HOST:PORT",
        f"http://127.0.0.1:{port.number}": "does not answer",
        "http://no-such-host.invalid": "no-such-host",
    }.items():
        with pytest.raises(ServerError, match=sentence):
            async with target(url, SECRET, CORE):
                pass
    with pytest.raises(ServerError, match="MIM_JWT_SECRET"):
        async with target("http://127.0.0.1", None, CORE):
            pass
    port.close()


# -- what they have in common ----------------------------------------------------------------


async def signed_in(server: Target, name: str, node: int = 0) -> Client:
    """A client of the load tests, up to SYNCED."""
    host, port = server.addresses[node]
    _, client = await asyncio.get_running_loop().create_connection(Client, host, port, ssl=server.ssl)
    client.open(make_token(server.secret, name))
    await asyncio.wait_for(client.synced, 30)
    return client
