"""Apple's push service over HTTP/2 (docs/push.md#apns).

Authentication is by a provider token (ES256, renewed between 20 and 60 minutes as Apple wants it) or by a client
certificate. Types: `alert`, `background` for taking back what showed no content, `voip` for calls, which has a token
and a topic of its own.
"""

import math
import time
import uuid
from collections.abc import Callable
from typing import Any, Final

import jwt
import orjson

from mim.push.http import Http, HttpAnswer, UnreachableError
from mim.push.notice import ACCEPTED, Answer, Notice, Style, Verdict
from mim.push.texts import fit

HOSTS: Final = {"apns": "https://api.push.apple.com", "apns_sandbox": "https://api.sandbox.push.apple.com"}
PAYLOAD_LIMIT: Final = 4096
TOKEN_LIFE_S: Final = 45 * 60
NAMESPACE: Final = uuid.UUID("6d696d00-0000-4000-8000-000000000000")

# https://developer.apple.com/documentation/usernotifications/handling-notification-responses-from-apns
GONE: Final = {"BadDeviceToken", "Unregistered", "ExpiredToken", "DeviceTokenNotForTopic"}
TROUBLE: Final = {
    "BadCertificate", "BadCertificateEnvironment", "BadEnvironmentKeyIdInToken", "BadTopic", "ExpiredProviderToken",
    "Forbidden", "IdleTimeout", "InternalServerError", "InvalidProviderToken", "MissingProviderToken", "MissingTopic",
    "ServiceUnavailable", "Shutdown", "TooManyProviderTokenUpdates", "TopicDisallowed", "UnrelatedKeyIdInToken",
}  # fmt: skip


class TokenSigner:
    """Makes provider tokens and keeps one for TOKEN_LIFE_S."""

    def __init__(self, key: str, key_id: str, team_id: str, now: Callable[[], float] = time.time) -> None:
        self._key = key
        self._key_id = key_id
        self._team_id = team_id
        self._now = now
        self._token = ""
        self._made = 0.0

    def token(self) -> str:
        """A provider token that Apple takes."""
        now = self._now()
        if not self._token or not 0 <= now - self._made < TOKEN_LIFE_S:
            claims = {"iss": self._team_id, "iat": int(now)}
            self._token = jwt.encode(claims, self._key, algorithm="ES256", headers={"kid": self._key_id})
            self._made = now
        return self._token

    def forget(self) -> None:
        """Make another at the next use: Apple calls this one expired."""
        self._token = ""


class Apns:
    """Implements :class:`mim.push.notice.Provider`. Without a signer the certificate of `http` authenticates."""

    name = "apns"
    platforms = ("apns", "apns_sandbox")

    def __init__(self, http: Http, topic: str, signer: TokenSigner | None, url: str | None = None) -> None:
        self._http = http
        self._topic = topic
        self._signer = signer
        self._hosts = HOSTS if url is None else dict.fromkeys(HOSTS, url)

    async def send(self, notice: Notice) -> Answer:
        voip = notice.style is Style.CALL and notice.voip
        token = notice.voip if voip and notice.voip else notice.token
        if not token.isalnum():  # it becomes part of the path
            return Answer(Verdict.GONE, "BadDeviceToken")
        url = f"{self._hosts[notice.platform]}/3/device/{token}"
        try:
            answer = await self._http.post(url, self._headers(notice, bool(voip)), payload(notice))
        except UnreachableError as exc:
            return Answer(Verdict.TROUBLE, str(exc))
        judged = judge(answer)
        if judged.reason == "ExpiredProviderToken" and self._signer is not None:
            self._signer.forget()
        if judged.verdict is Verdict.GONE and voip:
            return Answer(Verdict.REFUSED, judged.reason)  # the token for calls is dead, not the other one
        return judged

    def _headers(self, notice: Notice, voip: bool) -> dict[str, str]:
        quiet = notice.style in {Style.QUIET, Style.WITHDRAW}
        kind = "voip" if voip else "background" if notice.style is Style.WITHDRAW else "alert"
        headers = {
            "apns-topic": f"{self._topic}.voip" if voip else self._topic,
            "apns-push-type": kind,
            "apns-priority": "5" if quiet else "10",
            "apns-expiration": str(int(notice.expires)),
            "apns-id": str(uuid.uuid5(NAMESPACE, f"{notice.id}.{notice.seq}")),
        }
        if kind == "alert":
            headers["apns-collapse-id"] = notice.collapse
        if self._signer is not None:
            headers["authorization"] = f"bearer {self._signer.token()}"
        return headers

    async def close(self) -> None:
        await self._http.close()


def payload(notice: Notice) -> bytes:
    """The JSON of a notification, its text cut so that it stays within PAYLOAD_LIMIT."""

    def build(body: str) -> bytes:
        about: dict[str, Any] = {"chat": notice.chat, "seq": notice.seq, "style": notice.style.value}
        if not notice.private:
            about["sender"] = notice.sender
        if notice.style is Style.WITHDRAW:
            return orjson.dumps({"aps": {"content-available": 1}, "mim": {**about, "badge": notice.badge}})
        alert = {"title": notice.title, "body": body} if notice.title else {"body": body}
        aps: dict[str, Any] = {
            "alert": alert,
            "badge": notice.badge,
            "thread-id": notice.collapse,
            "mutable-content": 1,
        }
        if notice.style is Style.QUIET:
            aps["interruption-level"] = "passive"
        else:
            aps["sound"] = "default"
        if notice.loud:
            aps["interruption-level"] = "time-sensitive"
        return orjson.dumps({"aps": aps, "mim": {**about, "count": notice.count}})

    return build(fit(notice.body, PAYLOAD_LIMIT, lambda body: len(build(body))))


def judge(answer: HttpAnswer) -> Answer:
    """What Apple's answer means."""
    if answer.status == 200:
        return ACCEPTED
    said = answer.json()
    reason = said.get("reason")
    word = reason if isinstance(reason, str) and reason.isalnum() and len(reason) <= 40 else str(answer.status)
    if answer.status == 410 or word in GONE:
        at = said.get("timestamp")  # milliseconds, with 410
        return Answer(Verdict.GONE, word, gone_at=at / 1000 if isinstance(at, int) else math.inf)
    if word in TROUBLE or answer.status >= 500:
        return Answer(Verdict.TROUBLE, word, answer.retry_after_s)
    if answer.status == 429:  # too many for this device
        return Answer(Verdict.LATER, word, answer.retry_after_s)
    return Answer(Verdict.REFUSED, word)
