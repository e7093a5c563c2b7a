"""The last word of a connection: BYE after READY, ERROR before it (proto/codes.md#close)."""

from typing import Final

from mim.errors import CLOSE_CODE, CloseReason, Code
from mim.wire.frames import Bye, Error

EXPLAINED: Final[dict[CloseReason, str]] = {
    CloseReason.SHUTTING_DOWN: "the server is going down; connect again after retry_after",
    CloseReason.MOVED: "this node is going down; connect again, to another",
    CloseReason.SLOW: "too much is unread; connect again and resume with your cursor",
    CloseReason.NO_PING: "no frame came within twice the promised time",
    CloseReason.HALF_OPEN: "what was sent is not acknowledged by RECV; connect again and resume with your cursor",
    CloseReason.EXPIRED: "the token has ended; get a new one, and next time call auth.renew before",
    CloseReason.REPLACED: "this device opened another connection",
    CloseReason.SIGNED_OUT: "this device was signed out; sign in again",
}


def last_word(
    reason: CloseReason,
    *,
    ready: bool,
    retry_after_ms: int | None,
    code: Code | None = None,
    detail: str = "",
    ref: int = 0,
) -> Bye | Error:
    """The frame that goes before the close. `code` is said before READY; without one it follows from the reason."""
    words = detail or EXPLAINED.get(reason, "")
    if ready:
        return Bye(reason, words, retry_after_ms)
    if code is None:
        code = Code.UNAUTHORIZED if CLOSE_CODE[reason] in (4500, 4501, 4502) else Code.UNAVAILABLE
    return Error(ref, code, words, retry_after_ms)
