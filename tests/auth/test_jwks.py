"""Tokens signed by key pairs: keys from a real HTTP server that rotates them, fails, and lies."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any

import jwt
import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from mim.auth.jwks import COOLDOWN_S, FRESH_S, PATIENT_S, SIZE_LIMIT, STALE_S
from mim.errors import Code, PeerError

if TYPE_CHECKING:
    from tests.auth.conftest import World

RSA = rsa.generate_private_key(65537, 2048)
P256 = ec.generate_private_key(ec.SECP256R1())
P384 = ec.generate_private_key(ec.SECP384R1())
ED25519 = ed25519.Ed25519PrivateKey.generate()
SECRET = "an app's secret, long enough for every HS algorithm, 64 bytes or more"


def jwk(private: Any, kid: str | None, **more: Any) -> dict[str, Any]:
    """The public half of a key as a JWK."""
    algorithm: Any = RSAAlgorithm
    if isinstance(private, ec.EllipticCurvePrivateKey):
        algorithm = ECAlgorithm
    elif isinstance(private, ed25519.Ed25519PrivateKey):
        algorithm = OKPAlgorithm
    entry: dict[str, Any] = {**algorithm.to_jwk(private.public_key(), as_dict=True), **more}
    return entry if kid is None else {**entry, "kid": kid}


class KeyServer:
    """Serves `body` at `url` and counts the requests; `answer` holds the answers back while it is cleared."""

    def __init__(self) -> None:
        self.requests = 0
        self.status = 200
        self.body = b""
        self.asked = asyncio.Event()
        self.answer = asyncio.Event()
        self.answer.set()
        self.url = ""

    def publish(self, *keys: dict[str, Any]) -> None:
        """Serve a JWKS of these keys."""
        self.body = json.dumps({"keys": keys}).encode()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request."""
        await reader.readuntil(b"\r\n\r\n")
        self.requests += 1
        self.asked.set()
        await self.answer.wait()
        head = f"HTTP/1.1 {self.status} Told\r\nContent-Length: {len(self.body)}\r\nConnection: close\r\n\r\n"
        writer.write(head.encode() + self.body)
        try:
            await writer.drain()
            writer.close()
            await writer.wait_closed()
        except ConnectionError:
            pass  # the reader had enough


@pytest_asyncio.fixture
async def server() -> AsyncIterator[KeyServer]:
    keys = KeyServer()
    listener = await asyncio.start_server(keys.serve, "127.0.0.1", 0)
    keys.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/jwks.json"
    keys.publish(jwk(RSA, "r1"), jwk(P256, "e1"), jwk(ED25519, "o1"))
    yield keys
    listener.close()
    await listener.wait_closed()


@pytest.fixture
def app(make_world: Callable[..., "World"], server: KeyServer) -> "World":
    return make_world(jwks_url=server.url, jwt_secret=SECRET)


@pytest.mark.parametrize(
    ("key", "algorithm", "kid"), [(RSA, "RS256", "r1"), (P256, "ES256", "e1"), (ED25519, "EdDSA", "o1")]
)
async def test_each_kind_of_key_is_taken_with_and_without_kid(app: "World", key: Any, algorithm: str, kid: str) -> None:
    with_kid = await app.identity.authenticate(app.app_token(key, algorithm, kid))
    assert await app.identity.authenticate(app.app_token(key, algorithm)) == with_kid


async def test_the_secret_and_the_key_set_serve_side_by_side(app: "World") -> None:
    by_key = await app.identity.authenticate(app.app_token(P256, "ES256", "e1"))
    assert await app.identity.authenticate(app.app_token(SECRET)) == by_key


async def test_keys_are_fetched_once_for_many_logins_at_once(app: "World", server: KeyServer) -> None:
    token = app.app_token(P256, "ES256", "e1")
    server.answer.clear()
    async with asyncio.TaskGroup() as tasks:
        logins = [tasks.create_task(app.identity.authenticate(token)) for _ in range(20)]
        await server.asked.wait()
        server.answer.set()
    assert len({str(login.result()) for login in logins}) == 1
    assert server.requests == 1


async def test_a_login_that_gives_up_leaves_the_fetch_to_the_others(app: "World", server: KeyServer) -> None:
    token = app.app_token(P256, "ES256", "e1")
    server.answer.clear()
    async with asyncio.TaskGroup() as tasks:
        first = tasks.create_task(app.identity.authenticate(token))
        await server.asked.wait()
        second = tasks.create_task(app.identity.authenticate(token))
        first.cancel()
        server.answer.set()
    assert second.result()
    assert server.requests == 1


async def test_a_new_key_is_found_and_an_old_one_forgotten(app: "World", server: KeyServer) -> None:
    old, new = app.app_token(P256, "ES256", "e1"), app.app_token(RSA, "RS256", "r2")
    await app.identity.authenticate(old)
    server.publish(jwk(RSA, "r2"))
    app.clock.advance(COOLDOWN_S)
    assert await app.identity.authenticate(new)
    assert server.requests == 2
    assert "kid" in await app.refuses(old)


async def test_unknown_kids_cause_a_bounded_number_of_fetches(app: "World", server: KeyServer) -> None:
    await app.identity.authenticate(app.app_token(P256, "ES256", "e1"))
    for n in range(30):
        await app.refuses(app.app_token(P256, "ES256", f"made up {n}"))
    assert server.requests == 1
    app.clock.advance(COOLDOWN_S)
    for n in range(30):
        await app.refuses(app.app_token(P256, "ES256", f"made up {n}"))
    assert server.requests == 2


async def test_old_keys_are_fetched_again_behind_a_login_and_very_old_ones_before_it(
    app: "World", server: KeyServer
) -> None:
    token = app.app_token(P256, "ES256", "e1", exp=2**40)
    await app.identity.authenticate(token)
    server.answer.clear()
    app.clock.advance(FRESH_S + 1)
    assert await app.identity.authenticate(token)  # does not wait for the answer
    server.publish(jwk(RSA, "r1"))
    server.answer.set()
    app.clock.advance(PATIENT_S)
    assert "kid" in await app.refuses(token)


async def test_while_the_key_server_fails_the_last_keys_are_good_for_a_day(app: "World", server: KeyServer) -> None:
    token = app.app_token(P256, "ES256", "e1", exp=2**40)
    await app.identity.authenticate(token)
    server.status = 500
    for _ in range(3):
        app.clock.advance(PATIENT_S + 1)
        assert await app.identity.authenticate(token)
    app.clock.advance(STALE_S)
    with pytest.raises(PeerError) as refused:
        await app.identity.authenticate(token)
    assert refused.value.code is Code.UNAVAILABLE


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff",
        b"{}",
        b"[]",
        b'{"keys": {}}',
        b'{"keys": []}',
        b'{"keys": [1, null, {}, {"kty": "RSA"}, {"kty": ["RSA"]}]}',
        b'{"keys": [{"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA", "kid": "e1"}]}',
        b"[" * 5000,
        b" " * (SIZE_LIMIT + 1),
    ],
)
async def test_an_unsound_key_set_is_as_good_as_none(app: "World", server: KeyServer, body: bytes) -> None:
    server.body = body
    with pytest.raises(PeerError) as refused:
        await app.identity.authenticate(app.app_token(P256, "ES256", "e1"))
    assert refused.value.code is Code.UNAVAILABLE
    assert refused.value.retry_after_ms
    assert await app.identity.authenticate(app.app_token(SECRET))


async def test_a_public_key_never_serves_as_a_secret(make_world: Callable[..., "World"], server: KeyServer) -> None:
    app = make_world(jwks_url=server.url)
    both = make_world(jwks_url=server.url, jwt_secret=SECRET)
    pem = RSA.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    payload = b'{"sub":"mina","dev":"phone","exp":9999999999}'
    head = {"alg": "HS256", "typ": "JWT", "kid": "r1"}
    body = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in (json.dumps(head).encode(), payload))
    signature = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256).sign(body, pem)
    token = (body + b"." + base64.urlsafe_b64encode(signature).rstrip(b"=")).decode()
    assert "HS256" in await app.refuses(token)
    assert "signature" in await both.refuses(token)


async def test_a_shared_secret_in_the_key_set_is_not_a_key(app: "World", server: KeyServer) -> None:
    oct_key = base64.urlsafe_b64encode(b"k" * 64).decode().rstrip("=")
    server.publish({"kty": "oct", "k": oct_key, "kid": "s1", "alg": "HS256"}, jwk(P256, "e1"))
    assert "signature" in await app.refuses(app.app_token("k" * 64, "HS256", "s1"))


@pytest.mark.parametrize(
    ("key", "algorithm", "kid"),
    [
        (RSA, "RS512", "r1"),  # an algorithm that is not pinned to the kind of key
        (RSA, "PS256", "r1"),
        (P384, "ES384", "e3"),
        (RSA, "RS256", "e1"),  # the kid of a key of another kind
        (P256, "ES256", "enc"),  # a key for encryption
        (rsa.generate_private_key(65537, 2048), "RS256", "r1"),  # a foreign key
        (ec.generate_private_key(ec.SECP256R1()), "ES256", "e1"),
    ],
)
async def test_every_other_pairing_is_refused(
    app: "World", server: KeyServer, key: Any, algorithm: str, kid: str
) -> None:
    server.publish(
        jwk(RSA, "r1"), jwk(P256, "e1"), jwk(P384, "e3"), jwk(P256, "enc", use="enc"), jwk(RSA, "r5", alg="RS512")
    )
    assert (await app.refuses(app.app_token(key, algorithm, kid))).startswith("token: ")


async def test_a_short_rsa_key_is_refused(app: "World", server: KeyServer) -> None:
    short = rsa.generate_private_key(65537, 1024)
    server.publish(jwk(short, "r1"))
    signer = jwt.PyJWS(algorithms=["RS256"])
    with pytest.warns(jwt.InsecureKeyLengthWarning):
        token = signer.encode(b'{"sub":"a","dev":"b","exp":9999999999}', short, "RS256", {"kid": "r1"})
    assert "too short" in await app.refuses(token)


async def test_a_token_without_kid_needs_a_single_key_of_its_algorithm(app: "World", server: KeyServer) -> None:
    server.publish(jwk(P256, "e1"), jwk(ec.generate_private_key(ec.SECP256R1()), "e2"), jwk(RSA, None))
    assert "kid" in await app.refuses(app.app_token(P256, "ES256"))
    assert await app.identity.authenticate(app.app_token(RSA, "RS256"))


async def test_without_a_key_set_key_pairs_are_refused(make_world: Callable[..., "World"]) -> None:
    world = make_world(jwt_secret=SECRET)
    assert "MIM_JWKS_URL" in await world.refuses(world.app_token(P256, "ES256", "e1"))
