"""JSON bodies of HTTP requests and answers, and how OpenAPI tells of them.

Shapes are msgspec types. Nothing here trusts a length that the client states, and no error repeats a value.
"""

from typing import Any, Final, TypeVar

import msgspec
from msgspec import Struct
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from mim.errors import HTTP_STATUS, Code, PeerError

BODY_LIMIT: Final = 64 * 1024

Shape = TypeVar("Shape")

# Broken UTF-8, broken JSON, wrong fields, deep nesting.
_MALFORMED = (ValueError, msgspec.MsgspecError, RecursionError)


class Failure(Struct, frozen=True, omit_defaults=True):
    """Every answer that is no success; `retry_after` in milliseconds."""  # proto/codes.md#http

    code: str
    detail: str
    retry_after: int | None = None


async def read_json(request: Request, shape: type[Shape], limit: int = BODY_LIMIT) -> Shape:
    """Read the body as `shape`; an empty one counts as `{}`.

    Raises `bad_frame` with the field that is wrong, or `too_large` above `limit` bytes, which are never held.
    """
    body = await read_body(request, limit)
    try:
        return msgspec.json.decode(body or b"{}", type=shape)
    except msgspec.ValidationError as exc:
        raise PeerError(Code.BAD_FRAME, f"parameters: {exc}") from None
    except RecursionError:
        raise PeerError(Code.BAD_FRAME, "parameters: nested too deeply") from None
    except _MALFORMED:
        raise PeerError(Code.BAD_FRAME, "parameters: the body is not JSON in UTF-8") from None


async def read_body(request: Request, limit: int = BODY_LIMIT) -> bytes:
    """Read at most `limit` bytes of the body; raises `too_large` above, `bad_frame` when it breaks off."""
    body = bytearray()
    try:
        async for chunk in request.stream():
            if len(body) + len(chunk) > limit:
                raise PeerError(Code.TOO_LARGE, f"the body is larger than {limit} bytes")
            body += chunk
    except ClientDisconnect:
        raise PeerError(Code.BAD_FRAME, "the body broke off") from None
    return bytes(body)


def json_answer(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """An answer with `value` as JSON."""
    return Response(msgspec.json.encode(value), status, headers, media_type="application/json")


def failure_answer(error: PeerError) -> Response:
    """The answer to a request that failed with `error`: its status, its words, and when to try again."""
    headers = {}
    if error.retry_after_ms is not None:
        headers["Retry-After"] = str(-(-error.retry_after_ms // 1000))
    body = Failure(error.code, error.detail, error.retry_after_ms)
    return json_answer(body, HTTP_STATUS[error.code], headers)


def described(params: Any, value: Any, *codes: Code) -> dict[str, Any]:
    """`openapi_extra` of a route with JSON `params` that answers `value`, or Failure with one of `codes`."""
    failures: dict[int, list[str]] = {}
    for code in (Code.BAD_FRAME, Code.TOO_LARGE, *codes):
        failures.setdefault(HTTP_STATUS[code], []).append(code)
    responses = {str(status): _content(Failure, ", ".join(words)) for status, words in sorted(failures.items())}
    return {
        "requestBody": {"required": True, **_content(params)},
        "responses": {"200": _content(value, "Done"), **responses},
    }


def _content(shape: Any, description: str | None = None) -> dict[str, Any]:
    content = {"content": {"application/json": {"schema": inline_schema(shape)}}}
    return content if description is None else {"description": description, **content}


def inline_schema(shape: Any) -> dict[str, Any]:
    """The JSON Schema of `shape` without references, so that it can stand anywhere in a document."""
    schema = msgspec.json.schema(shape)
    definitions = schema.pop("$defs", {})

    def inline(node: Any, above: tuple[str, ...] = ()) -> Any:
        if isinstance(node, list):
            return [inline(item, above) for item in node]
        if not isinstance(node, dict):
            return node
        if "$ref" not in node:
            return {key: inline(item, above) for key, item in node.items()}
        name = node["$ref"].rpartition("/")[2]
        # A shape that holds itself cannot be written out: anything goes at the second mention.
        return {} if name in above else inline(definitions[name], (*above, name))

    result: dict[str, Any] = inline(schema)
    return result
