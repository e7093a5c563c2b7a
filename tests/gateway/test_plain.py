"""Plain frames are read without the WebSocket library: whatever comes, however it is cut, it must look as if it did."""

import itertools
from functools import partial
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from websockets.http11 import Request

from mim.gateway.handshake import accept
from mim.gateway.websocket import WebSocket
from tests.conversations import raw
from tests.conversations.raw import BINARY, CLOSE, CONT, TEXT, WS_PING, WS_PONG
from tests.gateway.test_connection import UPGRADE, AtOnce, Wire, cut

GOODBYE = b"goodbye"

wrap = partial(raw.wrap, mask=b"\x37\xfa\x21\x3d")  # always the same, so that an example can be repeated


class Recorder(WebSocket):
    """Notes what it is told, and closes at the word."""

    def __init__(self, *, by_library: bool, answers: bool = True) -> None:
        super().__init__(AtOnce())
        self.wire = Wire()
        self.told: list[Any] = []
        self.answers = answers
        self.connection_made(self.wire)  # type: ignore[arg-type]
        self.upgrade(UPGRADE)
        if by_library:
            self._library()
        assert self.is_open is answers
        self.wire.written.clear()

    def upgrade(self, request: Request) -> None:
        self.answer = accept(request)
        if self.answers:
            self.respond(self.answer)

    def take(self, text: bool, data: bytes) -> None:
        assert type(data) is bytes
        self.told.append((text, data))
        if data == GOODBYE and not self._closing and self.is_open:
            self.say_close(4500, "goodbye")

    def unreadable(self) -> None:
        self.told.append("unreadable")

    def hung_up(self) -> None:
        self.told.append("hung up")

    def sent_more(self) -> None: ...

    def hears(self, segments: list[bytes]) -> tuple[list[Any], bytes, bool, bool, bool]:
        """What became of it all."""
        for segment in segments:
            if self.wire.closed:  # a transport that is closed hands over nothing
                break
            self.data_received(segment)
        return self.told, bytes(self.wire.written), self.wire.closed, self.is_open, self.is_closing


def declared(size: int, *, head: int = 0x80 | BINARY) -> bytes:
    """The beginning of a masked frame that says it has this many bytes, in the longest notation."""
    return bytes([head, 0xFF]) + size.to_bytes(8) + bytes(4)


def in_pieces(payload: bytes, at: list[int], opcode: int, between: bytes) -> bytes:
    """A fragmented message with `between` amid its fragments."""
    pieces = cut(payload, at)
    last = len(pieces) - 1
    return between.join(wrap(piece, CONT if n else opcode, fin=n == last) for n, piece in enumerate(pieces))


kinds = st.sampled_from([BINARY, TEXT])
plain_frames = st.builds(wrap, st.binary(max_size=140), kinds)
pings = st.builds(lambda payload, times: wrap(payload, WS_PING) * times, st.binary(max_size=125), st.integers(1, 30))
long_notation = st.binary(max_size=200).flatmap(
    lambda payload: st.sampled_from([
        b"\x82\xfe" + len(payload).to_bytes(2) + bytes(4) + payload,
        declared(len(payload)) + payload,
    ])
)  # fmt: skip
other_frames = st.one_of(
    pings,
    st.builds(wrap, st.binary(max_size=130), st.sampled_from([WS_PONG, CLOSE, WS_PING, CONT])),
    st.builds(in_pieces, st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=4), kinds,
              st.sampled_from([b"", wrap(b"", WS_PONG), wrap(b"between", WS_PING), wrap(b"no", BINARY)])),
    st.builds(wrap, st.binary(max_size=140), st.integers(0, 15), fin=st.booleans(), rsv=st.integers(0, 7),
              masked=st.booleans()),
    long_notation,
    st.sampled_from([declared(size) for size in (65_537, 2**31, 2**40, 2**63, 2**64 - 1)]),
    st.sampled_from([b"\x03\xe8", b"\x03", b"\x03\xed", b"\x03\xe8\xff", b""]).map(lambda why: wrap(why, CLOSE)),
    st.binary(max_size=40),
    st.sampled_from([b"GET / HTTP/1.1\r\nHost: mim\r\n\r\n", b"\x82", b"\x81\xfe", b"\x82\xff"]),
)  # fmt: skip
streams = st.lists(st.one_of(plain_frames, plain_frames, other_frames), max_size=10).map(b"".join)
cuts = st.lists(st.integers(0, 5000), max_size=12)


def bytewise(stream: bytes) -> list[bytes]:
    return [stream[at : at + 1] for at in range(len(stream))]


@settings(max_examples=600, deadline=None)
@given(stream=streams, at=cuts)
async def test_any_bytes_in_any_segments_are_read_as_the_library_reads_them(stream: bytes, at: list[int]) -> None:
    expected = Recorder(by_library=True).hears([stream])
    assert Recorder(by_library=False).hears([stream]) == expected
    assert Recorder(by_library=False).hears(cut(stream, at)) == expected
    assert Recorder(by_library=False).hears(bytewise(stream)) == expected


@settings(max_examples=300, deadline=None)
@given(before=st.lists(plain_frames, max_size=4).map(b"".join), after=streams, at=cuts)
@example(before=b"", after=wrap(b"x", WS_PING) * 1000, at=[])
async def test_closing_amid_a_stream(before: bytes, after: bytes, at: list[int]) -> None:
    """Our own close goes out at the same place, and what comes after it is heard as the library hears it."""
    stream = before + wrap(GOODBYE) + after
    expected = Recorder(by_library=True).hears(bytewise(stream))
    assert Recorder(by_library=False).hears([stream]) == expected
    assert Recorder(by_library=False).hears(cut(stream, at)) == expected
    assert Recorder(by_library=False).hears(bytewise(stream)) == expected


@settings(max_examples=200, deadline=None)
@given(stream=streams, at=st.integers(0, 5000))
async def test_closing_amid_a_frame(stream: bytes, at: int) -> None:
    """A frame of which a part was read when the close was said is read to its end."""
    results = []
    at %= len(stream) + 1
    head, tail = stream[:at], stream[at:]
    for by_library in (True, False):
        recorder = Recorder(by_library=by_library)
        recorder.hears([head])
        if recorder.is_open and not recorder.is_closing:
            recorder.say_close(4500, "goodbye")
        results.append(recorder.hears([tail, wrap(b"\x03\xe8", CLOSE)]))
    assert results[0] == results[1]


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65_535, 65_536, 65_537])
@pytest.mark.parametrize("opcode", [BINARY, TEXT])
async def test_every_size_of_length(size: int, opcode: int) -> None:
    stream = wrap(b"before") + wrap(bytes(size), opcode) + wrap(b"after")
    expected = Recorder(by_library=True).hears([stream])
    assert ("unreadable" in expected[0]) is (size > 65_536)
    assert Recorder(by_library=False).hears([stream]) == expected
    assert Recorder(by_library=False).hears(cut(stream, list(range(0, size, 1000)))) == expected


async def test_a_frame_cut_at_every_byte() -> None:
    frames = (wrap(b"", TEXT), wrap(b"x" * 5), wrap(b"y" * 130, TEXT), wrap(b"z" * 70_000))
    for frame, other in itertools.product(frames, frames[:3]):
        stream = frame + other
        expected = Recorder(by_library=True).hears([stream])
        for at in [*range(min(len(stream), 160)), *range(max(0, len(stream) - 160), len(stream))]:
            assert Recorder(by_library=False).hears([stream[:at], stream[at:]]) == expected


async def test_the_library_is_there_only_for_who_needs_it() -> None:
    recorder = Recorder(by_library=False)
    recorder.hears([wrap(b"one"), wrap(b"two")[:4]])
    assert recorder._ws is None
    recorder.hears([wrap(b"two")[4:]])
    assert recorder._unread is None
    recorder.hears([wrap(b"alive", WS_PING)[:5]])
    recorder.hears([wrap(b"alive", WS_PING)[5:]])
    assert recorder._ws is None
    assert bytes(recorder.wire.written) == b"\x8a\x05alive"
    recorder.hears([wrap(b"", WS_PONG)])
    assert recorder._ws is not None


async def test_what_comes_before_the_answer_waits_for_it() -> None:
    """The answer may take a query; then the frames of a hasty client are read as if they had come after it."""
    early, late = wrap(b"early") + wrap(b"p", WS_PING) + wrap(b"late")[:3], wrap(b"late")[3:]
    expected = Recorder(by_library=True).hears([early, late])
    slow = Recorder(by_library=False, answers=False)
    slow.hears([early[:9], early[9:]])
    assert not slow.told
    assert not slow.wire.written
    assert not slow.is_open
    slow.respond(slow.answer)
    head, _, answered = bytes(slow.wire.written).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 ")
    slow.wire.written[:] = answered
    assert slow.hears([late]) == expected
