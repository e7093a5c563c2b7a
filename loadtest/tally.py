"""What must hold at the end of every run, whatever its figures are (proto/messages.md)."""

import asyncio
import time
from collections.abc import Sequence
from typing import Final

from loadtest.client import Client
from loadtest.crowd import few_at_a_time

SETTLE_S: Final = 30.0
SHOWN: Final = 5


async def settle(clients: Sequence[Client]) -> None:
    """Wait until everything that was sent is acknowledged and delivered, or SETTLE_S is over."""
    deadline = time.monotonic() + SETTLE_S
    expected: dict[int, int] = {}
    while time.monotonic() < deadline:
        expected.clear()
        for client in clients:
            expected[client.chat] = expected.get(client.chat, 0) + client.sent
        if all(c.acked == c.sent and c.acked + c.heard >= expected[c.chat] for c in clients):
            return
        await asyncio.sleep(0.05)


async def violations(clients: Sequence[Client]) -> list[str]:
    """Sentences about broken promises. Each client sent in one chat and heard its members from the first message on.

    What a client had acknowledged and what it heard, together, must be 1, 2, 3, ... up to the head that the server
    tells: then nothing is lost, doubled or left out, for anyone.
    """
    found: list[str] = []
    for answer in await few_at_a_time(_check, clients):
        found += answer
    return found[:SHOWN] + ([f"and {len(found) - SHOWN} more"] if len(found) > SHOWN else [])


async def _check(client: Client) -> list[str]:
    who = f"user {client.user} in chat {client.chat}"
    found = [f"{who}: {problem}" for problem in client.problems[:SHOWN]]
    if client.lost.done():
        return [*found, f"{who}: the connection was lost"]
    state = await client.call("chat.get", chat=client.chat)
    head: int = state["head"]
    if client.acked != client.sent:
        found.append(f"{who}: {client.sent} sent, {client.acked} acknowledged")
    for name, seqs in (("acknowledged", client.seqs_acked), ("heard", client.seqs_heard)):
        if any(seqs[i] >= seqs[i + 1] for i in range(len(seqs) - 1)):
            found.append(f"{who}: {name} out of order or twice")
    both = sorted([*client.seqs_acked, *client.seqs_heard])
    if both != list(range(1, head + 1)):
        found.append(f"{who}: holes or doubles, {len(both)} seqs with {len(set(both))} different ones for head {head}")
    own = client.seqs_acked[-1] if client.seqs_acked else 0
    if state["read"] != own:
        found.append(f"{who}: the watermark is {state['read']}, the last message of one's own {own}")
    return found
