"""Rules for the short texts that people set: titles, names, notices, reactions."""

import unicodedata

from mim.errors import Code, PeerError


def check_text(label: str, text: str, limit: int, *, lines: bool = False) -> str:
    """The trimmed text; PeerError when it is too long (code points) or has control characters (`lines` permits \\n)."""
    trimmed = text.strip()
    if len(trimmed) > limit:
        raise PeerError(Code.TOO_LARGE, f"{label}: at most {limit} characters")
    for char in trimmed:
        if unicodedata.category(char) == "Cc" and not (lines and char == "\n"):
            raise PeerError(Code.BAD_FRAME, f"{label}: no control characters")
    return trimmed
