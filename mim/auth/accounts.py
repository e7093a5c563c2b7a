"""What the operator does by hand: add a user, make a token for a phone."""

from mim.auth.keys import ServerKeys
from mim.auth.storage import storage
from mim.auth.texts import clean_name, normalise_phone
from mim.auth.tokens import issue
from mim.clock import Clock, SystemClock
from mim.config import Settings
from mim.errors import Code, PeerError
from mim.store import accounts
from mim.store.db import Pool


async def add_user(pool: Pool, settings: Settings, phone: str, name: str, clock: Clock | None = None) -> int:
    """Add an account for a phone number as people write it, and return its id.

    Raises `conflict` when the phone has an account, `bad_frame` when it is no phone number.
    """
    number = normalise_phone(phone, settings.default_region)
    now = int((clock or SystemClock()).now())
    async with storage():
        user = await accounts.add_phone_account(pool, number, clean_name(name), now)
    if user is None:
        raise PeerError(Code.CONFLICT, "phone: this number has an account already")
    return user


async def issue_token_for_phone(
    pool: Pool, settings: Settings, phone: str, device_name: str, clock: Clock | None = None
) -> str:
    """Make an access token for the user with `phone` on the device of that name, which is added if new.

    Raises `not_found` when the phone has no account, `bad_frame` when it is no phone number. Devices above
    settings.max_devices are revoked; a running server notices at their next login.
    """
    number = normalise_phone(phone, settings.default_region)
    now = int((clock or SystemClock()).now())
    keys = await ServerKeys(pool).load()
    name = clean_name(device_name)
    async with storage(), pool.acquire() as db, db.transaction():
        user = await accounts.lock_phone_account(db, number)
        if user is None:
            raise PeerError(Code.NOT_FOUND, "phone: no account; add one with `mim user add`")
        device = await accounts.find_device_named(db, user, name)
        if device is None:
            device = await accounts.add_device(db, user, None, name, "", now)
            await accounts.revoke_beyond(db, user, device, settings.max_devices, now)
    return issue(keys.access, user, device, now, settings.access_ttl_s)
