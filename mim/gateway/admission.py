"""Which app versions are let in."""

import re

from mim.config import Settings
from mim.errors import Code, PeerError
from mim.wire.frames import HelloOptions


def check_app_version(settings: Settings, options: HelloOptions) -> None:
    """PeerError `update_required` with the store link, when the app says it is older than the minimum for its os."""
    if settings.min_app_version is None or options.app is None:
        return
    minimum = minimum_for(settings.min_app_version, options.os or "")
    if minimum is not None and version_of(options.app) < version_of(minimum):
        raise PeerError(Code.UPDATE_REQUIRED, settings.store_link or f"version {minimum} or newer is needed")


def minimum_for(rule: str, os: str) -> str | None:
    """The minimum of an operating system in "1.4.0" (for all) or "ios=1.4.0,android=1.3.2"."""
    if "=" not in rule:
        return rule
    minimums = dict(part.strip().split("=", 1) for part in rule.split(",") if "=" in part)
    return minimums.get(os)


def version_of(text: str) -> tuple[int, ...]:
    """The numbers of a version, compared from the left; what follows them ("-beta") does not count."""
    numbers = [int(number) for number in re.findall(r"\d{1,9}", re.split(r"[-+ ]", text, maxsplit=1)[0])]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)
