"""mim.client: an asyncio SDK for mim, enough to build a bot or an app on.

    import asyncio, os
    from mim.client import Client, Message

    client = Client(os.environ["BOT_URL"], token=os.environ["BOT_TOKEN"])

    @client.on_message
    async def echo(message: Message) -> None:
        client.read(message.chat, message.seq)
        await client.send(message.chat, message.text)

    asyncio.run(client.run_forever())

It connects, resumes with the cursor, comes back after a lost connection, sends again what was not
acknowledged under the same cid, fills gaps, and calls back exactly once for each message, in the order of its
chat. Give it a `FileState` to go on after a restart of the program. It speaks the wire with the `msgpack`
package and shares no frame declarations with the server.
"""

from mim.client.auth import Session, refresh_tokens, request_code, sign_in
from mim.client.client import Client
from mim.client.errors import (
    CallError,
    ClientClosed,
    ClientError,
    ConnectionLost,
    OutboxFull,
    ProtocolMistake,
    Replaced,
    SendRefused,
    SignedOut,
    StateInUse,
    Stopped,
    Unreachable,
    UpdateRequired,
)
from mim.client.models import Body, Change, Chat, Message, Note, ReadBy, Sent, Typing
from mim.client.state import ClientState, FileState
from mim.client.timeline import Timeline

__all__ = [
    "Body",
    "CallError",
    "Change",
    "Chat",
    "Client",
    "ClientClosed",
    "ClientError",
    "ClientState",
    "ConnectionLost",
    "FileState",
    "Message",
    "Note",
    "OutboxFull",
    "ProtocolMistake",
    "ReadBy",
    "Replaced",
    "SendRefused",
    "Sent",
    "Session",
    "SignedOut",
    "StateInUse",
    "Stopped",
    "Timeline",
    "Typing",
    "Unreachable",
    "UpdateRequired",
    "refresh_tokens",
    "request_code",
    "sign_in",
]
