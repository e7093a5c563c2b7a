"""Who has read how far in one chat, without I/O: the source of the number beside a message.

`seen` keeps the highest seq known of any user, member or not, and `members` who is present. They are apart
because a READBY and the CHANGE that lets its user in or out travel separately and may come in either order;
each alone only ever grows or follows the revs, so both orders end alike.
"""

from collections.abc import Iterable

from mim.client.models import Change


class Watermarks:
    """The watermarks of one chat. `loaded` is False until :meth:`load`, and again after :meth:`forget`."""

    __slots__ = ("_meanwhile", "loaded", "members", "seen")

    def __init__(self) -> None:
        self.loaded = False
        self.members: set[int] = set()
        self.seen: dict[int, int] = {}
        self._meanwhile: list[Change] = []

    def forget(self) -> None:
        """Watermarks may have moved unseen (a new connection): load before the next use."""
        self.loaded = False

    def loading(self) -> None:
        """`chat.watermarks` is being asked: changes of membership from here on are applied to its answer."""
        self._meanwhile.clear()

    def load(self, rows: Iterable[tuple[int, int]]) -> None:
        """Take the answer of `chat.watermarks`: the present members and how far each has read."""
        self.members = set()
        for user, seq in rows:
            self.members.add(user)
            self.saw(user, seq)
        self.loaded = True
        for change in self._meanwhile:
            self._apply(change)
        self._meanwhile.clear()

    def saw(self, user: int, seq: int) -> None:
        """A user's watermark is at least `seq`: from READBY, or from a message of that user."""
        if seq > self.seen.get(user, 0):
            self.seen[user] = seq

    def apply(self, change: Change) -> None:
        """Follow joins, leaves and kicks, in the order of their revs."""
        if change.kind in ("join", "leave", "kick"):
            if not self.loaded:
                self._meanwhile.append(change)
                del self._meanwhile[:-1000]
            self._apply(change)

    def _apply(self, change: Change) -> None:
        if change.kind == "leave":
            self.members.discard(change.user)
            return
        users = change.data.get("users", ())
        if change.kind == "kick":
            self.members.difference_update(users)
            return
        for user in users:  # who joins has read everything before
            self.members.add(user)
            self.saw(user, change.after)

    def unread_by(self, seq: int) -> int:
        """Return how many present members have not read `seq`. Its sender has, by sending it."""
        seen = self.seen
        return sum(seen.get(user, 0) < seq for user in self.members)
