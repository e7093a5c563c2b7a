"""`user.*`, `profile.*` and `device.*` methods, and `auth.renew` (proto/calls.md#users)."""

from typing import Annotated

from msgspec import Meta, Struct

from mim.auth.texts import normalise_phone
from mim.chat.calls import Empty, method
from mim.chat.context import Context
from mim.chat.texts import check_text
from mim.errors import Code, PeerError
from mim.model import Caller
from mim.store import profiles
from mim.wire.frames import Id

NAME_LIMIT = 64
STATUS_LIMIT = 200
PHOTO_LIMIT = 500


class FindParams(Struct, frozen=True):
    """Parameters of `user.find`: exactly one of the two."""

    phone: Annotated[str, Meta(max_length=64)] | None = None
    sub: Annotated[str, Meta(max_length=128)] | None = None


class UserInfo(Struct, frozen=True):
    """A user as others find one."""

    user: int
    name: str


class ProfileParams(Struct, frozen=True):
    """Parameters of `profile.get`; without `user` one's own."""

    user: Id | None = None


class Profile(Struct, frozen=True):
    """What a user shows."""

    user: int
    name: str
    status: str
    photo: str


class ProfileUpdateParams(Struct, frozen=True):
    """Parameters of `profile.update`; what is left out stays."""

    name: str | None = None
    status: str | None = None
    photo: str | None = None
    locale: str | None = None


class DeviceInfo(Struct, frozen=True):
    """A signed-in device; `seen` is a second since 1970, to some minutes."""

    device: int
    name: str
    os: str
    seen: int


class DeviceParams(Struct, frozen=True):
    """Parameters of `device.revoke`."""

    device: Id


class RenewParams(Struct, frozen=True):
    """Parameters of `auth.renew`."""

    token: Annotated[str, Meta(max_length=8192)]


class Renewed(Struct, frozen=True):
    """Until when the session is good, as seconds since 1970."""

    exp: int


@method("user.find")
async def find(context: Context, caller: Caller, params: FindParams) -> UserInfo:
    """Find a user by phone number or by the id that an app gave. Limited in rate, so that nobody lists a country's
    phones.
    """
    if (params.phone is None) == (params.sub is None):
        raise PeerError(Code.BAD_FRAME, "give either phone or sub")
    if wait_ms := context.finds.take(caller.user, context.clock.monotonic()):
        raise PeerError(Code.RATE_LIMITED, "too many look-ups; try again later", wait_ms)
    phone = None if params.phone is None else normalise_phone(params.phone, context.settings.default_region)
    row = await profiles.find(context.pool, phone, params.sub)
    if row is None:
        raise PeerError(Code.NOT_FOUND, "nobody with this phone or id uses this server")
    return UserInfo(row["id"], row["name"])


@method("profile.get")
async def get(context: Context, caller: Caller, params: ProfileParams) -> Profile:
    """A profile: one's own, or another user's."""
    return await read_profile(context, params.user or caller.user)


async def read_profile(context: Context, user: int) -> Profile:
    """The profile of a user; PeerError `not_found`."""
    row = await profiles.get(context.pool, user)
    if row is None:
        raise PeerError(Code.NOT_FOUND, f"there is no user {user}")
    return Profile(row["id"], row["name"], row["status"], row["photo"])


@method("profile.update")
async def update(context: Context, caller: Caller, params: ProfileUpdateParams) -> Profile:
    """Change one's own profile and return it."""

    def checked(label: str, text: str | None, limit: int, *, lines: bool = False) -> str | None:
        return None if text is None else check_text(label, text, limit, lines=lines)

    await profiles.update(
        context.pool,
        caller.user,
        checked("name", params.name, NAME_LIMIT),
        checked("status", params.status, STATUS_LIMIT, lines=True),
        checked("photo", params.photo, PHOTO_LIMIT),
        checked("locale", params.locale, 35),
    )
    return await read_profile(context, caller.user)


@method("device.list")
async def devices(context: Context, caller: Caller, params: Empty) -> list[DeviceInfo]:
    """The caller's signed-in devices, latest seen first."""
    rows = await profiles.devices(context.pool, caller.user)
    return [DeviceInfo(r["id"], r["name"], r["os"], r["seen"]) for r in rows]


@method("device.revoke")
async def revoke(context: Context, caller: Caller, params: DeviceParams) -> Empty:
    """Sign one of the caller's devices out for good; its sockets are closed at once."""
    await context.identity.revoke_device(caller.user, params.device)
    return Empty()


@method("auth.renew", socket_only=True)
async def renew(context: Context, caller: Caller, params: RenewParams) -> Renewed:
    """Go on beyond the present token's end with a newer token of the same user and device."""
    return Renewed(await context.identity.renew(caller.user, caller.device, params.token))
