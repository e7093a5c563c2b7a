"""Access tokens that this server signs, and what every token proves.

A token is a JWT signed HS256 with a key that only the nodes hold; its header says `kid: "mim"`, which no app
may use for keys of its own. The algorithm is fixed by where the key comes from, never by the token.
"""

import base64
from functools import lru_cache
from typing import Any, NoReturn

import jwt
import msgspec
from msgspec import Struct

from mim.errors import Code, PeerError

TOKEN_LIMIT = 8 * 1024
OWN_KID = "mim"
_HS256 = "HS256"
NO_JWT = "token: not a JWT (header, payload and signature in base64url with dots between)"

# What decoding a payload raises: broken UTF-8, broken JSON, wrong fields, deep nesting.
MALFORMED = (ValueError, msgspec.MsgspecError, RecursionError)

_jws = jwt.PyJWS(options={"verify_signature": True, "enforce_minimum_key_length": True})


class Principal(Struct, frozen=True):
    """Who a token proves: ids, the end of the proof in seconds since 1970, and the user's shown name."""

    user: int
    device: int
    exp: int
    name: str


class Revoked(PeerError):  # noqa: N818 - it says what happened
    """The token is sound but its device was revoked: code `unauthorized`, and signed out for good."""

    def __init__(self) -> None:
        super().__init__(Code.UNAUTHORIZED, "this device was signed out; sign in again as a new device")


class OwnClaims(Struct, frozen=True):
    """Payload of an own token: user, device, end, issue time."""

    u: int
    d: int
    exp: int
    iat: int


def refuse(detail: str) -> NoReturn:
    """Raise `unauthorized`. `detail` never holds a part of the token."""
    raise PeerError(Code.UNAUTHORIZED, detail) from None


def read_header(token: str) -> dict[str, Any]:
    """The header of a JWT, not verified; raises `unauthorized` for what is no JWT."""
    if len(token) > TOKEN_LIMIT:
        refuse(f"token: longer than {TOKEN_LIMIT} characters")
    header, _, rest = token.partition(".")
    if rest.count(".") != 1:
        refuse(NO_JWT)
    try:
        return _read_header(header)
    except (jwt.PyJWTError, ValueError, TypeError):
        refuse(NO_JWT)


@lru_cache(maxsize=64)
def _read_header(header: str) -> dict[str, Any]:
    """An app's tokens all begin with the same header, or with one for each of its keys: each is read once."""
    read = _jws.get_unverified_header(f"{header}..")
    if "crit" in read or read.get("b64", True) is not True:
        raise jwt.DecodeError("an extension that nobody here understands")
    return read


def read_payload(token: str, key: Any, algorithm: str) -> bytes:
    """The payload of a JWT whose signature by `key` is sound; `algorithm` is the only one that is taken."""
    if read_header(token).get("alg") != algorithm:
        refuse(f"token: its key signs {algorithm}, the header names another algorithm")
    signed, _, signature = token.rpartition(".")
    try:
        proof = _from_base64url(signature)
        payload = _from_base64url(signed.partition(".")[2])
        verifier, prepared = _prepare(key, algorithm)
        if not verifier.verify(signed.encode(), prepared, proof):
            refuse("token: the signature does not match; is it signed with the key this server knows?")
    except jwt.InvalidKeyError:
        refuse("token: the key it is signed with is too short or unsound")
    except (jwt.PyJWTError, ValueError, TypeError):
        refuse(NO_JWT)
    return payload


@lru_cache(maxsize=64)
def _prepare(key: Any, algorithm: str) -> tuple[jwt.algorithms.Algorithm, Any]:
    """A key is looked at once, which takes longer than to check a signature with it; raises jwt.InvalidKeyError."""
    verifier = key.Algorithm if isinstance(key, jwt.PyJWK) else _jws.get_algorithm_by_name(algorithm)
    prepared = verifier.prepare_key(key.key if isinstance(key, jwt.PyJWK) else key)
    if problem := verifier.check_key_length(prepared):
        raise jwt.InvalidKeyError(problem)
    return verifier, prepared


def _from_base64url(text: str) -> bytes:
    """The bytes of a part of a JWT (RFC 7515 section 2), also with the padding that some issuers leave; ValueError for
    what is no base64url, or not the one way to write it.
    """
    bare = text.rstrip("=")
    data = base64.urlsafe_b64decode(bare + "=" * (-len(bare) % 4))
    if base64.urlsafe_b64encode(data).rstrip(b"=") != bare.encode():
        raise ValueError("not base64url")
    return data


def issue(key: bytes, user: int, device: int, now: int, ttl_s: int) -> str:
    """Make an access token for a device that is good for `ttl_s` seconds from `now`."""
    claims = OwnClaims(user, device, exp=now + ttl_s, iat=now)
    return _jws.encode(msgspec.json.encode(claims), key, algorithm=_HS256, headers={"kid": OWN_KID})


# Reading a header costs as much as checking a signature, so own tokens are told by how they begin.
_OWN_PREFIX = issue(b"\0" * 32, 0, 0, 0, 0).partition(".")[0] + "."


def is_own(token: str) -> bool:
    """Whether the token claims to be one of this server's; raises `unauthorized` for what is no JWT."""
    return token.startswith(_OWN_PREFIX) or read_header(token).get("kid") == OWN_KID


def read_own(token: str, key: bytes, now: int) -> OwnClaims:
    """The claims of an own token; raises `unauthorized`."""
    if len(token) > TOKEN_LIMIT:
        refuse(f"token: longer than {TOKEN_LIMIT} characters")
    payload = read_payload(token, key, _HS256)
    try:
        claims = msgspec.json.decode(payload, type=OwnClaims)
    except MALFORMED:
        refuse("token: not one of this server's")
    if claims.exp <= now:
        refuse("token: expired; ask for a new one with the refresh token")
    return claims
