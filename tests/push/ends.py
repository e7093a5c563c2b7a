"""The far ends: APNs, FCM with its OAuth endpoint, a Web Push service with its pages, and a push gateway.

Each is written from its provider's documents, checks what it gets as the real one does, and answers with the documented
errors. What was accepted is in `got`. Nothing here uses the code under test: Web Push is decrypted with http_ece and
verified with py_vapid, webhooks with standardwebhooks, tokens with PyJWT against the public halves of keys.
"""

import base64
import json
import re
import time
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

import http_ece
import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from py_vapid import Vapid02
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from tests.push.h2server import Request, Response


@dataclass
class Got:
    """A notification that an end accepted."""

    token: str
    headers: dict[str, str]
    content: dict[str, Any]


@dataclass
class End:
    """What all ends have. `answers` overrules: by token, a response or a function that makes one for each try."""

    got: list[Got] = field(default_factory=list)
    tries: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    answers: dict[str, Response | Callable[[], Response | None]] = field(default_factory=dict)
    down: Response | None = None  # says this to everything

    def overruled(self, token: str) -> Response | None:
        self.tries[token] += 1
        if self.down is not None:
            return self.down
        answer = self.answers.get(token)
        return answer() if callable(answer) else answer

    def tokens(self) -> Counter[str]:
        """How often each token got something."""
        return Counter(got.token for got in self.got)


def refusal(status: int, reason: str, **headers: str) -> Response:
    """APNs' way of saying no; Apple's Web Push does it so too."""
    return Response(status, json.dumps({"reason": reason}).encode(), {"content-type": "application/json", **headers})


@dataclass
class ApnsEnd(End):
    """https://developer.apple.com/documentation/usernotifications/sending-notification-requests-to-apns"""

    topic: str = "com.example.mim"
    key_id: str = "KEY1234567"
    team_id: str = "TEAM123456"
    public_key: ec.EllipticCurvePublicKey | None = None  # None: certificates authenticate
    issued: set[str] = field(default_factory=set)

    async def handle(self, request: Request) -> Response:
        path = re.fullmatch(r"/3/device/([0-9a-f]+)", request.path)
        if path is None:
            return refusal(404, "BadPath")
        answer = self.overruled(path[1]) or self._wrong(request)
        if answer is not None:
            self.refused[json.loads(answer.body or b"{}").get("reason", str(answer.status))] += 1
            return answer
        self.got.append(Got(path[1], request.headers, json.loads(request.body)))
        return Response(200, headers={"apns-id": request.headers["apns-id"]})

    def _wrong(self, request: Request) -> Response | None:
        headers = request.headers
        if (said := self._unauthorized(headers)) is not None:
            return said
        kind = headers.get("apns-push-type")
        wanted = f"{self.topic}.voip" if kind == "voip" else self.topic
        if kind not in {"alert", "background", "voip"}:
            return refusal(400, "InvalidPushType")
        if headers.get("apns-topic") != wanted:
            return refusal(400, "TopicDisallowed" if "apns-topic" in headers else "MissingTopic")
        if headers.get("apns-priority") not in {"5", "10"} or (kind, headers["apns-priority"]) == ("background", "10"):
            return refusal(400, "BadPriority")
        if not headers.get("apns-expiration", "0").isdigit():
            return refusal(400, "BadExpirationDate")
        if len(headers.get("apns-collapse-id", "").encode()) > 64:
            return refusal(400, "BadCollapseId")
        if str(uuid.UUID(headers["apns-id"])) != headers["apns-id"]:
            return refusal(400, "BadMessageId")
        if not request.body:
            return refusal(400, "PayloadEmpty")
        if len(request.body) > (5120 if kind == "voip" else 4096):
            return refusal(413, "PayloadTooLarge")
        return None

    def _unauthorized(self, headers: dict[str, str]) -> Response | None:
        if self.public_key is None:
            return None
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme != "bearer":
            return refusal(403, "MissingProviderToken")
        try:
            head = jwt.get_unverified_header(token)
            claims = jwt.decode(token, self.public_key, algorithms=["ES256"], options={"verify_iat": False})
        except jwt.InvalidTokenError:
            return refusal(403, "InvalidProviderToken")
        if head.get("kid") != self.key_id or claims.get("iss") != self.team_id:
            return refusal(403, "InvalidProviderToken")
        if not -60 < time.time() - claims["iat"] < 3600:
            return refusal(403, "ExpiredProviderToken")
        self.issued.add(token)
        return None


def google_error(status: int, word: str, code: str | None = None, **detail: Any) -> Response:
    """An error of Google's APIs; `code` is FcmError's."""
    details: list[dict[str, Any]] = []
    if code is not None:
        details.append({"@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError", "errorCode": code})
    if detail:
        details.append({"@type": "type.googleapis.com/google.rpc.BadRequest", **detail})
    error = {"error": {"code": status, "message": "no", "status": word, "details": details}}
    return Response(status, json.dumps(error).encode(), {"content-type": "application/json"})


@dataclass
class FcmEnd(End):
    """https://firebase.google.com/docs/reference/fcm/rest/v1/projects.messages, and OAuth for service accounts."""

    project: str = "mim-test"
    email: str = "mim@mim-test.iam.gserviceaccount.com"
    url: str = ""
    public_key: Any = None
    valid: set[str] = field(default_factory=set)
    issued: int = 0

    async def handle(self, request: Request) -> Response:
        if request.path == "/token":
            return self._token(request)
        if request.path != f"/v1/projects/{self.project}/messages:send":
            return google_error(404, "NOT_FOUND")
        message = json.loads(request.body)["message"]
        if self.down is not None:
            self.tries[message["token"]] += 1
            return self.down
        if request.headers.get("authorization", "").removeprefix("Bearer ") not in self.valid:
            return google_error(401, "UNAUTHENTICATED")
        answer = self.overruled(message["token"])
        if answer is None and (field_name := self._wrong(message)) is not None:
            answer = google_error(400, "INVALID_ARGUMENT", "INVALID_ARGUMENT", fieldViolations=[{"field": field_name}])
        if answer is not None:
            self.refused[str(answer.status)] += 1
            return answer
        self.got.append(Got(message["token"], request.headers, message))
        return Response(200, json.dumps({"name": f"projects/{self.project}/messages/{len(self.got)}"}).encode())

    def _token(self, request: Request) -> Response:
        form = parse_qs(request.body.decode())
        if form["grant_type"] != ["urn:ietf:params:oauth:grant-type:jwt-bearer"]:
            return Response(400, b'{"error": "unsupported_grant_type"}')
        try:
            claims = jwt.decode(
                form["assertion"][0], self.public_key, algorithms=["RS256"], audience=f"{self.url}/token",
                options={"require": ["iss", "scope", "aud", "iat", "exp"]},
            )  # fmt: skip
        except jwt.InvalidTokenError:
            return Response(400, b'{"error": "invalid_grant"}')
        if claims["iss"] != self.email or claims["exp"] - claims["iat"] > 3600:
            return Response(400, b'{"error": "invalid_grant"}')
        self.issued += 1
        token = f"ya29.{self.issued}"
        self.valid.add(token)
        return Response(200, json.dumps({"access_token": token, "expires_in": 3599, "token_type": "Bearer"}).encode())

    def _wrong(self, message: dict[str, Any]) -> str | None:
        """The field that Google would complain about."""
        android = message.get("android", {})
        if set(message) - {"token", "data", "notification", "android"}:
            return "message"
        if not all(isinstance(value, str) for value in message.get("data", {}).values()):
            return "message.data"
        if not re.fullmatch(r"\d+s", android.get("ttl", "0s")) or int(android["ttl"][:-1]) > 4 * 7 * 86400:
            return "message.android.ttl"
        if android.get("priority") not in {"NORMAL", "HIGH"}:
            return "message.android.priority"
        told = json.dumps([message.get("data"), message.get("notification")], ensure_ascii=False)
        return "message" if len(told.encode()) > 4096 else None


def unpadded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@dataclass
class Page:
    """A browser's page that subscribed: its keys never leave it."""

    key: ec.EllipticCurvePrivateKey
    auth: bytes

    def subscription(self, endpoint: str) -> str:
        point = self.key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        keys = {"p256dh": unpadded(point), "auth": unpadded(self.auth)}
        return json.dumps({"endpoint": endpoint, "expirationTime": None, "keys": keys})


@dataclass
class WebPushEnd(End):
    """A push service, RFC 8030 and 8292, together with the pages, which decrypt what it brings (RFC 8291)."""

    url: str = ""
    server_key: str = ""  # the applicationServerKey that pages subscribed with
    pages: dict[str, Page] = field(default_factory=dict)

    def subscribe(self, name: str) -> str:
        """A new page's subscription."""
        self.pages[name] = Page(ec.generate_private_key(ec.SECP256R1()), uuid.uuid4().bytes)
        return self.pages[name].subscription(f"{self.url}/push/{name}")

    async def handle(self, request: Request) -> Response:
        name = request.path.removeprefix("/push/")
        answer = self.overruled(name) or self._wrong(request, name)
        if answer is not None:
            self.refused[str(answer.status)] += 1
            return answer
        page = self.pages[name]
        plain = http_ece.decrypt(bytes(request.body), private_key=page.key, auth_secret=page.auth, version="aes128gcm")
        self.got.append(Got(name, request.headers, json.loads(plain)))
        return Response(201, headers={"location": f"{self.url}/message/{len(self.got)}"})

    def _wrong(self, request: Request, name: str) -> Response | None:
        headers = request.headers
        if name not in self.pages:
            return Response(404)
        if not headers.get("ttl", "").isdigit() or headers.get("content-encoding") != "aes128gcm":
            return Response(400)
        if headers.get("urgency", "normal") not in {"very-low", "low", "normal", "high"}:
            return Response(400)
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,32}", headers.get("topic", "x")):
            return Response(400)
        if len(request.body) > 4096:
            return Response(413)
        return self._unauthorized(headers.get("authorization", ""))

    def _unauthorized(self, header: str) -> Response | None:
        found = re.fullmatch(r"vapid t=([^,]+), k=([\w-]+)", header)
        if found is None or not Vapid02.verify(header.replace(", ", ",")):
            return Response(401)
        if found[2] != self.server_key:
            return refusal(403, "VapidPkHashMismatch")
        claims = jwt.decode(found[1], options={"verify_signature": False})
        if claims["aud"] != self.url or not time.time() < claims["exp"] <= time.time() + 86400:
            return refusal(403, "BadJwtToken")
        return None if claims["sub"].startswith(("mailto:", "https:")) else refusal(403, "BadJwtToken")


@dataclass
class GatewayEnd(End):
    """A push gateway that checks signatures as https://www.standardwebhooks.com has it."""

    secret: str = ""

    async def handle(self, request: Request) -> Response:
        try:
            content = Webhook(self.secret).verify(bytes(request.body), request.headers)
        except WebhookVerificationError:
            self.refused["signature"] += 1
            return Response(401)
        answer = self.overruled(content["token"])
        if answer is not None:
            self.refused[str(answer.status)] += 1
            return answer
        self.got.append(Got(content["token"], request.headers, content))
        return Response(204)
