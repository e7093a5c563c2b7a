"""Who may import whom (docs/architecture.md#parts), read from the source with ast, lazy imports included."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "mim"

BASE = {"config", "config_reference", "config_check", "clock", "tasks", "errors", "model", "logs", "metrics"}
TOP = {
    "embedded", "embedded_owner", "embedded_process", "embedded_redis", "app", "preflight",
    "listening", "workers", "push_cli", "__main__",
    "cli",
}  # fmt: skip

# A package may always import itself.
MAY_IMPORT: dict[str, set[str]] = {
    "wire": BASE,
    "store": BASE,
    "bus": BASE,
    "auth": BASE | {"store"},
    "hub": BASE | {"bus", "wire"},
    "chat": BASE | {"wire", "store", "bus", "auth"},
    "push": BASE | {"store", "bus"},
    "gateway": BASE | {"wire", "bus", "chat", "hub", "auth"},
    "rest": BASE | {"chat", "push", "auth", "wire"},
    "web": set(),
    "client": {"wire", "errors"},
    **dict.fromkeys(BASE, BASE),
}

SOURCES = sorted(PACKAGE.rglob("*.py"))


def part_of(module: str) -> str:
    """mim.hub.wheel → hub; mim itself → ''."""
    return module.split(".")[1] if "." in module else ""


def imported(path: Path) -> Iterator[tuple[int, str]]:
    """(line, part) for every import of something in mim."""
    here = (ROOT / path).relative_to(ROOT).with_suffix("").parts
    for node in ast.walk(ast.parse(path.read_text("utf-8"), str(path))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(here[: len(here) - node.level]) if node.level else ""
            module = ".".join(part for part in (base, node.module) if part)
            names = [f"{module}.{alias.name}" for alias in node.names] if module == "mim" else [module]
        else:
            continue
        for name in names:
            if name.split(".")[0] == "mim":
                yield node.lineno, part_of(name)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_keep_to_the_table(path: Path) -> None:
    part = part_of(".".join(path.relative_to(ROOT).with_suffix("").parts))
    if part in TOP or part == "__init__":
        return
    assert part in MAY_IMPORT, f"mim/{part} has no place in the table of docs/architecture.md"
    allowed = MAY_IMPORT[part] | {part, "", "__version__"}
    wrong = [f"line {line}: mim.{name}" for line, name in imported(path) if name not in allowed]
    assert not wrong, f"mim/{part} may import {sorted(allowed)}: {wrong}"


def test_the_package_itself_imports_nothing_of_its_own() -> None:
    assert not list(imported(PACKAGE / "__init__.py"))


def test_the_table_has_no_cycle() -> None:
    seen: set[str] = set()

    def visit(part: str, above: tuple[str, ...]) -> None:
        assert part not in above, " → ".join([*above, part])
        if part not in seen:
            for other in MAY_IMPORT.get(part, set()) - BASE:
                visit(other, (*above, part))
            seen.add(part)

    for part in MAY_IMPORT:
        visit(part, ())


def test_files_stay_small() -> None:
    """About 400 lines; a file much longer than that is missing a concept."""
    long = {str(p.relative_to(ROOT)): n for p in SOURCES if (n := len(p.read_text("utf-8").splitlines())) > 450}
    assert not long, long
