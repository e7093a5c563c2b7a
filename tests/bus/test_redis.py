"""The bus over a Redis that fails: nothing is lost in silence, and everything is said again that was not confirmed."""

import asyncio
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from mim.bus import redis_link
from mim.bus.port import CloseDevice, Envelope
from mim.bus.redis import RedisBus
from mim.bus.redis_servers import parse_redis_url
from mim.clock import SystemClock
from tests.bus.conftest import Node, cluster
from tests.harness import until
from tests.redis_server import RedisServer, needs_redis

pytestmark = needs_redis


@pytest.fixture
async def server() -> AsyncIterator[RedisServer]:
    """A Redis of one's own, to be killed."""
    async with serving(RedisServer()) as server:
        yield server


@asynccontextmanager
async def serving(server: RedisServer) -> AsyncIterator[RedisServer]:
    """The server runs for the block."""
    try:
        await server.start()
        yield server
    finally:
        server.clean_up()


@pytest.fixture
async def nodes() -> AsyncIterator[Callable[..., Node]]:
    """Makes nodes on a URL; they are closed at the end."""
    made: list[Node] = []

    def make(url: str, **options: int) -> Node:
        made.append(Node(RedisBus(url, SystemClock(), **options)))
        return made[-1]

    yield make
    for node in made:
        await node.bus.close()


async def pair(nodes: Callable[..., Node], url: str, *topics: str, **options: int) -> tuple[Node, Node]:
    """Two started nodes that listen to the topics."""
    one, two = nodes(url, **options), nodes(url)
    for node in (one, two):
        await node.bus.start()
        await node.bus.subscribe(topics)
    return one, two


def says(node: Node, topic: str, *numbers: int) -> list[bytes]:
    """Publish a number each; returns the frames."""
    frames = [b"%d" % number for number in numbers]
    for frame in frames:
        node.bus.publish(topic, Envelope(frame))
    return frames


@pytest.mark.parametrize("kind", ["redis", "cluster"])
async def test_two_nodes_hear_each_other_once_and_in_order(
    nodes: Callable[..., Node], redis_url: str, cluster_url: str, kind: str
) -> None:
    topics = [f"u:{number}" for number in range(30)]
    one, two = await pair(nodes, redis_url if kind == "redis" else cluster_url, *topics)
    said = {topic: says(one, topic, *range(20)) for topic in topics}
    assert {topic: one.bodies(topic) for topic in topics} == said  # its own sockets have them at once
    await two.hears_all_of(one)
    assert {topic: two.bodies(topic) for topic in topics} == said
    await one.settles()
    assert {topic: one.bodies(topic) for topic in topics} == said
    assert await one.bus.listening([*topics, "u:nobody"]) == dict.fromkeys(topics, 2)


async def test_claims_come_in_one_order_to_everybody(nodes: Callable[..., Node], redis_url: str) -> None:
    one, two = await pair(nodes, redis_url, "d:7")
    for number in range(100):
        (one, two)[number % 2].bus.publish("d:7", Envelope(b"%d" % number, control=CloseDevice("replaced", number)))
    await until(lambda: len(one.bodies("d:7")) == len(two.bodies("d:7")) == 100)
    assert one.bodies("d:7") == two.bodies("d:7")


@pytest.mark.parametrize("fault", ["kill", "connections"])
async def test_what_is_said_while_redis_is_away_comes_when_it_is_back(
    nodes: Callable[..., Node], server: RedisServer, fault: str
) -> None:
    one, two = await pair(nodes, server.url, "u:1", "c:2")
    says(one, "u:1", 1, 2)
    await two.hears_all_of(one)
    whole = two.bus.whole_until()
    told: list[bool] = []
    restored = (len(one.restored), len(two.restored))
    if fault == "kill":
        server.kill()
    else:
        await server.asks("CLIENT", "KILL", "TYPE", "pubsub")
    says(one, "u:1", 3, 4)
    assert one.bodies("u:1") == [b"1", b"2", b"3", b"4"]
    one.bus.confirm(told.append)
    if fault == "kill":
        await until(lambda: one.bus.whole_until() == one.bus.whole_until())
        with pytest.raises((OSError, TimeoutError)):
            await one.bus.listening(["u:1"])
        await one.bus.subscribe(["late"])  # it does not wait for a bus that is away
        await server.start()
    await until(lambda: (len(one.restored), len(two.restored)) == (restored[0] + 1, restored[1] + 1))
    assert two.restored[-1] >= whole
    says(one, "u:1", 5)
    await two.hears_all_of(one)
    heard = two.bodies("u:1")
    assert heard[-1] == b"5"
    assert told == [True]
    # Whoever was first may have said it before the other listened; `restored` told that one to look for itself.
    assert heard in ([b"1", b"2", b"3", b"4", b"5"], [b"1", b"2", b"5"])
    if fault == "kill":
        await two.bus.subscribe(["late"])
        says(two, "late", 9)
        await one.hears_all_of(two)
        assert one.bodies("late") == [b"9"]


async def test_a_redis_that_answers_nothing_counts_as_away(
    nodes: Callable[..., Node], server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_link, "PATIENCE_S", 0.3)
    monkeypatch.setattr(redis_link, "PING_EVERY_S", 0.1)
    monkeypatch.setattr(redis_link, "CONNECT_S", 0.3)
    one, two = await pair(nodes, server.url, "u:1")
    before = len(two.restored)
    server.freeze()
    try:
        says(one, "u:1", *range(50))
        assert len(one.bodies("u:1")) == 50
        frozen = two.bus.whole_until()
        await until(lambda: not one.bus._links and not two.bus._links)  # type: ignore[attr-defined]
        assert two.bus.whole_until() == frozen
    finally:
        server.thaw()
    await until(lambda: len(two.restored) > before)
    assert two.restored[-1] <= frozen
    await two.hears_all_of(one)
    await one.hears_all_of(two)


async def test_what_exceeds_the_bound_is_given_up_and_said_so(nodes: Callable[..., Node], server: RedisServer) -> None:
    one, two = await pair(nodes, server.url, "u:1", kept_bytes=10_000)
    server.kill()
    told: list[tuple[int, bool]] = []
    for number in range(25):
        one.bus.publish("u:1", Envelope(b"x" * 1000))
        one.bus.confirm(lambda ok, number=number: told.append((number, ok)))  # type: ignore[misc]
    assert {ok for _, ok in told} == {False}
    assert one.bus._kept < 11_000  # type: ignore[attr-defined]
    await server.start()
    await until(lambda: len(told) == 25)
    assert [number for number, _ in told] == list(range(25))
    assert told[-1][1] is True
    says(one, "u:1", 1)
    await two.hears_all_of(one)
    assert two.bodies("u:1")[-1] == b"1"


async def test_what_others_publish_on_our_topics_is_passed_over(
    nodes: Callable[..., Node], server: RedisServer
) -> None:
    one, two = await pair(nodes, server.url, "u:1")
    for payload in (b"", b"hello", b"\x01\x00short", b"\x01\x00" + b"8 bytes." + b"\x92\xc1", b"\x02\x00" + b"x" * 40):
        await server.asks("PUBLISH", "u:1", payload)
    says(one, "u:1", 1)
    await two.hears_all_of(one)
    assert two.bodies("u:1") == [b"1"]
    assert two.restored == two.restored[:1]


async def test_a_start_without_redis_goes_on_and_redis_may_come_later(
    nodes: Callable[..., Node], server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mim.bus.redis.FIRST_S", 0.1)
    server.kill()
    one, two = await pair(nodes, server.url, "u:1")
    says(one, "u:1", 1)
    assert one.bodies("u:1") == [b"1"]
    await server.start()
    await until(lambda: one.restored and two.restored)
    says(one, "u:1", 2)
    await two.hears_all_of(one)
    assert two.bodies("u:1")[-1] == b"2"


async def hear_each_other(nodes: Callable[..., Node], url: str) -> None:
    """Two nodes work over this URL."""
    one, two = await pair(nodes, url, "u:1")
    says(one, "u:1", 1)
    await two.hears_all_of(one)
    assert two.bodies("u:1") == [b"1"]


async def test_a_password_is_used_and_a_wrong_one_is_told(nodes: Callable[..., Node]) -> None:
    rights = "resetchannels allchannels -@all +@pubsub +ping +hello +client"
    async with serving(RedisServer(conf=f"user default off\nuser mim on >secret {rights}\n")) as server:
        where = f"127.0.0.1:{server.port.number}"
        await hear_each_other(nodes, f"redis://mim:secret@{where}")
        with pytest.raises(redis_link.RedisRefusedError, match="WRONGPASS"):
            await RedisBus(f"redis://mim:wrong@{where}", SystemClock())._connect()


def self_signed(folder: Path) -> tuple[Path, Path]:
    """A key and its certificate for 127.0.0.1."""
    key, certificate = folder / "key.pem", folder / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate,
         "-days", "2", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True, capture_output=True,
    )  # fmt: skip
    return key, certificate


async def test_tls(nodes: Callable[..., Node], tmp_path: Path) -> None:
    key, certificate = self_signed(tmp_path)
    server = RedisServer(kind="rediss")
    server.options = (
        "--port", "0", "--tls-port", str(server.port.number), "--tls-cert-file", str(certificate),
        "--tls-key-file", str(key), "--tls-ca-cert-file", str(certificate), "--tls-auth-clients", "no",
    )  # fmt: skip
    async with serving(server):
        await hear_each_other(nodes, f"{server.url}?ssl_ca_certs={certificate}")
        with pytest.raises(OSError, match=r"(?i)certificate"):
            await RedisBus(server.url, SystemClock())._connect()


async def test_a_unix_socket(nodes: Callable[..., Node]) -> None:
    server = RedisServer()
    server.options = ("--unixsocket", str(server.folder / "redis.sock"))
    async with serving(server):
        await hear_each_other(nodes, f"unix://{server.folder}/redis.sock")


async def test_the_master_that_a_sentinel_names(nodes: Callable[..., Node]) -> None:
    master = RedisServer()
    replica = RedisServer("--replicaof", "127.0.0.1", str(master.port.number))
    watching = (
        f"sentinel monitor chat 127.0.0.1 {master.port.number} 1\nsentinel down-after-milliseconds chat 500\n"
        "sentinel failover-timeout chat 2000\n"
    )
    async with serving(master), serving(replica), serving(RedisServer("--sentinel", conf=watching)) as sentinel:
        async with asyncio.timeout(30):
            while (await sentinel.asks("INFO", "sentinel"))["master0"]["slaves"] != 1:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        one, two = await pair(nodes, f"redis+sentinel://127.0.0.1:{sentinel.port.number}/chat", "u:1")
        says(one, "u:1", 1)
        await two.hears_all_of(one)
        before = len(one.restored), len(two.restored)
        master.kill()
        await until(lambda: len(one.restored) > before[0] and len(two.restored) > before[1], patience_s=30)
        says(one, "u:1", 2)
        await two.hears_all_of(one)
        assert two.bodies("u:1")[-1] == b"2"
        ports = {link.address.port for link in one.bus._links.values()}  # type: ignore[attr-defined]
        assert ports == {replica.port.number}


TOPICS = [f"u:{number}" for number in range(30)]  # some on every shard


async def test_a_shard_of_a_cluster_is_replaced(nodes: Callable[..., Node], tmp_path: Path) -> None:
    async with cluster(tmp_path) as servers:
        one, two = await pair(nodes, servers.url, *TOPICS)
        says(one, "u:1", 1)
        await two.hears_all_of(one)
        before = len(one.restored), len(two.restored)
        await servers.fails_over()
        await servers.is_whole()
        await until(lambda: len(one.restored) > before[0] and len(two.restored) > before[1], patience_s=60)
        two.heard.clear()
        said = {topic: says(one, topic, 7, 8) for topic in TOPICS}
        await two.hears_all_of(one)
        assert {topic: two.bodies(topic) for topic in TOPICS} == said


async def test_a_slot_that_moves_takes_its_topics_along(nodes: Callable[..., Node], tmp_path: Path) -> None:
    async with cluster(tmp_path) as servers:
        one, two = await pair(nodes, servers.url, *TOPICS)
        before = len(two.restored)
        slot = int(await servers.masters[0].asks("CLUSTER", "KEYSLOT", "u:1"))
        owner = slot * len(servers.masters) // 16384
        target = servers.masters[(owner + 1) % 3]
        name = await target.asks("CLUSTER", "MYID")
        # Whoever imports a slot takes a newer epoch for it; else a word of its old owner on its way could take it back.
        await target.asks("CLUSTER", "SETSLOT", slot, "IMPORTING", await servers.masters[owner].asks("CLUSTER", "MYID"))
        for server in [target, *servers.masters]:
            await server.asks("CLUSTER", "SETSLOT", slot, "NODE", name)
        await until(lambda: len(two.restored) > before, patience_s=60)
        two.heard.clear()

        def heard_all() -> bool:
            said = {topic: says(one, topic, 7) for topic in TOPICS}  # said until both have found the new place
            return all(two.bodies(topic)[-1:] == frames for topic, frames in said.items())

        await until(heard_all, patience_s=60)


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("http://127.0.0.1", "must begin with"),
        ("redis://", "names no host"),
        ("redis://host:99999", "port"),
        ("unix://", "names no socket"),
        ("redis+sentinel://host", "names no master"),
        ("redis://host?ssl_cert_req=none", "unknown parameter 'ssl_cert_req'"),
        ("rediss://host?ssl_ca_certs=/nowhere/at/all", "TLS options"),
    ],
)
def test_a_url_that_cannot_be_used_is_told_without_its_password(url: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem) as told:
        parse_redis_url(url.replace("://", "://mim:verysecret@", 1))
    assert "verysecret" not in str(told.value)


def test_urls() -> None:
    assert parse_redis_url("redis://h").hosts == [("h", 6379)]
    assert parse_redis_url("redis+sentinel://a:1,b/name").hosts == [("a", 1), ("b", 26379)]
    assert parse_redis_url("redis+cluster://u:p%40ss@a:7000,b:7001").password == "p@ss"
    assert parse_redis_url("unix:///run/redis.sock").path == "/run/redis.sock"
    assert parse_redis_url("rediss://h").tls is not None
