"""Texts are cut between characters, as a reader counts them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mim.push.texts import ENGLISH, KOREAN, TEXT_LIMIT, cut, fit, one_line, words


@pytest.mark.parametrize(
    ("text", "limit", "shown"),
    [
        ("안녕하세요", 5, "안녕하세요"),
        ("안녕하세요", 4, "안녕하…"),
        ("가족 👩‍👩‍👧 모임", 6, "가족…"),  # a family is one character of five code points
        ("🇰🇷🇯🇵🇺🇸", 4, "🇰🇷…"),
        ("좋아요👍🏽!", 5, "좋아요…"),
        ("cafe\u0301s!", 5, "caf…"),
        ("ᄒᆞᆫ글 이야기", 3, "…"),
        ("abc", 0, ""),
    ],
)
def test_cut(text: str, limit: int, shown: str) -> None:
    assert cut(text, limit) == shown


@given(st.text(), st.integers(0, 30))
def test_cut_never_exceeds_its_limit_and_tells_a_beginning(text: str, limit: int) -> None:
    shown = cut(text, limit)
    assert len(shown) <= limit or shown == text
    assert shown == text or text.startswith(shown.removesuffix("…"))


@given(st.text(max_size=300), st.integers(3, 200))
def test_fit_stays_within_bytes(text: str, limit: int) -> None:
    shown = fit(text, limit, lambda part: len(part.encode("utf-8", "surrogatepass")))
    assert len(shown.encode("utf-8", "surrogatepass")) <= limit


def test_one_line() -> None:
    assert one_line("  안녕\n\n하세요\x00\t! ") == "안녕 하세요 !"
    assert len(one_line("가" * 5000)) == TEXT_LIMIT


def test_languages_have_the_same_words() -> None:
    assert KOREAN.keys() == ENGLISH.keys()
    assert words("ko-KR") is words("ko_KR.UTF-8") is KOREAN
    assert words("en-US") is words("") is words("de") is ENGLISH
