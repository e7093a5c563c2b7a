"""A client that stays connected gets fresher cursors, so that it does not resume from the morning."""

import pytest

from mim.chat import freshness
from tests.harness import MSG, SYNCED, direct, running, until


async def test_a_ping_after_traffic_brings_a_fresh_cursor(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(freshness, "EVERY_S", 0.05)
    monkeypatch.setattr(freshness, "SAFE_AFTER_S", 0.0)
    async with running(database_url) as server, server.phone("mina") as mina, server.phone("jun") as jun:
        chat = await direct(mina, jun)
        await mina.sends(chat, "old news")
        await jun.gets(MSG)
        first = jun.cursor
        await jun.heard(SYNCED)
        seen = 0

        async def newer() -> bool:
            nonlocal seen
            found = await jun.heard(SYNCED)
            seen += len(found)
            if found:
                jun.cursor = found[-1][1]
            return bool(found)

        while not await newer():
            await until(lambda: True)
        assert jun.cursor != first
        await jun.leaves()
        async with server.phone("jun", cursor=jun.cursor) as again:
            assert again.session["resumed"] is True
            assert await again.heard(SYNCED) == [[SYNCED, again.cursor]]  # nothing delivered since: no more of them
