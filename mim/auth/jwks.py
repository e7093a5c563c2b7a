"""The public keys of an app, fetched from its JWKS URL and kept.

Keys are looked up in memory. An unknown `kid` may mean that the app took a new key, so it causes a fetch, but
one every COOLDOWN_S at most, however many tokens name keys that do not exist. Keys older than FRESH_S are
fetched again behind the logins that use them; past PATIENT_S logins wait for that fetch. While the app's
server is away the last keys stay good for STALE_S: it must not be able to lock everybody out.
"""

import asyncio
from typing import Any, Final

import httpx
import jwt
import msgspec
import structlog
from msgspec import Struct

from mim.auth.tokens import MALFORMED
from mim.clock import Clock
from mim.errors import Code, PeerError
from mim.tasks import TaskSet

log = structlog.get_logger("mim.auth.jwks")

FRESH_S: Final = 300.0
PATIENT_S: Final = 900.0
STALE_S: Final = 24 * 3600.0
COOLDOWN_S: Final = 10.0
FETCH_TIMEOUT_S: Final = 5.0
SIZE_LIMIT: Final = 256 * 1024
KEYS_LIMIT: Final = 100

_ALGORITHM_OF: Final = {("RSA", None): "RS256", ("EC", "P-256"): "ES256", ("OKP", "Ed25519"): "EdDSA"}
ALGORITHMS: Final = frozenset(_ALGORITHM_OF.values())


class _KeySet(Struct):
    keys: list[Any]


class JwksKeys:
    """The keys of one URL. `close()` ends a fetch that is under way."""

    def __init__(self, url: str, http: httpx.AsyncClient, clock: Clock) -> None:
        self._url = url
        self._http = http
        self._clock = clock
        self._tasks = TaskSet()
        self._keys: list[tuple[str | None, str, jwt.PyJWK]] = []
        self._fetched: float | None = None
        self._tried: float | None = None
        self._fetch: asyncio.Task[None] | None = None

    async def find(self, kid: str | None, algorithm: str) -> jwt.PyJWK | None:
        """The key that verifies `algorithm` for `kid`; without a kid the only one of that algorithm.

        Returns None when there is none; raises `unavailable` while no keys could be had.
        """
        key, age_s = self._lookup(kid, algorithm), self._age_s()
        if key is None or age_s > PATIENT_S:
            fetch = self._start_fetch()
            if fetch is not None:
                await asyncio.wait([fetch])  # whoever stops waiting leaves the fetch to the others
            key, age_s = self._lookup(kid, algorithm), self._age_s()
        elif age_s > FRESH_S:
            self._start_fetch()
        if age_s > STALE_S:
            raise PeerError(
                Code.UNAVAILABLE, "the keys of the app cannot be fetched; try again", int(COOLDOWN_S * 1000)
            )
        return key

    async def close(self) -> None:
        """End a fetch that is under way."""
        await self._tasks.close()

    def _age_s(self) -> float:
        return float("inf") if self._fetched is None else self._clock.monotonic() - self._fetched

    def _lookup(self, kid: str | None, algorithm: str) -> jwt.PyJWK | None:
        matches = [key for own, signs, key in self._keys if signs == algorithm and kid in (None, own)]
        return matches[0] if len(matches) == 1 else None

    def _start_fetch(self) -> asyncio.Task[None] | None:
        """The fetch that is under way, or a new one; None when the last began less than COOLDOWN_S ago."""
        if self._fetch is not None and not self._fetch.done():
            return self._fetch
        now = self._clock.monotonic()
        if self._tried is not None and now - self._tried < COOLDOWN_S:
            return None
        self._tried = now
        self._fetch = self._tasks.spawn(self._refetch(), name="jwks fetch")
        return self._fetch

    async def _refetch(self) -> None:
        try:
            async with asyncio.timeout(FETCH_TIMEOUT_S):
                keys = _parse(await self._download())
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError, *MALFORMED) as exc:
            log.warning("JWKS fetch failed", host=httpx.URL(self._url).host, error=type(exc).__name__)
            return
        self._keys, self._fetched = keys, self._clock.monotonic()

    async def _download(self) -> bytes:
        body = bytearray()
        async with self._http.stream("GET", self._url, headers={"Accept": "application/json"}) as response:
            response.raise_for_status()
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > SIZE_LIMIT:
                    raise ValueError("JWKS is too large")
        return bytes(body)


def _parse(body: bytes) -> list[tuple[str | None, str, jwt.PyJWK]]:
    """The usable keys of a JWKS as (kid, algorithm, key); raises ValueError when there is none."""
    keys = []
    for entry in msgspec.json.decode(body, type=_KeySet).keys[:KEYS_LIMIT]:
        usable = _usable(entry)
        if usable is not None:
            keys.append(usable)
    if not keys:
        raise ValueError("JWKS has no key for signatures by RS256, ES256 or EdDSA")
    return keys


def _usable(entry: Any) -> tuple[str | None, str, jwt.PyJWK] | None:
    """A key for signatures by the one algorithm of its type; None for shared secrets and foreign keys."""
    if not isinstance(entry, dict) or entry.get("use", "sig") != "sig":
        return None
    kind, curve, kid = entry.get("kty"), entry.get("crv"), entry.get("kid")
    if not isinstance(kind, str) or not isinstance(curve, str | None) or not isinstance(kid, str | None):
        return None
    algorithm = _ALGORITHM_OF.get((kind, curve))
    if algorithm is None or entry.get("alg", algorithm) != algorithm:
        return None
    try:
        return kid, algorithm, jwt.PyJWK(entry, algorithm)
    except (jwt.PyJWTError, ValueError, TypeError, KeyError):
        return None
