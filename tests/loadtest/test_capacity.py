"""The model of capacity: what must hold whatever its unit costs are."""

import dataclasses
from pathlib import Path

import pytest

from loadtest.capacity import page
from loadtest.capacity.model import MOST_A_COMMIT, Load, Room, batch_of, plan
from loadtest.capacity.page import COMPANY, COUNTRY, NATION
from loadtest.capacity.units import Cost, Units

ROOM, UNITS = Room(), Units()


def test_a_cost_is_shared_by_its_batch() -> None:
    assert Cost(10, 100).of(1) == 110
    assert Cost(10, 100).of(50) == 12
    assert Cost(10, 100).of(0.1) == 110  # there is no batch of less than one


def test_a_commit_takes_what_came_during_the_last() -> None:
    assert batch_of(100, commit_ms=2, each_us=20) == 1  # five commits' time between two messages
    assert batch_of(10_000, commit_ms=2, each_us=20) == pytest.approx(25)  # 20 in 2 ms, and 5 in the 0.5 ms of the 25
    assert batch_of(60_000, commit_ms=2, each_us=20) == MOST_A_COMMIT  # it would never catch up


def test_a_company_needs_one_of_each_and_no_redis() -> None:
    found = plan(COMPANY, ROOM, UNITS)
    assert (found.nodes, found.redis, found.postgres) == (1, 0, 1)
    assert found.server_cores.bus == found.network.redis == 0


@pytest.mark.parametrize("load", [COMPANY, COUNTRY, NATION], ids=["company", "country", "nation"])
def test_what_is_planned_carries_what_is_asked(load: Load) -> None:
    found = plan(load, ROOM, UNITS)
    assert found.nodes * ROOM.connections >= load.sessions
    assert found.nodes * ROOM.busy >= found.server_cores.total
    assert found.redis * ROOM.busy >= found.redis_cores or found.nodes == 1
    assert found.postgres * ROOM.postgres_cores * ROOM.busy >= found.postgres_cores.total


@pytest.mark.parametrize("field", ["sessions", "messages_a_day", "peak", "members", "reads", "typing", "logins"])
def test_more_never_needs_less(field: str) -> None:
    more = dataclasses.replace(COUNTRY, **{field: getattr(COUNTRY, field) * 3})
    few, many = plan(COUNTRY, ROOM, UNITS), plan(more, ROOM, UNITS)
    assert many.server_cores.total > few.server_cores.total
    assert (many.nodes, many.redis, many.postgres) >= (few.nodes, few.redis, few.postgres)


def test_commits_fall_apart_over_shards_unless_messages_are_brought_to_them() -> None:
    meshed, brought = plan(NATION, ROOM, UNITS), plan(NATION, ROOM, UNITS, brought=True)
    assert meshed.batch == 1
    assert brought.batch > 10
    assert brought.postgres_cores.messages < meshed.postgres_cores.messages / 3


def test_a_message_reaches_no_more_nodes_than_there_are() -> None:
    crowd = Load(100_000, 1e6, groups=1, members=1000, away=0)
    assert crowd.nodes_told(2) == pytest.approx(2)
    assert 900 < crowd.nodes_told(100_000) < 1300


def test_own_unit_costs_take_the_place_of_those_in_the_table() -> None:
    own = UNITS.with_own(["server_delivery=2.5", "commit_ms=7", "publish=1,2"])
    assert (own.server_delivery, own.commit_ms, own.publish) == (Cost(2.5), 7, Cost(1, 2))
    assert own.receive == UNITS.receive


@pytest.mark.parametrize("word", ["no_such=1", "receive", "receive=much", "commit_ms="])
def test_a_wrong_unit_is_refused_with_a_sentence(word: str) -> None:
    with pytest.raises(ValueError, match=f"--unit {word}"):
        UNITS.with_own([word])


def test_every_unit_says_what_measures_it() -> None:
    assert all(all(row) for row in UNITS.rows())
    assert len(UNITS.rows()) == len(UNITS)


def test_the_page_has_the_tables_of_today() -> None:
    text = (Path(__file__).parents[2] / "docs" / page.PAGE).read_text("utf-8")
    assert "<!-- units:begin -->" in text
    assert "<!-- worked:begin -->" in text
    assert page.with_tables(text) == text, "python -m loadtest capacity --into docs"
