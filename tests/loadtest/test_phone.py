"""A phone of the load tests: what it says, when it sleeps and how it comes back, at a real server."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from loadtest.load.crew import Place
from loadtest.phones.books import merged
from loadtest.phones.crew import PhoneCrew
from loadtest.phones.line import Line
from loadtest.phones.outbox import due_of, text_of
from loadtest.phones.phone import Phone
from loadtest.phones.plan import DIRECT, Chat
from tests.harness import SECRET, RunningServer, running, until

CHATS = [Chat(DIRECT, (0, 1))]


@asynccontextmanager
async def two(server: RunningServer) -> AsyncIterator[PhoneCrew]:
    """Two phones with a direct chat."""
    port = int(server.http.rpartition(":")[2])
    crew = PhoneCrew(Place(addresses=(("127.0.0.1", port),), secret=SECRET, run=f"phone-{port}", numbers=range(2)))
    users = await crew.connect()
    created = await crew.open_chats(CHATS, users)
    await crew.know(CHATS, [created[0]])
    try:
        yield crew
    finally:
        await crew.close()


@pytest.fixture
async def crew(database_url: str) -> AsyncIterator[PhoneCrew]:
    async with running(database_url) as server, two(server) as crew:
        yield crew


def say(phone: Phone, chat: int, text: str = "") -> None:
    phone.send(chat, text or text_of(time.perf_counter_ns(), 20))


async def fine(crew: PhoneCrew) -> None:
    """The books of both are right."""
    await crew.wake_all()
    await crew.settle()
    merged([await crew.account()]).raise_if_broken()


def test_a_text_tells_when_it_was_due() -> None:
    text = text_of(123_456_789, 30)
    assert due_of(text) == 123_456_789
    assert len(text) == 30


async def test_what_is_said_while_asleep_goes_out_on_waking(crew: PhoneCrew) -> None:
    one, other = crew.phones.values()
    await one.sleep()
    say(one, crew.ids[0])
    assert not one.is_awake
    assert one.outbox
    one.wake()
    await until(lambda: not one.outbox)
    await until(lambda: other.heard == 1)
    await fine(crew)


async def test_nothing_is_said_after_it_was_put_away(crew: PhoneCrew) -> None:
    one, _ = crew.phones.values()
    going = asyncio.get_running_loop().create_task(one.sleep())
    assert not one.is_awake, "at once, not when the task begins"
    say(one, crew.ids[0])
    assert one.outbox.sent == 0
    await going
    await fine(crew)
    assert one.books.resent == set()


async def test_a_sleeper_is_told_what_it_missed_and_a_resume_that_leaves_out_is_filled(crew: PhoneCrew) -> None:
    one, other = crew.phones.values()
    await other.sleep()
    for _ in range(120):  # a sync tells 50
        say(one, crew.ids[0])
    await until(lambda: not one.outbox)
    other.wake()
    await until(lambda: other.books.chats and other.books.chats[crew.ids[0]].to == 120)
    assert not other.delivery_times, "nothing of it came live"
    assert other.read(crew.ids[0])
    assert not other.read(crew.ids[0]), "there is nothing new"
    await fine(crew)


@pytest.mark.parametrize("reset", [True, False])
async def test_a_lost_connection_is_made_again_and_what_was_on_its_way_is_sent_again(
    crew: PhoneCrew, reset: bool
) -> None:
    one, _ = crew.phones.values()
    say(one, crew.ids[0])
    one.drop(reset=reset)
    say(one, crew.ids[0])
    await until(lambda: one.syncs == 2 and not one.outbox)
    assert one.books.resent, "the first went out twice"
    await fine(crew)


class TurnedAway:
    """A door that says 503 some times, and when to come back."""

    def __init__(self, times: int, retry_after_ms: int) -> None:
        self.times = times
        self.at: list[float] = []
        self._body = b'{"code":"unavailable","detail":"later","retry_after":%d}' % retry_after_ms

    async def open(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.at.append(time.monotonic())
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 503 unavailable\r\nContent-Length: %d\r\n\r\n" % len(self._body) + self._body)
        writer.close()
        await writer.wait_closed()


async def test_who_is_turned_away_comes_back_when_told_and_not_before() -> None:
    door = TurnedAway(3, 150)
    listening = await asyncio.start_server(door.open, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]

    async def reach(number: int, make: Callable[[], Line]) -> Any:
        return (await asyncio.get_running_loop().create_connection(make, "127.0.0.1", port))[1]

    phone = Phone(0, "a token", reach)
    phone.wake()
    await until(lambda: len(door.at) == door.times)
    await phone.sleep()
    listening.close()
    assert all(later - earlier >= 0.15 for earlier, later in zip(door.at, door.at[1:], strict=False))
    assert phone.refusals["503"] >= 2
    assert not phone.books.breaches.count, "to be turned away breaks no promise"


async def test_who_finds_the_server_full_gets_in_when_somebody_leaves(database_url: str) -> None:
    async with running(database_url, max_connections=1) as server:
        port = int(server.http.rpartition(":")[2])
        place = Place(addresses=(("127.0.0.1", port),), secret=SECRET, run="full", numbers=range(2))
        one, other = PhoneCrew(place).phones.values()
        one.wake()
        await one.until_synced()
        other.wake()
        await until(lambda: other.refusals["503"])
        await one.sleep()
        await other.until_synced()
        assert not other.books.breaches.count
        await other.sleep()
