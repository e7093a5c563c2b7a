"""A far end for notifications that is faster than whoever sends them: nghttpd, with a file for every path that is
posted to and a certificate of its own authority.
"""

import base64
import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import trustme
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from loadtest.server import ServerError

TOKEN: Final = "a" * 64
PROJECT: Final = "load"
START_S: Final = 10.0


class FarEnd:
    """Where it listens, and the settings by which mim sends there."""

    def __init__(self, folder: Path, port: int) -> None:
        self.url = f"https://localhost:{port}"
        self.ca = folder / "ca.pem"
        self._folder = folder
        self._page = ec.generate_private_key(ec.SECP256R1())

    @property
    def settings(self) -> dict[str, Any]:
        """Every provider set up for this end."""
        folder = self._folder
        return {
            "dev": True, "push_ca": str(self.ca), "push_apns_topic": "com.example.mim",
            "push_apns_key": str(folder / "apns.p8"), "push_apns_key_id": "KEY1234567",
            "push_apns_team_id": "TEAM123456", "push_apns_url": self.url,
            "push_fcm_credentials": str(folder / "account.json"), "push_fcm_url": self.url,
            "push_webpush_contact": "mailto:operator@example.com", "push_webhook_url": f"{self.url}/hook",
            "push_webhook_secret": "a secret of this load test",
        }  # fmt: skip

    def token(self, platform: str) -> str:
        """A token that this end takes."""
        if platform != "webpush":
            return TOKEN
        point = self._page.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        keys = {"p256dh": _unpadded(point), "auth": _unpadded(bytes(16))}
        return json.dumps({"endpoint": f"{self.url}/push", "keys": keys})


@contextmanager
def far_end(folder: Path) -> Iterator[FarEnd]:
    """Start nghttpd; raises ServerError where there is none. `folder` must be empty."""
    program = shutil.which("nghttpd")
    if program is None:
        raise ServerError("the far end is nghttpd, which is not installed: apt install nghttp2-server")
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    certificate.private_key_pem.write_to_path(str(folder / "key.pem"))
    certificate.cert_chain_pems[0].write_to_path(str(folder / "certificate.pem"))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    end = FarEnd(folder, port)
    _write_keys(folder, end.url)
    root = folder / "root"
    for path in (f"3/device/{TOKEN}", f"v1/projects/{PROJECT}/messages:send", "push", "hook"):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"{}")
    (root / "token").write_text(json.dumps({"access_token": "t", "expires_in": 3599}))
    process = subprocess.Popen(  # noqa: S603
        [program, "--htdocs", str(root), "--max-concurrent-streams", "1000", "--address", "127.0.0.1", str(port),
         str(folder / "key.pem"), str(folder / "certificate.pem")],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        _wait(port, process)
        yield end
    finally:
        process.kill()
        process.wait()


def _wait(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise ServerError("nghttpd does not start") from None
            time.sleep(0.05)
        else:
            return


def _write_keys(folder: Path, url: str) -> None:
    signing = ec.generate_private_key(ec.SECP256R1())
    account = rsa.generate_private_key(65537, 2048)
    (folder / "apns.p8").write_bytes(_pem(signing))
    credentials = {
        "project_id": PROJECT, "private_key_id": "k1", "private_key": _pem(account).decode(),
        "client_email": "mim@load.iam.gserviceaccount.com", "token_uri": f"{url}/token",
    }  # fmt: skip
    (folder / "account.json").write_text(json.dumps(credentials))


def _pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _unpadded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
