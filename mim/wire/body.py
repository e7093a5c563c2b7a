"""What a message body may be (proto/messages.md#body): plain text, or a map with known keys and bounded values."""

import math
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Struct

from mim.errors import Code, PeerError
from mim.model import Stored
from mim.wire.codec import explain
from mim.wire.frames import Body, UInt

MAX_DEPTH: Final = 16
MAX_INT: Final = 2**53


class BodyMap(Struct, omit_defaults=True):
    """Types and bounds of the keys that mean something to the protocol; `x` is the application's own."""

    t: str = ""
    k: Annotated[str, Meta(min_length=1, max_length=32)] | None = None
    re: UInt | None = None
    m: Annotated[list[tuple[UInt, UInt, UInt]], Meta(max_length=100)] | None = None
    f: Annotated[list[dict[str, Any]], Meta(max_length=30)] | None = None
    x: Any = None


def check_body(body: Body, text_limit: int) -> Stored:
    """Return what to store of a body that a client sent; raise PeerError `bad_frame` or `too_large`.

    `text_limit` is in code points. A map that holds nothing but text becomes plain text, so that what is
    delivered live and what is read later have one shape.
    """
    if isinstance(body, str):
        check_text(body, text_limit)
        if not body:
            raise PeerError(Code.BAD_FRAME, "an empty message: give the body some text")
        return Stored(body)
    try:
        shape = msgspec.convert(body, BodyMap)
    except (ValueError, RecursionError) as exc:
        raise PeerError(Code.BAD_FRAME, f"body: {explain(exc)}") from None
    check_text(shape.t, text_limit)
    extra = {key: value for key, value in body.items() if key != "t" and value is not None}
    if not shape.t and not (shape.k and any(extra[key] for key in extra.keys() - {"k", "re", "m"})):
        raise PeerError(Code.BAD_FRAME, "an empty message: give the body text, or a kind and what it shows")
    check_value(extra, MAX_DEPTH)
    check_mentions(shape)
    return Stored(shape.t, extra or None)


def check_text(text: str, limit: int) -> None:
    """Raise PeerError when a text is too long or holds NUL, which Postgres cannot store."""
    if len(text) > limit:
        raise PeerError(Code.TOO_LARGE, f"the text has {len(text)} characters; at most {limit} fit in a message")
    if "\0" in text:
        raise PeerError(Code.BAD_FRAME, "text must not contain the character NUL")


def check_mentions(shape: BodyMap) -> None:
    """Mentions count in UTF-16 code units, as the platforms' text views do, and must lie within the text."""
    if not shape.m:
        return
    units = len(shape.t.encode("utf-16-le")) // 2
    for offset, length, _user in shape.m:
        if length == 0 or offset + length > units:
            raise PeerError(Code.BAD_FRAME, f"mention [{offset}, {length}] lies outside the text of {units} units")


def check_value(value: Any, depth: int) -> None:
    """Raise PeerError unless `value` is what JSON can carry: the same body must reach both subprotocols."""
    if depth < 0:
        raise PeerError(Code.BAD_FRAME, f"body: nested deeper than {MAX_DEPTH}")
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise PeerError(Code.BAD_FRAME, "body: a map key that is not a string")
            check_scalar(key)
            check_value(item, depth - 1)
    elif isinstance(value, list):
        for item in value:
            check_value(item, depth - 1)
    else:
        check_scalar(value)


def check_scalar(value: Any) -> None:
    """Raise PeerError unless `value` is a string without NUL, a number that a double holds, a boolean or null."""
    if isinstance(value, str):
        if "\0" in value:
            raise PeerError(Code.BAD_FRAME, "text must not contain the character NUL")
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise PeerError(Code.BAD_FRAME, "body: a number that is not finite")
    elif isinstance(value, int):
        if abs(value) >= MAX_INT:
            raise PeerError(Code.BAD_FRAME, "body: an integer beyond 2^53")
    elif value is not None:
        raise PeerError(Code.BAD_FRAME, "body: a value that JSON cannot carry")
