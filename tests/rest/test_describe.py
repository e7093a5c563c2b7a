"""The committed OpenAPI description is the one that the declarations give."""

from pathlib import Path
from typing import Any

import orjson

from mim.chat.calls import METHODS
from mim.rest.describe import openapi, rendered

COMMITTED = Path(__file__).parents[2] / "proto" / "openapi.json"


OURS = ("operationId", "summary", "description", "requestBody", "responses", "tags", "security")


def contract(document: dict[str, Any]) -> dict[str, Any]:
    """What our declarations say, without what a framework's version adds."""
    return {
        f"{verb} {path}": {name: operation.get(name) for name in OURS}
        for path, operations in document["paths"].items()
        for verb, operation in operations.items()
    }


def test_the_committed_description_is_current() -> None:
    committed = contract(orjson.loads(COMMITTED.read_bytes()))
    assert committed == contract(orjson.loads(rendered())), "run: python -m mim.rest.describe > proto/openapi.json"


def test_every_method_but_those_of_the_socket_is_described() -> None:
    paths = openapi()["paths"]
    described = {path.removeprefix("/v1/call/") for path in paths if path.startswith("/v1/call/")}
    assert described == {name for name, method in METHODS.items() if not method.socket_only}
    for name in described:
        operation = paths[f"/v1/call/{name}"]["post"]
        assert operation["summary"]
        assert operation["requestBody"]["content"]["application/json"]["schema"]
        assert "401" in operation["responses"]
        assert operation["security"]


def test_the_methods_are_those_of_the_contract() -> None:
    text = (COMMITTED.parent / "calls.md").read_text("utf-8")
    for name in METHODS:
        assert f"`{name}`" in text, f"proto/calls.md says nothing of {name}"
