"""The comparison's table, the page it is written into, and how it ends when it cannot be made."""

from itertools import pairwise
from pathlib import Path

import pytest
from typer.testing import CliRunner

from loadtest.__main__ import app
from loadtest.load.client import LoadError
from loadtest.peers import ejabberd
from loadtest.peers.compare import ACKS, BEGIN, END, MIM, PLAIN, Comparison, Row, works, write


def found() -> Comparison:
    """Three rounds, the second on a machine twice as slow."""
    comparison = Comparison("3 rounds", "ejabberd 23.01-1", others=[0.5, 0.25, 1.0])
    comparison.rows = {
        Row("chat", "CPU µs a message", "CPU µs/message"): {
            MIM: [30.0, 60.0, 31.0], ACKS: [900.0, 1800.0, 1000.0], PLAIN: [600.0, 1200.0, 800.0],
        },
        Row("login", "CPU ms", "CPU ms/login"): {MIM: [1.0, 1.0, 1.0], ACKS: [2.0, 2.5, 2.0]},
    }  # fmt: skip
    return comparison


def test_ratios_are_of_rounds_and_their_median() -> None:
    _, _, chat, login = found().table().splitlines()
    assert chat == (
        "| chat | CPU µs a message | 31 (30–60) | 1,000 (900–1,800) | **30.0** | 800 (600–1,200) | **20.0** |"
    )
    assert login == "| login | CPU ms | 1 | 2 (2–2.5) | **2.0** | – | – |"


def test_the_section_is_replaced_between_the_marks(tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    page.write_text(f"before\n\n{BEGIN}\nold\n{END}\n\nafter\n")
    write(found(), page)
    text = page.read_text()
    assert text.startswith(f"before\n\n{BEGIN}\n| work |")
    assert text.endswith(f"\n{END}\n\nafter\n")
    assert "old" not in text
    assert "3 rounds" in text
    assert "0.50 of a core" in text


def test_a_page_without_marks_is_left_alone(tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    page.write_text(f"before\n{BEGIN}\n")
    with pytest.raises(LoadError, match="between"):
        write(found(), page)
    assert page.read_text() == f"before\n{BEGIN}\n"


def test_the_page_of_this_repository_has_the_marks() -> None:
    text = (Path(__file__).parents[2] / "docs" / "performance.md").read_text()
    assert text.count(BEGIN) == text.count(END) == 1
    assert text.index(BEGIN) < text.index(END)


def test_works_that_share_servers_stand_together() -> None:
    kinds = [(work.accounts, work.contacts, work.fresh) for work in works(1.0, 100)]
    assert sum(a != b for a, b in pairwise(kinds)) == len(set(kinds)) - 1
    for work in works(1.0, 100):
        assert work.options.get("users", 3) <= work.accounts


def test_without_ejabberd_a_sentence_tells_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ejabberd, "SCHEMA", tmp_path / "pg.sql")
    result = CliRunner().invoke(app, ["compare", "--only", "wire"])
    assert result.exit_code == 2
    assert "apt install --no-install-recommends ejabberd" in result.stderr


def test_a_work_that_is_not_there_is_refused() -> None:
    result = CliRunner().invoke(app, ["compare", "--only", "nothing"])
    assert result.exit_code == 2
    assert "none of chat, group" in result.stderr
