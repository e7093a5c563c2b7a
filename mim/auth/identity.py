"""Who somebody is, for every door of the server: sign-in, refresh, tokens and devices in one place."""

from collections.abc import Callable

import httpx
from msgspec import Struct

from mim.auth.apptokens import AppClaims, AppTokens
from mim.auth.codes import Codes
from mim.auth.jwks import JwksKeys
from mim.auth.keys import ServerKeys
from mim.auth.refresh import RefreshTokens, Superseded, Tokens
from mim.auth.sms import SmsProvider
from mim.auth.storage import bounded_storage, storage
from mim.auth.texts import clean_name, normalise_phone
from mim.auth.tokens import Principal, Revoked, is_own, issue, read_own, refuse
from mim.clock import Clock
from mim.config import Settings
from mim.errors import Code, PeerError
from mim.store import accounts, entering
from mim.store.accounts import Login, Transaction
from mim.store.db import Pool
from mim.store.entering import Claim, Entry
from mim.store.together import Together

# `device.list` shows when a device was seen; to the minute is not worth a write at every login.
TOUCH_S = 300

ENTERING = 32  # in one query

NO_DEVICE = "token: its device does not exist; sign in again"


class Entrance(Struct, frozen=True):
    """Who comes in with a socket, until which second since 1970, and the groups in which the user was present (chat to
    the first seq the user may see) when `xid` was the oldest transaction under way.
    """

    user: int
    device: int
    exp: int
    groups: dict[int, int]
    xid: int


class Proof(Struct, frozen=True):
    """What a sound token says, before anybody was asked whether there is such a device; `app` for an app's token."""

    claim: Claim
    exp: int
    app: AppClaims | None = None


class SignIn(Struct, frozen=True):
    """The answer to a right code: access token, refresh token, user and device ids."""

    token: str
    refresh: str
    user: int
    device: int


def _ignore(user: int, device: int) -> None:
    """A listener that does nothing."""


class Identity:
    """Signs people in and tells who a token is.

    `http` fetches the JWKS and stays the caller's to close. `sessions` are connections for :meth:`enter`, else `pool`
    serves it too. `on_revoked(user, device)` is called after a
    device was revoked for whatever reason, so that its sockets can be closed; `on_added(user, device)` after
    one was signed in for the first time. Both must not block. Every method raises PeerError only,
    `unavailable` among them while Postgres does not answer.
    """

    def __init__(
        self,
        pool: Pool,
        settings: Settings,
        clock: Clock,
        sms: SmsProvider,
        http: httpx.AsyncClient,
        *,
        sessions: Pool | None = None,
        on_revoked: Callable[[int, int], None] = _ignore,
        on_added: Callable[[int, int], None] = _ignore,
    ) -> None:
        self._pool = pool
        self._settings = settings
        self._clock = clock
        self._keys = ServerKeys(pool)
        self._codes = Codes(pool, settings, clock, sms)
        self._jwks = JwksKeys(settings.jwks_url, http, clock) if settings.jwks_url else None
        self._app = AppTokens(settings, self._jwks)
        self._sessions = sessions or pool
        self._entering: Together[Claim, Entry | None] = Together(self._enter, most=ENTERING)
        self._on_revoked = on_revoked
        self._on_added = on_added

    async def close(self) -> None:
        """End what runs in the background."""
        await self._entering.close()
        if self._jwks is not None:
            await self._jwks.close()

    async def request_code(self, phone: str, address: str, locale: str = "") -> str | None:
        """Send a one-time code to a phone number as people write it; `address` is who asks, an IP address.

        Returns the code in development (settings.dev), else None. Raises `bad_frame` for what is no phone
        number, `rate_limited` with retry_after_ms. Says nothing about whether the phone has an account.
        """
        number = normalise_phone(phone, self._settings.default_region)
        keys = await self._keys.load()
        code = await self._codes.send(keys.code, number, address, locale)
        return code if self._settings.dev else None

    async def verify(self, phone: str, code: str, device_name: str, device_os: str, address: str) -> SignIn:
        """Sign in a new device with a code that was sent to `phone`, adding the account if it is new.

        Raises `unauthorized` for a code that is wrong, used, expired or was tried too often, `bad_frame`,
        `rate_limited`. The least recently seen devices above settings.max_devices are revoked.
        """
        number = normalise_phone(phone, self._settings.default_region)
        keys = await self._keys.load()
        digest = await self._codes.check(keys.code, number, code, address)
        now = int(self._clock.now())
        async with storage(), self._pool.acquire() as db, db.transaction():
            await self._codes.use(db, number, digest)
            user = await accounts.ensure_phone_account(db, number, now)
            device, dropped = await self._add_device(db, user, None, device_name, device_os)
            refresh = await self._refresh_tokens(keys.refresh).create(db, device, now)
        self._tell(user, device, dropped)
        return SignIn(self._issue(keys.access, user, device), refresh, user, device)

    async def refresh(self, refresh_token: str) -> Tokens:
        """Exchange a refresh token for new tokens.

        Raises `unauthorized` when it is unknown, expired, of a revoked device, or superseded; then it was
        copied, and its device is revoked.
        """
        keys = await self._keys.load()
        tokens = self._refresh_tokens(keys.refresh)
        try:
            async with storage(), self._pool.acquire() as db, db.transaction():
                used = await tokens.rotate(db, refresh_token, int(self._clock.now()))
        except Superseded as copied:
            await self.revoke_device(copied.user, copied.device)
            raise PeerError(
                Code.UNAUTHORIZED, "refresh: used before, so somebody may have copied it; sign in again"
            ) from None
        return Tokens(self._issue(keys.access, used.user, used.device), used.refresh)

    async def authenticate(self, token: str) -> Principal:
        """Tell who a token proves; users and devices of an app are added on first sight.

        Raises Revoked for a sound token of a revoked device, else PeerError `unauthorized` with what is wrong
        with the token, or `unavailable`. One query, unless the device is new.
        """
        proof, now = await self._prove(token), int(self._clock.now())
        async with storage():
            if proof.app is not None:
                login = await accounts.read_install(self._pool, proof.app.sub, proof.app.dev, now, TOUCH_S)
                login = login or await self._first_sight(proof.app, now)
            else:
                user, device = proof.claim.user or 0, proof.claim.device or 0
                login = await accounts.read_device(self._pool, user, device, now, TOUCH_S)
        if login is None:
            refuse(NO_DEVICE)
        if login.revoked:
            raise Revoked
        return Principal(login.user, login.device, proof.exp, login.name)

    async def enter(self, token: str) -> Entrance:
        """The same for a socket, with what it must listen to. Those who come together are asked for in one query."""
        proof = await self._prove(token)
        with bounded_storage():
            entry = await self._entering.ask(proof.claim)
            if entry is None and proof.app is not None:
                async with storage():
                    await self._first_sight(proof.app, int(self._clock.now()))
                entry = await self._entering.ask(proof.claim)
        if entry is None:
            refuse(NO_DEVICE)
        if entry.revoked:
            raise Revoked
        return Entrance(entry.user, entry.device, proof.exp, entry.groups, entry.xid)

    async def _prove(self, token: str) -> Proof:
        if is_own(token):
            own = read_own(token, (await self._keys.load()).access, int(self._clock.now()))
            return Proof(Claim(user=own.u, device=own.d), own.exp)
        claims = await self._app.read(token, self._clock.now())
        return Proof(Claim(sub=claims.sub, install=claims.dev), claims.ends, claims)

    async def _enter(self, claims: list[Claim]) -> list[Entry | None]:
        return await entering.enter(self._sessions, claims, int(self._clock.now()), TOUCH_S)

    async def renew(self, principal_user: int, principal_device: int, token: str) -> int:
        """The end of a session that shows a new token, in seconds since 1970.

        Raises `forbidden` for another user's or device's token, and what `authenticate` raises.
        """
        principal = await self.authenticate(token)
        if (principal.user, principal.device) != (principal_user, principal_device):
            raise PeerError(Code.FORBIDDEN, "token: it must be for the user and device of this session")
        return principal.exp

    async def revoke_device(self, user: int, device: int) -> None:
        """Sign out a device of `user` for good; raises `not_found` when it is not one of the user's."""
        async with storage():
            found = await accounts.revoke(self._pool, user, device, int(self._clock.now()))
        if not found:
            raise PeerError(Code.NOT_FOUND, "device: not one of yours; see device.list")
        self._on_revoked(user, device)

    async def _first_sight(self, claims: AppClaims, now: int) -> Login:
        name = clean_name(claims.name or "")
        async with self._pool.acquire() as db, db.transaction():
            user = await accounts.ensure_sub_account(db, claims.sub, name, now)
            # With the account locked, whoever came first with this install is visible now.
            login = await accounts.read_install(db, claims.sub, claims.dev, now, TOUCH_S)
            if login is not None:
                return login
            device, dropped = await self._add_device(db, user, claims.dev, "", "")
            login = await accounts.read_install(db, claims.sub, claims.dev, now, TOUCH_S)
        if login is None:
            raise LookupError("a device vanished while it was added")
        self._tell(user, device, dropped)
        return login

    async def _add_device(
        self, db: Transaction, user: int, install: str | None, name: str, os: str
    ) -> tuple[int, list[int]]:
        """Add a device to a locked account; returns it and the devices that were revoked for it."""
        now = int(self._clock.now())
        device = await accounts.add_device(db, user, install, clean_name(name), clean_name(os), now)
        dropped = await accounts.revoke_beyond(db, user, device, self._settings.max_devices, now)
        return device, dropped

    def _tell(self, user: int, added: int, dropped: list[int]) -> None:
        """Tell the listeners, after the commit."""
        for device in dropped:
            self._on_revoked(user, device)
        self._on_added(user, added)

    def _issue(self, key: bytes, user: int, device: int) -> str:
        return issue(key, user, device, int(self._clock.now()), self._settings.access_ttl_s)

    def _refresh_tokens(self, key: bytes) -> RefreshTokens:
        return RefreshTokens(key, self._settings.refresh_ttl_s)
