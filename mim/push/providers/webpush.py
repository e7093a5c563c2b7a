"""Web Push: to the browser's push service over HTTP (RFC 8030), encrypted for the page (RFC 8291, RFC 8188), signed
with the deployment's key (RFC 8292).

The endpoint comes from a client, so it is trusted with nothing: https alone, hosts of the setting alone, no
redirects; where every host is admitted, none that resolves to a private address. Every push service has a breaker and
a share of the lane of its own, so that one that is away or slow does not hold up the others.
"""

import os
import time
from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec
import orjson
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from msgspec import Struct

from mim.push.addresses import is_public
from mim.push.breaker import Breaker
from mim.push.http import Http, HttpAnswer, UnreachableError
from mim.push.notice import ACCEPTED, Answer, Notice, Style, Verdict
from mim.push.texts import fit
from mim.push.vapid import Vapid, b64, public_bytes, unb64

RECORD: Final = 4096
HEADER: Final = 16 + 4 + 1 + 65
PLAIN_LIMIT: Final = RECORD - HEADER - 16 - 1  # a push service takes 4096 bytes, header, tag and delimiter included
MAX_SERVICES: Final = 1000
BUSY_S: Final = 0.2
ANY: Final = "*"


class Keys(Struct, frozen=True):
    """Of a subscription, base64url: the page's public key and a secret of 16 bytes."""

    p256dh: str
    auth: str


class Subscription(Struct, frozen=True):
    """What `PushSubscription.toJSON()` gives."""

    endpoint: str
    keys: Keys


def parse(token: str) -> Subscription:
    """The subscription in a device's token. Raises ValueError with a sentence."""
    try:
        found = msgspec.json.decode(token, type=Subscription)
        receiver(found)
    except (msgspec.MsgspecError, ValueError) as exc:
        raise ValueError("token: for webpush the JSON of a PushSubscription") from exc
    return found


def receiver(found: Subscription) -> tuple[ec.EllipticCurvePublicKey, bytes]:
    """(public key, secret) of a subscription. Raises ValueError."""
    key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), unb64(found.keys.p256dh))
    secret = unb64(found.keys.auth)
    if len(secret) != 16:
        raise ValueError("auth: 16 bytes")
    return key, secret


class Admission:
    """Which endpoints are called: https, a host that one of the patterns admits; with `*` any public one. `dev` lets
    loopback in.
    """

    def __init__(self, hosts: str, dev: bool) -> None:
        self._patterns = [pattern.strip().lower() for pattern in hosts.split(",") if pattern.strip()]
        self._dev = dev

    async def admits(self, endpoint: str) -> bool:
        """Whether a notification may go there. Looks names up only where any host is admitted."""
        try:
            parts = urlsplit(endpoint)
            host, port = (parts.hostname or "").lower(), parts.port
        except ValueError:
            return False
        if parts.scheme != "https" or not host or parts.username is not None or parts.password is not None:
            return False
        if self._dev and host in {"localhost", "127.0.0.1", "::1"}:
            return True
        if any(fnmatchcase(host, pattern) for pattern in self._patterns if pattern != ANY):
            return port in {None, 443}
        return ANY in self._patterns and await is_public(host, port or 443)


class Service:
    """What is known of one push service."""

    def __init__(self, breaker: Breaker) -> None:
        self.breaker = breaker
        self.inflight = 0


class WebPush:
    """Implements :class:`mim.push.notice.Provider`. `share` is how many requests one push service may hold up."""

    name = "webpush"
    platforms = ("webpush",)

    def __init__(
        self, http: Http, vapid: Vapid, admission: Admission, share: int, now: Callable[[], float] = time.time
    ) -> None:
        self._http = http
        self._vapid = vapid
        self._admission = admission
        self._share = share
        self._now = now
        self._services: dict[str, Service] = {}

    async def send(self, notice: Notice) -> Answer:
        try:
            found = parse(notice.token)
        except ValueError:
            return Answer(Verdict.GONE, "bad_subscription")
        if not await self._admission.admits(found.endpoint):
            return Answer(Verdict.GONE, "not_admitted")
        service = self._service(urlsplit(found.endpoint).netloc)
        if service.inflight >= self._share:
            return Answer(Verdict.AWAY, "busy", BUSY_S)
        if not service.breaker.allow():
            return Answer(Verdict.AWAY, "service_away", max(service.breaker.wait_s(), BUSY_S))
        service.inflight += 1
        try:
            return await self._send(notice, found, service.breaker)
        finally:
            service.inflight -= 1

    async def _send(self, notice: Notice, found: Subscription, breaker: Breaker) -> Answer:
        try:
            headers = {
                "authorization": await self._vapid.header(found.endpoint),
                "content-encoding": "aes128gcm",
                "content-type": "application/octet-stream",
                "ttl": str(notice.ttl_s(self._now())),
                "urgency": "low" if notice.style in {Style.QUIET, Style.WITHDRAW} else "high",
                "topic": topic(notice.collapse),
            }
            answer = await self._http.post(found.endpoint, headers, encrypt(payload(notice), *receiver(found)))
        except UnreachableError as exc:
            breaker.failed()
            return Answer(Verdict.AWAY, str(exc), max(breaker.wait_s(), BUSY_S))
        except BaseException:
            breaker.abandoned()
            raise
        judged = judge(answer)
        if judged.verdict is Verdict.AWAY:
            breaker.failed(judged.retry_after_s)
            return Answer(Verdict.AWAY, judged.reason, max(breaker.wait_s(), BUSY_S))
        breaker.succeeded()
        return judged

    def _service(self, origin: str) -> Service:
        found = self._services.get(origin)
        if found is None:
            if len(self._services) >= MAX_SERVICES:
                self._services = {name: one for name, one in self._services.items() if one.inflight}
            found = self._services[origin] = Service(Breaker(time.monotonic))
        return found

    async def close(self) -> None:
        await self._http.close()


def topic(collapse: str) -> str:
    """RFC 8030 §5.4: at most 32 characters of the base64url alphabet, which a collapse key is made of."""
    return collapse[:32]


def payload(notice: Notice) -> bytes:
    """The JSON for the page's service worker, its text cut so that push services take the encrypted record."""

    def build(body: str) -> bytes:
        message: dict[str, Any] = {
            "v": 1, "style": notice.style.value, "title": notice.title, "body": body, "tag": notice.collapse,
            "chat": notice.chat, "seq": notice.seq, "count": notice.count, "badge": notice.badge,
            "user": notice.user,
        }  # fmt: skip
        if not notice.private:
            message["sender"] = notice.sender
        return orjson.dumps(message)

    return build(fit(notice.body, PLAIN_LIMIT, lambda body: len(build(body))))


def encrypt(
    plain: bytes, page: ec.EllipticCurvePublicKey, secret: bytes,
    own: ec.EllipticCurvePrivateKey | None = None, salt: bytes | None = None,
) -> bytes:  # fmt: skip
    """`plain` as one aes128gcm record that only the page can read. `own` and `salt` are fresh but in test vectors."""
    own = own or ec.generate_private_key(ec.SECP256R1())
    salt = salt or os.urandom(16)
    sender = public_bytes(own)
    shared = own.exchange(ec.ECDH(), page)
    secret = _hkdf(secret, shared, b"WebPush: info\0" + public_bytes(page) + sender, 32)
    key = _hkdf(salt, secret, b"Content-Encoding: aes128gcm\0", 16)
    nonce = _hkdf(salt, secret, b"Content-Encoding: nonce\0", 12)
    head = salt + RECORD.to_bytes(4, "big") + bytes([len(sender)]) + sender
    return head + AESGCM(key).encrypt(nonce, plain + b"\x02", None)


def _hkdf(salt: bytes, secret: bytes, info: bytes, length: int) -> bytes:
    return HKDF(SHA256(), length, salt, info).derive(secret)


def judge(answer: HttpAnswer) -> Answer:
    """What a push service's answer means (RFC 8030 §5, and what the big ones send besides)."""
    status = answer.status
    if status in {200, 201, 202, 204}:
        return ACCEPTED
    reason = answer.json().get("reason")
    word = reason if isinstance(reason, str) and reason.isalnum() and len(reason) <= 40 else str(status)
    if status in {404, 410} or word == "VapidPkHashMismatch":
        return Answer(Verdict.GONE, word)
    if status == 429:
        return Answer(Verdict.LATER, word, answer.retry_after_s)
    if status in {401, 403} or status >= 500:
        return Answer(Verdict.AWAY, word, answer.retry_after_s)
    return Answer(Verdict.REFUSED, word)


__all__ = ["Admission", "Subscription", "WebPush", "b64", "encrypt", "parse"]
