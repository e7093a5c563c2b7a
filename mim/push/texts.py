"""The words of notifications, in the device's language, and how a text is made to fit."""

import unicodedata
from collections.abc import Callable
from typing import Final

TEXT_LIMIT: Final = 1000  # code points; nobody reads more on a lock screen
ELLIPSIS: Final = "…"

KOREAN: Final = {
    "someone": "알 수 없음",
    "group": "그룹 채팅",
    "new": "새 메시지가 있습니다",
    "many": "새 메시지 {count}개",
    "deleted": "삭제된 메시지입니다",
    "call": "전화가 왔습니다",
    "test_title": "알림 시험",
    "test": "이 기기에서 알림을 받을 수 있습니다",
    "photo": "사진", "video": "동영상", "file": "파일", "voice": "음성 메시지", "sticker": "스티커", "location": "위치",
    "contact": "연락처", "poll": "투표", "schedule": "일정", "post": "게시글", "link": "링크", "alim": "알림톡",
}  # fmt: skip
ENGLISH: Final = {
    "someone": "Unknown",
    "group": "Group chat",
    "new": "New message",
    "many": "{count} new messages",
    "deleted": "This message was deleted",
    "call": "Incoming call",
    "test_title": "Test notification",
    "test": "This device receives notifications",
    "photo": "Photo", "video": "Video", "file": "File", "voice": "Voice message", "sticker": "Sticker",
    "location": "Location", "contact": "Contact", "poll": "Poll", "schedule": "Event", "post": "Post", "link": "Link",
    "alim": "Notice",
}  # fmt: skip


def words(locale: str) -> dict[str, str]:
    """The words for a BCP 47 tag or a POSIX locale: Korean for `ko...`, else English."""
    return KOREAN if locale[:2].lower() == "ko" else ENGLISH


def one_line(text: str) -> str:
    """Text without control characters and at most TEXT_LIMIT long, white space run together."""
    line = " ".join(text[: 2 * TEXT_LIMIT].split())
    return cut("".join(char for char in line if unicodedata.category(char) not in {"Cc", "Cs"}), TEXT_LIMIT)


def cut(text: str, limit: int) -> str:
    """The first `limit` code points of a text, less where that would take a character apart, with … for the rest."""
    if len(text) <= limit:
        return text
    end = max(limit - len(ELLIPSIS), 0)
    while end > 0 and _joined(text, end):
        end -= 1
    return text[:end].rstrip() + ELLIPSIS if limit >= len(ELLIPSIS) else ""


def fit(text: str, limit: int, size: Callable[[str], int]) -> str:
    """The longest beginning of a text, cut at a character, for which `size` says at most `limit`; `size` rises with
    the length. "" when nothing fits.
    """
    if size(text) <= limit:
        return text
    low, high = 0, len(text)  # cut(text, low) fits, cut(text, high) does not
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if size(cut(text, middle)) <= limit else (low, middle)
    return cut(text, low)


def _joined(text: str, end: int) -> bool:
    """Whether one character to a reader lies on both sides of `end`: marks, joiners, flags, skin tones, jamo."""
    before, after = text[end - 1], text[end]
    if before == "\u200d" or after == "\u200d" or unicodedata.category(after).startswith("M"):
        return True
    if "\U0001f3fb" <= after <= "\U0001f3ff" or "\U000e0020" <= after <= "\U000e007f":
        return True
    if "\U0001f1e6" <= before <= "\U0001f1ff" and "\U0001f1e6" <= after <= "\U0001f1ff":
        run = end
        while run > 0 and "\U0001f1e6" <= text[run - 1] <= "\U0001f1ff":
            run -= 1
        return (end - run) % 2 == 1
    return "\u1160" <= after <= "\u11ff"  # the vowel or final consonant of a syllable written in jamo
