"""The generated description is current and valid, fits the golden vectors, and names what the text names."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from mim.wire.codec import CLIENT_FRAMES, SERVER_FRAMES
from mim.wire.describe import document, frames_of, key, payload, render, required_fields
from mim.wire.frames import ClientFrame, ServerFrame, wire_name

PROTO = Path(__file__).parents[2] / "proto"
FRAMES = frames_of(ClientFrame) + frames_of(ServerFrame)
BY_FRAME = pytest.mark.parametrize("frame", FRAMES, ids=[key(frame) for frame in FRAMES])


def test_committed_description_is_current() -> None:
    committed = (PROTO / "asyncapi.yaml").read_text("utf-8")
    assert committed == render(), "stale: python -m mim.wire.describe > proto/asyncapi.yaml"


def test_the_module_prints_it() -> None:
    run = subprocess.run([sys.executable, "-m", "mim.wire.describe"], capture_output=True, check=True, timeout=60)
    assert run.stdout.decode() == render()


def test_yaml_says_what_was_meant() -> None:
    assert yaml.safe_load(render()) == document()


def test_every_reference_resolves() -> None:
    whole = document()
    for pointer in re.findall(r'"\$ref": "#/([^"]+)"', json.dumps(whole)):
        target: Any = whole
        for part in pointer.split("/"):
            target = target[part]
        assert target


def test_every_op_is_described() -> None:
    ops = {m["payload"]["schema"]["prefixItems"][0]["const"] for m in document()["components"]["messages"].values()}
    assert ops == set(CLIENT_FRAMES) | set(SERVER_FRAMES)


@BY_FRAME
def test_vectors_fit_the_description(frame: type[Any]) -> None:
    schema = payload(frame)
    (path,) = PROTO.glob(f"vectors/{schema['prefixItems'][0]['const']:02}-*.json")
    kinds = {"integer": int, "string": str, "array": list, "object": dict}
    for vector in json.loads(path.read_text("utf-8")):
        array = vector["json"]
        assert schema["minItems"] <= len(array) <= len(schema["prefixItems"])
        for value, item in zip(array, schema["prefixItems"], strict=False):
            if "type" in item:
                assert isinstance(value, kinds[item["type"]])
                assert value <= item.get("maximum", value) if isinstance(value, int) else True


@BY_FRAME
def test_the_text_shows_the_same_fields(frame: type[Any]) -> None:
    """proto/frames.md has a heading per frame, and under it the array as declared: optional fields with `?`."""
    op, *names = [item["title"] for item in payload(frame)["prefixItems"]]
    assert op == "op"
    number = payload(frame)["prefixItems"][0]["const"]
    required = required_fields(frame)
    words = [str(number), *(name if i < required else f"{name}?" for i, name in enumerate(names))]
    text = (PROTO / "frames.md").read_text("utf-8")
    _, _, section = text.partition(f"\n### {number} {wire_name(frame)}\n")
    assert section, "no heading"
    assert f"`[{', '.join(words)}]`" in section.split("\n### ")[0]
