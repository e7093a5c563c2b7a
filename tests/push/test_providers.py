"""Every provider against its far end: what it sends is accepted, and each documented answer is understood."""

import asyncio
import json
import re
import ssl
import time
from collections.abc import AsyncIterator
from typing import Any, cast

import msgspec
import pytest
import pytest_asyncio
import trustme
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from mim.clock import SystemClock
from mim.config import Settings
from mim.push.http import Http
from mim.push.notice import Answer, Notice, Provider, Style, Verdict
from mim.push.providers.apns import Apns
from mim.push.providers.webpush import Admission, encrypt
from mim.push.service import Providers
from mim.push.vapid import b64, private_key, unb64
from mim.store.db import Pool
from tests.push.conftest import World, server_context
from tests.push.ends import ApnsEnd, google_error, refusal
from tests.push.h2server import H2Server, Response

VAPID = "x" * 42 + "w"
LONG = "점심 같이 먹을래요? 👩‍👩‍👧‍👦🇰🇷 " * 400


def notice(platform: str, token: str, **changes: Any) -> Notice:
    """A notification as the renderer makes it."""
    plain = Notice(
        id=7, attempt=1, device=3, user=2, platform=platform, token=token, voip=None, style=Style.ALERT, private=False,
        title="민아", body="점심 같이 먹을래요?", chat=5, seq=812, sender=42, count=1, badge=3, loud=False,
        collapse="chat-5", expires=time.time() + 3600,
    )  # fmt: skip
    return msgspec.structs.replace(plain, **changes)


@pytest_asyncio.fixture
async def providers(world: World) -> AsyncIterator[dict[str, Provider]]:
    """By platform, set up for the far ends."""
    made = Providers(Settings(**world.settings, push_vapid_key=VAPID), cast(Pool, None), SystemClock())
    world.webpush.server_key = await made.vapid.public_key()
    yield {platform: one for one in made.all for platform in one.platforms}
    for one in made.all:
        await one.close()


def token_of(world: World, platform: str) -> str:
    """A token that the platform's end knows."""
    return world.webpush.subscribe("page") if platform == "webpush" else "abc123"


@pytest.mark.parametrize("platform", ["apns", "fcm", "webpush", "webhook"])
async def test_a_notification_arrives(world: World, providers: dict[str, Provider], platform: str) -> None:
    assert await providers[platform].send(notice(platform, token_of(world, platform))) == Answer(Verdict.ACCEPTED)
    [got] = world.ends[platform].got
    text = json.dumps(got.content, ensure_ascii=False)
    assert "점심 같이 먹을래요?" in text
    assert "민아" in text


@pytest.mark.parametrize("style", list(Style))
@pytest.mark.parametrize("private", [False, True])
@pytest.mark.parametrize("platform", ["apns", "fcm", "webpush", "webhook"])
async def test_every_style_is_accepted_and_a_private_one_names_nobody(
    world: World, providers: dict[str, Provider], platform: str, style: Style, private: bool
) -> None:
    body = "새 메시지가 있습니다" if private else "비밀"
    title = "" if private else "민아"
    sent = notice(
        platform, token_of(world, platform), style=style, private=private, title=title, body=body, sender=42_000_042
    )
    assert (await providers[platform].send(sent)).verdict is Verdict.ACCEPTED, world.ends[platform].refused
    [got] = world.ends[platform].got
    text = json.dumps(got.content, ensure_ascii=False)
    if private:
        assert "42000042" not in text


@pytest.mark.parametrize("platform", ["apns", "fcm", "webpush", "webhook"])
async def test_a_long_text_is_cut_at_a_character(world: World, providers: dict[str, Provider], platform: str) -> None:
    sent = notice(platform, token_of(world, platform), body=LONG)
    assert (await providers[platform].send(sent)).verdict is Verdict.ACCEPTED, world.ends[platform].refused
    text = json.dumps(world.ends[platform].got[0].content, ensure_ascii=False)
    shown = re.search(r'"([^"]*점심 같이[^"]*…)"', text)
    assert shown is not None
    assert len(shown[1].encode()) > 3000, "the limit of 4 KiB is made use of"
    assert LONG.startswith(shown[1].removesuffix("…"))
    assert not re.search("[\u200d\U0001f1f0]…", shown[1])


APNS_ANSWERS = [
    (400, "BadCollapseId", Verdict.REFUSED), (400, "BadDeviceToken", Verdict.GONE),
    (400, "BadExpirationDate", Verdict.REFUSED), (400, "BadMessageId", Verdict.REFUSED),
    (400, "BadPriority", Verdict.REFUSED), (400, "BadTopic", Verdict.TROUBLE),
    (400, "DeviceTokenNotForTopic", Verdict.GONE), (400, "DuplicateHeaders", Verdict.REFUSED),
    (400, "IdleTimeout", Verdict.TROUBLE), (400, "InvalidPushType", Verdict.REFUSED),
    (400, "MissingDeviceToken", Verdict.REFUSED), (400, "MissingTopic", Verdict.TROUBLE),
    (400, "PayloadEmpty", Verdict.REFUSED), (400, "TopicDisallowed", Verdict.TROUBLE),
    (403, "BadCertificate", Verdict.TROUBLE), (403, "BadCertificateEnvironment", Verdict.TROUBLE),
    (403, "BadEnvironmentKeyIdInToken", Verdict.TROUBLE), (403, "ExpiredProviderToken", Verdict.TROUBLE),
    (403, "Forbidden", Verdict.TROUBLE), (403, "InvalidProviderToken", Verdict.TROUBLE),
    (403, "MissingProviderToken", Verdict.TROUBLE), (403, "UnrelatedKeyIdInToken", Verdict.TROUBLE),
    (404, "BadPath", Verdict.REFUSED), (405, "MethodNotAllowed", Verdict.REFUSED),
    (410, "ExpiredToken", Verdict.GONE), (410, "Unregistered", Verdict.GONE),
    (413, "PayloadTooLarge", Verdict.REFUSED), (429, "TooManyProviderTokenUpdates", Verdict.TROUBLE),
    (429, "TooManyRequests", Verdict.LATER), (500, "InternalServerError", Verdict.TROUBLE),
    (503, "ServiceUnavailable", Verdict.TROUBLE), (503, "Shutdown", Verdict.TROUBLE),
]  # fmt: skip


@pytest.mark.parametrize(("status", "reason", "verdict"), APNS_ANSWERS)
async def test_apns_answers(
    world: World, providers: dict[str, Provider], status: int, reason: str, verdict: Verdict
) -> None:
    world.apns.answers["abc123"] = refusal(status, reason)
    assert await providers["apns"].send(notice("apns", "abc123")) == Answer(verdict, reason)


FCM_ANSWERS = [
    (google_error(400, "INVALID_ARGUMENT", "INVALID_ARGUMENT"), Verdict.REFUSED, "INVALID_ARGUMENT"),
    (google_error(400, "INVALID_ARGUMENT", "INVALID_ARGUMENT", fieldViolations=[{"field": "message.token"}]),
     Verdict.GONE, "INVALID_TOKEN"),
    (google_error(404, "NOT_FOUND", "UNREGISTERED"), Verdict.GONE, "UNREGISTERED"),
    (google_error(403, "PERMISSION_DENIED", "SENDER_ID_MISMATCH"), Verdict.GONE, "SENDER_ID_MISMATCH"),
    (google_error(403, "PERMISSION_DENIED"), Verdict.TROUBLE, "PERMISSION_DENIED"),
    (google_error(429, "RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED"), Verdict.LATER, "QUOTA_EXCEEDED"),
    (google_error(503, "UNAVAILABLE", "UNAVAILABLE"), Verdict.TROUBLE, "UNAVAILABLE"),
    (google_error(500, "INTERNAL", "INTERNAL"), Verdict.TROUBLE, "INTERNAL"),
    (google_error(401, "UNAUTHENTICATED", "THIRD_PARTY_AUTH_ERROR"), Verdict.TROUBLE, "THIRD_PARTY_AUTH_ERROR"),
    (Response(502, b"<html>"), Verdict.TROUBLE, "502"),
]  # fmt: skip


@pytest.mark.parametrize(("answer", "verdict", "reason"), FCM_ANSWERS, ids=lambda value: str(value)[:30])
async def test_fcm_answers(
    world: World, providers: dict[str, Provider], answer: Response, verdict: Verdict, reason: str
) -> None:
    world.fcm.answers["abc123"] = answer
    assert await providers["fcm"].send(notice("fcm", "abc123")) == Answer(verdict, reason)


async def test_fcm_asks_for_one_access_token_and_for_another_when_it_is_refused(
    world: World, providers: dict[str, Provider]
) -> None:
    for _ in range(3):
        assert (await providers["fcm"].send(notice("fcm", "abc123"))).verdict is Verdict.ACCEPTED
    assert world.fcm.issued == 1
    world.fcm.valid.clear()
    assert await providers["fcm"].send(notice("fcm", "abc123")) == Answer(Verdict.TROUBLE, "UNAUTHENTICATED")
    assert (await providers["fcm"].send(notice("fcm", "abc123"))).verdict is Verdict.ACCEPTED
    assert world.fcm.issued == 2


WEBPUSH_ANSWERS = [
    (Response(404), Verdict.GONE, "404"), (Response(410), Verdict.GONE, "410"),
    (refusal(403, "VapidPkHashMismatch"), Verdict.GONE, "VapidPkHashMismatch"),
    (refusal(403, "BadJwtToken"), Verdict.AWAY, "BadJwtToken"), (Response(400), Verdict.REFUSED, "400"),
    (Response(413), Verdict.REFUSED, "413"), (Response(429, headers={"retry-after": "7"}), Verdict.LATER, "429"),
    (Response(500), Verdict.AWAY, "500"), (Response(503), Verdict.AWAY, "503"),
    (Response(302, headers={"location": "https://localhost/x"}), Verdict.REFUSED, "302"),
]  # fmt: skip


@pytest.mark.parametrize(("answer", "verdict", "reason"), WEBPUSH_ANSWERS, ids=lambda value: str(value)[:30])
async def test_webpush_answers(
    world: World, providers: dict[str, Provider], answer: Response, verdict: Verdict, reason: str
) -> None:
    token = world.webpush.subscribe("page")
    world.webpush.answers["page"] = answer
    got = await providers["webpush"].send(notice("webpush", token))
    assert (got.verdict, got.reason) == (verdict, reason)
    if answer.status == 429:
        assert got.retry_after_s == 7


@pytest.mark.parametrize(
    ("status", "verdict"),
    [(200, Verdict.ACCEPTED), (400, Verdict.REFUSED), (401, Verdict.TROUBLE), (404, Verdict.GONE),
     (410, Verdict.GONE), (429, Verdict.LATER), (500, Verdict.TROUBLE), (302, Verdict.REFUSED)],
)  # fmt: skip
async def test_webhook_answers(world: World, providers: dict[str, Provider], status: int, verdict: Verdict) -> None:
    world.gateway.answers["abc123"] = Response(status)
    assert (await providers["webhook"].send(notice("webhook", "abc123"))).verdict is verdict


@pytest.mark.parametrize("platform", ["apns", "fcm", "webhook"])
@pytest.mark.parametrize("answer", [Response(cut=True), Response(hang=True)], ids=["cut", "hang"])
async def test_no_answer_is_trouble_of_the_provider(
    world: World, providers: dict[str, Provider], platform: str, answer: Response
) -> None:
    assert (await providers[platform].send(notice(platform, "abc123"))).verdict is Verdict.ACCEPTED
    world.ends[platform].answers["abc123"] = answer
    got = await providers[platform].send(notice(platform, "abc123"))
    assert got == Answer(Verdict.TROUBLE, "timeout" if answer.hang else "network")
    del world.ends[platform].answers["abc123"]
    assert (await providers[platform].send(notice(platform, "abc123"))).verdict is Verdict.ACCEPTED


async def test_a_burst_to_apns_shares_one_connection(world: World, providers: dict[str, Provider]) -> None:
    sent = [providers["apns"].send(notice("apns", f"{number:x}")) for number in range(1, 301)]
    assert {answer.verdict for answer in await asyncio.gather(*sent)} == {Verdict.ACCEPTED}
    assert world.servers["apns"].connections == 1
    assert len(world.apns.issued) == 1, "one provider token serves all"


async def test_apns_takes_a_certificate_instead_of_a_token(authority: trustme.CA) -> None:
    end = ApnsEnd()
    context = server_context(authority)
    context.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(context)
    server = H2Server(end.handle, context)
    await server.start()
    ca = authority.cert_pem.bytes()
    identity = authority.issue_cert("mim").private_key_and_cert_chain_pem.bytes()
    able = Apns(Http(2.0, only_http2=True, ca=ca, identity=identity), end.topic, None, server.url)
    stranger = Apns(Http(2.0, only_http2=True, ca=ca), end.topic, None, server.url)
    try:
        assert (await able.send(notice("apns", "abc123"))).verdict is Verdict.ACCEPTED
        assert (await stranger.send(notice("apns", "abc123"))).verdict is Verdict.TROUBLE
    finally:
        await able.close()
        await stranger.close()
        await server.close()
    assert len(end.got) == 1


async def test_a_call_goes_to_the_voip_token(world: World, providers: dict[str, Provider]) -> None:
    call = notice("apns", "abc123", style=Style.CALL, voip="def456")
    assert (await providers["apns"].send(call)).verdict is Verdict.ACCEPTED
    [got] = world.apns.got
    assert (got.token, got.headers["apns-push-type"]) == ("def456", "voip")
    world.apns.answers["def456"] = refusal(410, "Unregistered")
    assert (await providers["apns"].send(call)).verdict is Verdict.REFUSED, "the other token is not dead"


async def test_apns_never_puts_a_strange_token_into_the_path(world: World, providers: dict[str, Provider]) -> None:
    got = await providers["apns"].send(notice("apns", "../../x?y"))
    assert got == Answer(Verdict.GONE, "BadDeviceToken")
    assert not world.apns.tries


async def test_webpush_goes_only_where_it_is_admitted(world: World, providers: dict[str, Provider]) -> None:
    subscription = json.loads(world.webpush.subscribe("page"))
    subscription["endpoint"] = "https://10.0.0.1/push/page"
    got = await providers["webpush"].send(notice("webpush", json.dumps(subscription)))
    assert got == Answer(Verdict.GONE, "not_admitted")


@pytest.mark.parametrize(
    ("endpoint", "hosts", "dev", "admitted"),
    [
        ("https://fcm.googleapis.com/fcm/send/x", "fcm.googleapis.com", False, True),
        ("https://updates.push.services.mozilla.com/wpush/v2/x", "*.push.services.mozilla.com", False, True),
        ("https://fcm.googleapis.com:8443/x", "fcm.googleapis.com", False, False),
        ("http://fcm.googleapis.com/x", "fcm.googleapis.com", True, False),
        ("https://evil.example/fcm.googleapis.com", "fcm.googleapis.com", False, False),
        ("https://fcm.googleapis.com@evil.example/", "fcm.googleapis.com,evil.example", False, False),
        ("https://localhost:8443/x", "fcm.googleapis.com", False, False),
        ("https://localhost:8443/x", "fcm.googleapis.com", True, True),
        ("https://127.0.0.1/x", "*", False, False),
        ("https://[::1]/x", "*", False, False),
        ("https://[::ffff:10.0.0.1]/x", "*", False, False),
        ("https://169.254.169.254/latest", "*", False, False),
        ("https://192.168.1.1/x", "*", False, False),
        ("https://8.8.8.8/x", "*", False, True),
        ("https://[broken", "*", False, False),
        ("https://x:99999/", "*", False, False),
        ("ftp://8.8.8.8/x", "*", False, False),
    ],
)
async def test_admission(endpoint: str, hosts: str, dev: bool, admitted: bool) -> None:
    assert await Admission(hosts, dev).admits(endpoint) is admitted


def test_web_push_encryption_is_that_of_rfc_8291_appendix_a() -> None:
    plain = b"When I grow up, I want to be a watermelon"
    page = ec.EllipticCurvePublicKey.from_encoded_point(
        ec.SECP256R1(),
        unb64("BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4"),
    )
    own = private_key(unb64("yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw"))
    sealed = encrypt(plain, page, unb64("BTBZMqHH6r4Tts7J_aSIgg"), own, unb64("DGv6ra1nlYgDCS1FRnbzlw"))
    assert b64(sealed) == (
        "DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBr"
        "u3jl7A_yl95bQpu6cVPTpK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qulcy4a-fN"
    )
    assert own.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)[0] == 4
