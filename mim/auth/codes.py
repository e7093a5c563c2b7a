"""One-time codes: six digits, five tries, one use.

With a million codes, guessing is held off by counting alone, so every count is one atomic statement, made
before the thing it counts: the rate before the code is made, the try before the code is compared.
"""

import asyncio
import hashlib
import hmac
import secrets
from typing import Final

import structlog

from mim.auth import rates
from mim.auth.sms import SmsProvider
from mim.auth.storage import storage
from mim.auth.texts import address_key
from mim.clock import Clock
from mim.config import Settings
from mim.errors import Code, PeerError
from mim.store import logins
from mim.store.accounts import Transaction
from mim.store.db import Pool

log = structlog.get_logger("mim.auth.codes")

DIGITS: Final = 6
TRIES: Final = 5
SEND_TIMEOUT_S: Final = 10.0
PURGE_EVERY_S: Final = 600.0


class Codes:
    """Makes, sends and checks codes. Phones are E.164; `key` is 32 bytes."""

    def __init__(self, pool: Pool, settings: Settings, clock: Clock, sms: SmsProvider) -> None:
        self._pool = pool
        self._settings = settings
        self._clock = clock
        self._sms = sms
        self._purged = float("-inf")

    async def send(self, key: bytes, phone: str, address: str, locale: str) -> str:
        """Send a new code to `phone` and return it.

        Raises `rate_limited`, or `unavailable` when it cannot be sent.
        """
        now = int(self._clock.now())
        # The address first: one that asked too often must not use up what the phone's owner may ask.
        by_address = self._settings.code_per_address_hour
        await rates.count(self._pool, f"code from {address_key(address)}", by_address, now)
        await rates.count(self._pool, f"code to {phone}", self._settings.code_per_phone_hour, now)
        code = f"{secrets.randbelow(10**DIGITS):0{DIGITS}}"
        digest = _digest(key, phone, code)
        async with storage():
            await self._purge(now)
            await logins.put_code(self._pool, phone, digest, now + self._settings.code_ttl_s)
        await self._hand_over(phone, code, digest, locale)
        return code

    async def check(self, key: bytes, phone: str, code: str, address: str) -> bytes:
        """Spend a try on `code` and return the digest for `use`.

        Raises `bad_frame`, `rate_limited`, `unauthorized`.
        """
        if not (len(code) == DIGITS and code.isascii() and code.isdigit()):
            raise PeerError(Code.BAD_FRAME, f"code: {DIGITS} digits, as they were sent")
        now = int(self._clock.now())
        # As many guesses as the codes that an address may ask for have tries.
        by_address = self._settings.code_per_address_hour * TRIES
        await rates.count(self._pool, f"verify from {address_key(address)}", by_address, now)
        async with storage():
            stored = await logins.take_try(self._pool, phone, now, TRIES)
        given = _digest(key, phone, code)
        if stored is None or not hmac.compare_digest(stored, given):
            raise wrong_code()
        return stored

    async def use(self, db: Transaction, phone: str, digest: bytes) -> None:
        """Use up a checked code; raises `unauthorized` when another request did so first."""
        if not await logins.use_code(db, phone, digest):
            raise wrong_code()

    async def _hand_over(self, phone: str, code: str, digest: bytes, locale: str) -> None:
        try:
            async with asyncio.timeout(SEND_TIMEOUT_S):
                await self._sms.send_code(phone, code, locale)
        except Exception as exc:  # noqa: BLE001 - a provider may raise anything, and its text may hold the phone
            log.warning("one-time code was not sent", error=type(exc).__name__)
            async with storage():
                await logins.forget_code(self._pool, phone, digest)
            raise PeerError(Code.UNAVAILABLE, "the code could not be sent; try again", 10_000) from None

    async def _purge(self, now: int) -> None:
        """Now and then remove what has expired, so that these tables stay as small as an hour's use."""
        if self._clock.monotonic() - self._purged >= PURGE_EVERY_S:
            self._purged = self._clock.monotonic()
            await logins.purge(self._pool, now, rates.WINDOW_S)


def wrong_code() -> PeerError:
    """One answer for every reason: it tells nothing about which codes and accounts exist."""
    return PeerError(
        Code.UNAUTHORIZED,
        f"code: wrong, used, expired, or tried {TRIES} times; check it or ask for a new one",
    )


def _digest(key: bytes, phone: str, code: str) -> bytes:
    return hmac.digest(key, f"{phone}:{code}".encode(), hashlib.sha256)
