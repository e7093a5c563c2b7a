"""What a message body may be. The bounds are told to the sender; what passes can be stored and sent in both codecs."""

import json
from typing import Any

import msgpack
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mim.errors import Code, PeerError
from mim.model import Stored, body_of
from mim.wire.body import MAX_DEPTH, check_body

LIMIT = 100


def refused(body: Any) -> Code:
    """The code with which a body is refused."""
    with pytest.raises(PeerError) as error:
        check_body(body, LIMIT)
    assert error.value.detail
    return error.value.code


@pytest.mark.parametrize(
    ("body", "stored"),
    [
        ("hi", Stored("hi")),
        ({"t": "hi"}, Stored("hi")),  # one shape for plain text
        ({"t": "hi", "k": None, "re": None}, Stored("hi")),
        ({"t": "hi", "k": "photo"}, Stored("hi", {"k": "photo"})),
        ({"k": "sticker", "x": {"id": 5}}, Stored("", {"k": "sticker", "x": {"id": 5}})),
        ({"t": "", "k": "location", "f": [{"lat": 37.5}]}, Stored("", {"k": "location", "f": [{"lat": 37.5}]})),
        ({"t": "hi", "later": [1.5, None, True]}, Stored("hi", {"later": [1.5, None, True]})),
        ({"t": "@준 안녕", "m": [[0, 2, 7]]}, Stored("@준 안녕", {"m": [[0, 2, 7]]})),
        ({"t": "😀a", "m": [[2, 1, 7]]}, Stored("😀a", {"m": [[2, 1, 7]]})),  # two UTF-16 units before
        ({"t": "hi", "f": [{"url": "u"}] * 30}, Stored("hi", {"f": [{"url": "u"}] * 30})),
    ],
)
def test_bodies_that_pass(body: Any, stored: Stored) -> None:
    assert check_body(body, LIMIT) == stored


@pytest.mark.parametrize(
    "body",
    [
        "", {}, {"t": ""}, {"t": None}, {"k": None}, "a\0b", {"t": "a\0b"},
        {"k": "photo"}, {"x": 5}, {"k": "photo", "f": []}, {"re": 5}, {"later": 5},
        {"t": "x", "x": "\0"}, {"t": "x", "x": ["\0"]}, {"t": "x", "\0": 1}, {"t": 5}, {"t": "x", "k": 5},
        {"t": "x", "k": ""}, {"t": "x", "k": "k" * 33}, {"t": "x", "re": -1},
        {"t": "x", "re": 1.5}, {"t": "x", "re": 2**53}, {"t": "x", "f": {}}, {"t": "x", "f": ["u"]},
        {"t": "x", "f": [{}] * 31}, {"t": "x", "m": [[0, 1, 1]] * 101}, {"t": "x", "m": [[0, 1]]},
        {"t": "x", "m": [[0, 2, 1]]}, {"t": "x", "m": [[0, 0, 1]]}, {"t": "x", "m": [[1, 1, 1]]},
        {"t": "x", "m": [[-1, 1, 1]]}, {"t": "x", "x": 2**53}, {"t": "x", "x": -(2**53)}, {"t": "x", "x": float("nan")},
        {"t": "x", "x": float("inf")}, {"t": "x", "x": b"bytes"}, {"t": "x", "x": {5: 1}}, {5: "x"}, {"t": "x", 5: 1},
        {"t": "x", "x": msgpack.Timestamp(1)},
    ],
    ids=repr,
)  # fmt: skip
def test_bodies_that_are_bad(body: Any) -> None:
    assert refused(body) is Code.BAD_FRAME


def test_the_limit_counts_code_points() -> None:
    for text in ("가" * LIMIT, "😀" * LIMIT):
        assert check_body(text, LIMIT) == check_body({"t": text}, LIMIT) == Stored(text)
        assert refused(text + "a") is refused({"t": text + "a"}) is Code.TOO_LARGE


@pytest.mark.parametrize("wrap", [lambda inner: [inner], lambda inner: {"k": inner}], ids=["lists", "maps"])
def test_nesting_is_bounded(wrap: Any) -> None:
    value: Any = 1
    for _ in range(MAX_DEPTH - 1):
        value = wrap(value)
    assert check_body({"t": "x", "x": value}, LIMIT).extra == {"x": value}
    for _ in range(5):
        value = wrap(value)
        assert refused({"t": "x", "x": wrap(value)}) is Code.BAD_FRAME


def test_nesting_beyond_the_stack_is_refused_too() -> None:
    value: Any = 1
    for _ in range(50_000):
        value = [value]
    assert refused({"t": "x", "x": value}) is Code.BAD_FRAME
    while isinstance(value, list):  # freed by hand, or the interpreter would recurse
        value = value.pop()


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10) | st.binary(max_size=4),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4) | st.integers(), inner, max_size=4),
    max_leaves=10,
)
bodies = st.text(st.characters(exclude_categories=["Cs"]), max_size=LIMIT + 5) | st.dictionaries(
    st.sampled_from(["t", "k", "re", "m", "f", "x", "other"]), values, max_size=5
)


@given(body=bodies)
def test_any_body_is_refused_or_can_be_stored_and_sent(body: Any) -> None:
    try:
        stored = check_body(body, LIMIT)
    except PeerError as error:
        assert error.code in (Code.BAD_FRAME, Code.TOO_LARGE)  # noqa: PT017 - both ends are checked
        return
    read = body_of(stored.text, orjson.loads(orjson.dumps(stored.extra)))
    assert check_body(read, LIMIT) == stored  # what was read can be sent again
    assert msgpack.unpackb(msgpack.packb(read)) == json.loads(json.dumps(read)) == read
    assert "\0" not in stored.text
