"""The port to whoever carries one-time codes to phones, and its development adapter."""

from typing import Protocol

import structlog

log = structlog.get_logger("mim.auth.sms")


class SmsProvider(Protocol):
    """Carries a code to a phone."""

    async def send_code(self, phone: str, code: str, locale: str) -> None:
        """Hand `code` to the carrier for the E.164 number `phone`; `locale` may be "" (unknown).

        Returns when the carrier took it; raises anything when it did not. Nothing of it may be logged.
        """


class LogSms:
    """Prints the code to the log, for development without a carrier."""

    async def send_code(self, phone: str, code: str, locale: str) -> None:
        # In the text and not in a field, where the masking of logs would hide it: being read is its use.
        event = f"one-time code {code} for the phone that ends in {phone[-4:]}"
        log.info(event)
