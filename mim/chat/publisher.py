"""What happened becomes frames, encoded once, on the topics of those who must hear of it."""

from collections.abc import Iterable, Sequence
from typing import Any

from mim.bus.port import Bus, CloseDevice, Envelope, Join, Leave, chat_topic, device_topic, user_topic
from mim.errors import CloseReason
from mim.model import Caller, ChatState, body_of
from mim.store.changes import ChangeRow
from mim.store.chats import LockedChat
from mim.store.committer import Pending
from mim.store.watermarks import Moved
from mim.wire.codec import MSGPACK
from mim.wire.frames import Change, ChatFrame, Msg, Note, ReadBy, UserTyping

encode = MSGPACK.encode


class Publisher:
    """Puts frames on the bus. Nothing here blocks."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    def message(self, sent: Pending) -> None:
        """A committed message, to everyone in its chat but the connection that sent it."""
        stored = sent.stored
        if stored is None:
            return
        frame = Msg(sent.chat, sent.seq, sent.user, sent.at, body_of(stored.text, stored.extra))
        envelope = Envelope(encode(frame), origin=sent.connection, counted=True)
        if sent.is_direct:
            self._bus.publish(user_topic(sent.low or 0), envelope)
            self._bus.publish(user_topic(sent.high or 0), envelope)
        else:
            self._bus.publish(chat_topic(sent.chat), envelope)

    def repeated(self, sent: Pending) -> None:
        """A message that was stored before, delivered again to those who may see it; receivers drop what they have."""
        stored = sent.stored
        if stored is None:
            return
        frame = encode(Msg(sent.chat, sent.seq, sent.user, sent.at, body_of(stored.text, stored.extra)))
        envelope = Envelope(frame, origin=sent.connection, counted=True, about=sent.seq)
        if sent.is_direct:
            for user in sent.concerned or ():
                self._bus.publish(user_topic(user), envelope)
        else:
            self._bus.publish(chat_topic(sent.chat), envelope)

    def change(self, chat: LockedChat, row: ChangeRow, firsts: dict[int, int] | None = None) -> None:
        """A change, to everyone in its chat, the devices of its author included.

        `firsts` are the first seqs of a direct chat's peers; a group's are known to the hubs.
        """
        full = encode(_change_frame(row, 1))
        hidden = b"" if row.about is None else encode(_change_frame(row, row.about + 1))
        envelope = Envelope(full, counted=True, about=row.about or 0, hidden_frame=hidden)
        if not chat.is_direct:
            self._bus.publish(chat_topic(chat.id), envelope)
            return
        for user in (chat.low or 0, chat.high or 0):
            before = row.about is not None and firsts is not None and row.about < firsts.get(user, 1)
            self._bus.publish(
                user_topic(user), Envelope(hidden, counted=True) if before else Envelope(full, counted=True)
            )

    def states(self, chat: int, states: Iterable[tuple[int, ChatState]], *, joined: bool = False) -> None:
        """The chat as each of these users sees it now. `joined`: their sockets begin to listen to it."""
        for user, state in states:
            control: Join | Leave | None = None
            if state.is_left:
                control = Leave(chat)
            elif joined and state.kind != "direct":
                control = Join(chat, state.first, state.rev)
            self._bus.publish(user_topic(user), Envelope(encode(ChatFrame(chat, state)), control=control))

    def read_by(self, chat: int, topics: Sequence[str], watermarks: list[int], origin: int) -> None:
        """Watermarks that moved: user, seq, user, seq, ..."""
        envelope = Envelope(encode(ReadBy(chat, watermarks)), origin=origin)
        for topic in topics:
            self._bus.publish(topic, envelope)

    def typing(self, chat: int, user: int, topics: Sequence[str]) -> None:
        """Someone is typing; not for the typist's own devices."""
        envelope = Envelope(encode(UserTyping(chat, user)), not_user=user)
        for topic in topics:
            self._bus.publish(topic, envelope)

    def note(self, caller: Caller, kind: str, data: dict[str, Any]) -> None:
        """Something about a user outside any chat, to the user's other sockets."""
        self._bus.publish(user_topic(caller.user), Envelope(encode(Note(kind, data)), origin=caller.connection))

    def close_device(self, device: int, reason: CloseReason) -> None:
        """Close the sockets of a device, wherever they are."""
        self._bus.publish(device_topic(device), Envelope(b"", control=CloseDevice(reason)))

    def claim_device(self, device: int, connection: int, at_ms: int, *, again: bool = False) -> None:
        """Connection `connection`, opened at `at_ms`, is the device's only one. `again`: it claims what it had before
        the bus was away, so a newer one may be elsewhere.
        """
        claim = CloseDevice(CloseReason.REPLACED, connection, at_ms, ordered=not again)
        self._bus.publish(device_topic(device), Envelope(b"", control=claim))


def direct_topics(low: int, high: int) -> list[str]:
    """The topics of a direct chat's two peers."""
    return [user_topic(low), user_topic(high)]


def reader_topics(moved: Moved) -> list[str]:
    """Who hears of a watermark as soon as it moves: the chat, or the reader's own devices."""
    if moved.is_direct:
        return direct_topics(moved.low or 0, moved.high or 0)
    return [chat_topic(moved.chat)]


def _change_frame(row: ChangeRow, first: int) -> Change:
    return Change(row.chat, row.rev, row.kind, row.user, row.at, row.shown(first))
