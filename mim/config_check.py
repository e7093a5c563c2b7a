"""Reading the settings so that a mistake is told in a sentence: which setting, where it was set, what to do.

The value of a setting is never repeated, since it may be the secret that was put into the wrong line.
"""

import difflib
import os
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_settings import SettingsError as SourceError

from mim.config import Settings

NO_SETTINGS = ("MIM_CONFIG",)  # MIM_ variables that are read elsewhere
NO_SETTINGS_PREFIX = "MIM_TEST_"
FILES = ("tls_certificate", "tls_key", "push_ca", "push_apns_key", "push_apns_certificate", "push_fcm_credentials")

BESIDES_POOL = 10  # connections of a node: its committer's, the one that holds its locks, those of push and sessions
EMBEDDED_CONNECTIONS = 90  # of the 100 that mim/embedded.py allows, some are the superuser's and the commands'


class SettingsError(Exception):
    """The settings cannot be used; `problems` has a sentence for each thing that is wrong."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def load_settings(**options: Any) -> Settings:
    """The effective settings; options that are None were not given. Raises SettingsError."""
    given = {name: value for name, value in options.items() if value is not None}
    file = settings_file()
    in_file = _read(file) if file is not None else {}
    problems = _unknown_variables() + [
        _unknown(f"key {name} in {file}", name, list(Settings.model_fields))
        for name in in_file
        if name not in Settings.model_fields
    ]
    try:
        settings = Settings(**given)
    except SourceError as exc:  # a value that its source could not decode
        raise SettingsError([*problems, str(exc)]) from exc
    except ValidationError as exc:
        problems += [
            _sentence(dict(error), given, in_file)
            for error in exc.errors(include_url=False, include_input=False)
            if error["type"] != "extra_forbidden"
        ]
        raise SettingsError(problems) from exc
    problems += _unreadable_files(settings) + _too_many_workers(settings)
    if problems:
        raise SettingsError(problems)
    return settings


def settings_file() -> Path | None:
    """The TOML file that is read, if there is one. Raises SettingsError when MIM_CONFIG names none."""
    named = os.environ.get("MIM_CONFIG")
    file = Path(named or "mim.toml")
    if named is not None and not file.is_file():
        raise SettingsError([f"MIM_CONFIG names {named!r}, which is no file; correct the path or unset MIM_CONFIG."])
    return file if file.is_file() else None


def source_of(name: str, options: Mapping[str, Any], in_file: Mapping[str, Any]) -> str | None:
    """Where setting `name` was set, as an operator would call it; None for a default."""
    if name in options:
        return f"option --{name.replace('_', '-')}"
    if any(variable.upper() == f"MIM_{name.upper()}" and value for variable, value in os.environ.items()):
        return f"MIM_{name.upper()}"
    return f"{name} in {settings_file()}" if name in in_file else None


def read_settings_file() -> dict[str, Any]:
    """What the TOML file says; empty without one. Raises SettingsError."""
    file = settings_file()
    return _read(file) if file is not None else {}


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text())
    except OSError as exc:
        raise SettingsError([f"{file} cannot be read ({exc.strerror}); correct its permissions."]) from exc
    except ValueError as exc:  # TOML or UTF-8; tomllib tells line and column, not the text
        raise SettingsError([f"{file} is no TOML: {exc}."]) from exc


def _unknown_variables() -> list[str]:
    known = [f"MIM_{name.upper()}" for name in Settings.model_fields]
    return [
        _unknown(f"variable {variable}", variable.upper(), known)
        for variable in sorted(os.environ)
        if variable.upper().startswith("MIM_")
        and variable.upper() not in (*known, *NO_SETTINGS)
        and not variable.upper().startswith(NO_SETTINGS_PREFIX)
    ]


def _unknown(what: str, name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, 1)
    hint = f"did you mean {near[0]}?" if near else "remove it, or see `mim config --reference` for those there are."
    return f"Unknown {what}: {hint}"


def _sentence(error: dict[str, Any], given: Mapping[str, Any], in_file: Mapping[str, Any]) -> str:
    """A sentence of one pydantic error: {"loc": (name, ...), "msg": "...", "type": "..."}."""
    message = str(error["msg"]).removeprefix("Value error, ").removeprefix("Input ")
    if not error["loc"]:
        return f"The settings do not fit together: {message}."
    name = str(error["loc"][0])
    where = source_of(name, given, in_file) or name
    about = Settings.model_fields[name].description
    return f"{where} {message} ({about})" if about else f"{where} {message}."


def _too_many_workers(settings: Settings) -> list[str]:
    """More processes than the system or the embedded Postgres can serve."""
    if settings.workers > 1 and sys.platform != "linux":
        return ["workers: only Linux spreads connections over processes that share a port; leave it at 1"]
    wanted = (settings.workers + 1) * (settings.database_pool + BESIDES_POOL)  # one more while one is replaced
    if settings.workers > 1 and settings.database_url is None and wanted > EMBEDDED_CONNECTIONS:
        return [
            f"workers: {settings.workers} of them with a database_pool of {settings.database_pool} want {wanted} "
            f"connections, the embedded Postgres has {EMBEDDED_CONNECTIONS} for them; lower one of the two, or set "
            "MIM_DATABASE_URL"
        ]
    return []


def _unreadable_files(settings: Settings) -> list[str]:
    return [
        f"{name} names {str(file)!r}, which cannot be read; correct the path or its permissions."
        for name, file in settings
        if name in FILES and file is not None and not os.access(file, os.R_OK)
    ]
