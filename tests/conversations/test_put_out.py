"""Who is shown the door: replaced, signed out, too old. Each is told why, and whether to come back."""

from typing import Any

import httpx

from tests.conversations.raw import Raw
from tests.harness import BYE, ERROR, HELLO, Phone, running, token_for


async def test_a_second_connection_of_a_device_replaces_the_first(database_url: str) -> None:
    async with running(database_url) as server, server.phone("mina", "tablet") as tablet:
        first = server.phone("mina")
        await first.connect()
        await first.signs_in()
        async with server.phone("mina") as second:
            assert await first.is_closed() == 4501
            assert first.inbox[-1][:2] == [BYE, "replaced"]
            for phone in (second, tablet):
                await phone.settles()
            assert (first.device, first.user) == (second.device, tablet.user)


async def test_a_revoked_device_is_out_and_stays_out(database_url: str) -> None:
    async with running(database_url) as server, server.phone("mina", "desktop") as desktop:
        lost = server.phone("mina", "lost")
        await lost.connect()
        await lost.signs_in()
        await desktop.calls("device.revoke", device=lost.device)
        assert await lost.is_closed() == 4502
        assert lost.inbox[-1][:2] == [BYE, "signed_out"]
        for token in (lost.token, token_for("mina", "lost", ttl_s=7200)):
            again = Phone(server.ws, token)
            await again.connect()
            await again.says(HELLO, 5, token)
            assert await again.is_closed() == 4502
            assert again.inbox[-1][:3] == [ERROR, 5, "unauthorized"]
            async with httpx.AsyncClient(base_url=server.http, headers={"Authorization": f"Bearer {token}"}) as http:
                answer = await http.post("/v1/call/chat.list", json={})
            assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
            raw = await Raw.to(server)
            await raw.asks(f"Authorization: Bearer {token}")
            assert await raw.status() == 401
            raw.hangs_up()
        await desktop.settles()


async def test_an_app_that_is_too_old(database_url: str) -> None:
    rule: dict[str, Any] = {"min_app_version": "ios=1.4.0,android=1.3.2", "store_link": "https://store.example/app"}
    async with running(database_url, **rule) as server:
        for options in ({"app": "1.3.9", "os": "ios"}, {"app": "1.3.1", "os": "android"}, {"app": "1", "os": "ios"}):
            old = server.phone("mina")
            await old.connect()
            await old.says(HELLO, 5, old.token, options)
            assert await old.is_closed() == 4506
            assert old.inbox == [[ERROR, 5, "update_required", rule["store_link"]]]
            raw = await Raw.to(server)
            query = "&".join(f"{key}={value}" for key, value in options.items())
            await raw.asks(f"Authorization: Bearer {old.token}", path=f"/v1/ws?{query}")
            assert await raw.status() == 426
            raw.hangs_up()
        for options in (
            {"app": "1.4", "os": "ios"},
            {"app": "1.3.2", "os": "android"},
            {"app": "0.1", "os": "web"},
            {},
        ):
            async with server.phone("mina", **options) as fine:
                assert fine.user
