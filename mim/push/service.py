"""The push part put together from the settings: planner, lanes, providers, and what clients ask of it."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec
import structlog

from mim.bus.port import Bus
from mim.clock import Clock
from mim.config import Settings, secret
from mim.errors import Code, PeerError
from mim.push.http import Http
from mim.push.lane import Lane, Limits
from mim.push.notice import Provider
from mim.push.planner import Planner, Policy
from mim.push.providers import webpush
from mim.push.providers.apns import Apns, TokenSigner
from mim.push.providers.fcm import Fcm, ServiceAccount
from mim.push.providers.log import LogProvider
from mim.push.providers.webhook import Webhook, signing_key
from mim.push.providers.webpush import Admission, WebPush
from mim.push.vapid import Vapid
from mim.store import push_outbox
from mim.store.committer import Pending
from mim.store.db import UNAVAILABLE, Pool
from mim.store.dispatch import Dispatch
from mim.tasks import TaskSet

log = structlog.get_logger("mim.push")

PLATFORMS: Final = ("apns", "apns_sandbox", "fcm", "webpush", "webhook")
CLOSE_S: Final = 2.0
PURGE_EVERY_S: Final = 600.0
TOLD_S: Final = 7 * 86_400.0  # how long it is kept what devices were told
LOOK_EVERY_S: Final = 10.0  # at how many rows the outbox has


class Providers:
    """Those that the settings make possible."""

    def __init__(self, settings: Settings, pool: Pool, clock: Clock) -> None:
        self._settings = settings
        self._now: Callable[[], float] = clock.now
        self._ca = _read(settings.push_ca)
        contact = settings.push_webpush_contact or ("mailto:dev@localhost.invalid" if settings.dev else "")
        self.vapid = Vapid(pool, secret(settings.push_vapid_key), contact, clock.now)
        self.admission = Admission(settings.push_webpush_hosts, settings.dev)
        found = [self._apns(), self._fcm(), self._webpush() if contact else None, self._webhook()]
        self.all: list[Provider] = [provider for provider in found if provider is not None]
        rest = tuple(name for name in PLATFORMS if name not in self.platforms)
        if settings.dev and rest:
            self.all.append(LogProvider(rest))

    @property
    def platforms(self) -> frozenset[str]:
        """Platforms that some provider serves."""
        return frozenset(platform for provider in self.all for platform in provider.platforms)

    def _http(self, *, only_http2: bool = False, identity: bytes | None = None) -> Http:
        return Http(self._settings.push_timeout_s, only_http2=only_http2, ca=self._ca, identity=identity)

    def _apns(self) -> Provider | None:
        settings = self._settings
        if settings.push_apns_topic is None:
            return None
        signer = None
        if settings.push_apns_key is not None:
            key = settings.push_apns_key.read_text()
            signer = TokenSigner(key, settings.push_apns_key_id or "", settings.push_apns_team_id or "", self._now)
        http = self._http(only_http2=True, identity=_read(settings.push_apns_certificate))
        return Apns(http, settings.push_apns_topic, signer, settings.push_apns_url)

    def _fcm(self) -> Provider | None:
        settings = self._settings
        if settings.push_fcm_credentials is None:
            return None
        account = msgspec.json.decode(settings.push_fcm_credentials.read_bytes(), type=ServiceAccount)
        return Fcm(self._http(only_http2=True), account, settings.push_fcm_channel, settings.push_fcm_url, self._now)

    def _webpush(self) -> Provider:
        share = max(1, self._settings.push_concurrency // 2)
        return WebPush(self._http(), self.vapid, self.admission, share, self._now)

    def _webhook(self) -> Provider | None:
        settings = self._settings
        key = secret(settings.push_webhook_secret)
        if settings.push_webhook_url is None or key is None:
            return None
        return Webhook(self._http(), settings.push_webhook_url, signing_key(key), self._now)


class Push:
    """The push part of a node; or, with `plans` False, of a process of workers alone, which without Redis has no `bus`
    to ask who is connected.
    """

    def __init__(self, settings: Settings, pool: Pool, bus: Bus | None, clock: Clock, *, plans: bool = True) -> None:
        self._settings = settings
        self._pool = pool
        self._clock = clock
        self._providers = Providers(settings, pool, clock)
        self._limits = limits(settings)
        self.lanes = [Lane(one, pool, bus, clock, self._limits, shares=plans) for one in self._providers.all]
        self.planner = None if bus is None or not plans else Planner(pool, bus, clock, self._policy(), self.wake)
        self._waiting = 0
        self._tasks = TaskSet()

    @property
    def platforms(self) -> frozenset[str]:
        """Platforms whose notifications go out."""
        return self._providers.platforms

    def __len__(self) -> int:
        """What waits to be planned."""
        return 0 if self.planner is None else len(self.planner)

    @property
    def depth(self) -> int:
        """Rows of the outbox when it was last looked at."""
        return self._waiting

    @property
    def inflight(self) -> int:
        """Notifications of this process that wait for a provider's answer."""
        return sum(lane.inflight for lane in self.lanes)

    def start(self, *, workers: bool = True) -> None:
        """Begin to plan, and to send unless others do."""
        if self.planner is not None:
            self.planner.start()
        if workers:
            for lane in self.lanes:
                lane.start()
        self._tasks.spawn(self._look_after(), name="push upkeep")

    async def close(self) -> None:
        """Plan what waits and finish what is being sent, for some seconds; the outbox keeps the rest."""
        if self.planner is not None:
            await self.planner.close(CLOSE_S)
        await asyncio.gather(*(lane.close() for lane in self.lanes))
        await self._tasks.close()

    def wake(self) -> None:
        """The outbox has something new."""
        for lane in self.lanes:
            lane.wake()

    # -- what clients ask (chat.push_port) --------------------------------------------

    async def public_key(self) -> str:
        """The VAPID key that a browser subscribes with; "" when Web Push is off."""
        on = any(isinstance(one, WebPush) for one in self._providers.all)
        return await self._providers.vapid.public_key() if on else ""

    async def check_token(self, platform: str, token: str) -> None:
        """PeerError when a token cannot be one of its platform."""
        if platform in {"apns", "apns_sandbox"} and not (token.isascii() and token.isalnum() and len(token) <= 400):
            raise PeerError(Code.BAD_FRAME, "token: for apns the device token in hexadecimal digits")
        if platform == "webpush":
            try:
                found = webpush.parse(token)
            except ValueError as exc:
                raise PeerError(Code.BAD_FRAME, str(exc)) from None
            if not await self._providers.admission.admits(found.endpoint):
                raise PeerError(Code.FORBIDDEN, "token: this server does not send to that push service")

    def committed(self, batch: Sequence[Pending], dispatch: Dispatch) -> None:
        """Messages were stored and published; the dispatch is held until they are planned."""
        if self.planner is not None:
            self.planner.committed(batch, dispatch)

    def recovered(self, chats: Sequence[int], seqs: Sequence[int]) -> bool:
        """Messages of a node that died before it had planned them; whether they are planned by now."""
        return self.planner is None or self.planner.recovered(chats, seqs)

    def unheard(self, user: int, device: int, since: int) -> None:
        """A device seemed connected and heard nothing of what was sent to it from second `since` on."""
        if self.planner is not None:
            self.planner.unheard(user, device, since)

    def revised(self, chat: int, seq: int) -> None:
        """A message was edited, or deleted for everyone: what shows it is replaced."""
        if self.planner is not None:
            self.planner.revised(chat, seq)

    # -- upkeep --------------------------------------------------------------------------------

    async def _look_after(self) -> None:
        purged = 0.0
        while True:
            try:
                self._waiting = await push_outbox.depth(self._pool)
                if self._clock.monotonic() - purged > PURGE_EVERY_S:
                    purged = self._clock.monotonic()
                    await push_outbox.purge(self._pool, self._clock.now() - TOLD_S)
                    await push_outbox.purge_expired(self._pool, self._clock.now() - self._limits.lease_s)
            except UNAVAILABLE as exc:
                log.warning("the outbox cannot be looked at", error=type(exc).__name__)
            await asyncio.sleep(LOOK_EVERY_S)

    def _policy(self) -> Policy:
        settings = self._settings
        return Policy(
            platforms=self._providers.platforms,
            queue=settings.push_queue,
            age_s=settings.push_age_s,
            call_age_s=settings.push_call_age_s,
            chat_gap_s=settings.push_chat_gap_s,
            reading_grace_s=settings.push_reading_grace_s,
        )


def limits(settings: Settings) -> Limits:
    """The bounds of lanes as set."""
    return Limits(
        preview=settings.push_preview,
        concurrency=settings.push_concurrency,
        attempts=settings.push_attempts,
        lease_s=settings.push_lease_s,
        chat_gap_s=settings.push_chat_gap_s,
        device_per_minute=settings.push_device_per_minute,
    )


def _read(path: Path | None) -> bytes | None:
    return None if path is None else path.read_bytes()


def names(platforms: Sequence[str]) -> str:
    """Platforms for a line that a person reads."""
    return ", ".join(sorted(platforms)) or "none"
