"""Tokens of an app with accounts of its own: signed with the shared secret, or by a key of its JWKS.

Two sources of keys, and each fixes its algorithms: the secret verifies HS256 alone, a JWKS key the one
algorithm of its type. So a public key never serves as a secret, and `none` has no key at all.
"""

from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from mim.auth.jwks import ALGORITHMS, JwksKeys
from mim.auth.tokens import MALFORMED, read_header, read_payload, refuse
from mim.config import Settings, secret

SUB_LIMIT = 128
DEV_LIMIT = 64
MAX_TIME = 2**53 - 1
# How far the app's clock may run ahead of ours.
LEEWAY_S = 60


class AppClaims(Struct, frozen=True):
    """What an app's token says. Times are seconds since 1970, as JWT has them: whole or not."""

    sub: Annotated[str, Meta(min_length=1, max_length=SUB_LIMIT)]
    dev: Annotated[str, Meta(min_length=1, max_length=DEV_LIMIT)]
    exp: int | float
    name: str | None = None
    nbf: int | float | None = None
    aud: str | list[str] | None = None
    iss: str | None = None

    @property
    def ends(self) -> int:
        """`exp` as whole seconds that every client can hold."""
        return int(min(self.exp, MAX_TIME))


class AppTokens:
    """Reads an app's tokens by the settings `jwt_secret`, `jwks_url`, `jwt_audience`, `jwt_issuer`."""

    def __init__(self, settings: Settings, jwks: JwksKeys | None) -> None:
        self._secret = secret(settings.jwt_secret)
        self._jwks = jwks
        self._audience = settings.jwt_audience
        self._issuer = settings.jwt_issuer

    async def read(self, token: str, now: float) -> AppClaims:
        """The claims of a token that is sound at `now`.

        Raises `unauthorized` with what to mend, or `unavailable` while the JWKS was never reached.
        """
        key, algorithm = await self._key_for(read_header(token))
        claims = self._decode(read_payload(token, key, algorithm))
        if claims.ends <= now:
            refuse("token: expired (exp)")
        if claims.nbf is not None and claims.nbf > now + LEEWAY_S:
            refuse("token: not valid yet (nbf)")
        if self._issuer is not None and claims.iss != self._issuer:
            refuse("token: iss is not the issuer this server takes (MIM_JWT_ISSUER)")
        audience = [claims.aud] if isinstance(claims.aud, str) else claims.aud or []
        if self._audience is not None and self._audience not in audience:
            refuse("token: aud does not name this server (MIM_JWT_AUDIENCE)")
        return claims

    async def _key_for(self, header: dict[str, Any]) -> tuple[Any, str]:
        algorithm = header.get("alg")
        if algorithm == "HS256":
            if self._secret is None:
                refuse("token: this server takes no HS256 tokens of apps (MIM_JWT_SECRET is not set)")
            return self._secret.encode(), algorithm
        if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
            refuse(f"token: alg must be HS256 or one of {', '.join(sorted(ALGORITHMS))}")
        if self._jwks is None:
            refuse("token: this server takes no tokens signed by a key pair (MIM_JWKS_URL is not set)")
        key = await self._jwks.find(header.get("kid"), algorithm)
        if key is None:
            refuse("token: no key of the JWKS has this kid and alg")
        return key, algorithm

    def _decode(self, payload: bytes) -> AppClaims:
        try:
            claims = msgspec.json.decode(payload, type=AppClaims)
        except msgspec.ValidationError as exc:
            refuse(f"token: claims: {exc}")
        except MALFORMED:
            refuse("token: the payload is not a JSON object")
        if "\0" in claims.sub or "\0" in claims.dev:
            refuse("token: claims: sub and dev must not hold NUL")
        return claims
