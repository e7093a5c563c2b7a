"""The client of XMPP servers reads what ejabberd 23.01 said, as it was recorded. Nothing here needs it installed."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from loadtest.load.client import TEXT, make_token
from loadtest.peers import xmpp
from loadtest.peers.xmpp import ROOM, PlainXmppClient, XmppClient, pair, text_message
from loadtest.server import SECRET
from tests.harness import until

UPGRADED = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-Websocket-Protocol:xmpp\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)
OPENED = b"<open xmlns='urn:ietf:params:xml:ns:xmpp-framing' id='94651' version='1.0' xml:lang='en' from='load'/>"
FEATURES = (
    b"<stream:features xmlns:stream='http://etherx.jabber.org/streams'><mechanisms "
    b"xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>PLAIN</mechanism><mechanism>X-OAUTH2</mechanism></mechanisms>"
    b"</stream:features>"
)
SUCCESS = b"<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>"
BINDING = (
    b"<stream:features xmlns:stream='http://etherx.jabber.org/streams'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/>"
    b"<session xmlns='urn:ietf:params:xml:ns:xmpp-session'><optional/></session><sm xmlns='urn:xmpp:sm:3'/>"
    b"<ver xmlns='urn:xmpp:features:rosterver'/></stream:features>"
)
BOUND = (
    b"<iq xmlns='jabber:client' type='result' id='bind'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>"
    b"<jid>u1@load/load</jid></bind></iq>"
)
ENABLED = b"<enabled resume='true' max='300' id='g2gCbQAAAARsb2FkbQAAAAjZ3tKfbhhGgQ==' xmlns='urn:xmpp:sm:3'/>"
ROSTER = (
    b"<iq xmlns='jabber:client' xml:lang='en' to='u1@load/load' from='u1@load' type='result' id='roster'>"
    b"<query xmlns='jabber:iq:roster' ver='5ac1'><item subscription='both' jid='u0@load'/>"
    b"<item subscription='both' jid='u2@load'/></query></iq>"
)
SAME_ROSTER = b"<iq xmlns='jabber:client' xml:lang='en' to='u1@load/load' from='u1@load' type='result' id='roster'/>"
ASKS = b"<r xmlns='urn:xmpp:sm:3'/>"
PRESENT = b"<presence xmlns='jabber:client' xml:lang='en' to='u1@load/load' from='u1@load/load'/>"
OTHER_PRESENT = b"<presence xmlns='jabber:client' xml:lang='en' to='u1@load/load' from='u0@load/load'/>"
HEARD = (
    b"<message xmlns='jabber:client' xml:lang='en' to='u1@load' from='u0@load/load' type='chat' id='0000000%d'>"
    b"<archived by='u1@load' id='1795520693107956' xmlns='urn:xmpp:mam:tmp'/>"
    b"<stanza-id by='u1@load' id='1795520693107956' xmlns='urn:xmpp:sid:0'/><body>"
    + TEXT.encode()
    + b"</body></message>"
)
ACKED = b"<a h='%d' xmlns='urn:xmpp:sm:3'/>"
AUTH = b"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>AHUxAHNlY3JldA==</auth>"
INVITED = (
    b"<message xmlns='jabber:client' xml:lang='en' to='u1@load' from='u0@load/load'>"
    b"<x jid='%s' xmlns='jabber:x:conference'/></message>"
)
ENTERED = (
    b"<presence xmlns='jabber:client' xml:lang='en' to='u1@load/load' from='%s/u1'>"
    b"<x xmlns='http://jabber.org/protocol/muc#user'><item jid='u1@load/load' role='participant' affiliation='none'/>"
    b"<status code='%d'/></x></presence>"
)
IN_ROOM = (
    b"<message xmlns='jabber:client' xml:lang='en' to='u1@load/load' from='%s/%s' type='groupchat' id='0000000%d'>"
    b"<stanza-id by='room@conference.load' id='1795520693983279' xmlns='urn:xmpp:sid:0'/>"
    b"<body>" + TEXT.encode() + b"</body></message>"
)
COUNTED = (
    b"<iq xmlns='jabber:client' xml:lang='en' to='u1@load/load' from='u1@load' type='result' id='1'>"
    b"<fin complete='false' xmlns='urn:xmpp:mam:2'><set xmlns='http://jabber.org/protocol/rsm'><count>%d</count></set>"
    b"</fin></iq>"
)
SIGNED_IN = [OPENED, FEATURES, SUCCESS, OPENED, BINDING, BOUND, ENABLED, ROSTER, ASKS, PRESENT]


def served(*stanzas: bytes) -> bytes:
    """As the server's WebSocket frames, which carry no mask."""
    return b"".join(
        (bytes((0x81, len(stanza))) if len(stanza) < 126 else b"\x81\x7e" + len(stanza).to_bytes(2, "big")) + stanza
        for stanza in stanzas
    )


class Ear(asyncio.Protocol):
    """The far end: it listens, and says nothing."""

    def __init__(self) -> None:
        self.heard = bytearray()

    def data_received(self, data: bytes) -> None:
        self.heard += data


Connect = Callable[[int], Awaitable[tuple[XmppClient, Ear]]]


@asynccontextmanager
async def connecting(kind: type[XmppClient]) -> AsyncIterator[Connect]:
    """Clients whose server is silent: what ejabberd would say is given to them by hand, in any pieces."""
    loop = asyncio.get_running_loop()
    ears: list[Ear] = []
    clients: list[XmppClient] = []

    def listen() -> Ear:
        ears.append(Ear())
        return ears[-1]

    async def connect(number: int) -> tuple[XmppClient, Ear]:
        _, client = await loop.create_connection(kind, *server.sockets[0].getsockname())
        clients.append(client)
        await until(lambda: len(ears) == len(clients))
        client.open(make_token(SECRET, f"load-x-{number}"))
        return client, ears[-1]

    server = await loop.create_server(listen, "127.0.0.1", 0)
    try:
        yield connect
    finally:
        for client in clients:
            client.hang_up()
            await client.lost
        server.close()
        await server.wait_closed()


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    """Clients with acknowledgements."""
    async with connecting(XmppClient) as connect:
        yield connect


@pytest.fixture
async def connect_plain() -> AsyncIterator[Connect]:
    """Clients without."""
    async with connecting(PlainXmppClient) as connect:
        yield connect


def signed_in(client: XmppClient) -> None:
    """Let it come to SYNCED."""
    client.data_received(UPGRADED + served(*SIGNED_IN))
    assert client.synced.done()


@pytest.mark.parametrize("size", [1, 7, 1000, 100_000])
async def test_it_signs_in_however_the_bytes_are_cut(connect: Connect, size: int) -> None:
    client, ear = await connect(1)
    stream = UPGRADED + served(*SIGNED_IN)
    for at in range(0, len(stream), size):
        assert not client.synced.done()
        client.data_received(stream[at : at + size])
    assert client.synced.done()
    assert (client.user, client.cursor, len(client.chats)) == (1, "5ac1", 2)
    assert not client.session["resumed"]
    asked = b"<iq type='get' id='roster'><query xmlns='jabber:iq:roster' ver=''/></iq>"
    answered = b"<a xmlns='urn:xmpp:sm:3' h='1'/>"  # to <r/>: one stanza came since `enabled`
    said = [xmpp.UPGRADE, xmpp.OPEN, text_message(AUTH), xmpp.OPEN, xmpp.BIND, xmpp.ENABLE]
    said += [text_message(asked), xmpp.PRESENCE, text_message(answered)]
    await until(lambda: bytes(ear.heard) == b"".join(said))
    assert (client.bytes_up, client.bytes_down) == (len(b"".join(said)), len(stream))


async def test_with_a_roster_that_is_known_nothing_is_told(connect: Connect) -> None:
    client, _ = await connect(1)
    stanzas = [SAME_ROSTER if stanza is ROSTER else stanza for stanza in SIGNED_IN]
    client.data_received(UPGRADED + served(*stanzas))
    assert client.synced.done()
    assert client.session["resumed"]
    assert not client.chats


async def test_messages_of_the_chat_count_and_acknowledgements_leave_out_what_is_no_message(connect: Connect) -> None:
    client, ear = await connect(1)
    signed_in(client)
    client.enter(pair(0, 1), TEXT)
    client.send(2)
    client.data_received(served(ACKED % 2))  # the roster's query and the presence
    assert client.acked == 0
    client.data_received(served(ACKED % 3, OTHER_PRESENT, ACKED % 4))
    assert client.acked == client.sent == 2
    assert len(client.ack_times) == 1
    client.data_received(served(HEARD % 1, (HEARD % 1).replace(b"u0@load/", b"u7@load/"), HEARD % 2, ASKS))
    assert list(client.seqs_heard) == [1, 2]
    assert not client.problems
    said = b"<message to='u0@load' type='chat' id='00000002'><body>" + TEXT.encode() + b"</body></message>"
    await until(lambda: text_message(said) + xmpp.REQUEST in ear.heard)
    await until(lambda: ear.heard.endswith(text_message(b"<a xmlns='urn:xmpp:sm:3' h='6'/>")))


async def test_a_closed_loop_sends_another_for_each_that_is_acknowledged(connect: Connect) -> None:
    client, _ = await connect(1)
    signed_in(client)
    client.enter(pair(0, 1), TEXT)
    client.run(10)
    client.data_received(served(ACKED % 5))
    assert (client.sent, client.acked) == (13, 3)
    client.stop()
    client.data_received(served(ACKED % 15))
    assert (client.sent, client.acked) == (13, 13)


async def test_whoever_is_invited_enters_the_room_and_hears_it(connect: Connect) -> None:
    client, ear = await connect(1)
    signed_in(client)
    assert not client.knows(ROOM + 5)
    room = b"g%d@conference.load" % (ROOM + 5)
    client.data_received(served(INVITED % room))
    joins = b"<presence to='" + room + b"/u1'><x xmlns='http://jabber.org/protocol/muc'/></presence>"
    await until(lambda: ear.heard.endswith(text_message(joins)))
    client.data_received(served(ENTERED % (room, 201)))
    assert not client.knows(ROOM + 5)  # a room tells first of others
    client.data_received(served(ENTERED % (room, 110)))
    assert client.knows(ROOM + 5)
    client.enter(ROOM + 5, TEXT)
    client.send()
    client.data_received(served(ACKED % 4, IN_ROOM % (room, b"u0", 1)))
    assert (client.acked, client.heard) == (0, 1)  # of a room's message, XEP-0198 says only that it was read
    client.data_received(served(IN_ROOM % (room, b"u1", 1)))
    assert (client.acked, client.heard) == (1, 1)


async def test_without_acknowledgements_the_other_side_tells_when_it_has_heard(connect_plain: Connect) -> None:
    (a, _), (b, _) = await connect_plain(0), await connect_plain(1)
    for client in (a, b):
        client.enter(pair(0, 1), TEXT)
    a.run(10)
    b.data_received(UPGRADED + served(HEARD % 1, HEARD % 2))
    assert (a.acked, b.heard) == (2, 2)
    await until(lambda: a.sent == 12)


@pytest.mark.parametrize(
    ("heard", "archived", "broken"),
    [
        ((1, 2), 3, []),
        ((1, 3), 3, ["live messages come in order: u1: holes, doubles, or out of order"]),
        ((1, 1), 3, ["live messages come in order: u1: holes, doubles, or out of order"]),
        ((1, 2), 2, ["nothing acknowledged is lost: u1: 1 sent, 2 heard, 2 in the archive"]),
    ],
)
async def test_the_end_compares_what_was_heard_with_the_archive(
    connect: Connect, heard: tuple[int, int], archived: int, broken: list[str]
) -> None:
    client, ear = await connect(1)
    signed_in(client)
    client.enter(pair(0, 1), TEXT)
    client.send()
    client.data_received(served(ACKED % 3, HEARD % heard[0], HEARD % heard[1]))
    judging = asyncio.get_running_loop().create_task(client.judge())
    await until(lambda: b"urn:xmpp:mam:2" in ear.heard)
    client.data_received(served(COUNTED % archived))
    assert (await judging).sentences() == broken


async def test_what_was_not_acknowledged_breaks_a_promise(connect: Connect) -> None:
    client, ear = await connect(1)
    signed_in(client)
    client.enter(pair(0, 1), TEXT)
    client.send()
    judging = asyncio.get_running_loop().create_task(client.judge())
    await until(lambda: b"urn:xmpp:mam:2" in ear.heard)
    client.data_received(served(COUNTED % 1))
    said = (await judging).sentences()
    assert said == ["every message is acknowledged in the end: u1: 1 sent, 0 acknowledged"]
