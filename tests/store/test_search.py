"""The laws of bigrams."""

from hypothesis import given
from hypothesis import strategies as st

from mim.store.search import fold, grams

TEXT = st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\0"), max_size=60)


@given(st.lists(TEXT, max_size=5), st.data())
def test_every_part_of_a_text_is_among_its_bigrams(texts: list[str], data: st.DataObject) -> None:
    whole = set(grams(texts))
    for text in texts:
        folded = fold(text)
        start = data.draw(st.integers(0, len(folded)))
        end = data.draw(st.integers(start, len(folded)))
        # Composing and folding a part alone may differ at its ends from what they are within the whole.
        if fold(folded[start:end]) == folded[start:end]:
            assert set(grams([folded[start:end]])) <= whole


@given(TEXT)
def test_bigrams_fit_the_column(text: str) -> None:
    found = grams([text])
    assert found == sorted(set(found))
    assert all(-(2**31) <= gram < 2**31 for gram in found)
    assert len(found) <= max(0, len(fold(text)) - 1)


def test_words_of_two_syllables_are_one_bigram() -> None:
    assert len(grams(["토요"])) == 1
    assert set(grams(["토요"])) <= set(grams(["우리 토요일에 만나요"]))
    assert not set(grams(["일토"])) & set(grams(["토요일", "토끼"]))  # not across messages
    assert grams(["ABC"]) == grams(["abc"])
