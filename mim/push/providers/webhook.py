"""A push gateway of somebody else's: signed HTTP posts in the form of Standard Webhooks (docs/push.md#webhook).

The receiver checks `webhook-signature`, HMAC-SHA256 over id, timestamp and body, and refuses old timestamps. The id
stays the same when a notification is tried again, so the receiver can drop what it has.
"""

import base64
import hashlib
import hmac
import time
from collections.abc import Callable
from typing import Any, Final

import orjson

from mim.push.http import Http, HttpAnswer, UnreachableError
from mim.push.notice import ACCEPTED, Answer, Notice, Verdict
from mim.push.texts import fit

PAYLOAD_LIMIT: Final = 4096
PREFIX: Final = "whsec_"


def signing_key(secret: str) -> bytes:
    """The key of a secret: the base64 after `whsec_`, else the text itself. Raises ValueError."""
    if secret.startswith(PREFIX):
        return base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    return secret.encode()


class Webhook:
    """Implements :class:`mim.push.notice.Provider`."""

    name = "webhook"
    platforms = ("webhook",)

    def __init__(self, http: Http, url: str, key: bytes, now: Callable[[], float] = time.time) -> None:
        self._http = http
        self._url = url
        self._key = key
        self._now = now

    async def send(self, notice: Notice) -> Answer:
        body = payload(notice)
        try:
            answer = await self._http.post(self._url, self._headers(notice, body), body)
        except UnreachableError as exc:
            return Answer(Verdict.TROUBLE, str(exc))
        return judge(answer)

    def _headers(self, notice: Notice, body: bytes) -> dict[str, str]:
        name, stamp = f"push_{notice.id}_{notice.seq}", str(int(self._now()))
        signature = hmac.digest(self._key, f"{name}.{stamp}.".encode() + body, hashlib.sha256)
        return {
            "content-type": "application/json",
            "webhook-id": name,
            "webhook-timestamp": stamp,
            "webhook-signature": f"v1,{base64.b64encode(signature).decode()}",
        }

    async def close(self) -> None:
        await self._http.close()


def payload(notice: Notice) -> bytes:
    """The JSON of a notification, its text cut so that all is within PAYLOAD_LIMIT beside the token."""
    limit = PAYLOAD_LIMIT + len(notice.token)

    def build(body: str) -> bytes:
        message: dict[str, Any] = {
            "token": notice.token, "device": notice.device, "user": notice.user, "style": notice.style.value,
            "title": notice.title, "body": body, "chat": notice.chat, "seq": notice.seq, "count": notice.count,
            "badge": notice.badge, "collapse": notice.collapse, "expires": int(notice.expires), "loud": notice.loud,
        }  # fmt: skip
        if not notice.private:
            message["sender"] = notice.sender
        return orjson.dumps(message)

    return build(fit(notice.body, limit, lambda body: len(build(body))))


def judge(answer: HttpAnswer) -> Answer:
    """2xx accepted, 404 and 410 the token is dead, 429 later, 401, 403 and 5xx the gateway; else refused."""
    status = answer.status
    if 200 <= status < 300:
        return ACCEPTED
    if status in {404, 410}:
        return Answer(Verdict.GONE, str(status))
    if status == 429:
        return Answer(Verdict.LATER, str(status), answer.retry_after_s)
    if status in {401, 403, 408} or status >= 500:
        return Answer(Verdict.TROUBLE, str(status), answer.retry_after_s)
    return Answer(Verdict.REFUSED, str(status))
