"""HTTP to providers: one client, HTTP/2 on one connection a host, bounded in time and in what is read of an answer.

pyreqwest was chosen by measurement (docs/performance.md#http-client-of-the-push-providers): its work happens off the
event loop, of which a request takes 20 to 30 µs.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Final

import orjson
from msgspec import Struct
from pyreqwest.client import Client, ClientBuilder
from pyreqwest.exceptions import PyreqwestError

ANSWER_LIMIT: Final = 64 * 1024


class UnreachableError(Exception):
    """No answer came; the text is a short word for metrics: `timeout` or `network`."""


class HttpAnswer(Struct, frozen=True):
    """A status, the headers that matter here, and at most ANSWER_LIMIT bytes of body."""

    status: int
    retry_after: str | None
    body: bytes

    def json(self) -> dict[str, object]:
        """The body as a JSON object; empty when it is none."""
        try:
            value = orjson.loads(self.body)
        except ValueError:
            return {}
        return value if isinstance(value, dict) else {}

    @property
    def retry_after_s(self) -> float:
        """Seconds of Retry-After, at most an hour; 0 without, or when it is a date."""
        text = (self.retry_after or "").strip()
        return float(min(int(text), 3600)) if text.isascii() and text.isdigit() and len(text) < 10 else 0.0


class Http:
    """Posts to one provider. `only_http2` for those that are known to speak it: then a burst shares one connection from
    its first request on, where otherwise it opens several until the first has found out.
    """

    def __init__(
        self, timeout_s: float, *, only_http2: bool = False, ca: bytes | None = None, identity: bytes | None = None
    ) -> None:
        self._timeout_s = timeout_s
        self._only_http2 = only_http2
        self._ca = ca
        self._identity = identity  # PEM: client certificate and key
        self._client: Client | None = None

    def _open(self) -> Client:
        builder = (
            ClientBuilder()
            .timeout(timedelta(seconds=self._timeout_s))
            .connect_timeout(timedelta(seconds=self._timeout_s / 2))
            .follow_redirects(False)
            .no_proxy()
            .user_agent("mim")
            .http2_keep_alive_interval(timedelta(seconds=30))
            .http2_keep_alive_timeout(timedelta(seconds=self._timeout_s))
            .http2_keep_alive_while_idle(True)
        )
        builder = builder.http2_prior_knowledge() if self._only_http2 else builder.http2(True)
        if self._ca is not None:
            builder = builder.add_root_certificate_pem(self._ca)
        if self._identity is not None:
            builder = builder.identity_pem(self._identity)
        return builder.build()

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> HttpAnswer:
        """POST and read the answer. Raises UnreachableError when there is none."""
        if self._client is None:
            self._client = self._open()
        try:
            async with self._client.post(url).headers(headers).body_bytes(body).build_streamed() as answer:
                got = await answer.body_reader.read(ANSWER_LIMIT)
                return HttpAnswer(answer.status, answer.get_header("retry-after"), bytes(got) if got else b"")
        except PyreqwestError as exc:
            raise UnreachableError("timeout" if isinstance(exc, TimeoutError) else "network") from exc

    async def close(self) -> None:
        """Close the connections."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()
