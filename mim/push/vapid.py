"""VAPID: the key pair by which Web Push services know this deployment (RFC 8292).

The private key is 32 bytes, of the setting or else of the table server_secret, where the first node that asks puts
it. It must not change: browsers bind a subscription to the public key.
"""

import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from mim.store.db import Pool
from mim.store.logins import shared_secret

ROW: Final = "vapid"
LIFE_S: Final = 12 * 3600  # RFC 8292 §2 allows a day
RENEW_S: Final = 6 * 3600
MAX_ORIGINS: Final = 1000


def b64(data: bytes) -> str:
    """Base64url without padding, as all of Web Push writes bytes."""
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def unb64(text: str) -> bytes:
    """The bytes of base64url, padded or not. Raises ValueError."""
    return urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))


def private_key(secret: bytes) -> ec.EllipticCurvePrivateKey:
    """The key whose private value these 32 bytes are. Raises ValueError when they are none."""
    return ec.derive_private_key(int.from_bytes(secret, "big"), ec.SECP256R1())


def fresh_secret() -> bytes:
    """The private value of a new key."""
    return ec.generate_private_key(ec.SECP256R1()).private_numbers().private_value.to_bytes(32, "big")


def public_bytes(key: ec.EllipticCurvePrivateKey | ec.EllipticCurvePublicKey) -> bytes:
    """The uncompressed point, 65 bytes."""
    public = key.public_key() if isinstance(key, ec.EllipticCurvePrivateKey) else key
    return public.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


class Vapid:
    """Signs for origins of push services, and tells clients the public key."""

    def __init__(self, pool: Pool, configured: str | None, contact: str, now: Callable[[], float] = time.time) -> None:
        self._pool = pool
        self._configured = configured
        self._contact = contact
        self._now = now
        self._key: ec.EllipticCurvePrivateKey | None = None
        self._public = ""
        self._headers: dict[str, tuple[float, str]] = {}

    async def public_key(self) -> str:
        """The `applicationServerKey` of subscriptions, base64url. Raises what storage raises."""
        await self._load()
        return self._public

    async def header(self, endpoint: str) -> str:
        """The Authorization header for an endpoint; one signature serves its origin for hours."""
        key = await self._load()
        parts = urlsplit(endpoint)
        origin = f"{parts.scheme}://{parts.netloc}"
        now = self._now()
        made, header = self._headers.get(origin, (0.0, ""))
        if not 0 <= now - made < RENEW_S:
            claims = {"aud": origin, "exp": int(now) + LIFE_S, "sub": self._contact}
            header = f"vapid t={jwt.encode(claims, key, algorithm='ES256')}, k={self._public}"
            if len(self._headers) >= MAX_ORIGINS:
                self._headers.clear()
            self._headers[origin] = (now, header)
        return header

    async def _load(self) -> ec.EllipticCurvePrivateKey:
        if self._key is None:
            if self._configured:
                secret = unb64(self._configured)
            else:
                secret = await shared_secret(self._pool, ROW, fresh_secret())
            self._key = private_key(secret)
            self._public = b64(public_bytes(self._key))
        return self._key
