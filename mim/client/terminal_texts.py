"""What the terminal client says, in English and Korean, and how it makes foreign text harmless to show."""

import os
import unicodedata
from collections.abc import Mapping
from typing import Final

TEXTS: Final[dict[str, tuple[str, str]]] = {
    "welcome": (
        "Signed in as {name}. /help shows the commands.",
        "{name}님으로 로그인했습니다. /help 로 명령을 볼 수 있습니다.",
    ),
    "code": ("The code that came by SMS: ", "문자로 받은 인증번호: "),
    "no_chats": (
        "No chats yet. Wait for somebody to write, or start with /new PHONE.",
        "아직 대화가 없습니다. 상대가 말을 걸기를 기다리거나 /new 전화번호 로 시작하세요.",
    ),
    "pick": ("/open N opens a chat.", "/open 번호 로 대화를 엽니다."),
    "opened": ("— {title} —", "— {title} —"),
    "none_open": ("No chat is open: /open N or /new PHONE.", "열린 대화가 없습니다: /open 번호 또는 /new 전화번호."),
    "no_such_chat": ("There is no chat {n}: /chats lists them.", "{n}번 대화가 없습니다. /chats 로 목록을 보세요."),
    "nobody": (
        "Nobody with the number {phone} has signed in here yet.",
        "{phone} 번호로 가입한 사람이 아직 없습니다.",
    ),
    "me": ("me", "나"),
    "system": ("mim", "mim"),
    "user": ("user {id}", "사용자 {id}"),
    "group": ("group {id}", "모임 {id}"),
    "typing": ("{name} is typing…", "{name}님이 입력 중…"),
    "unread": ("unread {n}", "안 읽음 {n}"),
    "sending": ("sending {n}", "보내는 중 {n}"),
    "read_by_all": ("  ✓ #{seq} read by all", "  ✓ #{seq} 모두 읽음"),
    "offline": ("offline, coming back…", "연결이 끊겨 다시 연결하는 중…"),
    "edited": ("(edited)", "(수정됨)"),
    "deleted": ("(deleted)", "(삭제된 메시지)"),
    "edit": ("  ✎ #{seq} {name}: {text}", "  ✎ #{seq} {name}: {text}"),
    "delete": ("  ✗ #{seq} deleted by {name}", "  ✗ #{seq} {name}님이 삭제함"),
    "react": ("  {reaction} {name} on #{seq}", "  {reaction} {name} → #{seq}"),
    "unreact": ("  {name} took the reaction on #{seq} back", "  {name}님이 #{seq} 반응을 취소함"),
    "join": ("  → {users} joined, invited by {name}", "  → {name}님이 {users}님을 초대함"),
    "leave": ("  ← {name} left", "  ← {name}님이 나감"),
    "kick": ("  ← {users} removed by {name}", "  ← {name}님이 {users}님을 내보냄"),
    "role": ("  {users} is now {role}", "  {users}님의 역할: {role}"),
    "title": ("  {name} named this chat {title}", "  {name}님이 대화 이름을 바꿈: {title}"),
    "notice": ("  {name} changed the notice", "  {name}님이 공지를 바꿈"),
    "left": ("You are out of {title}.", "{title} 대화에서 나왔습니다."),
    "elsewhere": ("[{n}] {title} · {name}: {text}", "[{n}] {title} · {name}: {text}"),
    "chat_line": ("[{n}] {title}{unread}", "[{n}] {title}{unread}"),
    "nothing_found": ("Nothing found.", "찾은 것이 없습니다."),
    "no_more": ("That is the beginning.", "여기가 처음입니다."),
    "renamed": ("You are {name} now.", "이제 이름은 {name}입니다."),
    "refused": ("✗ {detail}", "✗ {detail}"),
    "usage": ("Usage: {usage}", "사용법: {usage}"),
    "unknown": ("There is no command {command}: /help shows them.", "{command} 명령은 없습니다. /help 를 보세요."),
    "lost": (
        "The connection broke; it is not known whether that was done.",
        "연결이 끊겨 처리되었는지 알 수 없습니다.",
    ),
    "unreachable": (
        "No answer from {url}. Is the server running there? (`mim serve --dev` starts one.)",
        "{url} 서버가 응답하지 않습니다. 서버가 실행 중인가요? (`mim serve --dev` 로 시작합니다.)",
    ),
    "in_use": (
        "{phone} is signed in in another terminal already.",
        "{phone} 번호는 이미 다른 터미널에서 사용 중입니다.",
    ),
    "replaced": ("This device was signed in elsewhere.", "이 기기가 다른 곳에서 연결되어 종료합니다."),
    "signed_out": ("This device was signed out.", "이 기기는 로그아웃되었습니다."),
    "stopped": ("The server closed the session: {detail}", "서버가 연결을 끝냈습니다: {detail}"),
    "help_help": ("show the commands", "명령 보기"),
    "help_chats": ("list the chats", "대화 목록"),
    "help_open": ("open chat N of the list", "목록의 N번 대화 열기"),
    "help_new": ("talk to the person with this number", "이 번호의 사람과 대화"),
    "help_group": ("make a group with these people", "이 사람들과 모임 만들기"),
    "help_members": ("who is in this chat", "이 대화의 사람들"),
    "help_invite": ("bring somebody into this group", "이 모임에 초대"),
    "help_history": ("show older messages", "이전 메시지 보기"),
    "help_edit": ("change a message of yours", "내 메시지 고치기"),
    "help_delete": ("delete a message for everyone", "모두에게서 메시지 삭제"),
    "help_react": ("react to a message, without a sign to take it back", "메시지에 반응, 기호 없이 쓰면 취소"),
    "help_search": ("find messages", "메시지 찾기"),
    "help_name": ("change your shown name", "내 이름 바꾸기"),
    "help_leave": ("leave this chat", "이 대화에서 나가기"),
    "help_quit": ("leave the program (also Ctrl-D)", "프로그램 끝내기 (Ctrl-D)"),
}

BIDI_CONTROLS: Final = {*range(0x202A, 0x202F), *range(0x2066, 0x206A)}


class Texts:
    """The texts of one language; any but Korean is English."""

    def __init__(self, language: str) -> None:
        self.language = "ko" if language.lower().startswith("ko") else "en"
        self._column = 1 if self.language == "ko" else 0

    def __call__(self, key: str, /, **fields: object) -> str:
        """Return the text `key` with its fields filled in."""
        return TEXTS[key][self._column].format(**fields)


def language_of(environment: Mapping[str, str] = os.environ) -> str:
    """Return the language that the terminal is set to."""
    found = (environment.get(name) for name in ("LC_ALL", "LC_MESSAGES", "LANG"))
    return next((value for value in found if value), "en")


def harmless(text: str) -> str:
    """Return `text` without what could command a terminal or reorder a line; later lines are indented."""
    shown = (char if is_harmless(char) else "\N{REPLACEMENT CHARACTER}" for char in text.replace("\t", " "))
    return "".join(shown).replace("\n", "\n        ")


def is_harmless(char: str) -> bool:
    """Tell whether a character may be written to a terminal as it is."""
    return char == "\n" or (unicodedata.category(char) not in ("Cc", "Cs") and ord(char) not in BIDI_CONTROLS)
