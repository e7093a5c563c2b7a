"""The OpenAPI description, from the same declarations that the server answers by: `python -m mim.rest.describe`."""

import sys
from types import SimpleNamespace
from typing import Any, cast

import orjson

from mim.chat.context import Context
from mim.config import Settings
from mim.rest.app import build_app


def openapi() -> dict[str, Any]:
    """The document, the version left out, so that it changes only when the contract does."""
    # Describing calls no handler, so the parts that a node has are not needed.
    context = cast(Context, SimpleNamespace(settings=Settings(), identity=None))
    document = build_app(context).openapi()
    document["info"]["version"] = "1"
    return document


def rendered() -> bytes:
    """The text of proto/openapi.json."""
    return orjson.dumps(openapi(), option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS) + b"\n"


if __name__ == "__main__":
    sys.stdout.buffer.write(rendered())
