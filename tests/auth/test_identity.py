"""Tokens to principals: own tokens, an app's HS256 tokens, first sight, device limits, revocation."""

import asyncio
import base64
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jwt
import pytest

from mim.auth import Principal, Revoked
from mim.auth.accounts import add_user, issue_token_for_phone
from mim.errors import Code, PeerError

if TYPE_CHECKING:
    from tests.auth.conftest import World

PHONE = "010-2345-6789"
SECRET = "an app's secret, long enough for every HS algorithm, 64 bytes or more"


def segment(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


@pytest.fixture
def app(make_world: Callable[..., "World"]) -> "World":
    return make_world(jwt_secret=SECRET)


# Own tokens


async def test_an_own_token_ends_at_its_exp(world: "World") -> None:
    signed_in = await world.sign_in()
    world.clock.advance(world.settings.access_ttl_s - 1)
    assert await world.identity.authenticate(signed_in.token)
    world.clock.advance(1)
    assert "expired" in await world.refuses(signed_in.token)


async def test_an_own_token_tells_its_header_and_claims(world: "World") -> None:
    signed_in = await world.sign_in()
    now = int(world.clock.now())
    assert jwt.get_unverified_header(signed_in.token) == {"alg": "HS256", "kid": "mim", "typ": "JWT"}
    claims = jwt.decode(signed_in.token, options={"verify_signature": False})
    assert claims == {"u": signed_in.user, "d": signed_in.device, "exp": now + 86400, "iat": now}


async def test_nodes_that_start_at_once_agree_on_the_secret(make_world: Callable[..., "World"]) -> None:
    nodes = [make_world(dev=True) for _ in range(4)]
    asked = (node.identity.request_code(f"010-2345-678{n}", "192.0.2.1") for n, node in enumerate(nodes))
    codes = await asyncio.gather(*asked)
    for n, code in enumerate(codes):
        assert code is not None
        signed_in = await nodes[3 - n].identity.verify(f"010-2345-678{n}", code, "", "", "192.0.2.1")
        assert await nodes[n].identity.authenticate(signed_in.token)
    assert await nodes[0].pool.fetchval("select count(*) from server_secret") == 1


async def test_an_own_token_signed_by_another_key_is_refused(app: "World") -> None:
    signed_in = await app.sign_in()
    claims = {"u": signed_in.user, "d": signed_in.device, "exp": 2**40, "iat": 0}
    for key in (SECRET, "\0" * 32, "x" * 32):
        assert "signature" in await app.refuses(jwt.encode(claims, key, "HS256", headers={"kid": "mim"}))


async def test_an_own_token_of_a_device_that_is_gone_is_refused(world: "World") -> None:
    signed_in = await world.sign_in()
    await world.pool.execute("delete from refresh_token")
    await world.pool.execute("delete from device")
    assert "does not exist" in await world.refuses(signed_in.token)


async def test_seen_is_written_once_in_five_minutes(world: "World") -> None:
    signed_in = await world.sign_in()
    first = await world.pool.fetchval("select seen from device")
    world.clock.advance(299)
    await world.identity.authenticate(signed_in.token)
    assert await world.pool.fetchval("select seen from device") == first
    world.clock.advance(2)
    await world.identity.authenticate(signed_in.token)
    assert await world.pool.fetchval("select seen from device") == first + 301


@pytest.mark.parametrize(
    "token",
    [
        "",
        ".",
        "..",
        "a.b.c",
        "x" * 9000,
        "\ud800.a.b",
        "\0",
        f"{segment({'alg': 'none', 'kid': 'mim'})}.{segment({'u': 1, 'd': 1, 'exp': 2**40, 'iat': 0})}.",
        f"{segment({'alg': 'none'})}.{segment({'sub': 'a', 'dev': 'b', 'exp': 2**40})}.",
        f"{segment({'alg': ['HS256']})}.{segment({})}.AAAA",
        f"{segment({'alg': 'HS256', 'kid': 7})}.{segment({})}.AAAA",
        f"{segment({'alg': 'HS256', 'b64': False, 'crit': ['b64']})}..AAAA",
        f"{segment({'alg': 'HS512'})}.{segment({})}.AAAA",
        f"{segment([])}.{segment({})}.AAAA",
        f"{base64.urlsafe_b64encode(b'[' * 3000).decode()}.e30.AAAA",
    ],
)
async def test_what_is_no_sound_token_is_refused_in_words(app: "World", token: str) -> None:
    assert (await app.refuses(token)).startswith("token: ")


async def test_without_a_database_a_token_is_not_called_wrong(world: "World") -> None:
    signed_in = await world.sign_in()
    await world.pool.close()
    with pytest.raises(PeerError) as refused:
        await world.identity.authenticate(signed_in.token)
    assert refused.value.code is Code.UNAVAILABLE


# An app's tokens


async def test_an_app_user_is_added_on_first_sight(app: "World") -> None:
    exp = int(app.clock.now()) + 3600
    first = await app.identity.authenticate(app.app_token(SECRET, name="  Mina\n Kim\0 "))
    assert first == Principal(first.user, first.device, exp, "Mina Kim")
    again = await app.identity.authenticate(app.app_token(SECRET, name="Other"))
    assert again == first
    tablet = await app.identity.authenticate(app.app_token(SECRET, dev="tablet"))
    assert (tablet.user, tablet.device != first.device, tablet.name) == (first.user, True, "Mina Kim")
    other = await app.identity.authenticate(app.app_token(SECRET, sub="jun"))
    assert other.user != first.user
    assert app.added == [(p.user, p.device) for p in (first, tablet, other)]


async def test_many_first_sights_at_once_make_one_account_and_device(
    make_world: Callable[..., "World"],
) -> None:
    nodes = [make_world(jwt_secret=SECRET), make_world(jwt_secret=SECRET)]
    token = nodes[0].app_token(SECRET)
    principals = await asyncio.gather(*(nodes[n % 2].identity.authenticate(token) for n in range(40)))
    assert len(set(map(str, principals))) == 1
    assert await nodes[0].pool.fetchval("select count(*) from account") == 1
    assert await nodes[0].pool.fetchval("select count(*) from device") == 1
    assert len(nodes[0].added + nodes[1].added) == 1


async def test_many_new_devices_at_once_keep_the_limit(make_world: Callable[..., "World"]) -> None:
    app = make_world(jwt_secret=SECRET, max_devices=3)
    tokens = [app.app_token(SECRET, dev=f"d{n}") for n in range(12)]
    await asyncio.gather(*(app.identity.authenticate(token) for token in tokens), return_exceptions=True)
    assert await app.pool.fetchval("select count(*) from device where revoked is null") == 3
    assert len(app.revoked) == 9


async def test_the_least_recently_seen_device_gives_way(make_world: Callable[..., "World"]) -> None:
    app = make_world(jwt_secret=SECRET, max_devices=2)
    old = app.app_token(SECRET, dev="old", exp=2**40)
    used = app.app_token(SECRET, dev="used", exp=2**40)
    first = await app.identity.authenticate(used)
    app.clock.advance(1000)
    second = await app.identity.authenticate(old)
    app.clock.advance(1000)
    await app.identity.authenticate(used)
    await app.identity.authenticate(app.app_token(SECRET, dev="new"))
    assert app.revoked == [(second.user, second.device)]
    assert await app.identity.authenticate(used) == first
    with pytest.raises(Revoked):
        await app.identity.authenticate(old)


@pytest.mark.parametrize(
    ("claims", "word"),
    [
        ({"dev": None}, "`dev`"),
        ({"sub": None}, "`sub`"),
        ({"exp": None}, "`exp`"),
        ({"sub": ""}, "$.sub"),
        ({"sub": "s" * 129}, "$.sub"),
        ({"dev": "d" * 65}, "$.dev"),
        ({"dev": ""}, "$.dev"),
        ({"dev": 7}, "$.dev"),
        ({"exp": "tomorrow"}, "$.exp"),
        ({"exp": 1}, "expired"),
        ({"exp": -(10**30)}, "expired"),
        ({"nbf": 2**40}, "nbf"),
        ({"name": 5}, "$.name"),
        ({"sub": "a\0b"}, "NUL"),
        ({"dev": "a\0b"}, "NUL"),
    ],
)
async def test_unsound_claims_are_named(app: "World", claims: dict[str, Any], word: str) -> None:
    with pytest.raises(PeerError) as refused:
        await app.identity.authenticate(app.app_token(SECRET, **claims))
    assert refused.value.code is Code.UNAUTHORIZED
    assert word in refused.value.detail
    assert await app.pool.fetchval("select count(*) from account") == 0


@pytest.mark.parametrize("payload", [b"", b"[]", b"\xff", b"{", b"[" * 3000, b'{"sub":"\\ud800","dev":"b","exp":9e99}'])
async def test_a_signed_payload_that_is_no_claims_is_refused(app: "World", payload: bytes) -> None:
    await app.refuses(jwt.PyJWS().encode(payload, SECRET, "HS256"))


async def test_the_longest_claims_are_taken(app: "World") -> None:
    token = app.app_token(SECRET, sub="가" * 128, dev="나" * 64, name="다" * 100, exp=10**30)
    principal = await app.identity.authenticate(token)
    assert principal.name == "다" * 64
    assert principal.exp == 2**53 - 1
    assert await app.identity.authenticate(app.app_token(SECRET, exp=app.clock.now() + 10.5))


async def test_an_app_token_ends_at_its_exp(app: "World") -> None:
    token = app.app_token(SECRET)
    app.clock.advance(3600)
    assert "expired" in await app.refuses(token)


async def test_audience_and_issuer_are_asked_for_when_set(make_world: Callable[..., "World"]) -> None:
    app = make_world(jwt_secret=SECRET, jwt_audience="chat", jwt_issuer="https://app")
    assert "iss" in await app.refuses(app.app_token(SECRET, aud="chat"))
    assert "iss" in await app.refuses(app.app_token(SECRET, aud="chat", iss="https://else"))
    assert "aud" in await app.refuses(app.app_token(SECRET, iss="https://app"))
    assert "aud" in await app.refuses(app.app_token(SECRET, iss="https://app", aud=["shop"]))
    assert "aud" in await app.refuses(app.app_token(SECRET, iss="https://app", aud="chatter"))
    for aud in ("chat", ["shop", "chat"]):
        assert await app.identity.authenticate(app.app_token(SECRET, iss="https://app", aud=aud))


async def test_an_app_token_needs_the_configured_secret(world: "World", app: "World") -> None:
    assert "MIM_JWT_SECRET" in await world.refuses(world.app_token(SECRET))
    assert "signature" in await app.refuses(app.app_token(SECRET + "x"))
    assert "alg" in await app.refuses(app.app_token(SECRET, "HS384"))


# Devices


async def test_a_revoked_device_stays_refused_whoever_signs_for_it(app: "World") -> None:
    own = await app.sign_in()
    await app.identity.revoke_device(own.user, own.device)
    with pytest.raises(Revoked) as refused:
        await app.identity.authenticate(own.token)
    assert refused.value.code is Code.UNAUTHORIZED
    mina = await app.identity.authenticate(app.app_token(SECRET))
    await app.pool.execute("update device set push_platform = 'fcm', push_token = 'x' where id = $1", mina.device)
    await app.identity.revoke_device(mina.user, mina.device)
    with pytest.raises(Revoked):
        await app.identity.authenticate(app.app_token(SECRET))
    assert app.revoked == [(own.user, own.device), (mina.user, mina.device)]
    assert await app.pool.fetchval("select count(*) from device where push_token is not null") == 0


async def test_only_ones_own_devices_can_be_revoked(app: "World") -> None:
    mina = await app.identity.authenticate(app.app_token(SECRET))
    jun = await app.identity.authenticate(app.app_token(SECRET, sub="jun"))
    for device in (jun.device, 999, 0, 2**53 - 1):
        with pytest.raises(PeerError) as refused:
            await app.identity.revoke_device(mina.user, device)
        assert refused.value.code is Code.NOT_FOUND
    assert await app.identity.authenticate(app.app_token(SECRET, sub="jun")) == jun
    assert app.revoked == []


async def test_renewing_takes_a_token_of_the_same_user_and_device(app: "World") -> None:
    mina = await app.identity.authenticate(app.app_token(SECRET))
    longer = mina.exp + 100
    renewed = await app.identity.renew(mina.user, mina.device, app.app_token(SECRET, exp=longer))
    assert renewed == longer
    for other in ({"sub": "jun"}, {"dev": "tablet"}):
        with pytest.raises(PeerError) as refused:
            await app.identity.renew(mina.user, mina.device, app.app_token(SECRET, **other))
        assert refused.value.code is Code.FORBIDDEN


# What the operator does by hand


async def test_the_operator_adds_users_and_makes_tokens(world: "World") -> None:
    user = await add_user(world.pool, world.settings, PHONE, " Mina ", world.clock)
    with pytest.raises(PeerError) as refused:
        await add_user(world.pool, world.settings, "+821023456789", "Jun", world.clock)
    assert refused.value.code is Code.CONFLICT
    desk, again, other = [
        await world.identity.authenticate(
            await issue_token_for_phone(world.pool, world.settings, PHONE, name, world.clock)
        )
        for name in ("desk", "desk", "bot")
    ]
    assert desk.name == "Mina"
    assert desk == again
    assert (other.user, other.device != desk.device) == (user, True)
    assert (await world.sign_in()).user == user


async def test_a_token_for_an_unknown_phone_says_what_to_do(world: "World") -> None:
    with pytest.raises(PeerError) as refused:
        await issue_token_for_phone(world.pool, world.settings, PHONE, "desk", world.clock)
    assert refused.value.code is Code.NOT_FOUND
    assert "mim user add" in refused.value.detail
