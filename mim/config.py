"""The settings of a server: one typed class with defaults and units, read from options, MIM_* variables and TOML.

Precedence, highest first: command-line options, environment (`MIM_PORT=8080`), the TOML file named by
`MIM_CONFIG` (else `mim.toml` in the working folder, when there is one), the defaults below. `docs/settings.md` is
generated from this class.
"""

import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt, SecretStr, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

MIN_SECRET_BYTES = 32
REDIS_SCHEMES = (
    "redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster",
)  # fmt: skip
MIN_WEBHOOK_SECRET_BYTES = 24


class Settings(BaseSettings):
    """Effective settings. Construct with keyword overrides; every field is also a `MIM_` variable."""

    model_config = SettingsConfigDict(env_prefix="MIM_", env_ignore_empty=True, extra="forbid", frozen=True)

    # Where to listen
    host: str = Field("127.0.0.1", description="Address to listen on; 0.0.0.0 for all of IPv4, :: for IPv6.")
    port: Annotated[int, Field(ge=0, le=65535)] = Field(
        8080, description="TCP port for HTTP and WebSocket; 0 picks a free one."
    )
    forwarded_allow_ips: str = Field(
        "127.0.0.1", description="Comma-separated proxies whose X-Forwarded-For is believed."
    )
    tls_certificate: Path | None = Field(None, description="PEM certificate chain; with tls_key the port speaks TLS.")
    tls_key: Path | None = Field(None, description="PEM private key of tls_certificate.")

    # Processes
    workers: Annotated[int, Field(ge=1, le=64)] = Field(
        1, description="Processes that serve the port, each a node of its own; more than one needs Linux."
    )
    worker_timeout_s: PositiveFloat = Field(
        10.0, description="A worker that answers nothing for so long hangs: it is killed and started again, seconds."
    )

    # Where things are kept
    data_dir: Path = Field(Path("data"), description="Folder of the embedded Postgres and of a private Redis.")
    database_url: SecretStr | None = Field(None, description="postgresql://... of an own Postgres; none: embedded.")
    database_pool: PositiveInt = Field(
        8, description="Connections for queries; a node holds ten more, for commits, sessions, push and its locks."
    )
    redis_url: SecretStr | None = Field(
        None, description="redis://... that connects nodes; none: one machine, and a private one for its workers."
    )

    # Who may come in
    dev: bool = Field(False, description="Development: one-time codes are shown to the client; readable logs.")
    jwt_secret: SecretStr | None = Field(
        None, description="HS256 secret of an app that signs its own tokens, 32 bytes or more."
    )
    jwks_url: str | None = Field(None, description="https://... JWKS of an app that signs its own tokens.")
    jwt_audience: str | None = Field(None, description="Required `aud` of an app's tokens, when set.")
    jwt_issuer: str | None = Field(None, description="Required `iss` of an app's tokens, when set.")
    access_ttl_s: PositiveInt = Field(24 * 3600, description="Life of an access token, seconds.")
    refresh_ttl_s: PositiveInt = Field(180 * 86400, description="Life of an unused refresh token, seconds.")
    code_ttl_s: PositiveInt = Field(300, description="Life of a one-time code, seconds.")
    default_region: str = Field(
        "KR", min_length=2, max_length=2, description="Country of phone numbers written without +."
    )
    min_app_version: str | None = Field(None, description='Oldest admitted app: "1.4.0" or "ios=1.4.0,android=1.3.2".')
    store_link: str = Field("", description="Told to clients that are too old.")
    sms_provider: Literal["log"] = Field(
        "log", description="Who sends one-time codes; `log` prints them (development)."
    )
    max_devices: PositiveInt = Field(20, description="Devices of one user that may be signed in.")

    # Bounds of a conversation
    text_limit: PositiveInt = Field(10_000, description="Longest message text, code points.")
    fetch_limit: Annotated[int, Field(ge=1, le=200)] = Field(200, description="Messages or changes a page.")
    inflight_limit: PositiveInt = Field(256, description="Unanswered SENDs on a connection.")
    group_limit: Annotated[int, Field(ge=2, le=3000)] = Field(3000, description="Members of a group.")
    delete_window_s: PositiveInt = Field(24 * 3600, description="How long an author may delete for everyone, seconds.")

    # Rates
    send_rate: PositiveFloat = Field(50.0, description="SENDs a second of one connection, sustained.")
    send_burst: PositiveInt = Field(300, description="SENDs of one connection at once.")
    request_rate: PositiveFloat = Field(50.0, description="Other frames or HTTP calls a second of one device.")
    request_burst: PositiveInt = Field(300, description="Other frames or HTTP calls of one device at once.")
    find_per_hour: PositiveInt = Field(300, description="`user.find` calls of one user an hour.")
    code_per_phone_hour: PositiveInt = Field(5, description="One-time codes sent to one phone an hour.")
    code_per_address_hour: PositiveInt = Field(30, description="One-time codes asked for by one address an hour.")

    # Connections
    hello_timeout_s: PositiveFloat = Field(10.0, description="Time to authenticate, seconds.")
    keepalive_min_s: PositiveInt = Field(10, description="Shortest promise of PING, seconds.")
    keepalive_max_s: PositiveInt = Field(
        600, description="Longest promise of PING, and the one before the first, seconds."
    )
    slow_bytes: PositiveInt = Field(1 << 20, description="Unsent bytes at which a connection counts as slow.")
    max_connections: PositiveInt = Field(18_000, description="Sockets of one process; beyond: 503.")
    max_connections_per_address: PositiveInt = Field(10_000, description="Sockets of one address; beyond: 429.")
    drain_s: PositiveFloat = Field(10.0, description="Longest time that a shutdown waits for pending work, seconds.")
    reconnect_spread_s: PositiveFloat = Field(
        10.0, description="Span over which clients are asked to come back, seconds."
    )

    # Storage
    commit_batch: PositiveInt = Field(500, description="Messages of one commit at most.")
    commit_queue: PositiveInt = Field(20_000, description="Messages that may wait for a commit; beyond: `unavailable`.")
    commit_wait_s: PositiveFloat = Field(
        10.0, description="How long a SEND waits for storage before `unavailable`, seconds."
    )

    # Push notifications (docs/push.md)
    push_workers: bool = Field(True, description="This server sends notifications; false: only `mim push` does.")
    push_preview: Literal["full", "sender", "none"] = Field(
        "full",
        description="What a notification tells to users who have not chosen: all, who wrote, or that there is news.",
    )
    push_queue: PositiveInt = Field(100_000, description="Messages that may wait to be planned in one process.")
    push_age_s: PositiveInt = Field(86_400, description="After this a notification is worthless, seconds.")
    push_call_age_s: PositiveInt = Field(45, description="The same for a call, seconds.")
    push_attempts: PositiveInt = Field(8, description="Tries of a notification that its provider puts off.")
    push_timeout_s: PositiveFloat = Field(10.0, description="How long a provider may take to answer, seconds.")
    push_lease_s: PositiveFloat = Field(
        60.0,
        description="After this another worker sends what one took and never settled, seconds; above push_timeout_s.",
    )
    push_concurrency: PositiveInt = Field(200, description="Unanswered notifications of one process to one provider.")
    push_chat_gap_s: PositiveFloat = Field(
        10.0, description="Shortest time between two notifications of one chat to one device, seconds."
    )
    push_device_per_minute: PositiveInt = Field(20, description="Chats of which one device is told in a minute.")
    push_reading_grace_s: PositiveFloat = Field(
        3.0, description="How long a phone waits whether its user reads the message on another device, seconds."
    )
    push_ca: Path | None = Field(None, description="PEM certificates that providers' TLS is also trusted by.")
    push_apns_topic: str | None = Field(None, description="Bundle id of the iOS app; turns APNs on.")
    push_apns_key: Path | None = Field(None, description="PEM (.p8) key that signs provider tokens.")
    push_apns_key_id: str | None = Field(None, description="Key id of push_apns_key, 10 characters.")
    push_apns_team_id: str | None = Field(None, description="Team id of push_apns_key, 10 characters.")
    push_apns_certificate: Path | None = Field(
        None, description="PEM client certificate and key, instead of push_apns_key."
    )
    push_apns_url: str | None = Field(None, description="Another address than Apple's, for a relay or a test.")
    push_fcm_credentials: Path | None = Field(None, description="JSON file of a service account; turns FCM on.")
    push_fcm_channel: str = Field("messages", description="Notification channel of the Android app.")
    push_fcm_url: str | None = Field(None, description="Another address than Google's, for a relay or a test.")
    push_webpush_contact: str | None = Field(
        None, description="mailto: or https: where push services reach the operator; turns Web Push on."
    )
    push_webpush_hosts: str = Field(
        "fcm.googleapis.com,*.push.services.mozilla.com,*.push.apple.com,*.notify.windows.com",
        description="Comma-separated hosts of push services that are called; `*` alone: every public one.",
    )
    push_vapid_key: SecretStr | None = Field(
        None, description="Private VAPID key, base64url of 32 bytes; none: one is made and kept in the database."
    )
    push_webhook_url: str | None = Field(None, description="https://... of an own push gateway; turns webhook on.")
    push_webhook_secret: SecretStr | None = Field(
        None,
        description="Secret that signs what goes to push_webhook_url: whsec_ and base64, or 24 bytes of text or more.",
    )

    # Telling
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least severe line that is logged."
    )
    log_format: Literal["auto", "json", "text"] = Field(
        "auto", description="`auto`: text on a terminal or with dev, else JSON."
    )
    metrics_token: SecretStr | None = Field(None, description="Bearer token that /metrics asks for, when set.")

    @field_validator("jwt_secret")
    @classmethod
    def _long_enough(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and len(value.get_secret_value().encode()) < MIN_SECRET_BYTES:
            raise ValueError(f"must be {MIN_SECRET_BYTES} bytes or longer; make one with `openssl rand -hex 32`")
        return value

    @field_validator("push_webhook_secret")
    @classmethod
    def _signs_well(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and len(value.get_secret_value().encode()) < MIN_WEBHOOK_SECRET_BYTES:
            raise ValueError(
                f"must be {MIN_WEBHOOK_SECRET_BYTES} bytes or longer; make one with `openssl rand -hex 32`"
            )
        return value

    @field_validator("push_webpush_contact")
    @classmethod
    def _reachable(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("mailto:", "https:")):
            raise ValueError("must begin with mailto: or https:")
        return value

    @field_validator("push_vapid_key")
    @classmethod
    def _p256_key(cls, value: SecretStr | None) -> SecretStr | None:
        text = "" if value is None else value.get_secret_value().rstrip("=")
        if value is not None and not re.fullmatch(r"[A-Za-z0-9_-]{43}", text):
            raise ValueError("must be the base64url of 32 bytes, which are 43 characters")
        return value

    @field_validator("database_url")
    @classmethod
    def _postgres_url(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not value.get_secret_value().startswith(("postgres://", "postgresql://")):
            raise ValueError("must begin with postgresql://, like postgresql://user:password@host:5432/mim")
        return value

    @field_validator("redis_url")
    @classmethod
    def _redis_url(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and value.get_secret_value().partition("://")[0] not in REDIS_SCHEMES:
            raise ValueError(f"must begin with one of {', '.join(f'{scheme}://' for scheme in REDIS_SCHEMES)}")
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> "Settings":
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls_certificate and tls_key go together: set both or neither")
        if self.keepalive_min_s > self.keepalive_max_s:
            raise ValueError("keepalive_min_s must not be above keepalive_max_s")
        _check_push(self)
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Options over environment over the TOML file."""
        toml = Path(os.environ.get("MIM_CONFIG", "mim.toml"))
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, toml)


def _check_push(settings: Settings) -> None:
    """Raise ValueError for push settings that do not go together."""
    if settings.push_lease_s <= settings.push_timeout_s:
        raise ValueError("push_lease_s must be above push_timeout_s")
    if (settings.push_webhook_url is None) != (settings.push_webhook_secret is None):
        raise ValueError("push_webhook_url and push_webhook_secret go together: set both or neither")
    if settings.push_apns_topic is not None:
        if (settings.push_apns_key is None) == (settings.push_apns_certificate is None):
            raise ValueError("with push_apns_topic set either push_apns_key or push_apns_certificate")
        if settings.push_apns_key and not (settings.push_apns_key_id and settings.push_apns_team_id):
            raise ValueError("push_apns_key needs push_apns_key_id and push_apns_team_id")


def secret(value: SecretStr | None) -> str | None:
    """The text of a secret setting, or None where it is not set."""
    return None if value is None else value.get_secret_value()


def masked(settings: Settings) -> dict[str, Any]:
    """Every setting by name, with secrets replaced by stars: what `mim config` prints."""
    return {name: ("********" if isinstance(value, SecretStr) else value) for name, value in settings}
