"""What a device must not forget: its message counter, its tokens, its cursor and how far it got in each chat.

The counter matters most. The server stores a (chat, device, cid) once and answers a second use with the place
of the first, so a cid that is used twice loses a message in silence. A counter in memory therefore starts at
the microseconds since 1970; one in a file may start at 1 together with a new device.
"""

import json
import os
import time
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import IO, Any, ClassVar, Final

from mim.client.auth import Session
from mim.client.errors import StateInUse

VERSION: Final = 1
CID_BLOCK: Final = 256
"""Cids are set aside in the file this many at a time, so that a crash skips numbers and reuses none."""

MODE: Final = 0o600


@dataclass
class ClientState:
    """The state of one device, kept in memory.

    `chats` maps a chat to `{seq, rev, state}`: the last handled seq and rev, and the state as in CHAT.
    `outbox` holds `[cid, chat, body]` of unacknowledged messages, `reads` watermarks that may not have arrived.
    """

    cid: int = field(default_factory=lambda: time.time_ns() // 1000)
    token: str | None = None
    refresh: str | None = None
    seed: str = ""
    user: int = 0
    device: int = 0
    cursor: str | None = None
    chats: dict[int, dict[str, Any]] = field(default_factory=dict)
    outbox: list[list[Any]] = field(default_factory=list)
    reads: dict[int, int] = field(default_factory=dict)
    on_disk: ClassVar[bool] = False

    def next_cid(self) -> int:
        """Return a cid that this device has never used."""
        cid = self.cid
        self.cid += 1
        return cid

    def adopt(self, token: str | None, refresh: str | None) -> None:
        """Take the tokens given by the program, unless those kept here were refreshed from the same ones."""
        given = refresh or token
        if given is None:
            return
        seed = sha256(given.encode()).hexdigest()[:16]
        if seed != self.seed or self.token is None:
            self.seed, self.token, self.refresh = seed, token, refresh
            self.cursor = None  # it may be another user's: a full sync is always right

    def signed_in(self, session: Session) -> None:
        """A new device was made: nothing of the one before is true of it, but its cids are not used again."""
        self.token, self.refresh, self.user, self.device = session.token, session.refresh, session.user, session.device
        self.seed, self.cursor, self.chats, self.outbox, self.reads = "", None, {}, [], {}
        self.save()

    def belongs_to(self, user: int, device: int) -> bool:
        """Note whose state this is; False if it was another device's, which is then dropped."""
        same = (self.user, self.device) in ((0, 0), (user, device))
        self.user, self.device = user, device
        if not same:
            self.cursor, self.chats, self.outbox, self.reads = None, {}, [], {}
        return same

    def save(self) -> None:
        """Make the state durable, where it has a place."""

    def close(self) -> None:
        """Save and let go of it."""
        self.save()


class FileState(ClientState):
    """The state of one device in a JSON file, mode 0600, replaced as a whole, used by one process at a time.

    Raises StateInUse when another process holds it and ValueError when the file cannot be understood.
    `first_cid` is for a file made together with its device: shorter numbers, fewer bytes in every SEND.
    """

    on_disk: ClassVar[bool] = True

    def __init__(self, path: str | os.PathLike[str], *, first_cid: int | None = None) -> None:
        super().__init__()
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = lock_file(self.path.with_name(self.path.name + ".lock"))
        if first_cid is not None:
            self.cid = first_cid
        if self.path.exists():
            self._load()
        self._reserved = self.cid

    def _load(self) -> None:
        try:
            kept = json.loads(self.path.read_text(encoding="utf-8"))
            if kept["version"] != VERSION:
                raise ValueError(f"version {kept['version']}")
            self.cid = int(kept["cid"])
            for name in ("token", "refresh", "seed", "user", "device", "cursor", "outbox"):
                setattr(self, name, kept[name])
            self.chats = {int(chat): row for chat, row in kept["chats"].items()}
            self.reads = {int(chat): seq for chat, seq in kept["reads"].items()}
        except (KeyError, TypeError, AttributeError, ValueError) as exc:
            self._unlock()
            raise ValueError(f"{self.path} is no state file of this version: {exc}; move it away") from exc

    def next_cid(self) -> int:
        """Return a cid that this device has never used; writes the file once in 256."""
        if self.cid >= self._reserved:
            self._reserved = self.cid + CID_BLOCK
            self.save()
        return super().next_cid()

    def save(self) -> None:
        """Replace the file. A crash leaves the old one or the new one, never a half."""
        kept = {
            "version": VERSION, "cid": max(self._reserved, self.cid), "token": self.token,
            "refresh": self.refresh, "seed": self.seed, "user": self.user, "device": self.device,
            "cursor": self.cursor, "outbox": self.outbox, "chats": self.chats, "reads": self.reads,
        }  # fmt: skip
        write_atomic(self.path, json.dumps(kept, ensure_ascii=False, separators=(",", ":")))

    def close(self) -> None:
        """Save, give back the cids that were set aside, and let other processes use the file."""
        if self._lock is not None and self._lock.closed:
            return
        self._reserved = self.cid
        self.save()
        self._unlock()

    def _unlock(self) -> None:
        if self._lock is not None:
            self._lock.close()


def write_atomic(path: Path, text: str) -> None:
    """Write `text` beside `path`, force it to disk, and put it in its place."""
    draft = path.with_name(path.name + ".new")
    with open(draft, "w", encoding="utf-8", opener=lambda name, flags: os.open(name, flags, MODE)) as out:
        out.write(text)
        out.flush()
        os.fsync(out.fileno())
    draft.replace(path)


def lock_file(path: Path) -> IO[str] | None:
    """Return the held lock, None where the platform has none; raise StateInUse when it is taken."""
    try:
        import fcntl
    except ImportError:  # Windows
        return None
    lock = path.open("w", encoding="utf-8")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        raise StateInUse(f"{path.with_suffix('')} is used by another process") from None
    return lock
