"""The pool of Postgres connections, with the settings every connection of mim carries.

The limits are set twice on purpose: the client gives up a little after the server does, so that a statement
that takes too long is ended where it runs and not only forgotten here.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import asyncpg
import orjson

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

    Pool: TypeAlias = asyncpg.Pool[asyncpg.Record]
    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]
else:  # the classes take no parameters at run time
    Pool = asyncpg.Pool
    Connection = asyncpg.Connection

COMMAND_TIMEOUT_S = 10.0
CONNECT_TIMEOUT_S = 5.0

# The database is away, overloaded, or rolled the work back for a reason outside of it. Whether a statement took effect
# is unknown: repeat what is safe to repeat, answer `unavailable` otherwise.
UNAVAILABLE = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # the connection said something unasked, as its last word before the server dies
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.TransactionRollbackError,
    asyncpg.ReadOnlySQLTransactionError,
)

# Milliseconds. The server's limit is below the client's, see above.
SERVER_SETTINGS = {
    "application_name": "mim",
    "jit": "off",
    "statement_timeout": "9000",
    "idle_in_transaction_session_timeout": "30000",
}


def _to_jsonb(value: Any) -> str:
    return orjson.dumps(value).decode()


async def prepare_connection(connection: Connection) -> None:
    """Make `jsonb` columns speak Python objects in both directions. Every connection goes through it."""
    await connection.set_type_codec(
        "jsonb", schema="pg_catalog", encoder=_to_jsonb, decoder=orjson.loads, format="text"
    )


async def _leave_as_it_is(connection: Connection) -> None:
    """What a connection goes back to the pool with. asyncpg has rolled back a transaction that was left open; nothing
    of ours sets variables, listens or locks for a session, so to reset those would be a round trip for nothing.
    """


# For work that goes by key alone, whatever the tables hold: a plan made while one was empty reads it from end to end
# when it is large. Plans are made once, since planning such statements takes longer than running them.
BY_KEY = {
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "plan_cache_mode": "force_generic_plan",
}


async def open_pool(url: str, size: int, settings: Mapping[str, str] | None = None) -> Pool:
    """A pool of at most `size` connections to the database `url` (postgresql://...), with extra server settings.

    Opens two connections at once and the rest when needed, so a server that is away or refuses is told here:
    raises OSError or asyncpg.PostgresError. The caller closes the pool.
    """
    return await asyncpg.create_pool(
        url,
        min_size=min(2, size),
        max_size=size,
        timeout=CONNECT_TIMEOUT_S,
        command_timeout=COMMAND_TIMEOUT_S,
        server_settings={**SERVER_SETTINGS, **(settings or {})},
        init=prepare_connection,
        reset=_leave_as_it_is,
    )


Connector: TypeAlias = Callable[[Mapping[str, str]], Awaitable[Connection]]
"""Opens a connection of one's own with extra server settings."""


def connector(url: str) -> Connector:
    """How to open single connections to `url` outside any pool. The caller of the connector closes them."""

    async def connect(settings: Mapping[str, str]) -> Connection:
        connection: Connection = await asyncpg.connect(
            url,
            timeout=CONNECT_TIMEOUT_S,
            command_timeout=COMMAND_TIMEOUT_S,
            server_settings={**SERVER_SETTINGS, **settings},
        )
        await prepare_connection(connection)
        return connection

    return connect
