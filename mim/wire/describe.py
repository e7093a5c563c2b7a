"""The frames as an AsyncAPI 3.0 document, made from their declarations: `python -m mim.wire.describe`.

A frame is an array, so its schema is a tuple: `prefixItems` names each field in order. All that is said here
comes from frames.py (types, bounds, docstrings); proto/asyncapi.yaml is the committed copy and a test keeps
it current. The YAML is written by hand, as JSON scalars in block form, so that the server needs no package
for it.
"""

import json
import sys
from typing import Any, Final, get_args, get_type_hints

import msgspec

from mim.errors import CLOSE_CODE, Code
from mim.wire.codec import MAX_FRAME_BYTES
from mim.wire.frames import ClientFrame, MsgWithMeta, ServerFrame, wire_name

SCHEMA_FORMAT: Final = "application/schema+json;version=draft-2020-12"
FIELD_NAMES: Final = {"from_seq": "from", "from_rev": "from", "next_s": "next"}
"""Names on paper where the code says more (a unit, a kind); on the wire fields have places, not names."""


SUBPROTOCOLS: Final = {"mim.msgpack": "application/msgpack", "mim.json": "application/json"}


def op_of(frame: type[Any]) -> int:
    """The integer that begins the frame's array."""
    tag: int = frame.__struct_config__.tag
    return tag


def frames_of(union: Any) -> list[type[Any]]:
    """The frames of a direction, one per op; MSG is described by its longer form."""
    by_op = {op_of(frame): frame for frame in get_args(union)}
    return [by_op[op] for op in sorted(by_op)]


def required_fields(frame: type[Any]) -> int:
    """How many fields behind the op a sender must give."""
    if frame is MsgWithMeta:
        return len(frame.__struct_fields__) - 1
    fields = msgspec.structs.fields(frame)
    return sum(field.required for field in fields)


def inlined(schema: Any, definitions: dict[str, Any]) -> Any:
    """`schema` with every reference replaced by what it refers to: frames share no types worth a name."""
    if isinstance(schema, list):
        return [inlined(item, definitions) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        target = definitions[schema["$ref"].rsplit("/", 1)[1]]
        return inlined({**target, **{k: v for k, v in schema.items() if k != "$ref"}}, definitions)
    return {key: inlined(value, definitions) for key, value in schema.items() if key != "$defs"}


def field_schema(shape: Any) -> dict[str, Any]:
    """The JSON schema of one field; parameters of a CALL are kept raw and described in proto/calls.md."""
    if shape is msgspec.Raw:
        return {"type": "object"}
    whole = msgspec.json.schema(shape)
    schema: dict[str, Any] = inlined(whole, whole.get("$defs", {}))
    return schema


def payload(frame: type[Any]) -> dict[str, Any]:
    """The JSON schema of a frame's array, with its fields named."""
    shapes = get_type_hints(frame, include_extras=True)
    items: list[dict[str, Any]] = [{"title": "op", "const": op_of(frame)}]
    items += [{**field_schema(shapes[name]), "title": FIELD_NAMES.get(name, name)} for name in frame.__struct_fields__]
    return {"type": "array", "prefixItems": items, "minItems": 1 + required_fields(frame)}


def message(frame: type[Any]) -> dict[str, Any]:
    """One AsyncAPI message."""
    name = wire_name(frame)
    return {
        "name": name,
        "title": f"{op_of(frame)} {name}",
        "summary": " ".join((frame.__doc__ or "").split()),
        "payload": {"schemaFormat": SCHEMA_FORMAT, "schema": payload(frame)},
        "externalDocs": {"url": f"frames.md#{op_of(frame)}-{name.lower()}"},
    }


def key(frame: type[Any]) -> str:
    """A message's key in `components`: TYPING exists in both directions, so the op is part of it."""
    return f"{wire_name(frame).lower()}_{op_of(frame)}"


def operation(action: str, frames: list[type[Any]], summary: str) -> dict[str, Any]:
    """An AsyncAPI operation over the one channel, from the server's point of view."""
    return {
        "action": action,
        "channel": {"$ref": "#/channels/session"},
        "summary": summary,
        "messages": [{"$ref": f"#/channels/session/messages/{key(frame)}"} for frame in frames],
    }


def document() -> dict[str, Any]:
    """The whole AsyncAPI document."""
    client, server = frames_of(ClientFrame), frames_of(ServerFrame)
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "mim wire protocol",
            "version": "1",
            "description": "Frames over one WebSocket; what they mean is told by the pages beside this file.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/msgpack",
        "servers": {"development": {"host": "127.0.0.1:8080", "protocol": "ws", "description": "`mim serve --dev`"}},
        "channels": {
            "session": {
                "address": "/v1/ws",
                "description": "One WebSocket message is one frame: an array that begins with its op.",
                "messages": {key(frame): {"$ref": f"#/components/messages/{key(frame)}"} for frame in client + server},
                "bindings": {"ws": {"method": "GET"}},
                "x-subprotocols": SUBPROTOCOLS,
                "x-max-client-frame-bytes": MAX_FRAME_BYTES,
                "x-error-codes": [code.value for code in Code],
                "x-close-codes": {reason.value: number for reason, number in CLOSE_CODE.items()},
            }
        },
        "operations": {
            "fromClient": operation("receive", client, "What a client may say."),
            "toClient": operation("send", server, "What the server says."),
        },
        "components": {"messages": {key(frame): message(frame) for frame in client + server}},
    }


def scalar(value: Any) -> str:
    """JSON scalars are YAML scalars; empty collections too."""
    return json.dumps(value, ensure_ascii=False)


def to_yaml(value: Any, indent: int = 0) -> list[str]:
    """Lines of block YAML for JSON-like data; strings are quoted, so nothing is guessed from their look."""
    pad = " " * indent
    lines: list[str] = []
    if isinstance(value, dict):
        for name, item in value.items():
            word = name if name.replace("_", "").isalnum() else scalar(name)
            if isinstance(item, dict | list) and item:
                lines += [f"{pad}{word}:", *to_yaml(item, indent + 2)]
            else:
                lines.append(f"{pad}{word}: {scalar(item)}")
        return lines
    for item in value:
        if isinstance(item, dict | list) and item:
            first, *rest = to_yaml(item, indent + 2)
            lines += [f"{pad}- {first.lstrip()}", *rest]
        else:
            lines.append(f"{pad}- {scalar(item)}")
    return lines


def render() -> str:
    """The committed text."""
    head = "# Generated by `python -m mim.wire.describe > proto/asyncapi.yaml`. Do not edit."
    return "\n".join([head, *to_yaml(document())]) + "\n"


if __name__ == "__main__":
    sys.stdout.write(render())
