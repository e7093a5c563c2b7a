"""What must hold at the end of every run, whatever its figures are, judged from the clients' own counts.

It asks little of a client, two integers a message, so that it serves for hundreds of thousands of messages. What bodies
said and what the database holds is for the complete check of :mod:`loadtest.checks.invariants`, in whose words this
answers.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Final

from loadtest.checks.invariants import Verdict
from loadtest.load.client import Client
from loadtest.load.many import few_at_a_time
from loadtest.peers import PeerClient

SETTLE_S: Final = 30.0


async def settle(clients: Sequence[Client], sent: Mapping[int, int]) -> None:
    """Wait until everything that was `sent` in each chat is acknowledged and delivered, or SETTLE_S is over."""
    deadline = time.monotonic() + SETTLE_S
    while time.monotonic() < deadline:
        if all(c.acked == c.sent and c.acked + c.heard >= sent[c.chat] for c in clients):
            return
        await asyncio.sleep(0.05)


async def tally(clients: Sequence[Client]) -> Verdict:
    """Compare what each client counted with what the server tells, in the words of :mod:`loadtest.checks.invariants`.

    Each client sent in one chat and heard its members from the first message on. What it had acknowledged and what it
    heard, together, must be 1, 2, 3, ... up to the head: then nothing is lost, doubled or left out, for anyone.
    """
    verdict = Verdict()
    for part in await few_at_a_time(_tally, clients):
        verdict.add(part)
    return verdict


async def _tally(client: Client) -> Verdict:
    if isinstance(client, PeerClient):
        return await client.judge()
    verdict = Verdict(acknowledged=client.acked, received=client.heard)
    who = f"user {client.user} in chat {client.chat}"
    for problem in client.problems:
        verdict.broken("answers agree with each other", f"{who}: {problem}")
    if client.lost.done():
        verdict.broken("everybody has everything", f"{who}: the connection was lost")
        return verdict
    state = await client.call("chat.get", chat=client.chat)
    head: int = state["head"]
    if client.acked != client.sent:
        where = f"{who}: {client.sent} sent, {client.acked} acknowledged"
        verdict.broken("every message is acknowledged in the end", where, client.sent - client.acked)
    for name, seqs, invariant in (
        ("acknowledged", client.seqs_acked, "a sender's order is kept"),
        ("heard", client.seqs_heard, "live messages come in order"),
    ):
        if any(seqs[i] >= seqs[i + 1] for i in range(len(seqs) - 1)):
            verdict.broken(invariant, f"{who}: {name} out of order or twice")
    both = sorted([*client.seqs_acked, *client.seqs_heard])
    if both != list(range(1, head + 1)):
        where = f"{who}: holes or doubles, {len(both)} seqs with {len(set(both))} different ones for head {head}"
        verdict.broken("everybody has everything", where, max(1, head - len(set(both))))
    own = client.seqs_acked[-1] if client.seqs_acked else 0
    if state["read"] != own:
        where = f"{who}: the watermark is {state['read']}, the last message of one's own {own}"
        verdict.broken("unread counts are exact", where)
    return verdict
