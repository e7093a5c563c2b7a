"""Two laws of the codec: any bytes give a frame, BadFrame or NotAFrame and nothing else; what one
implementation writes, another reads back as the same values.
"""

import json
import math
import struct
from typing import Any, get_args

import msgpack
import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mim.errors import Code, PeerError
from mim.wire.codec import (
    CLIENT_FRAMES,
    CODECS,
    JSON,
    MSGPACK,
    NUMBERED,
    BadFrame,
    Codec,
    NotAFrame,
    transcode_to_json,
)
from mim.wire.frames import (
    Bye,
    Call,
    ClientFrame,
    Error,
    HelloOptions,
    Nack,
    Result,
    Send,
    UserTyping,
)

BOTH = pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS.keys())
LAW = settings(max_examples=200, deadline=None)
KNOWN = get_args(ClientFrame)

uints = st.integers(0, 2**53 - 1) | st.sampled_from([0, 127, 128, 2**31, 2**32 - 1, 2**32, 2**53 - 1])
refs = uints.map(lambda n: max(n, 1))
ids = refs
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | texts
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)  # fmt: skip
bodies = texts | st.dictionaries(texts, json_values, max_size=5)
limits = st.integers(-(2**53) + 1, 2**53 - 1)
options = st.fixed_dictionaries(
    {},
    optional={"app": st.text("0123456789.", max_size=64), "os": st.just("web"), "locale": st.just("ko-KR"),
              "recv": st.booleans(), "unknown": json_values},
)  # fmt: skip
client_arrays = st.one_of(
    st.tuples(st.just(1), refs, texts, options),
    st.tuples(st.just(1), refs, texts, options, st.none() | texts),
    st.tuples(st.just(2), uints, uints, bodies),
    st.tuples(st.just(3), uints, uints),
    st.tuples(st.just(4), uints),
    st.tuples(st.just(5), uints),
    st.tuples(st.just(6), refs, uints, uints, limits),
    st.tuples(st.just(7), refs, texts),
    st.tuples(st.just(7), refs, texts, st.dictionaries(texts, json_values, max_size=5)),
    st.tuples(st.just(8), uints),
    st.tuples(st.just(9), refs, uints, uints, limits),
).map(list)

# Valid msgpack that means nothing: numbers of every width and sign, NaN, binary, extensions, odd keys.
junk_leaves = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | texts | st.binary(max_size=8)
    | st.builds(msgpack.ExtType, st.integers(0, 127), st.binary(max_size=16))
    | st.builds(msgpack.Timestamp, st.integers(-(2**40), 2**40), st.integers(0, 999_999_999))
)  # fmt: skip
junk = st.recursive(
    junk_leaves,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(junk_leaves, inner, max_size=4),
    max_leaves=15,
)
junk_arrays = st.lists(junk, max_size=7).flatmap(
    lambda tail: st.sampled_from([*CLIENT_FRAMES, 0, 16, 18, 99, -1, 2**63]).map(lambda op: [op, *tail])
)


def judge(codec: Codec, data: bytes) -> object:
    """Decode and return what came of it; anything but the three allowed ends fails the test."""
    try:
        end: object = codec.decode(data)
    except (BadFrame, NotAFrame) as exc:
        end = exc
    if isinstance(end, BadFrame):
        assert 0 <= end.number < 2**53
        assert end.code in (Code.BAD_FRAME, Code.UNSUPPORTED)
        assert end.detail
        assert end.number == 0 or end.op in NUMBERED or end.op not in CLIENT_FRAMES
        codec.encode(Error(end.number, end.code, end.detail))  # whatever the detail quotes, it can be sent
    else:
        assert isinstance(end, (NotAFrame, *KNOWN))
    return end


# -- any bytes -----------------------------------------------------------------------------


@BOTH
@LAW
@given(data=st.binary(max_size=200))
@example(data=b"")
@example(data=b"\xdd\xff\xff\xff\xff")
@example(data=b"\xdf\xff\xff\xff\xff")
@example(data=b"\x94\x02\x01\x05\xdb\xff\xff\xff\xff")
@example(data=b"\xff\xfe[\x002\x00]\x00")
@example(data=b"\xef\xbb\xbf[8,1]")
def test_any_bytes_end_in_one_of_three_ways(codec: Codec, data: bytes) -> None:
    judge(codec, data)


@LAW
@given(op=st.sampled_from(sorted(CLIENT_FRAMES)), tail=st.binary(max_size=60), size=st.integers(1, 15))
def test_any_bytes_behind_a_readable_op(op: int, tail: bytes, size: int) -> None:
    judge(MSGPACK, bytes([0x90 | size, op]) + tail)


@LAW
@given(array=junk_arrays)
def test_valid_msgpack_with_wrong_types(array: list[Any]) -> None:
    judge(MSGPACK, msgpack.packb(array, strict_types=False))


@LAW
@given(array=st.lists(json_values, max_size=7), op=st.sampled_from([*CLIENT_FRAMES, 0, 99]))
def test_valid_json_with_wrong_types(array: list[Any], op: int) -> None:
    judge(JSON, json.dumps([op, *array]).encode())


@BOTH
@LAW
@given(array=client_arrays, at=st.integers(0, 400), mask=st.integers(1, 255))
def test_one_changed_byte(codec: Codec, array: list[Any], at: int, mask: int) -> None:
    data = bytearray(write(codec, array))
    data[at % len(data)] ^= mask
    judge(codec, bytes(data))


@BOTH
@LAW
@given(array=client_arrays, cut=st.integers(1, 400))
def test_half_a_frame_is_no_frame(codec: Codec, array: list[Any], cut: int) -> None:
    data = write(codec, array)
    assert isinstance(judge(codec, data[: -(1 + cut % len(data))]), NotAFrame)


@pytest.mark.parametrize("depth", [1, 15, 100, 500, 900, 1000, 5000, 60_000])
def test_nesting_of_any_depth(depth: int) -> None:
    packed = b"\x94\x02\x06\x05\x81\xa1x" + b"\x91" * depth + b"\x01"
    text = b'[2,6,5,{"x":' + b"[" * depth + b"1" + b"]" * depth + b"}]"
    params = b"\x94\x07\x06\xa1m" + b"\x91" * depth + b"\x01"
    for codec, data in ((MSGPACK, packed), (JSON, text), (MSGPACK, params)):
        outcome = judge(codec, data)
        if depth <= 100:
            assert isinstance(outcome, Send | Call)
        if depth >= 5000:
            assert isinstance(outcome, NotAFrame)


@pytest.mark.parametrize("claim", [0xFFFF_FFFF, 0x0FFF_FFFF, 0x0010_0000])
@pytest.mark.parametrize("kind", [b"\xdd", b"\xdf", b"\xdb", b"\xc6", b"\xc9"])
def test_a_claimed_length_costs_nothing(kind: bytes, claim: int) -> None:
    """A header that promises gigabytes must neither allocate them nor raise MemoryError."""
    header = kind + struct.pack(">I", claim)
    for before in (b"", b"\x94\x02\x06\x05", b"\x94\x02\x06\x05\x81\xa1x", b"\x94\x07\x06\xa1m"):
        assert isinstance(judge(MSGPACK, before + header), NotAFrame)


@pytest.mark.parametrize("broken", [b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82"])
def test_broken_utf8_in_a_readable_frame_is_answered(broken: bytes) -> None:
    packed = b"\x94\x02\x06\x05" + bytes([0xA0 | len(broken)]) + broken
    for codec, data in ((MSGPACK, packed), (JSON, b'[2,6,5,"' + broken + b'"]')):
        outcome = judge(codec, data)
        assert isinstance(outcome, BadFrame)
        assert (outcome.op, outcome.number) == (2, 6)


@pytest.mark.parametrize("number", [2**53, 2**63, 2**64 - 1, -1, -(2**63), 6.0, math.nan, True, "6", None, b"6", []])
def test_a_number_that_is_none_is_answered_with_zero(number: object) -> None:
    outcome = judge(MSGPACK, msgpack.packb([2, number, 5, "a"]))
    assert isinstance(outcome, BadFrame)
    assert outcome.number == 0


@pytest.mark.parametrize("array", [[3, 5, -1], [4, -5], [5, -1], [8, "x"], [3, 7]])
def test_a_chat_is_not_taken_for_a_request(array: list[Any]) -> None:
    outcome = judge(MSGPACK, msgpack.packb(array))
    assert isinstance(outcome, BadFrame)
    assert outcome.number == 0


# -- round trips through another implementation ------------------------------------------------


def write(codec: Codec, array: list[Any]) -> bytes:
    """`array` as an independent implementation writes it."""
    return json.dumps(array).encode() if codec.text else bytes(msgpack.packb(array))


def read(codec: Codec, data: bytes) -> Any:
    return json.loads(data) if codec.text else msgpack.unpackb(data)


@BOTH
@LAW
@given(array=client_arrays)
def test_a_client_frame_keeps_its_values(codec: Codec, array: list[Any]) -> None:
    frame = codec.decode(write(codec, array))
    assert type(frame) is CLIENT_FRAMES[array[0]]
    values = msgspec.structs.astuple(frame)
    for value, sent in zip(values, array[1:], strict=False):
        if isinstance(value, HelloOptions):
            assert sent.items() >= msgspec.to_builtins(value).items()
        elif isinstance(value, msgspec.Raw):
            assert read(codec, bytes(value)) == sent
        else:
            assert value == sent


@BOTH
@LAW
@given(array=client_arrays.filter(lambda array: array[0] != Call.__struct_config__.tag))
def test_a_frame_survives_encode_and_decode(codec: Codec, array: list[Any]) -> None:
    """Clients are not written with this codec, but the load generator's frames are."""
    frame: Any = codec.decode(write(codec, array))
    again = read(codec, codec.encode(frame))
    assert codec.decode(write(codec, again)) == frame


@BOTH
@LAW
@given(ref=uints, value=json_values)
def test_a_result_is_read_by_the_other_implementation(codec: Codec, ref: int, value: object) -> None:
    assert read(codec, codec.encode(Result(ref, value))) == [21, ref, value]


@LAW
@given(value=json_values)
def test_transcoding_gives_the_same_array(value: object) -> None:
    assert json.loads(transcode_to_json(msgpack.packb([21, 1, value]))) == [21, 1, value]


@BOTH
@pytest.mark.parametrize("wait", [None, 0, 1500])
def test_retry_after_is_left_out_when_there_is_none(codec: Codec, wait: int | None) -> None:
    tail = [] if wait is None else [wait]
    assert read(codec, codec.encode(Error(1, "full", "d", wait))) == [22, 1, "full", "d", *tail]
    assert read(codec, codec.encode(Nack(1, "full", "d", wait))) == [29, 1, "full", "d", *tail]
    assert read(codec, codec.encode(Bye("moved", "d", wait))) == [26, "moved", "d", *tail]
    assert read(codec, codec.encode(UserTyping(5, 6))) == [23, 5, 6]


# -- parameters of a CALL ------------------------------------------------------------------


class Params(msgspec.Struct):
    chat: int
    title: str | None = None


@BOTH
def test_parameters_become_their_shape(codec: Codec) -> None:
    assert codec.decode_params(write(codec, {"chat": 5, "later": 1}), Params) == Params(5)  # type: ignore[arg-type]


def test_no_parameters_are_empty_ones() -> None:
    with pytest.raises(PeerError, match="chat"):
        MSGPACK.decode_params(b"", Params)


@BOTH
@LAW
@given(data=st.binary(max_size=60))
def test_any_parameters_are_a_shape_or_bad_frame(codec: Codec, data: bytes) -> None:
    end: object
    try:
        end = codec.decode_params(data, Params)
    except PeerError as exc:
        end = exc.code
    assert isinstance(end, Params) or end is Code.BAD_FRAME
