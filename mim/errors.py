"""Every code that mim says to a peer, in one place.

A mistake of a peer is a :class:`PeerError` and becomes an ERROR or NACK frame, or an HTTP answer. Anything
else that is raised is ours: it is logged with its traceback, counted, and answered as `internal` without
detail. proto/codes.md lists the same words for client developers.
"""

from enum import StrEnum


class Code(StrEnum):  # proto/codes.md#errors
    """Error words of ERROR, NACK and HTTP answers."""

    BAD_FRAME = "bad_frame"
    UNAUTHORIZED = "unauthorized"
    FORBIDDEN = "forbidden"
    NOT_MEMBER = "not_member"
    NOT_FOUND = "not_found"
    BLOCKED = "blocked"
    CONFLICT = "conflict"
    TOO_LARGE = "too_large"
    RATE_LIMITED = "rate_limited"
    FULL = "full"
    UNSUPPORTED = "unsupported"
    UPDATE_REQUIRED = "update_required"
    UNAVAILABLE = "unavailable"
    INTERNAL = "internal"


HTTP_STATUS: dict[Code, int] = {  # proto/codes.md#http
    Code.BAD_FRAME: 400,
    Code.UNAUTHORIZED: 401,
    Code.FORBIDDEN: 403,
    Code.NOT_MEMBER: 403,
    Code.BLOCKED: 403,
    Code.NOT_FOUND: 404,
    Code.UNSUPPORTED: 404,
    Code.CONFLICT: 409,
    Code.FULL: 409,
    Code.TOO_LARGE: 413,
    Code.UPDATE_REQUIRED: 426,
    Code.RATE_LIMITED: 429,
    Code.INTERNAL: 500,
    Code.UNAVAILABLE: 503,
}


class CloseReason(StrEnum):  # proto/codes.md#close
    """Words of BYE. The numbers say whether to come back: 40xx with back-off, 45xx not as you are."""

    SHUTTING_DOWN = "shutting_down"
    MOVED = "moved"
    SLOW = "slow"
    NO_PING = "no_ping"
    HALF_OPEN = "half_open"
    UNAUTHORIZED = "unauthorized"
    EXPIRED = "expired"
    REPLACED = "replaced"
    SIGNED_OUT = "signed_out"
    PROTOCOL = "protocol"
    UPDATE_REQUIRED = "update_required"


CLOSE_CODE: dict[CloseReason, int] = {
    CloseReason.SHUTTING_DOWN: 4000,
    CloseReason.MOVED: 4001,
    CloseReason.SLOW: 4008,
    CloseReason.NO_PING: 4009,
    CloseReason.HALF_OPEN: 4010,
    CloseReason.UNAUTHORIZED: 4500,
    CloseReason.EXPIRED: 4500,
    CloseReason.REPLACED: 4501,
    CloseReason.SIGNED_OUT: 4502,
    CloseReason.PROTOCOL: 4503,
    CloseReason.UPDATE_REQUIRED: 4506,
}


class PeerError(Exception):
    """A request that cannot be carried out for a reason the peer can understand.

    `detail` is a sentence for people that says what to do next; it never holds secrets or another user's
    data. `retry_after_ms` says when trying again makes sense, where that is known.
    """

    def __init__(self, code: Code, detail: str, retry_after_ms: int | None = None) -> None:
        super().__init__(code, detail)
        self.code = code
        self.detail = detail
        self.retry_after_ms = retry_after_ms
