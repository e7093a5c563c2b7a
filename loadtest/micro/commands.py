"""The commands that measure one part alone."""

from typing import Annotated

import typer
import uvloop

from loadtest.launch import allow_many_files
from loadtest.load.client import LoadError
from loadtest.micro import bus as bus_paths
from loadtest.micro import commit as commit_function
from loadtest.micro import redis_cost
from loadtest.micro import storage as stored_bytes
from loadtest.options import Core, Json, Rounds, Users
from loadtest.running import finish, refuse
from loadtest.server import ServerError
from mim import logs


def commit(
    users: Users = 2000, rounds: Rounds = 3, core: Core = 0, json: Json = False,
    sizes: Annotated[str, typer.Option(help="Batch sizes.")] = ",".join(map(str, commit_function.SIZES)),
) -> None:  # fmt: skip
    """The database function that stores a batch, alone, by batch size."""
    logs.configure("warning", "text")
    finish(commit_function.run(users, [int(size) for size in sizes.split(",")], rounds, core), None, json)


def bus(
    messages: Annotated[int, typer.Option(min=100, help="Messages of a round, for each way.")] = 20_000,
    rounds: Rounds = 5, json: Json = False,
) -> None:  # fmt: skip
    """Publishing and receiving through a private Redis, by way of doing it: CPU of Python."""
    logs.configure("warning", "text")
    finish(uvloop.run(bus_paths.run(messages, rounds)), None, json)


def redis(
    messages: Annotated[int, typer.Option(min=100, help="Messages of a round, for each way.")] = 10_000,
    rounds: Rounds = 3, json: Json = False,
) -> None:  # fmt: skip
    """Publishing through a private Redis: CPU of Redis itself, by who listens and how many come together."""
    logs.configure("warning", "text")
    finish(uvloop.run(redis_cost.run(messages, rounds)), None, json)


def storage(
    messages: Annotated[int, typer.Option(min=1000, help="Messages of each kind.")] = 50_000,
    chats: Annotated[int, typer.Option(min=10, help="Chats in which they are.")] = 2_000,
    text_bytes: Annotated[int, typer.Option(min=1, max=10_000, help="UTF-8 bytes of a text.")] = 64,
    seed: int = 1, json: Json = False,
) -> None:  # fmt: skip
    """Bytes of a stored message in Postgres, and of its write-ahead log."""
    logs.configure("warning", "text")
    finish(uvloop.run(stored_bytes.run(messages, chats, text_bytes, seed)), None, json)


def push(
    part: Annotated[str, typer.Option(help="clients, providers or fan-out.")] = "fan-out",
    count: Annotated[int, typer.Option(min=100, help="Notifications of a round; members of a fan-out.")] = 10_000,
    at_once: Annotated[int, typer.Option(min=1, help="Requests on the way.")] = 100,
    platform: Annotated[str, typer.Option(help="Of a fan-out: apns, fcm, webpush or webhook.")] = "apns",
    rounds: Rounds = 3, core: Core = 0, json: Json = False,
) -> None:  # fmt: skip
    """Notifications: HTTP/2 clients side by side, each provider alone, or a fan-out through a whole server."""
    try:
        from loadtest.micro import (
            push as push_paths,  # late: its far end needs a package of the development environment
        )
    except ModuleNotFoundError as exc:
        refuse(f"{exc.name} is not installed; `make .venv/.installed-dev` brings it")
    logs.configure("warning", "text")
    allow_many_files()
    try:
        if part == "clients":
            report = uvloop.run(push_paths.clients(count, at_once, rounds))
        elif part == "providers":
            report = uvloop.run(push_paths.providers(count, at_once, rounds))
        else:
            push_paths.free_core(core)
            report = uvloop.run(push_paths.fan_out(count, platform, rounds, core))
    except (ServerError, LoadError) as exc:
        refuse(str(exc))
    finish(report, None, json)
