"""From an outbox row to a notification: what it says, to whom and how (docs/push.md#what-a-notification-says)."""

from typing import Final

from mim.model import Kind
from mim.push.notice import Notice, Style
from mim.push.texts import one_line, words
from mim.store.push_outbox import UNREAD_COUNTED, Due
from mim.store.push_plan import CALL, REVISED

NAME_LIMIT: Final = 100


def suppressed(row: Due, now: float) -> str | None:
    """Why a row is not worth sending any more, as the word of the metric; None when it is."""
    if row.token is None:
        return "no_token"
    if row.expires <= now:
        return "expired"
    if not row.present:
        return "left"
    if row.muted and not row.loud:
        return "muted"
    if row.read >= row.seq:
        return "read"
    if row.kind == REVISED:
        return None if row.shown == row.seq else "told"
    if row.kind == CALL:
        return "deleted" if row.deleted else None
    if row.told >= row.seq:
        return "told"
    return None if row.count else "deleted"


def render(row: Due, default_preview: str) -> Notice | None:
    """The notification of a row; None when there is nothing to say (an edit of what was not shown)."""
    assert row.token is not None
    preview = row.preview or default_preview
    said = words(row.locale)
    sender = (row.name or said["someone"])[:NAME_LIMIT]
    if row.kind == REVISED:
        return _revision(row, preview, said, sender)
    if row.kind == CALL:
        title, body = ("", said["call"]) if preview == "none" else (sender, said["call"])
        return _notice(row, Style.CALL, preview == "none", title, body)
    if row.count > 1:
        shown = f"{UNREAD_COUNTED - 1}+" if row.count >= UNREAD_COUNTED else str(row.count)
        title = _place(row, said, sender) if preview == "full" or (preview == "sender" and _direct(row)) else ""
        return _notice(row, Style.ALERT, preview == "none", title, said["many"].format(count=shown))
    if preview == "none":
        return _notice(row, Style.ALERT, True, "", said["new"])
    if preview == "sender":
        return _notice(row, Style.ALERT, False, sender, said["new"])
    return _notice(row, Style.ALERT, False, _place(row, said, sender), _line(row, said, sender))


def shows_text(row: Due, default_preview: str) -> int:
    """The seq of the message whose text the notification of this row shows, or that it announces alone; 0 if many."""
    if row.kind == REVISED:
        return 0 if row.deleted else row.seq
    return (row.newest or 0) if row.count == 1 else 0


def _revision(row: Due, preview: str, said: dict[str, str], sender: str) -> Notice | None:
    """Of an edited or deleted message: a quiet replacement of what shows it."""
    if row.deleted:
        if preview == "none":
            return _notice(row, Style.WITHDRAW, True, "", said["new"])
        title = _place(row, said, sender) if preview == "full" else sender
        return _notice(row, Style.QUIET, False, title, said["deleted"])
    if preview != "full":
        return None
    return _notice(row, Style.QUIET, False, _place(row, said, sender), _line(row, said, sender))


def _notice(row: Due, style: Style, private: bool, title: str, body: str) -> Notice:
    return Notice(
        id=row.id,
        attempt=row.attempts,
        device=row.device,
        user=row.user,
        platform=row.platform,
        token=row.token or "",
        voip=row.voip,
        style=style,
        private=private,
        title=title,
        body=body,
        chat=row.chat,
        seq=row.newest or row.seq,
        sender=0 if private else row.sender or 0,
        count=max(row.count, 1),
        badge=int(row.badge),
        loud=row.loud,
        collapse=f"chat-{row.chat}" + ("-call" if style is Style.CALL else ""),
        expires=row.expires,
    )


def _direct(row: Due) -> bool:
    return row.chat_kind == Kind.DIRECT


def _place(row: Due, said: dict[str, str], sender: str) -> str:
    """Where it was said: the other person of a direct chat, the title of a group."""
    return sender if _direct(row) else (row.title or said["group"])[:NAME_LIMIT]


def _line(row: Due, said: dict[str, str], sender: str) -> str:
    """What was said: the text, else what kind of thing it is; in a group with the sender before it."""
    kind = (row.extra or {}).get("k")
    line = one_line(row.text or "") or said.get(kind if isinstance(kind, str) else "", said["new"])
    return line if _direct(row) else f"{sender}: {line}"
