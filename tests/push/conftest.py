"""Far ends that listen on loopback, and a node that is set up to use them."""

import base64
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import trustme
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.harness import RunningServer, running
from tests.push.ends import ApnsEnd, End, FcmEnd, GatewayEnd, WebPushEnd
from tests.push.h2server import H2Server
from tests.push.people import push_of

RATES = ("request_rate", "request_burst", "send_rate", "send_burst")
WEBHOOK_SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()


def pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@dataclass
class World:
    """The far ends, and the settings by which a server finds them."""

    apns: ApnsEnd
    fcm: FcmEnd
    webpush: WebPushEnd
    gateway: GatewayEnd
    servers: dict[str, H2Server]
    settings: dict[str, Any]

    @property
    def ends(self) -> dict[str, End]:
        """By platform."""
        return {"apns": self.apns, "fcm": self.fcm, "webpush": self.webpush, "webhook": self.gateway}


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    """Who signs the certificates of all ends."""
    return trustme.CA()


def server_context(authority: trustme.CA) -> ssl.SSLContext:
    """TLS of an end."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    return context


def new_keys() -> dict[str, Any]:
    """Private keys of a deployment; the ends know the public halves."""
    return {"apns": ec.generate_private_key(ec.SECP256R1()), "fcm": rsa.generate_private_key(65537, 2048)}


@pytest.fixture(scope="session")
def keys() -> dict[str, Any]:
    """Those of all tests."""
    return new_keys()


@asynccontextmanager
async def far_ends(folder: Path, authority: trustme.CA, keys: dict[str, Any]) -> AsyncIterator[World]:
    """All ends, listening; `folder` takes the files that settings name."""
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    (folder / "apns.p8").write_bytes(pem(keys["apns"]))
    apns = ApnsEnd(public_key=keys["apns"].public_key())
    fcm = FcmEnd(public_key=keys["fcm"].public_key())
    webpush = WebPushEnd()
    gateway = GatewayEnd(secret=WEBHOOK_SECRET)
    async with AsyncExitStack() as stack:
        servers = {}
        for name, end in (("apns", apns), ("fcm", fcm), ("webpush", webpush), ("webhook", gateway)):
            servers[name] = H2Server(end.handle, server_context(authority))
            await servers[name].start()
            stack.push_async_callback(servers[name].close)
        fcm.url, webpush.url = servers["fcm"].url, servers["webpush"].url
        account = {
            "type": "service_account", "project_id": fcm.project, "private_key_id": "k1",
            "private_key": pem(keys["fcm"]).decode(), "client_email": fcm.email, "token_uri": f"{fcm.url}/token",
        }  # fmt: skip
        (folder / "account.json").write_text(json.dumps(account))
        settings = {
            "dev": True, "push_ca": folder / "ca.pem", "push_apns_topic": apns.topic,
            "push_apns_key": folder / "apns.p8", "push_apns_key_id": apns.key_id,
            "push_apns_team_id": apns.team_id, "push_apns_url": servers["apns"].url,
            "push_fcm_credentials": folder / "account.json", "push_fcm_url": fcm.url,
            "push_webpush_contact": "mailto:operator@example.com", "push_webhook_url": f"{servers['webhook'].url}/hook",
            "push_webhook_secret": WEBHOOK_SECRET, "push_timeout_s": 2.0, "push_lease_s": 3.0,
            "push_chat_gap_s": 0.3, "push_reading_grace_s": 0.3,
        }  # fmt: skip
        yield World(apns, fcm, webpush, gateway, servers, settings)


@pytest_asyncio.fixture
async def world(tmp_path: Path, authority: trustme.CA, keys: dict[str, Any]) -> AsyncIterator[World]:
    """All ends, listening."""
    async with far_ends(tmp_path, authority, keys) as world:
        yield world


@pytest_asyncio.fixture
async def server(database_url: str, world: World) -> AsyncIterator[RunningServer]:
    """A node whose providers are the far ends."""
    rates: dict[str, Any] = dict.fromkeys(RATES, 1_000_000)
    async with running(database_url, **world.settings, **rates) as server:
        world.webpush.server_key = await push_of(server).public_key()
        yield server
