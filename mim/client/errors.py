# ruff: noqa: N818 - these names say what happened, as a program reads them in `except`
"""What can go wrong for a user of the SDK, as types.

A request that the server refuses raises :class:`CallError` or :class:`SendRefused`. A connection that breaks
is the SDK's own business (it comes back by itself); only a CALL that was under way sees
:class:`ConnectionLost`, because nobody knows whether it was carried out. :class:`Stopped` and its children
mean that coming back would not help.
"""

from mim.errors import CLOSE_CODE, CloseReason

ABNORMAL = 1006
"""The close code of a connection that ended without saying why."""


class ClientError(Exception):
    """Anything this package raises on purpose."""


class CallError(ClientError):
    """The server refused a request. `code` is a word of proto/codes.md, `retry_after` is in ms or None."""

    def __init__(self, code: str, detail: str = "", retry_after: int | None = None) -> None:
        super().__init__(f"{code}: {detail}" if detail else code)
        self.code = code
        self.detail = detail
        self.retry_after = retry_after


class SendRefused(ClientError):
    """The message was not stored, and sending it again would not help. `code` is a word of proto/codes.md."""

    def __init__(self, code: str, detail: str = "") -> None:
        super().__init__(f"{code}: {detail}" if detail else code)
        self.code = code
        self.detail = detail


class Unreachable(ClientError):
    """The server did not answer over HTTP."""


class OutboxFull(ClientError):
    """More messages wait for their acknowledgement than the outbox holds."""


class ClientClosed(ClientError):
    """The client was closed by its owner while this was under way."""


class StateInUse(ClientError):
    """Another process uses the same state file."""


class ConnectionLost(ClientError):
    """The connection ended. `code` is the WebSocket close code, `retry_after` is in ms or None."""

    def __init__(self, code: int = ABNORMAL, detail: str = "", retry_after: int | None = None) -> None:
        super().__init__(f"connection closed with {code}" + (f": {detail}" if detail else ""))
        self.code = code
        self.detail = detail
        self.retry_after = retry_after


class Stopped(ClientError):
    """The server told this client not to come back as it is. `code` is the close code (45xx)."""

    def __init__(self, code: int, detail: str = "") -> None:
        super().__init__(detail or f"closed with {code}")
        self.code = code
        self.detail = detail


class SignedOut(Stopped):
    """The token is not accepted any more and could not be refreshed: sign in again."""


class Replaced(Stopped):
    """Another connection of the same device took over."""


class ProtocolMistake(Stopped):
    """The server could not make sense of what this client sent."""


class UpdateRequired(Stopped):
    """This version of the app is refused; `detail` holds the link to a newer one."""


STOPS: dict[int, type[Stopped]] = {  # proto/codes.md#close
    1002: ProtocolMistake,
    1007: ProtocolMistake,
    CLOSE_CODE[CloseReason.UNAUTHORIZED]: SignedOut,
    CLOSE_CODE[CloseReason.REPLACED]: Replaced,
    CLOSE_CODE[CloseReason.SIGNED_OUT]: SignedOut,
    CLOSE_CODE[CloseReason.PROTOCOL]: ProtocolMistake,
    CLOSE_CODE[CloseReason.UPDATE_REQUIRED]: UpdateRequired,
}


def stop_for(lost: ConnectionLost) -> Stopped | None:
    """Return the exception that ends the client, or None where the close code asks to reconnect."""
    if kind := STOPS.get(lost.code):
        return kind(lost.code, lost.detail)
    return Stopped(lost.code, lost.detail) if 4500 <= lost.code < 4600 else None
