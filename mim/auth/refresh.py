"""Refresh tokens that rotate.

A token is `device || value || mac` in base64url: 8, 32 and 16 bytes. The mac tells a token that was once ours
from a made-up one without asking the database, and lets a token that was superseded long ago be seen for what
it is: a copy in a second hand. Then nobody can tell the thief from the owner, and the device is signed out.

Each use makes a successor. The answer may be lost on its way, so the token before stays good until the
successor was used once. Whoever comes with it within REPEAT_S gets the same successor again (a request that
was repeated, or two at once); later a new one, which supersedes the first. If it always were the same one, a
thief and an owner could go on side by side without ever being seen.
"""

import base64
import binascii
import hashlib
import hmac
import secrets
from typing import Final

from msgspec import Struct

from mim.errors import Code, PeerError
from mim.store import logins
from mim.store.accounts import Transaction
from mim.store.logins import RefreshRow

REPEAT_S: Final = 60
_ID_BYTES: Final = 8
_VALUE_BYTES: Final = 32
_MAC_BYTES: Final = 16
_TEXT_LENGTH: Final = 75


class Tokens(Struct, frozen=True):
    """An access token and the refresh token that is good for the next one."""

    token: str
    refresh: str


class Superseded(Exception):  # noqa: N818 - it says what happened
    """A token was used that an earlier use had replaced; `user` and `device` are whose it is."""

    def __init__(self, user: int, device: int) -> None:
        super().__init__()
        self.user = user
        self.device = device


class Refreshed(Struct, frozen=True):
    """A token was good: whose it is, and the one to use next."""

    user: int
    device: int
    refresh: str


class RefreshTokens:
    """Makes and rotates refresh tokens. `key` is 32 bytes, `ttl_s` the life of an unused token in seconds."""

    def __init__(self, key: bytes, ttl_s: int) -> None:
        self._key = key
        self._ttl_s = ttl_s

    async def create(self, db: Transaction, device: int, now: int) -> str:
        """Store and return the first token of a device."""
        token = self._seal(device, secrets.token_bytes(_VALUE_BYTES))
        await logins.put_refresh(db, device, _sha256(token), None, now + self._ttl_s)
        return token

    async def rotate(self, db: Transaction, token: str, now: int) -> Refreshed:
        """Use `token` once; raises `unauthorized`, or Superseded: then revoke the device."""
        device, value = self._open(token)
        row = await logins.lock_refresh(db, device)
        if row is None:
            raise PeerError(Code.UNAUTHORIZED, "refresh: this device was signed out; sign in again")
        digest = _sha256(token)
        newest = hmac.compare_digest(digest, row.current)
        if not newest and not (row.previous and hmac.compare_digest(digest, row.previous)):
            raise Superseded(row.user, device)
        if row.expires <= now:
            raise PeerError(Code.UNAUTHORIZED, "refresh: unused for too long; sign in again")
        await logins.touch_device(db, device, now)
        if not newest and self._is_repeat(row, now):
            return Refreshed(row.user, device, self._successor(device, value, row.expires))
        expires = now + self._ttl_s
        successor = self._successor(device, value, expires)
        await logins.put_refresh(db, device, _sha256(successor), digest, expires)
        return Refreshed(row.user, device, successor)

    def _is_repeat(self, row: RefreshRow, now: int) -> bool:
        """Whether the successor was made just now; the end tells when, unless `ttl_s` was changed since."""
        return 0 <= now - (row.expires - self._ttl_s) <= REPEAT_S

    def _successor(self, device: int, value: bytes, expires: int) -> str:
        """The token after one with `value`: what only its holder and this server can know."""
        return self._seal(device, self._digest(b"successor", device, value + expires.to_bytes(8, "big")))

    def _seal(self, device: int, value: bytes) -> str:
        mac = self._digest(b"mac", device, value)[:_MAC_BYTES]
        return base64.urlsafe_b64encode(device.to_bytes(_ID_BYTES, "big") + value + mac).decode().rstrip("=")

    def _open(self, token: str) -> tuple[int, bytes]:
        """Device and value of a token that this server made; raises `unauthorized` for any other."""
        try:
            raw = base64.b64decode(token + "=", altchars=b"-_", validate=True) if len(token) == _TEXT_LENGTH else b""
        except (binascii.Error, ValueError):
            raw = b""
        device = int.from_bytes(raw[:_ID_BYTES], "big")
        value, mac = raw[_ID_BYTES:-_MAC_BYTES], raw[-_MAC_BYTES:]
        if not raw or not hmac.compare_digest(mac, self._digest(b"mac", device, value)[:_MAC_BYTES]):
            raise PeerError(Code.UNAUTHORIZED, "refresh: not a refresh token of this server; sign in again")
        return device, value

    def _digest(self, purpose: bytes, device: int, value: bytes) -> bytes:
        message = purpose + b":" + device.to_bytes(_ID_BYTES, "big") + value
        return hmac.digest(self._key, message, hashlib.sha256)


def _sha256(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
