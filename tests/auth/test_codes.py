"""One-time codes: tries, expiry, rates, one use, also when many ask at once."""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from mim.errors import Code, PeerError

if TYPE_CHECKING:
    from tests.auth.conftest import World

PHONE = "010-2345-6789"
ADDRESS = "203.0.113.7"


def other_than(code: str, step: int = 1) -> str:
    return f"{(int(code) + step) % 1_000_000:06}"


async def verify(world: "World", code: str, address: str = ADDRESS) -> Code | None:
    """Verify and return the code of the error, or None."""
    try:
        await world.identity.verify(PHONE, code, "Galaxy", "android", address)
    except PeerError as error:
        return error.code
    return None


async def test_a_right_code_signs_in_a_new_account_and_device(world: "World") -> None:
    code = await world.code()
    assert len(code) == 6
    assert world.carrier.sent == [("+821023456789", code, "")]
    signed_in = await world.identity.verify("+82 10 2345 6789", code, "  Galaxy\nS25 ", "android", ADDRESS)
    principal = await world.identity.authenticate(signed_in.token)
    assert (principal.user, principal.device) == (signed_in.user, signed_in.device)
    assert principal.exp == int(world.clock.now()) + world.settings.access_ttl_s
    assert await world.pool.fetchval("select name from device") == "Galaxy S25"
    assert world.added == [(signed_in.user, signed_in.device)]


async def test_the_second_sign_in_is_the_same_user_on_another_device(world: "World") -> None:
    first = await world.sign_in()
    second = await world.sign_in("+821023456789")
    assert (second.user, second.device > first.device) == (first.user, True)


async def test_ids_stay_small_when_a_user_signs_in_often(world: "World") -> None:
    for _ in range(5):
        await world.sign_in()
    assert (await world.sign_in("010-9876-5432")).user == 2


async def test_the_code_is_told_in_development_only(make_world: Callable[..., "World"]) -> None:
    production, development = make_world(), make_world(dev=True)
    assert await production.identity.request_code(PHONE, ADDRESS) is None
    assert await development.identity.request_code(PHONE, ADDRESS) == development.carrier.sent[-1][1]


async def test_no_code_or_phone_is_stored_in_a_readable_form(world: "World") -> None:
    code = await world.code()
    row = await world.pool.fetchrow("select digest from login_code")
    assert row is not None
    assert len(row["digest"]) == 32
    assert code.encode() not in row["digest"]


async def test_a_code_works_once(world: "World") -> None:
    code = await world.code()
    assert await verify(world, code) is None
    assert await verify(world, code) is Code.UNAUTHORIZED


async def test_a_code_used_many_times_at_once_works_once(world: "World") -> None:
    code = await world.code()
    results = await asyncio.gather(*(verify(world, code) for _ in range(20)))
    assert results.count(None) == 1
    assert await world.pool.fetchval("select count(*) from device") == 1


async def test_five_tries_then_even_the_right_code_is_refused(world: "World") -> None:
    code = await world.code()
    for step in range(1, 6):
        assert await verify(world, other_than(code, step)) is Code.UNAUTHORIZED
    assert await verify(world, code) is Code.UNAUTHORIZED


async def test_the_fifth_try_may_be_right(world: "World") -> None:
    code = await world.code()
    for step in range(1, 5):
        assert await verify(world, other_than(code, step)) is Code.UNAUTHORIZED
    assert await verify(world, code) is None


async def test_guesses_at_once_get_no_more_than_five_tries(world: "World") -> None:
    code = await world.code()
    guesses = [other_than(code, step) for step in range(1, 40)]
    results = await asyncio.gather(*(verify(world, guess) for guess in guesses))
    assert set(results) == {Code.UNAUTHORIZED}
    assert await world.pool.fetchval("select tries from login_code") == 5
    assert await verify(world, code) is Code.UNAUTHORIZED


async def test_a_new_code_replaces_the_old_one(world: "World") -> None:
    old = await world.code()
    new = await world.code()
    while new == old:
        new = await world.code()
    assert await verify(world, old) is Code.UNAUTHORIZED
    assert await verify(world, new) is None


async def test_a_code_expires(world: "World") -> None:
    code = await world.code()
    world.clock.advance(world.settings.code_ttl_s)
    assert await verify(world, code) is Code.UNAUTHORIZED


async def test_the_code_of_another_phone_is_wrong(world: "World") -> None:
    await world.code()
    other = await world.code("010-9876-5432")
    with pytest.raises(PeerError) as refused:
        await world.identity.verify(PHONE, other, "", "", ADDRESS)
    assert refused.value.code is Code.UNAUTHORIZED
    assert other not in str(refused.value)


@pytest.mark.parametrize("code", ["", "12345", "1234567", "12345a", "１２３４５６", "12 456", "-12345"])
async def test_what_is_no_code_costs_no_try(world: "World", code: str) -> None:
    right = await world.code()
    for _ in range(6):
        assert await verify(world, code) is Code.BAD_FRAME
    assert await verify(world, right) is None


async def test_codes_of_a_phone_are_limited_and_it_is_told_when_to_come_back(world: "World") -> None:
    for _ in range(world.settings.code_per_phone_hour):
        await world.code()
    world.clock.advance(600)
    with pytest.raises(PeerError) as refused:
        await world.identity.request_code("+821023456789", "198.51.100.1")
    assert refused.value.code is Code.RATE_LIMITED
    assert refused.value.retry_after_ms == 3000 * 1000
    assert "2345" not in refused.value.detail
    world.clock.advance(3000)
    assert await world.code()


async def test_requests_at_once_on_two_nodes_share_the_limit(make_world: Callable[..., "World"]) -> None:
    nodes = [make_world(), make_world()]
    asked = (nodes[n % 2].identity.request_code(PHONE, ADDRESS) for n in range(30))
    results = await asyncio.gather(*asked, return_exceptions=True)
    assert results.count(None) == 5
    assert sum(len(node.carrier.sent) for node in nodes) == 5


async def test_an_address_is_limited_over_all_phones_without_using_up_theirs(
    make_world: Callable[..., "World"],
) -> None:
    world = make_world(code_per_address_hour=3)
    for n in range(3):
        await world.code(f"010-2345-678{n}")
    for _ in range(6):
        with pytest.raises(PeerError, match="too often"):
            await world.code(PHONE)
    assert await world.code(PHONE, "198.51.100.1")


async def test_an_ipv6_client_is_counted_by_its_network(make_world: Callable[..., "World"]) -> None:
    world = make_world(code_per_address_hour=1)
    await world.code(PHONE, "2001:db8:1:2::1")
    with pytest.raises(PeerError, match="too often"):
        await world.code(PHONE, "2001:db8:1:2:ffff::9")
    await world.code(PHONE, "2001:db8:1:3::1")
    await world.code(PHONE, "192.0.2.1")
    with pytest.raises(PeerError, match="too often"):
        await world.code(PHONE, "::ffff:192.0.2.1")


async def test_guesses_from_one_address_are_limited(make_world: Callable[..., "World"]) -> None:
    world = make_world(code_per_address_hour=1)
    code = await world.code()
    for step in range(1, 6):
        assert await verify(world, other_than(code, step)) is Code.UNAUTHORIZED
    fresh = await world.code(address="198.51.100.1")
    assert await verify(world, fresh) is Code.RATE_LIMITED
    assert await verify(world, fresh, "198.51.100.1") is None


@pytest.mark.parametrize(
    "phone", ["", "12", "hello", "+", "+999123456789", "010-2345", "\0", "9" * 10_000, "+82" + "1" * 80]
)
async def test_what_is_no_phone_number_is_refused_with_help(world: "World", phone: str) -> None:
    with pytest.raises(PeerError) as refused:
        await world.identity.request_code(phone, ADDRESS)
    assert refused.value.code is Code.BAD_FRAME
    assert refused.value.detail.startswith("phone: ")
    assert not phone or phone == "+" or phone not in refused.value.detail


async def test_a_failing_carrier_is_told_as_unavailable_without_what_it_said(world: "World") -> None:
    world.carrier.broken = True
    with pytest.raises(PeerError) as refused:
        await world.identity.request_code(PHONE, ADDRESS)
    assert refused.value.code is Code.UNAVAILABLE
    assert "2345" not in repr(refused.value)
    assert refused.value.__suppress_context__
    assert await world.pool.fetchval("select count(*) from login_code") == 0


async def test_expired_codes_and_windows_are_removed_in_time(world: "World") -> None:
    for n in range(5):
        await world.code(f"010-2345-678{n}")
    world.clock.advance(4000)
    await world.code("010-9876-5432")
    assert await world.pool.fetchval("select count(*) from login_code") == 1
    assert await world.pool.fetchval("select count(*) from rate_window") == 2


async def test_without_a_database_sign_in_is_unavailable(world: "World") -> None:
    await world.pool.close()
    with pytest.raises(PeerError) as refused:
        await world.identity.request_code(PHONE, ADDRESS)
    assert refused.value.code is Code.UNAVAILABLE
