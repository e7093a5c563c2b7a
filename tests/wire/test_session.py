"""The rules of a session, without I/O: what is to be done about each frame, in which state and at which time."""

import json
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mim.clock import ManualClock
from mim.errors import CloseReason, Code
from mim.wire.codec import CODECS, JSON, MSGPACK, Codec
from mim.wire.frames import Call, Changes, Error, Fetch, Hello, Nack, Pong, Read, Recv, Send, Typing
from mim.wire.session import MAX_WAITING_REQUESTS, Refuse, Reply, Session, SessionLimits, State

BOTH = pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS.keys())
HELLO, SEND, READ, TYPING, RECV, FETCH, CALL, PING, CHANGES = range(1, 10)
EFFECTS = (Hello, Send, Read, Typing, Fetch, Call, Changes, Reply, Refuse, type(None))


class Client:
    """A session and what a client says to it, as lists."""

    def __init__(self, codec: Codec = MSGPACK, *, ready: bool = True, **limits: Any) -> None:
        self.clock = ManualClock()
        self.codec = codec
        defaults: dict[str, Any] = {
            "keepalive_min_s": 10, "keepalive_max_s": 600, "inflight": 4, "send_rate": 10, "send_burst": 5,
            "request_rate": 10, "request_burst": 5,
        }  # fmt: skip
        self.session = Session(codec, SessionLimits(**{**defaults, **limits}), self.clock)
        if ready:
            assert isinstance(self.says(HELLO, 1, "token"), Hello)
            self.session.opened()

    def says(self, *frame: Any) -> Any:
        """One frame; what is to be done about it."""
        return self.session.receive(json.dumps(frame).encode() if self.codec.text else msgpack.packb(frame))


def answer(effect: Any) -> Any:
    """The frame of a Reply."""
    assert isinstance(effect, Reply), effect
    return effect.frame


# -- order ---------------------------------------------------------------------------------


@BOTH
def test_hello_opens_and_only_once(codec: Codec) -> None:
    client = Client(codec, ready=False)
    hello = client.says(HELLO, 7, "token", {"app": "1.0", "recv": True}, "cursor")
    assert (hello.ref, hello.token, hello.options.recv, hello.cursor) == (7, "token", True, "cursor")
    assert client.session.state is State.OPENING
    assert answer(client.says(HELLO, 8, "token")) == Error(8, Code.CONFLICT, "this session is open already")
    client.session.opened()
    assert answer(client.says(HELLO, 9, "token")).code == Code.CONFLICT


@pytest.mark.parametrize("opening", [False, True])
@pytest.mark.parametrize(
    "frame",
    [[SEND, 1, 1, "x"], [READ, 1, 1], [TYPING, 1], [RECV, 1], [FETCH, 1, 1, 0, 1], [CALL, 1, "chat.list"], [PING, 60],
     [CHANGES, 1, 1, 0, 1], [SEND, "wrong"], [99, 1], [16]],
    ids=str,
)  # fmt: skip
def test_nothing_but_hello_comes_first(frame: list[Any], opening: bool) -> None:
    client = Client(ready=False)
    if opening:
        client.says(HELLO, 1, "token")
    refuse = client.says(*frame)
    assert (refuse.reason, refuse.code) == (CloseReason.PROTOCOL, Code.BAD_FRAME)


def test_a_malformed_hello_may_be_mended() -> None:
    client = Client(ready=False)
    error = answer(client.says(HELLO, 5, 12))
    assert (error.ref, error.code) == (5, Code.BAD_FRAME)
    assert isinstance(client.says(HELLO, 6, "token"), Hello)


@BOTH
@pytest.mark.parametrize("data", [b"", b"\xc1", b"{}", b"[]", b"\x90", b"[2.0]", b"[true]", b"\x91\xc3", b"7"])
@pytest.mark.parametrize("ready", [False, True])
def test_what_is_no_frame_ends_the_session(codec: Codec, data: bytes, ready: bool) -> None:
    refuse = Client(codec, ready=ready).session.receive(data)
    assert isinstance(refuse, Refuse)
    assert (refuse.reason, refuse.code, refuse.ref) == (CloseReason.PROTOCOL, Code.BAD_FRAME, 0)


@BOTH
def test_the_wrong_kind_of_message_ends_the_session(codec: Codec) -> None:
    refuse = Client(codec).session.wrong_kind()
    assert isinstance(refuse, Refuse)
    assert refuse.reason is CloseReason.PROTOCOL
    assert refuse.detail.startswith(codec.name)


@pytest.mark.parametrize("op", [0, 10, 15, 16, 29, 99, 2**53, -1])
def test_unknown_ops_are_answered(op: int) -> None:
    error = answer(Client().says(op, 5))
    assert (error.ref, error.code) == (5, Code.UNSUPPORTED)


def test_wrong_fields_are_answered_with_the_number_that_came() -> None:
    client = Client()
    assert (answer(client.says(SEND, 5, 1, 7)).cid, answer(client.says(SEND, -5, 1, "x")).cid) == (5, 0)
    assert isinstance(answer(client.says(SEND, 5)), Nack)
    assert (answer(client.says(FETCH, 6, 1)).ref, answer(client.says(READ, 6)).ref) == (6, 0)
    assert client.session.inflight == client.session.waiting == 0


def test_nothing_is_heard_after_the_close() -> None:
    client = Client()
    client.session.closed()
    for frame in ([SEND, 1, 1, "x"], [HELLO, 1, "token"], [99], []):
        assert client.says(*frame) is None


# -- bounds --------------------------------------------------------------------------------


def test_inflight_is_bounded_and_freed_by_answers() -> None:
    client = Client(inflight=2, send_burst=100)
    assert [type(client.says(SEND, cid, 1, "x")) for cid in (1, 2)] == [Send, Send]
    nack = answer(client.says(SEND, 3, 1, "x"))
    assert (nack.cid, nack.code) == (3, Code.RATE_LIMITED)
    assert nack.retry_after > 0
    client.session.answered()
    assert isinstance(client.says(SEND, 3, 1, "x"), Send)
    assert client.session.inflight == 2


def test_sends_have_a_rate_of_their_own() -> None:
    client = Client(inflight=100, send_rate=8, send_burst=3)
    assert [type(client.says(SEND, cid, 1, "x")) for cid in (1, 2, 3)] == [Send] * 3
    assert answer(client.says(SEND, 4, 1, "x")).retry_after == 125
    assert isinstance(client.says(FETCH, 1, 1, 0, 1), Fetch)
    client.clock.advance(0.0625)
    assert answer(client.says(SEND, 4, 1, "x")).retry_after == 63
    client.clock.advance(0.0625)
    assert isinstance(client.says(SEND, 4, 1, "x"), Send)
    assert client.session.inflight == 4  # the refused ones do not count


def test_requests_share_a_rate() -> None:
    client = Client(request_rate=4, request_burst=4)
    kinds = [type(client.says(*frame)) for frame in
             ([FETCH, 1, 1, 0, 1], [CALL, 2, "chat.list"], [CHANGES, 3, 1, 0, 1], [READ, 1, 1])]  # fmt: skip
    assert kinds == [Fetch, Call, Changes, Read]
    for frame, ref in (
        ([FETCH, 9, 1, 0, 1], 9),
        ([CALL, 8, "chat.list"], 8),
        ([CHANGES, 7, 1, 0, 1], 7),
        ([READ, 1, 1], 0),
    ):
        error = answer(client.says(*frame))
        assert (error.ref, error.code, error.retry_after) == (ref, Code.RATE_LIMITED, 250)
    assert client.says(TYPING, 1) is None  # nobody waits for an answer
    assert isinstance(client.says(SEND, 1, 1, "x"), Send)
    client.clock.advance(0.25)
    assert isinstance(client.says(TYPING, 1), Typing)


def test_requests_that_wait_are_bounded() -> None:
    client = Client(request_burst=1000)
    for ref in range(1, MAX_WAITING_REQUESTS + 1):
        assert isinstance(client.says(FETCH, ref, 1, 0, 1), Fetch)
    for frame in ([FETCH, 99, 1, 0, 1], [CALL, 99, "chat.list"], [CHANGES, 99, 1, 0, 1]):
        error = answer(client.says(*frame))
        assert (error.ref, error.code) == (99, Code.RATE_LIMITED)
        assert error.retry_after > 0
    assert isinstance(client.says(READ, 1, 1), Read)
    client.session.waiting -= 1
    assert isinstance(client.says(CALL, 99, "chat.list"), Call)


def test_recv_is_handed_on() -> None:
    assert Client().says(RECV, 5) == Recv(5)


# -- time ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("asked", "kept"), [(0, 10), (9, 10), (10, 10), (240, 240), (600, 600), (2**53 - 1, 600)])
def test_a_promise_is_clamped_and_counts_twice(asked: int, kept: int) -> None:
    client = Client()
    assert client.session.deadline() == client.clock.monotonic() + 1200
    client.clock.advance(100)
    assert answer(client.says(PING, asked)) == Pong()
    assert client.session.promise_s == kept
    assert client.session.deadline() == client.clock.monotonic() + 2 * kept


def test_every_frame_moves_the_deadline_even_a_wrong_one() -> None:
    client = Client()
    client.says(PING, 10)
    for frame in ([RECV, 1], [TYPING, 1], [SEND, "x"], [99]):
        client.clock.advance(15)
        client.says(*frame)
        assert client.session.deadline() == client.clock.monotonic() + 20


# -- laws ----------------------------------------------------------------------------------

junk = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=8)
    | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
frames = st.one_of(
    st.sampled_from([[1, 1, "t"], [2, 1, 1, "x"], [3, 1, 1], [4, 1], [5, 3], [6, 1, 1, 0, 5], [7, 1, "m"], [8, 60],
                     [9, 1, 1, 0, 5]]),
    st.tuples(st.integers(-1, 30), st.lists(junk, max_size=5)).map(lambda parts: [parts[0], *parts[1]]),
).map(msgpack.packb)  # fmt: skip
steps = st.one_of(frames, st.binary(max_size=30), st.sampled_from(["open", "answer", "wrong kind"]), st.floats(0, 5))


@settings(max_examples=300, deadline=None)
@given(script=st.lists(steps, max_size=40), text=st.booleans())
def test_any_bytes_in_any_order_give_effects_and_keep_the_bounds(script: list[Any], text: bool) -> None:
    client = Client(JSON if text else MSGPACK, ready=False, inflight=3, send_burst=4, request_burst=6)
    session = client.session
    for step in script:
        state, heard = session.state, session.last_heard
        if step == "open":
            if state is State.OPENING:
                session.opened()
        elif step == "answer":
            if session.inflight:
                session.answered()
        elif isinstance(step, float):
            client.clock.advance(step)
        else:
            effect = session.wrong_kind() if step == "wrong kind" else session.receive(step)
            assert isinstance(effect, EFFECTS)
            assert effect is None or state is not State.CLOSED or step == "wrong kind"
            if state < State.READY:
                assert isinstance(effect, (Hello, Reply, Refuse))
            if isinstance(effect, Refuse):
                session.closed()
            elif isinstance(effect, Reply):
                client.codec.encode(effect.frame)
        assert 0 <= session.inflight <= 3
        assert 0 <= session.waiting <= MAX_WAITING_REQUESTS
        assert 10 <= session.promise_s <= 600
        assert session.last_heard >= heard
        assert session.state >= state
