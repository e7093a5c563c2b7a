"""The options that scenarios share, with their words for `--help`."""

from typing import Annotated

import typer

Url = Annotated[
    list[str] | None,
    typer.Option(help="http(s)://HOST:PORT of a server that runs, with its MIM_JWT_SECRET in the environment; once for "
                 "each node.", show_default="a private server"),
]  # fmt: skip
Json = Annotated[bool, typer.Option("--json", help="JSON lines instead of a table.")]
Core = Annotated[int, typer.Option(help="Core of the private server; the load comes from the others.")]
Nodes = Annotated[int, typer.Option(min=1, max=16, help="Nodes of the private server; with Redis from two on.")]
Ca = Annotated[
    str | None,
    typer.Option("--ca", metavar="FILE", help="PEM certificates to trust as well, for https URLs."),
]
Processes = Annotated[
    int, typer.Option(min=0, max=64, help="Load processes that share the users; 0: none, they are in this one.")
]
Folder = Annotated[
    str | None, typer.Option("--report", metavar="DIR", help="Write a page with plots, and the JSON lines, into DIR.")
]
Users = Annotated[int, typer.Option(min=2, help="Connections, each of a user of its own.")]
Inflight = Annotated[int, typer.Option(min=1, help="Unanswered messages that a sender keeps on the way.")]
Rate = Annotated[
    float,
    typer.Option(min=0.0, help="Messages/s of all senders together, sent when they are due whatever is answered; 0: as "
                 "fast as they are acknowledged, --inflight on the way."),
]  # fmt: skip
Duration = Annotated[float, typer.Option(min=0.1, help="Seconds of a round, warm-up not counted.")]
Rounds = Annotated[int, typer.Option(min=1, help="Rounds, one after the other; the table shows their median.")]
Chats = Annotated[int, typer.Option(min=0, help="Chats of a user.")]
