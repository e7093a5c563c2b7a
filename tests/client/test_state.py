"""What a device must not forget, above all its counter."""

import json
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mim.client.errors import StateInUse
from mim.client.state import CID_BLOCK, ClientState, FileState


def crash(state: FileState) -> None:
    """The process ends here: nothing is written, the lock goes."""
    state._unlock()


@given(runs=st.lists(st.tuples(st.integers(0, 600), st.booleans()), min_size=1, max_size=6))
def test_no_cid_is_ever_used_twice(tmp_path_factory: pytest.TempPathFactory, runs: list[tuple[int, bool]]) -> None:
    path = tmp_path_factory.mktemp("state") / "device.json"
    used: list[int] = []
    for count, crashes in runs:
        state = FileState(path, first_cid=1)
        used.extend(state.next_cid() for _ in range(count))
        crash(state) if crashes else state.close()
    assert used == sorted(set(used))
    assert not used or used[-1] <= sum(count for count, _ in runs) + CID_BLOCK * len(runs)


def test_a_counter_in_memory_does_not_begin_where_an_earlier_process_began() -> None:
    assert 2**50 < ClientState().cid < 2**53


def test_it_comes_back_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "device.json"
    state = FileState(path)
    state.adopt("token", "refresh")
    state.belongs_to(4, 5)
    state.cursor = "c1"
    state.outbox = [[1, 7, "안녕"], [2, 7, {"t": "hi"}]]
    state.chats = {7: {"seq": 3, "rev": 1, "state": {"kind": "direct", "head": 4}}}
    state.reads = {7: 3}
    state.close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600

    again = FileState(path)
    for name in ("token", "refresh", "user", "device", "cursor", "outbox", "chats", "reads", "cid"):
        assert getattr(again, name) == getattr(state, name), name
    again.close()


def test_it_is_used_by_one_process_at_a_time(tmp_path: Path) -> None:
    state = FileState(tmp_path / "device.json")
    with pytest.raises(StateInUse):
        FileState(tmp_path / "device.json")
    state.close()
    FileState(tmp_path / "device.json").close()


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"version": 2}', '{"version": 1, "cid": "x"}'])
def test_a_file_that_cannot_be_understood_is_told_and_left(tmp_path: Path, content: str) -> None:
    path = tmp_path / "device.json"
    path.write_text(content)
    for _ in range(2):  # and the lock is not kept
        with pytest.raises(ValueError, match=r"device\.json"):
            FileState(path)
    assert path.read_text() == content


def test_refreshed_tokens_win_over_those_the_program_was_started_with(tmp_path: Path) -> None:
    state = FileState(tmp_path / "device.json")
    state.adopt("t1", "r1")
    state.token, state.refresh, state.cursor = "t2", "r2", "c"
    state.close()
    again = FileState(tmp_path / "device.json")
    again.adopt("t1", "r1")
    assert (again.token, again.refresh, again.cursor) == ("t2", "r2", "c")
    again.adopt("t9", "r9")
    assert (again.token, again.refresh, again.cursor) == ("t9", "r9", None)
    again.close()


def test_another_device_shares_nothing_but_the_counter() -> None:
    state = ClientState(cid=10)
    state.belongs_to(1, 1)
    state.cursor, state.outbox, state.reads = "c", [[1, 1, "x"]], {1: 1}
    assert state.belongs_to(1, 1)
    assert not state.belongs_to(2, 2)
    assert state.cid == 10
    assert not any((state.cursor, state.outbox, state.reads, state.chats))


def test_the_file_holds_a_reserved_counter_before_it_is_used(tmp_path: Path) -> None:
    state = FileState(tmp_path / "device.json", first_cid=1)
    assert state.next_cid() == 1
    assert json.loads(state.path.read_text())["cid"] == 1 + CID_BLOCK
    crash(state)
