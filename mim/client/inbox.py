"""What a client knows of its chats, and how each frame changes that; without I/O.

Frames go in as they come, events come out in the order of each chat. The state frame (CHAT) says how far a
chat goes, the timeline says what was released of it, and the watermarks say who has read it; unread counts
are differences of sequence numbers and nothing is added up.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from mim.client.models import Change, Chat, Event, Frame, Message, Note, ReadBy, Typing, number
from mim.client.ops import Op
from mim.client.timeline import Missing, Timeline
from mim.client.watermarks import Watermarks

Emit = Callable[[Event], None]


@dataclass(slots=True)
class Room:
    """One chat: `state` is None until its first CHAT, `waiting` counts events released, not yet handled."""

    chat: int
    timeline: Timeline
    marks: Watermarks = field(default_factory=Watermarks)
    state: Chat | None = None
    read: int = 0
    waiting: int = 0
    handled: tuple[int, int] = (0, 0)

    def view(self) -> Chat | None:
        """Return the chat as it is now: its state with the newest head, rev and read."""
        if self.state is None:
            return None
        head = max(self.state.head, self.timeline.messages.target)
        rev = max(self.state.rev, self.timeline.changes.target)
        return replace(self.state, head=head, rev=rev, read=min(self.read, head))

    def progress(self) -> tuple[int, int]:
        """Return the last seq and rev whose callbacks have run."""
        return self.handled if self.waiting else self.timeline.position()


class Inbox:
    """All chats of one user. `emit` takes events; `accepts` says whether a chat's callbacks keep up."""

    def __init__(self, emit: Emit, accepts: Callable[[int], bool], *, backlog: int = 50) -> None:
        self.rooms: dict[int, Room] = {}
        self.gaps: set[int] = set()
        self.user = 0
        self.cursor: str | None = None
        self.collecting: dict[int, dict[int, Message]] = {}
        self._emit = emit
        self._accepts = accepts
        self._backlog = backlog
        self._full_sync: set[int] | None = None
        self._before_sync: dict[int, int] = {}

    # -- across connections

    def restore(self, kept: Mapping[int, Mapping[str, Any]]) -> None:
        """Take up the chats of a state that was kept (see ClientState)."""
        for chat, row in kept.items():
            state = Chat.of(chat, row["state"])
            room = Room(chat, Timeline(saved=(row["seq"], row["rev"])), state=state, read=state.read)
            room.timeline.expect(head=state.head, rev=state.rev)
            if state.left:
                room.timeline.close()
            self.rooms[chat] = room
            self._note_gap(room)

    def keep(self) -> dict[int, dict[str, Any]]:
        """Return the chats in the form that :meth:`restore` takes."""
        kept: dict[int, dict[str, Any]] = {}
        for chat, room in self.rooms.items():
            if (view := room.view()) is not None:
                seq, rev = room.progress()
                state = {name: getattr(view, name) for name in Chat.__slots__ if name != "id"}
                kept[chat] = {"seq": seq, "rev": rev, "state": state}
        return kept

    def on_ready(self, user: int, *, resumed: bool) -> None:
        """A session opened: watermarks may have moved unseen; if not `resumed`, the sync tells every chat."""
        self.user = user
        self._full_sync = None if resumed else set()
        self._before_sync = {c: room.timeline.position()[0] for c, room in self.rooms.items() if not resumed}
        for room in self.rooms.values():
            room.marks.forget()

    # -- frames

    def receive(self, frame: Frame) -> bool:
        """Take a frame; False if its op is none of the inbox. Raises MALFORMED if it cannot be read."""
        handler = HANDLERS.get(frame[0])
        if handler is None:
            return False
        getattr(self, handler)(frame)
        return True

    def on_message(self, message: Message) -> None:
        """Take a message of whatever cause: live, sync, FETCH, or the ACK of an own one."""
        room = self.room(message.chat)
        room.marks.saw(message.sender, message.seq)
        if message.sender == self.user:
            room.read = max(room.read, message.seq)
        collected = self.collecting.get(message.chat)
        if collected is not None and (message.meta or message.seq not in collected):
            collected[message.seq] = message
        if self._accepts(message.chat):
            room.timeline.offer(message)
        else:  # asked for again when the callbacks have caught up
            room.timeline.expect(head=message.seq)
        self._release(room)

    def on_change(self, change: Change) -> None:
        """Take a change, live or of CHANGES."""
        room = self.room(change.chat)
        if self._accepts(change.chat):
            room.timeline.offer(change)
        else:
            room.timeline.expect(rev=change.rev)
        self._release(room)

    def on_chat(self, chat: int, state: Mapping[str, Any]) -> None:
        """Take a chat's state, of CHAT or of `chat.get`."""
        room = self.room(chat)
        room.state = new = Chat.of(chat, state)
        if new.left:
            room.marks = Watermarks()
        else:
            room.read = max(room.read, new.read)
        if not new.left and new.head < self._before_sync.pop(chat, 0):  # the server was set back to a backup
            room.timeline, room.read, room.marks = Timeline(backlog=self._backlog), new.read, Watermarks()
        room.timeline.open(new)
        if self._full_sync is not None:
            self._full_sync.add(chat)
        self._emit(room.view() or new)
        self._release(room)

    def forget(self, chat: int) -> None:
        """The server says that this user is in no such chat."""
        room = self.room(chat)
        room.timeline.close()
        self.gaps.discard(chat)
        if room.state is not None and not room.state.left:
            self.on_chat(chat, {"kind": "left", "title": room.state.title})

    def _on_msg(self, frame: Frame) -> None:
        self.on_message(Message.of(frame))

    def _on_change(self, frame: Frame) -> None:
        self.on_change(Change.of(frame))

    def _on_chat(self, frame: Frame) -> None:
        self.on_chat(number(frame[1]), frame[2])

    def _on_readby(self, frame: Frame) -> None:
        moved = ReadBy.of(frame)
        room = self.room(moved.chat)
        for user, seq in moved.marks.items():
            room.marks.saw(user, seq)
            room.timeline.expect(head=seq)
        room.read = max(room.read, moved.marks.get(self.user, 0))
        self._emit(moved)
        self._note_gap(room)

    def _on_typing(self, frame: Frame) -> None:
        self._emit(Typing(number(frame[1]), number(frame[2])))

    def _on_note(self, frame: Frame) -> None:
        self._emit(Note(str(frame[1]), dict(frame[2])))

    def _on_synced(self, frame: Frame) -> None:
        self.cursor = str(frame[1])
        told, self._full_sync = self._full_sync, None
        if told is not None:  # a full sync: what it did not tell is gone
            for chat in [c for c, room in self.rooms.items() if c not in told and room.state is not None]:
                self.forget(chat)

    # -- release

    def room(self, chat: int) -> Room:
        """Return what is known of a chat, which may be nothing yet."""
        room = self.rooms.get(chat)
        if room is None:
            room = self.rooms[chat] = Room(chat, Timeline(backlog=self._backlog))
        return room

    def _release(self, room: Room) -> None:
        start = room.timeline.position()
        for item in room.timeline.take():
            if isinstance(item, Change):
                self._follow(room, item)
            if room.waiting == 0:
                room.handled = start
            room.waiting += 1
            self._emit(item)
        self._note_gap(room)

    def _note_gap(self, room: Room) -> None:
        if room.timeline.missing() is None:
            self.gaps.discard(room.chat)
        else:
            self.gaps.add(room.chat)

    def _follow(self, room: Room, change: Change) -> None:
        """Carry a change into what is known of the chat; a state that is newer holds it already."""
        room.marks.apply(change)
        state = room.state
        if state is None or change.rev <= state.rev:
            return
        state = replace(state, rev=change.rev, count=max(0, state.count + growth(change)))
        if change.kind in ("title", "notice") and change.kind in change.data:
            state = replace(state, **{change.kind: change.data[change.kind]})
        room.state = state

    def skip(self, chat: int) -> Missing | None:
        """Go on without what was asked for in vain; return what that was."""
        room = self.rooms[chat]
        missing = room.timeline.missing()
        room.timeline.skip()
        self._release(room)
        return missing

    def handled(self, item: Message | Change) -> None:
        """The callbacks of a released event have run."""
        room = self.rooms.get(item.chat)
        if room is None or room.waiting == 0:
            return
        room.waiting -= 1
        seq, rev = room.handled
        room.handled = (item.seq, rev) if isinstance(item, Message) else (seq, item.rev)


def growth(change: Change) -> int:
    """Return by how many members a change makes its chat larger."""
    users = change.data.get("users", ())
    return {"join": len(users), "kick": -len(users), "leave": -1}.get(change.kind, 0)


HANDLERS: dict[int, str] = {
    Op.MSG: "_on_msg",
    Op.CHANGE: "_on_change",
    Op.READBY: "_on_readby",
    Op.USER_TYPING: "_on_typing",
    Op.CHAT: "_on_chat",
    Op.SYNCED: "_on_synced",
    Op.NOTE: "_on_note",
}
