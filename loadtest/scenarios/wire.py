"""Bytes on the wire by frame, WebSocket framing included, TCP and TLS not."""

from typing import Any, Final

import msgpack

from loadtest.load.client import ACK, MSG, PONG, READBY, TEXT, Client, client_message
from loadtest.load.crew import Crew
from loadtest.load.many import wait_until
from loadtest.running import Run, scenario

ID: Final = 2**31  # an id of five bytes, as in a large deployment
NUMBER: Final = 1000  # a cid or seq of three bytes
AT: Final = 1_700_000_000
HEARD_S: Final = 10.0


@scenario
async def wire(run: Run) -> None:
    """Bytes by frame: a message, a READ, a keep-alive, a sign-in.

    Two users say something; every frame is weighed. The same frames with the ids of a large deployment are
    computed beside it, because a young server has small ones.
    """
    report = run.report
    report.settings["text_bytes"] = len(TEXT)
    report.rounds.append(await _weigh(Crew(run.place(3))) | _large())
    report.checked.append("every frame that was waited for came")
    report.notes.append(f"{2 * len(TEXT)} of a message's bytes are its text, once up and once down")


async def _weigh(crew: Crew) -> dict[str, float]:
    """Two who talk, and one who only comes."""
    a, b = await crew.sign_in(0), await crew.sign_in(1)
    chat = await a.create_chat("direct", [b.user])
    a.frame_sizes, b.frame_sizes = {}, {}
    send = a.write(2, 1, chat, TEXT)
    await _heard(a, ACK)
    await _heard(b, MSG)
    read = b.write(3, chat, 1)
    await _heard(a, READBY)
    ping = a.write(8, 240)
    await _heard(a, PONG)
    sizes = {op: seen[0] for op, seen in {**a.frame_sizes, **b.frame_sizes}.items()}
    guest = await crew.sign_in(2)
    figures: dict[str, float] = {
        "SEND bytes": send,
        "ACK bytes": sizes[ACK],
        "MSG bytes": sizes[MSG],
        "message: SEND + ACK + MSG bytes": send + sizes[ACK] + sizes[MSG],
        "READ bytes": read,
        "READBY bytes": sizes[READBY],
        "PING bytes": ping,
        "PONG bytes": sizes[PONG],
        "sign-in: bytes up": guest.bytes_up,
        "sign-in: bytes down": guest.bytes_down,
    }
    crew.clients = [a, b, guest]
    await crew.close()
    return figures


def _large() -> dict[str, float]:
    """The frames of a message with large ids, by an independent msgpack."""
    send = len(client_message(msgpack.packb([2, NUMBER, ID, TEXT])))
    ack = _served([ACK, NUMBER, NUMBER, AT])
    msg = _served([MSG, ID, NUMBER, ID, AT, TEXT])
    return {"message with ids of a large deployment bytes": send + ack + msg}


def _served(frame: list[Any]) -> int:
    payload = len(msgpack.packb(frame))
    return payload + (2 if payload < 126 else 4)


async def _heard(client: Client, op: int) -> None:
    """Wait for the first frame of this kind."""
    assert client.frame_sizes is not None
    sizes = client.frame_sizes
    await wait_until(lambda: op in sizes, HEARD_S, f"a frame with op {op}")
