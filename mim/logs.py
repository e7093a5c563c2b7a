"""Structured logs: one event a line, JSON for machines or text for people, on standard error.

structlog renders for everybody: lines of the standard library (uvicorn, asyncpg, websockets) pass through the same
processors. Message bodies, phone numbers and tokens never belong in a log; callers do not pass them, and
`mask` is the last line of defence for those who forget. uvicorn's access log stays off: a path
can hold a token, and a line per request costs more than many requests.
"""

import logging
import sys
from collections.abc import MutableMapping
from typing import Any, Literal

import structlog
from structlog.typing import EventDict, Processor

Level = Literal["debug", "info", "warning", "error"]
Format = Literal["auto", "json", "text"]

MASK = "[masked]"
PRIVATE = frozenset(
    ["authorization", "body", "code", "cookie", "password", "phone", "refresh", "secret", "text", "token", "tokens"]
)
PRIVATE_ENDINGS = ("_body", "_code", "_password", "_phone", "_secret", "_text", "_token", "_url")


def configure(level: Level = "info", format: Format = "auto", dev: bool = False) -> None:  # noqa: A002
    """Send every log line of the process through structlog; may be called again. `auto` means text on a terminal
    or with `dev`, else JSON."""
    as_text = format == "text" or (format == "auto" and (dev or sys.stderr.isatty()))
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        mask,
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.PositionalArgumentsFormatter(),
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,  # loggers are made at import, before this
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=_renderers(as_text)))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    _tame_libraries()


def mask(logger: object, method: str, event: EventDict) -> EventDict:
    """Replace the values of keys that may hold a secret or a person's data, at any depth."""
    return _masked(event)


def _masked(values: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    return {key: MASK if _private(key) else _masked_value(value) for key, value in values.items()}


def _masked_value(value: Any) -> Any:
    if isinstance(value, dict):
        return _masked({str(key): inner for key, inner in value.items()})
    if isinstance(value, list):  # a tuple stays: exc_info is one
        return [_masked_value(inner) for inner in value]
    return value


def _private(key: str) -> bool:
    key = key.lower()
    return key in PRIVATE or key.endswith(PRIVATE_ENDINGS)


def _renderers(as_text: bool) -> list[Processor]:
    if as_text:
        last: list[Processor] = [
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback)
        ]
    else:
        last = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(ensure_ascii=False)]
    return [structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last]


def _tame_libraries() -> None:
    """Their lines go to our handler; the chatty ones tell warnings only."""
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "asyncpg", "websockets", "asyncio", "httpx"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    for name in ("websockets", "websockets.server", "websockets.client", "httpx", "httpcore", "asyncio"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("uvicorn.access").disabled = True
