"""Refresh tokens: rotation, the lost answer, the copied token, revocation."""

import asyncio
import base64
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from mim.auth.refresh import REPEAT_S
from mim.errors import Code, PeerError

if TYPE_CHECKING:
    from tests.auth.conftest import World


async def refused(world: "World", refresh: str) -> str:
    """The detail with which a refresh token is refused."""
    with pytest.raises(PeerError) as error:
        await world.identity.refresh(refresh)
    assert error.value.code is Code.UNAUTHORIZED
    return error.value.detail


async def test_each_use_gives_the_next_token_and_proves_the_same_device(world: "World") -> None:
    signed_in = await world.sign_in()
    refresh, seen = signed_in.refresh, {signed_in.refresh}
    for _ in range(4):
        world.clock.advance(86400)
        tokens = await world.identity.refresh(refresh)
        principal = await world.identity.authenticate(tokens.token)
        assert (principal.user, principal.device) == (signed_in.user, signed_in.device)
        refresh = tokens.refresh
        seen.add(refresh)
    assert len(seen) == 5


async def test_tokens_hold_256_random_bits_and_are_not_stored(world: "World") -> None:
    first = (await world.sign_in()).refresh
    values = {base64.urlsafe_b64decode(first + "=")[8:40]}
    values.add(base64.urlsafe_b64decode((await world.identity.refresh(first)).refresh + "=")[8:40])
    assert len(values) == 2
    row = await world.pool.fetchrow("select * from refresh_token")
    assert row is not None
    assert all(value not in bytes(row[column]) for value in values for column in ("current", "previous"))


async def test_a_lost_answer_is_repaired_by_the_token_before(world: "World") -> None:
    first = (await world.sign_in()).refresh
    lost = await world.identity.refresh(first)
    world.clock.advance(REPEAT_S + 1)
    second = await world.identity.refresh(first)
    assert second.refresh != lost.refresh
    assert (await world.identity.refresh(second.refresh)).refresh
    assert world.revoked == []


async def test_a_request_that_is_repeated_at_once_gets_the_same_successor(world: "World") -> None:
    first = (await world.sign_in()).refresh
    answers = await asyncio.gather(*(world.identity.refresh(first) for _ in range(10)))
    assert len({answer.refresh for answer in answers}) == 1
    assert (await world.identity.refresh(answers[0].refresh)).refresh
    assert world.revoked == []


async def test_the_token_before_is_dead_once_its_successor_was_used(world: "World") -> None:
    signed_in = await world.sign_in()
    second = await world.identity.refresh(signed_in.refresh)
    third = await world.identity.refresh(second.refresh)
    assert "copied" in await refused(world, signed_in.refresh)
    assert world.revoked == [(signed_in.user, signed_in.device)]
    assert "signed out" in await refused(world, third.refresh)
    assert "signed out" in await world.refuses(third.token)


async def test_a_thief_beside_the_owner_is_found_out(world: "World") -> None:
    stolen = (await world.sign_in()).refresh
    owner = await world.identity.refresh(stolen)
    world.clock.advance(3600)
    thief = await world.identity.refresh(stolen)
    world.clock.advance(3600)
    await refused(world, owner.refresh)
    await refused(world, thief.refresh)
    assert len(world.revoked) == 1


async def test_a_token_from_long_ago_is_still_known_as_copied(world: "World") -> None:
    oldest = refresh = (await world.sign_in()).refresh
    for _ in range(5):
        world.clock.advance(86400)
        refresh = (await world.identity.refresh(refresh)).refresh
    await refused(world, oldest)
    assert len(world.revoked) == 1


async def test_an_unused_token_expires_and_each_use_extends_it(make_world: Callable[..., "World"]) -> None:
    world = make_world(refresh_ttl_s=1000)
    refresh = (await world.sign_in()).refresh
    for _ in range(3):
        world.clock.advance(999)
        refresh = (await world.identity.refresh(refresh)).refresh
    world.clock.advance(1000)
    assert "too long" in await refused(world, refresh)
    assert world.revoked == []


async def test_a_made_up_token_is_refused_and_harms_no_device(world: "World") -> None:
    signed_in = await world.sign_in()
    raw = base64.urlsafe_b64decode(signed_in.refresh + "=")
    for place in (0, 7, 8, 39, 40, 55):
        forged = bytearray(raw)
        forged[place] ^= 1
        await refused(world, base64.urlsafe_b64encode(forged).decode().rstrip("="))
    for text in ("", "x", "A" * 75, "é" * 75, "!" * 75, "A" * 10_000, signed_in.refresh + "=", "\0"):
        await refused(world, text)
    assert world.revoked == []
    assert await world.identity.refresh(signed_in.refresh)


async def test_a_revoked_device_cannot_refresh(world: "World") -> None:
    signed_in = await world.sign_in()
    await world.identity.revoke_device(signed_in.user, signed_in.device)
    assert "signed out" in await refused(world, signed_in.refresh)


async def test_another_node_takes_the_token(make_world: Callable[..., "World"]) -> None:
    here, there = make_world(), make_world()
    signed_in = await here.sign_in()
    tokens = await there.identity.refresh(signed_in.refresh)
    assert await here.identity.authenticate(tokens.token)


async def test_revoking_and_refreshing_at_once_ends_revoked(world: "World") -> None:
    for _ in range(5):
        signed_in = await world.sign_in()
        await asyncio.gather(
            *(world.identity.refresh(signed_in.refresh) for _ in range(4)),
            world.identity.revoke_device(signed_in.user, signed_in.device),
            return_exceptions=True,
        )
        await refused(world, signed_in.refresh)
    assert await world.pool.fetchval("select count(*) from refresh_token") == 0
