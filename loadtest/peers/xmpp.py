"""A client of an XMPP server: RFC 7395's WebSocket, rooms (XEP-0045), stream management (XEP-0198), archive (XEP-0313).

It scans bytes, as :class:`loadtest.load.client.Client` does. A stanza's id is its number among those of its sender: who
hears a chat checks that they come as 1, 2, 3, ... In the end everybody asks the archive how many messages it holds.
"""

import asyncio
import base64
import secrets
import struct
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import ClassVar, Final

import jwt

from loadtest.checks.invariants import Verdict
from loadtest.load.client import NO_MASK, PATIENCE_S, TEXT, Client, LoadError
from loadtest.load.crew import Crew
from loadtest.load.many import wait_until
from loadtest.peers import PeerClient
from loadtest.running import Run

HOST: Final = "load"
ROOMS: Final = f"conference.{HOST}"
ROOM: Final = 1 << 40  # from here on ids of chats are those of rooms
PASSWORD: Final = "secret"  # noqa: S105
WEIGHED: Final = 100  # messages
QUIET_S: Final = 0.2


def text_message(payload: bytes) -> bytes:
    """A text WebSocket message from a client, masked with zeros (RFC 6455 section 5.2)."""
    size = len(payload)
    return (bytes((0x81, 0x80 | size)) if size < 126 else struct.pack("!BBH", 0x81, 0xFE, size)) + NO_MASK + payload


OPEN: Final = text_message(f"<open xmlns='urn:ietf:params:xml:ns:xmpp-framing' to='{HOST}' version='1.0'/>".encode())
CLOSE: Final = text_message(b"<close xmlns='urn:ietf:params:xml:ns:xmpp-framing'/>")
ENABLE: Final = text_message(b"<enable xmlns='urn:xmpp:sm:3' resume='true'/>")
REQUEST: Final = text_message(b"<r xmlns='urn:xmpp:sm:3'/>")
BIND: Final = text_message(
    b"<iq type='set' id='bind'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>load</resource></bind></iq>"
)
PRESENCE: Final = text_message(b"<presence/>")
UPGRADE: Final = (
    f"GET /ws HTTP/1.1\r\nHost: {HOST}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: xmpp\r\n\r\n"
).encode()
COUNT: Final = (
    "<iq type='set' id='%d'%s><query xmlns='urn:xmpp:mam:2'><x xmlns='jabber:x:data' type='submit'>"
    "<field var='FORM_TYPE' type='hidden'><value>urn:xmpp:mam:2</value></field>"
    "<field var='start'><value>%s</value></field></x>"
    "<set xmlns='http://jabber.org/protocol/rsm'><max>0</max></set></query></iq>"
)
NUMBER: Final = b"00000000"
PING, PONG, CLOSED = 0x89, 0x8A, 0x88


class XmppClient(PeerClient):
    """A message between two is acknowledged when the server says so (XEP-0198), which it is asked after every message;
    it has then been stored. In a room such an answer says only that the message was read; there it is acknowledged
    when the room sends it back, which is after it was stored.

    The id of a chat between two tells who they are; that of a room is a number of chance, and its name.
    """

    ACKS: ClassVar = True

    def __init__(self) -> None:
        super().__init__()
        self.session = {"limits": {}, "resumed": False}
        self._began = datetime.now(UTC)
        self._name = ""
        self._room = 0
        self._received = 0  # stanzas since `enabled`, which the server wants to hear of
        self._others = 0  # stanzas sent since then that are no messages
        self._missing = 0  # answers until SYNCED
        self._from = self._own = b"\0"  # in the tag of a message of the chat that others, that we sent

    # -- stanzas in ------------------------------------------------------------------------

    def _take_upgrade(self, data: bytes, end: int) -> int:
        self._write(OPEN)
        return super()._take_upgrade(data, end)

    def _take(self, data: bytes, start: int, end: int, header: int) -> None:
        if data.startswith(b"<message", start):
            self._received += 1
            self._take_message(data, start, data.find(b">", start, end), end)
        elif data.startswith(b"<a ", start):
            at = data.index(b"h='", start, end) + 3
            if self.chat < ROOM:
                self._acknowledge(int(data[at : data.index(b"'", at)]) - self._others)
        elif data.startswith(b"<r ", start):
            self._write(text_message(b"<a xmlns='urn:xmpp:sm:3' h='%d'/>" % self._received))
        elif data[start - header] == PING:
            self._write(bytes((PONG, 0x80 | (end - start))) + NO_MASK + data[start:end])
        elif data[start - header] == PONG:
            self.pongs += 1
        elif data[start - header] == CLOSED:
            self._transport.close()
        else:
            self._take_other(data[start:end])

    def _take_message(self, data: bytes, start: int, tag: int, end: int) -> None:
        """Its tag ends at `tag`."""
        at = data.find(b" id='", start, tag) + 5
        if data.find(self._own, start, tag) >= 0:
            self._acknowledge(int(data[at : at + len(NUMBER)]))
        elif data.find(self._from, start, tag) >= 0:
            self.heard += 1
            self.seqs_heard.append(int(data[at : at + len(NUMBER)]))
            self._hears()
        elif data.find(b"jabber:x:conference", tag, end) >= 0:
            at = data.rindex(b"jid='g", tag, end) + 6
            self._join(int(data[at : data.index(b"@", at)]))
        elif data.find(b"type='error'", start, tag) >= 0:
            self.problems.append(repr(data[start:end][:300]))

    def _acknowledge(self, count: int) -> None:
        self.acked = max(self.acked, count)
        if self._probe and count >= self._probe:
            self.ack_times.append(time.perf_counter() - self._probed_at)
            self._probe = 0

    def _hears(self) -> None:
        """A message came."""

    def _take_other(self, stanza: bytes) -> None:
        """Answers on the way to SYNCED, and to what was asked."""
        if stanza.startswith((b"<iq", b"<presence")):
            self._received += 1
        if stanza.startswith(b"<stream:features"):
            self._write(BIND if b"xmpp-bind" in stanza else self._auth())
        elif stanza.startswith(b"<success"):
            self._write(OPEN)
        elif stanza.startswith(b"<iq"):
            self._take_iq(stanza)
        elif stanza.startswith(b"<enabled"):
            self._received = 0
            self._step()
        elif stanza.startswith(b"<presence"):
            self._take_presence(stanza)
        if stanza.startswith((b"<failure", b"<failed", b"<stream:error")) or b"type='error'" in stanza:
            self.problems.append(repr(stanza[:300]))
            if not self.synced.done():
                self._transport.abort()

    def _take_presence(self, stanza: bytes) -> None:
        if b"status code='110'" in stanza:  # our own in a room, after everybody else's
            self.chats[self._room] = {}
        elif f"from='{self._name}@{HOST}/load'".encode() in stanza:
            self._step()

    def _auth(self) -> bytes:
        secret = base64.b64encode(f"\0{self._name}\0{PASSWORD}".encode()).decode()
        auth = f"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{secret}</auth>"
        return text_message(auth.encode())

    def _take_iq(self, stanza: bytes) -> None:
        if b"id='bind'" in stanza:
            self._missing = 2 + self.ACKS
            self._others = 2
            roster = f"<iq type='get' id='roster'><query xmlns='jabber:iq:roster' ver='{self.cursor}'/></iq>"
            self._write((ENABLE if self.ACKS else b"") + text_message(roster.encode()) + PRESENCE)
        elif b"id='roster'" in stanza:
            if b"ver='" in stanza:
                self.cursor = stanza.partition(b"ver='")[2].partition(b"'")[0].decode()
            self.session["resumed"] = b"<query" not in stanza
            self.chats = {number: {} for number in range(stanza.count(b"<item "))}
            self._step()
        elif (waiting := self._answers.pop(self._ref, None)) is not None:
            at = stanza.find(b"<count>") + 7
            if at < 7:
                waiting.set_exception(LoadError(f"the archive tells {stanza[:300]!r}"))
            else:
                waiting.set_result(int(stanza[at : stanza.index(b"<", at)]))

    def _step(self) -> None:
        self._missing -= 1
        if self._missing == 0 and not self.synced.done():
            self.synced.set_result(None)

    # -- opening and entering --------------------------------------------------------------

    def open(self, token: str, cursor: str = "", options: str = "") -> None:
        """Upgrade and sign in; the cursor is the version of the roster. The token tells only who we are."""
        name: str = jwt.decode(token, options={"verify_signature": False})["sub"]
        self.session["user"] = name.rpartition("-")[2]
        self._name = f"u{self.user}"
        self.cursor = cursor
        self._write(UPGRADE)

    async def create_chat(self, kind: str, members: Sequence[int]) -> int:
        """A chat between two needs nothing. A room is made by entering it, and the others are asked to come."""
        if kind == "direct":
            return pair(self.user, members[0])
        room = ROOM + secrets.randbelow(ROOM)
        self._join(room)
        await wait_until(lambda: self.knows(room), PATIENCE_S, "entering a room")
        for member in members:
            body = f"<x xmlns='jabber:x:conference' jid='g{room}@{ROOMS}'/>"
            self._write(text_message(f"<message to='u{member}@{HOST}'>{body}</message>".encode()))
        self._others += len(members)
        return room

    def _join(self, room: int) -> None:
        self._room = room
        self._others += 1
        presence = f"<presence to='g{room}@{ROOMS}/{self._name}'><x xmlns='http://jabber.org/protocol/muc'/></presence>"
        self._write(text_message(presence.encode()))

    def knows(self, chat: int) -> bool:
        """A chat between two is always there; a room is when it was entered."""
        return chat < ROOM or chat in self.chats

    def enter(self, chat: int, text: str) -> None:
        """Choose the chat in which messages with this text are sent, and whose messages are checked."""
        self.chat = chat
        if chat < ROOM:
            partner = f"u{sum(unpair(chat)) - self.user}@{HOST}"
            kind, to, self._from = "chat", partner, f" from='{partner}/".encode()
        else:
            kind, to = "groupchat", f"g{chat}@{ROOMS}"
            self._from, self._own = f" from='{to}/".encode(), f" from='{to}/{self._name}'".encode()
        tail = f"'><body>{text}</body></message>".encode()
        whole = text_message(f"<message to='{to}' type='{kind}' id='".encode() + NUMBER + tail)
        self._message = (whole[: -len(NUMBER + tail)], tail + (REQUEST if self.ACKS else b""))

    def keep_alive(self, next_s: int) -> None:
        """A ping of the WebSocket."""
        self._write(bytes((PING, 0x80)) + NO_MASK)

    async def close(self) -> None:
        """Say goodbye, or a session stays to be resumed, and wait until it is done."""
        if not self._transport.is_closing():
            self._write(CLOSE)
        await asyncio.wait_for(asyncio.shield(self.lost), PATIENCE_S)

    def hang_up(self) -> None:
        """Without a goodbye."""
        self._transport.abort()

    # -- traffic ---------------------------------------------------------------------------

    def _send(self, count: int) -> None:
        before, after = self._message
        first = self.sent + 1
        self.sent += count
        if not self._probe:
            self._probe, self._probed_at = first, time.perf_counter()
        self._write(b"".join([b"%b%08d%b" % (before, number, after) for number in range(first, first + count)]))

    def _write(self, data: bytes) -> None:
        self.bytes_up += len(data)
        self._transport.write(data)

    # -- what must hold --------------------------------------------------------------------

    async def judge(self) -> Verdict:
        """What was sent is acknowledged, what was heard came in order, and the archive has what both make up."""
        verdict = Verdict(acknowledged=self.acked, received=self.heard)
        for problem in self.problems:
            verdict.broken("answers agree with each other", f"{self._name}: {problem}")
        if self.lost.done():
            verdict.broken("everybody has everything", f"{self._name}: the connection was lost")
            return verdict
        if self.acked != self.sent:
            where = f"{self._name}: {self.sent} sent, {self.acked} acknowledged"
            verdict.broken("every message is acknowledged in the end", where)
        if list(self.seqs_heard) != list(range(1, self.heard + 1)):
            verdict.broken("live messages come in order", f"{self._name}: holes, doubles, or out of order")
        if (archived := await self._archived()) != self.sent + self.heard:
            where = f"{self._name}: {self.sent} sent, {self.heard} heard, {archived} in the archive"
            verdict.broken("nothing acknowledged is lost", where)
        return verdict

    async def _archived(self) -> int:
        """How many messages the archive of the room, or of this user, has got since we signed in."""
        self._ref += 1
        answer = self._answers[self._ref] = asyncio.get_running_loop().create_future()
        to = f" to='g{self.chat}@{ROOMS}'" if self.chat >= ROOM else ""
        self._write(text_message((COUNT % (self._ref, to, f"{self._began:%Y-%m-%dT%H:%M:%S.%fZ}")).encode()))
        return int(await asyncio.wait_for(answer, PATIENCE_S))


class PlainXmppClient(XmppClient):
    """Without XEP-0198. Between two, who must be in one process, a message counts as acknowledged when the other has
    heard it."""

    ACKS: ClassVar = False
    here: ClassVar[dict[int, "PlainXmppClient"]] = {}

    def enter(self, chat: int, text: str) -> None:
        """Be found by the other side."""
        super().enter(chat, text)
        self.here[self.user] = self

    def run(self, window: int) -> None:
        """Remember the window."""
        self._window, self._catching_up = window, False
        super().run(window)

    def _hears(self) -> None:
        if self.chat < ROOM:
            self.here[sum(unpair(self.chat)) - self.user].was_heard(self.heard)

    def was_heard(self, count: int) -> None:
        """The other side has so many; more follow in one go, after it has read what lies there."""
        self._acknowledge(count)
        if self._running and not self._catching_up:
            self._catching_up = True
            asyncio.get_running_loop().call_soon(self._catch_up)

    def _catch_up(self) -> None:
        self._catching_up = False
        if self._running and self.sent - self.acked < self._window:
            self._send(self._window - (self.sent - self.acked))


def pair(one: int, other: int) -> int:
    """The id of the chat between two."""
    return min(one, other) << 20 | max(one, other)


def unpair(chat: int) -> tuple[int, int]:
    """Who they are."""
    return chat >> 20, chat & (1 << 20) - 1


# -- the wire --------------------------------------------------------------------------------


async def wire(run: Run) -> None:
    """Bytes of a message up and down with all that acknowledges it on both sides, and of a sign-in; WebSocket framing
    included, TCP and TLS not."""
    crew = Crew(run.place(3))
    a, b = crew.clients = [await crew.sign_in(0), await crew.sign_in(1)]
    for client in crew.clients:
        client.enter(pair(0, 1), TEXT)
    before = _bytes(a, b)
    for number in range(1, WEIGHED + 1):
        a.send()
        await wait_until(lambda: a.acked == b.heard == number, PATIENCE_S, "a message")  # noqa: B023 - it is awaited
    await asyncio.sleep(QUIET_S)  # the last answers to <r/>
    after = _bytes(a, b)
    guest = await crew.sign_in(2)
    figures = {"sign-in: bytes up": guest.bytes_up, "sign-in: bytes down": guest.bytes_down}
    run.report.rounds.append({"message: bytes": (after - before) / WEIGHED, **figures})
    crew.clients.append(guest)
    await crew.close()


def _bytes(*clients: Client) -> int:
    return sum(client.bytes_up + client.bytes_down for client in clients)
