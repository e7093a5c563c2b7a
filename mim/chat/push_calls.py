"""`push.*` methods and `device.push`: where notifications go and what they tell (proto/calls.md#push)."""

from typing import Annotated, Literal
from zoneinfo import ZoneInfo, available_timezones

from msgspec import UNSET, Meta, Struct, UnsetType

from mim.chat.calls import Empty, method
from mim.chat.context import Context
from mim.chat.texts import check_text
from mim.errors import Code, PeerError
from mim.model import Caller
from mim.store import push_settings
from mim.store.push_settings import PushSettings

Platform = Literal["apns", "apns_sandbox", "fcm", "webpush", "webhook"]
Preview = Literal["full", "sender", "none"]
LOCALE_LIMIT = 35


class PushParams(Struct, frozen=True):
    """Parameters of `device.push`; without a token the device takes no notifications any more."""

    platform: Platform
    token: Annotated[str, Meta(min_length=1, max_length=4096)] | None
    voip: Annotated[str, Meta(min_length=1, max_length=400)] | None = None
    locale: str | None = None


class PushConfig(Struct, frozen=True):
    """What a client needs to register: platforms that this server sends to, and the key of Web Push, "" when it is
    off.
    """

    platforms: list[str]
    vapid: str


class QuietHours(Struct, frozen=True):
    """From one time of the day up to another, over midnight when the second is not later, in a time zone."""

    start: Annotated[str, Meta(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$")]
    end: Annotated[str, Meta(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$")]
    zone: Annotated[str, Meta(max_length=64)]


class PushSettingsParams(Struct, frozen=True):
    """Parameters of `push.settings`; what is left out stays, null takes it back to the default."""

    preview: Preview | UnsetType | None = UNSET
    quiet: QuietHours | UnsetType | None = UNSET
    reading: bool | UnsetType | None = UNSET
    mentions: bool | UnsetType | None = UNSET
    calls: bool | UnsetType | None = UNSET


class PushWishes(Struct, frozen=True):
    """A user's settings. `preview` null is what the deployment says."""

    preview: Preview | None
    quiet: QuietHours | None
    reading: bool
    mentions: bool
    calls: bool


@method("device.push")
async def push(context: Context, caller: Caller, params: PushParams) -> Empty:
    """Say where the calling device takes push notifications, or with a null token that it takes none."""
    if params.token is None:
        await push_settings.unregister(context.pool, caller.device)
        return Empty()
    await context.push.check_token(params.platform, params.token)
    if params.voip is not None:
        await context.push.check_token("apns", params.voip)
    locale = check_text("locale", params.locale or "", LOCALE_LIMIT)
    await push_settings.register(
        context.pool, caller.device, params.platform, params.token, params.voip, locale, context.clock.now()
    )
    return Empty()


@method("push.config")
async def config(context: Context, caller: Caller, params: Empty) -> PushConfig:
    """Which platforms this server sends notifications to, and the key that browsers subscribe with."""
    return PushConfig(sorted(context.push.platforms), await context.push.public_key())


@method("push.settings")
async def settings(context: Context, caller: Caller, params: PushSettingsParams) -> PushWishes:
    """What the caller wants to be told, after changing what is given."""
    async with context.pool.acquire() as conn, conn.transaction():
        known = await push_settings.get(conn, caller.user)
        wanted = _changed(known, params)
        if wanted != known:
            await push_settings.put(conn, caller.user, wanted)
    return PushWishes(
        _preview(wanted.preview), _quiet_hours(wanted), wanted.reading, wanted.mentions, wanted.calls
    )  # fmt: skip


def _changed(known: PushSettings, params: PushSettingsParams) -> PushSettings:
    quiet = _quiet_hours(known) if params.quiet is UNSET else params.quiet
    if quiet is not None and quiet.zone not in available_timezones():
        raise PeerError(Code.BAD_FRAME, "quiet.zone: the name of a time zone, like Asia/Seoul")
    return PushSettings(
        preview=known.preview if params.preview is UNSET else params.preview,
        quiet_from=None if quiet is None else _minutes(quiet.start),
        quiet_until=None if quiet is None else _minutes(quiet.end),
        zone=None if quiet is None else ZoneInfo(quiet.zone).key,
        reading=_flag(params.reading, known.reading),
        mentions=_flag(params.mentions, known.mentions),
        calls=_flag(params.calls, known.calls),
    )


def _flag(given: bool | UnsetType | None, known: bool) -> bool:
    """All flags are on by default."""
    return known if given is UNSET else given is not False


def _minutes(time: str) -> int:
    return int(time[:2]) * 60 + int(time[3:])


def _quiet_hours(wanted: PushSettings) -> QuietHours | None:
    if wanted.quiet_from is None or wanted.quiet_until is None:
        return None
    return QuietHours(_time(wanted.quiet_from), _time(wanted.quiet_until), wanted.zone or "UTC")


def _time(minutes: int) -> str:
    return f"{minutes // 60:02}:{minutes % 60:02}"


def _preview(stored: str | None) -> Preview | None:
    return "full" if stored == "full" else "sender" if stored == "sender" else "none" if stored == "none" else None
