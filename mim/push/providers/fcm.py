"""Firebase Cloud Messaging, HTTP v1 (docs/push.md#fcm).

A service account signs an assertion (RS256) for an access token of an hour, which is renewed in good time by one
request for all who wait. A private notification is a data message that wakes the app; any other is a notification
that Android shows by itself, with the data beside it.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import urlencode

import jwt
import orjson
from msgspec import Struct

from mim.push.http import Http, HttpAnswer, UnreachableError
from mim.push.notice import ACCEPTED, Answer, Notice, Style, Verdict
from mim.push.texts import fit

URL: Final = "https://fcm.googleapis.com"
SCOPE: Final = "https://www.googleapis.com/auth/firebase.messaging"
GRANT: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
PAYLOAD_LIMIT: Final = 4000  # of the 4096 bytes that keys and values of notification and data may have together
EARLY_S: Final = 300.0  # before its end an access token is renewed

# https://firebase.google.com/docs/reference/fcm/rest/v1/ErrorCode
VERDICTS: Final = {
    "UNREGISTERED": Verdict.GONE,
    "SENDER_ID_MISMATCH": Verdict.GONE,
    "INVALID_ARGUMENT": Verdict.REFUSED,
    "QUOTA_EXCEEDED": Verdict.LATER,
    "UNAVAILABLE": Verdict.TROUBLE,
    "INTERNAL": Verdict.TROUBLE,
    "THIRD_PARTY_AUTH_ERROR": Verdict.TROUBLE,
    "UNAUTHENTICATED": Verdict.TROUBLE,
    "PERMISSION_DENIED": Verdict.TROUBLE,
}


class ServiceAccount(Struct, frozen=True):
    """The file that Google gives for a service account, as far as it matters here."""

    project_id: str
    private_key_id: str
    private_key: str
    client_email: str
    token_uri: str = "https://oauth2.googleapis.com/token"  # noqa: S105 - an address


class AccessToken:
    """The present access token of a service account. Asked for once, however many wait for it."""

    def __init__(self, http: Http, account: ServiceAccount, now: Callable[[], float] = time.time) -> None:
        self._http = http
        self._account = account
        self._now = now
        self._token = ""
        self._until = 0.0
        self._asking = asyncio.Lock()

    async def get(self) -> str:
        """A token that is good for some minutes at least. Raises UnreachableError when there is none to be had."""
        async with self._asking:
            if self._now() >= self._until - EARLY_S:
                await self._renew()
            return self._token

    def forget(self) -> None:
        """Ask for another at the next use: Google refuses this one."""
        self._until = 0.0

    async def _renew(self) -> None:
        now = int(self._now())
        account = self._account
        claims = {
            "iss": account.client_email, "scope": SCOPE, "aud": account.token_uri, "iat": now, "exp": now + 3600,
        }  # fmt: skip
        headers = {"kid": account.private_key_id}
        assertion = jwt.encode(claims, account.private_key, algorithm="RS256", headers=headers)
        body = urlencode({"grant_type": GRANT, "assertion": assertion}).encode()
        form = {"content-type": "application/x-www-form-urlencoded"}
        answer = await self._http.post(account.token_uri, form, body)
        token, life = answer.json().get("access_token"), answer.json().get("expires_in")
        if answer.status != 200 or not isinstance(token, str) or not isinstance(life, int):
            raise UnreachableError("oauth")
        self._token = token
        self._until = now + max(life, EARLY_S + 60)


class Fcm:
    """Implements :class:`mim.push.notice.Provider`."""

    name = "fcm"
    platforms = ("fcm",)

    def __init__(
        self, http: Http, account: ServiceAccount, channel: str, url: str | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        self._http = http
        self._url = f"{url or URL}/v1/projects/{account.project_id}/messages:send"
        self._channel = channel
        self._now = now
        self._access = AccessToken(http, account, now)

    async def send(self, notice: Notice) -> Answer:
        try:
            headers = {"authorization": f"Bearer {await self._access.get()}", "content-type": "application/json"}
            answer = await self._http.post(self._url, headers, payload(notice, self._channel, self._now()))
        except UnreachableError as exc:
            return Answer(Verdict.TROUBLE, str(exc))
        judged = judge(answer)
        if judged.reason == "UNAUTHENTICATED":
            self._access.forget()
        return judged

    async def close(self) -> None:
        await self._http.close()


def payload(notice: Notice, channel: str, now: float) -> bytes:
    """The JSON of a message, its text cut so that notification and data stay within PAYLOAD_LIMIT."""
    data = {
        "chat": str(notice.chat), "seq": str(notice.seq), "style": notice.style.value, "badge": str(notice.badge),
        "count": str(notice.count),
    }  # fmt: skip
    if not notice.private:
        data["sender"] = str(notice.sender)
    quiet = notice.style in {Style.QUIET, Style.WITHDRAW}
    android: dict[str, Any] = {
        "collapse_key": notice.collapse,
        "priority": "NORMAL" if quiet else "HIGH",
        "ttl": f"{notice.ttl_s(now)}s",
    }
    message: dict[str, Any] = {"token": notice.token, "data": data, "android": android}
    if notice.private or notice.style is Style.CALL:  # the app shows what it wants, or rings
        if not notice.private:
            data.update(title=notice.title, body=notice.body)
        return orjson.dumps({"message": message})

    def size(body: str) -> int:
        return len(orjson.dumps([data, notice.title, body, notice.collapse, channel]))

    shown = {"body": fit(notice.body, PAYLOAD_LIMIT, size), **({"title": notice.title} if notice.title else {})}
    message["notification"] = shown
    android["notification"] = {
        "channel_id": channel, "tag": notice.collapse, "notification_count": min(notice.badge, 2**31 - 1),
        "notification_priority": "PRIORITY_LOW" if quiet else "PRIORITY_HIGH",
        **({} if quiet else {"default_sound": True}),
    }  # fmt: skip
    return orjson.dumps({"message": message})


def judge(answer: HttpAnswer) -> Answer:
    """What Google's answer means. The word of FcmError's details counts before the status of the call."""
    if answer.status == 200:
        return ACCEPTED
    error = answer.json().get("error")
    word, bad_token = _words(error if isinstance(error, dict) else {})
    if word == "INVALID_ARGUMENT" and bad_token:
        return Answer(Verdict.GONE, "INVALID_TOKEN")
    known = VERDICTS.get(word)
    if known is None:
        known = Verdict.TROUBLE if answer.status >= 500 or answer.status in {401, 403} else Verdict.REFUSED
        if answer.status in {404, 429}:
            known = Verdict.GONE if answer.status == 404 and word == "NOT_FOUND" else Verdict.LATER
        word = word if word == "NOT_FOUND" else str(answer.status)
    return Answer(known, word, answer.retry_after_s)


def _words(error: dict[str, Any]) -> tuple[str, bool]:
    """(error word, whether it is about the token)."""
    word, bad_token = str(error.get("status", "")), False
    details = error.get("details")
    for detail in details if isinstance(details, list) else []:
        if isinstance(detail, dict):
            word = str(detail.get("errorCode", word))
            violations = detail.get("fieldViolations")
            bad_token |= isinstance(violations, list) and any(
                isinstance(one, dict) and one.get("field") == "message.token" for one in violations
            )
    return word, bad_token
