"""Writes proto/vectors/*.json: golden bytes of every frame, made by the `msgpack` package, not by mim.

Run it once after a change to the protocol and look at the difference before committing it:

    python proto/make_vectors.py

Sizes are those of the WebSocket message: a header of 2 bytes (4 above 125 bytes of payload), and the 4 bytes
of the mask in frames of a client.
"""

import json
import math
from pathlib import Path
from typing import Any

import msgpack

HERE = Path(__file__).parent / "vectors"
BIG32, BIG53 = 2**31, 2**53 - 1
AT = 1_767_225_600  # 2026-01-01T00:00:00Z
ID = 3_000_000_000  # an id of five bytes, below 2^32
TWO = 40_000  # a number that takes two bytes behind its msgpack type byte
HANGUL = "안녕"
FAMILY = "👨‍👩‍👧"
STATE = {
    "kind": "group", "title": "점심 모임", "count": 3, "head": 812, "rev": 14, "first": 1, "read": 810,
    "role": "owner", "muted": False, "pinned": True, "notice": "금요일 12시",
}  # fmt: skip
DIRECT = {
    "kind": "direct", "title": None, "count": 2, "head": 0, "rev": 0, "first": 1, "read": 0,
    "role": "member", "muted": False, "pinned": False, "peer": ID,
}  # fmt: skip
LEFT_DIRECT = {"kind": "left", "peer": ID, "head": 812, "rev": 15, "first": 813, "read": 812}
SESSION = {
    "user": 1, "device": 1, "time": AT, "resumed": False, "keepalive": [10, 600],
    "limits": {"text": 10000, "fetch": 200, "inflight": 256},
}  # fmt: skip
REPLY = {"t": "@민아 네!", "re": 811, "m": [[0, 3, 42]]}
FILE = {"id": "a1", "w": 1080, "h": 720, "size": 183_204, "type": "image/jpeg"}
PHOTO = {"k": "photo", "t": "사진", "f": [FILE]}
VALUES = {"n": None, "b": True, "i": -5, "max": BIG53, "min": -BIG53, "f": 0.5, "a": [1, "둘", {"c": []}]}
APP = {"t": "t", "x": VALUES}
OPTIONS = {"app": "1.4.2", "os": "ios", "locale": "ko-KR", "recv": True}
EDITED = {"edited": AT + 60, "reactions": {"👍": 3, "ㅋㅋ": 1}, "mine": "👍"}


def pack(value: Any) -> bytes:
    data: bytes = msgpack.packb(value)
    return data


# name, array, and the budget in bytes where the protocol sets one
Row = tuple[str, list[Any]] | tuple[str, list[Any], int]

CLIENT: dict[str, list[Row]] = {
    "HELLO": [
        ("minimum", [1, 1, "t", {}]),
        ("typical", [1, 1, "eyJhbGciOiJIUzI1NiJ9.e30.c2ln", OPTIONS]),
        ("with cursor", [1, 7, "token", {"os": "web"}, "AAECAwQFBgcICQ"]),
        ("cursor null", [1, 7, "token", {"os": "web"}, None]),
        ("largest ref, unknown option", [1, BIG53, "token", {"recv": False, "theme": "dark"}, ""]),
    ],
    "SEND": [
        ("minimum", [2, 0, 1, "a"]),
        ("two Korean letters, the budget", [2, TWO, ID, HANGUL], 23),
        ("largest numbers", [2, BIG53, BIG53, HANGUL]),
        ("chat above 2^31", [2, 1, BIG32 + 1, "hi"]),
        ("emoji of several code points", [2, 3, 5, FAMILY]),
        ("text of 31 bytes", [2, 4, 5, "x" * 31]),
        ("text of 32 bytes", [2, 4, 5, "x" * 32]),
        ("a WebSocket header of four bytes", [2, 4, 5, "가" * 60]),
        ("text of 300 letters", [2, 5, 5, "가" * 300]),
        ("reply with a mention", [2, 6, 5, REPLY]),
        ("photo", [2, 7, 5, PHOTO]),
        ("application data", [2, 8, 5, APP]),
    ],
    "READ": [
        ("minimum", [3, 1, 0]),
        ("the budget", [3, ID, TWO], 16),
        ("largest numbers", [3, BIG53, BIG53]),
        ("chat 2^31", [3, BIG32, 128]),
    ],
    "TYPING": [("minimum", [4, 1]), ("chat above 2^31", [4, ID]), ("largest number", [4, BIG53])],
    "RECV": [("minimum", [5, 0]), ("typical", [5, 32]), ("largest number", [5, BIG53])],
    "FETCH": [
        ("forward", [6, 1, 5, 0, 50]),
        ("backward from the newest", [6, 2, 5, 0, -50]),
        ("backward", [6, 3, ID, TWO, -200]),
        ("one message", [6, 4, 5, 811, 1]),
        ("above the maximum, clamped", [6, 5, 5, 0, 100_000]),
        ("largest numbers", [6, BIG53, BIG53, BIG53, -BIG53]),
    ],
    "CALL": [
        ("without parameters", [7, 1, "chat.list"]),
        ("empty parameters", [7, 1, "chat.list", {}]),
        ("typical", [7, 2, "chat.create", {"kind": "group", "members": [42, ID], "title": "점심 모임"}]),
        ("null parameter", [7, 3, "message.react", {"chat": 5, "seq": 811, "reaction": None}]),
        ("largest ref", [7, BIG53, "profile.get", {"user": BIG53}]),
    ],
    "PING": [
        ("minimum", [8, 0]),
        ("the budget", [8, 240], 10),
        ("ten minutes", [8, 600]),
        ("largest number", [8, BIG53]),
    ],
    "CHANGES": [
        ("minimum", [9, 1, 1, 0, 1]),
        ("typical", [9, 4, ID, 14, 200]),
        ("largest numbers", [9, BIG53, BIG53, BIG53, BIG53]),
    ],
}

SERVER: dict[str, list[Row]] = {
    "READY": [
        ("authenticated in the upgrade", [16, 0, SESSION]),
        ("resumed, large ids", [16, 1, {**SESSION, "user": ID, "device": BIG53, "resumed": True}]),
    ],
    "ACK": [
        ("minimum", [17, 0, 1, AT]),
        ("the budget", [17, TWO, TWO, AT], 15),
        ("largest numbers", [17, BIG53, BIG53, BIG53]),
    ],
    "MSG": [
        ("minimum", [18, 1, 1, 1, AT, "a"]),
        ("two Korean letters, the budget", [18, ID, TWO, ID, AT, HANGUL], 29),
        ("from the system", [18, 5, 9, 0, AT, {"t": "일정 10분 전", "k": "schedule"}]),
        ("largest numbers", [18, BIG53, BIG53, BIG53, BIG53, FAMILY]),
        ("reply with a mention", [18, 5, 812, 43, AT, REPLY]),
        ("photo", [18, 5, 813, 43, AT, PHOTO]),
        ("application data", [18, 5, 814, 43, AT, APP]),
        ("edited, with reactions", [18, 5, 9, 42, AT, "고침", EDITED]),
        ("tombstone", [18, 5, 10, 42, AT, "", {"deleted": AT + 61}]),
    ],
    "CHANGE": [
        ("edit", [19, 5, 1, "edit", 42, AT, {"after": 812, "seq": 9, "body": "고침"}]),
        ("edit to a map", [19, 5, 2, "edit", 42, AT, {"after": 812, "seq": 9, "body": REPLY}]),
        ("delete", [19, 5, 3, "delete", 42, AT, {"after": 812, "seq": 10}]),
        ("react", [19, 5, 4, "react", 42, AT, {"after": 812, "seq": 9, "reaction": "👍"}]),
        ("react taken away", [19, 5, 5, "react", 42, AT, {"after": 812, "seq": 9, "reaction": None}]),
        ("join", [19, ID, 6, "join", 42, AT, {"after": 812, "users": [ID, BIG53]}]),
        ("leave", [19, 5, 7, "leave", 42, AT, {"after": 812}]),
        ("kick", [19, 5, 8, "kick", 42, AT, {"after": 0, "users": [43]}]),
        ("role", [19, 5, 9, "role", 42, AT, {"after": 812, "user": 43, "role": "manager"}]),
        ("title", [19, 5, 10, "title", 42, AT, {"after": 812, "title": "점심 모임"}]),
        ("notice", [19, 5, 11, "notice", 42, AT, {"after": 812, "notice": "금요일 12시"}]),
        ("content withheld", [19, BIG53, BIG53, "edit", BIG53, AT, {"after": 812, "seq": 9}]),
        ("nothing but its place", [19, 5, 12, "react", 42, AT, {"after": 812}]),
    ],
    "READBY": [
        ("the budget", [20, ID, [ID, TWO]], 18),
        ("batch", [20, 5, [42, 812, 43, 810, ID, 9]]),
        ("largest numbers", [20, BIG53, [BIG53, BIG53]]),
    ],
    "RESULT": [
        ("empty map", [21, 1, {}]),
        ("end of a page", [21, 2, {"more": False}]),
        ("list of members", [21, 3, [{"user": 42, "name": "민아", "role": "owner", "joined": AT}]]),
        ("watermarks", [21, 4, [[42, 812], [ID, 9]]]),
        ("null", [21, BIG53, None]),
    ],
    "ERROR": [
        ("to no request", [22, 0, "bad_frame", "READ: a field is missing"]),
        ("with retry_after", [22, 9, "rate_limited", "wait a little", 1500]),
        ("largest ref", [22, BIG53, "not_member", ""]),
    ],
    "USER-TYPING": [("minimum", [23, 1, 1]), ("large ids", [23, ID, BIG53])],
    "CHAT": [
        ("group", [24, 5, STATE]),
        ("direct, title and peer", [24, ID, DIRECT]),
        ("group left", [24, BIG53, {"kind": "left"}]),
        ("direct chat hidden", [24, 5, LEFT_DIRECT]),
    ],
    "SYNCED": [("typical", [25, "AAECAwQFBgcICQ"]), ("longest cursor", [25, "A" * 128])],
    "BYE": [
        ("without retry_after", [26, "signed_out", "this device was signed out"]),
        ("with retry_after", [26, "shutting_down", "the server restarts", 7300]),
        ("retry_after 0", [26, "moved", "", 0]),
    ],
    "PONG": [("the budget", [27], 4)],
    "NOTE": [
        ("deleted for me", [28, "deleted", {"chat": 5, "seq": 812}]),
        ("device added", [28, "device", {"device": ID, "state": "added"}]),
    ],
    "NACK": [
        ("unreadable cid", [29, 0, "bad_frame", "SEND: cid must be an integer"]),
        ("with retry_after", [29, 6, "unavailable", "storage is away; send again with the same cid", 2000]),
        ("largest cid", [29, BIG53, "too_large", "text is above 10000 code points"]),
    ],
}


def websocket_bytes(payload: int, *, masked: bool) -> int:
    header = 2 if payload <= 125 else 4 if payload <= 0xFFFF else 10
    return header + payload + (4 if masked else 0)


def good(direction: str, row: Row) -> dict[str, Any]:
    name, array = row[0], row[1]
    data = pack(array)
    vector: dict[str, Any] = {
        "name": name, "direction": direction, "op": array[0], "json": array, "hex": data.hex(),
        "websocket_bytes": websocket_bytes(len(data), masked=direction == "client"),
    }  # fmt: skip
    if len(row) == 3:
        vector["budget"] = row[2]
    return vector


# name, bytes or JSON text, and the ref or cid of the answer
Bad = tuple[str, bytes | str, int]


def bad(rows: list[Bad], expect: str, answers: str | None = None) -> list[dict[str, Any]]:
    vectors = []
    for name, data, number in rows:
        text = {"text": data} if isinstance(data, str) else {}
        raw = data.encode() if isinstance(data, str) else data
        subprotocol = "mim.json" if text else "mim.msgpack"
        answer = {} if answers is None else {"answers": answers, "number": number}
        vector = {"name": name, "subprotocol": subprotocol, "hex": raw.hex(), "expect": expect}
        vectors.append(vector | answer | text)
    return vectors


# Messages that end the connection: no array that begins with an integer can be read.
NO_FRAMES: list[Bad] = [
    ("empty", b"", 0),
    ("nil", b"\xc0", 0),
    ("a map", pack({"op": 1}), 0),
    ("empty array", pack([]), 0),
    ("op is a string", pack(["2", 1, 5, "a"]), 0),
    ("op is a float", pack([2.0, 1, 5, "a"]), 0),
    ("op is a boolean", pack([True]), 0),
    ("cut short", pack([2, 1, 5, "hello"])[:-1], 0),
    ("half a number", b"\x94\x02\xcd\x01", 0),
    ("bytes after the frame", pack([8, 240]) + b"\x00", 0),
    ("two frames in one message", pack([8, 240]) * 2, 0),
    ("the byte that msgpack never uses", b"\x94\x02\x01\x05\xc1", 0),
    ("array that claims 2^32-1 elements", b"\xdd\xff\xff\xff\xff\x02", 0),
    ("body map that claims 2^32-1 entries", b"\x94\x02\x01\x05\xdf\xff\xff\xff\xff", 0),
    ("5,000 arrays deep", b"\x94\x02\x01\x05\x81\xa1x" + b"\x91" * 5000 + b"\x01", 0),
    ("JSON on the binary subprotocol", b"[8,240]", 0),
    ("not JSON", "hello", 0),
    ("JSON object", '{"op":8}', 0),
    ("op is 2.0", '[2.0,1,5,"a"]', 0),
    ("NaN is no JSON", '[2,1,5,{"x":NaN}]', 0),
    ("JSON cut short", '[2,1,5,"a"', 0),
    ("5,000 JSON arrays deep", '[2,1,5,{"x":' + "[" * 5000 + "]" * 5000 + "}]", 0),
]

UNKNOWN: list[Bad] = [
    ("unknown op", pack([99, 5]), 5),
    ("unknown op, no number", pack([99]), 0),
    ("negative op", pack([-1, 5]), 5),
    ("op 2^64-1", pack([2**64 - 1, 5]), 5),
    ("an op of the server", pack([27]), 0),
    ("unknown op in JSON", "[99,5]", 5),
]

# Known ops whose fields a decoder refuses: answered, and the connection stays.
BAD_SENDS: list[Bad] = [
    ("SEND without body", pack([2, 6, 5]), 6),
    ("SEND body is a number", pack([2, 6, 5, 7]), 6),
    ("SEND body is nil", pack([2, 6, 5, None]), 6),
    ("SEND body is binary", pack([2, 6, 5, b"hi"]), 6),
    ("SEND cid is a string", pack([2, "6", 5, "a"]), 0),
    ("SEND cid is a float", pack([2, 6.0, 5, "a"]), 0),
    ("SEND cid is negative", pack([2, -6, 5, "a"]), 0),
    ("SEND cid 2^53", pack([2, 2**53, 5, "a"]), 0),
    ("SEND cid 2^64-1", pack([2, 2**64 - 1, 5, "a"]), 0),
    ("SEND chat is negative", pack([2, 6, -1, "a"]), 6),
    ("SEND text is not UTF-8", b"\x94\x02\x06\x05\xa2\xff\xfe", 6),
    ("SEND text holds a surrogate", b"\x94\x02\x06\x05\xa3\xed\xa0\x80", 6),
    ("SEND map key is a number", pack([2, 6, 5, {5: 1}]), 6),
    ("SEND map key is a map", b"\x94\x02\x06\x05\x81\x80\x01", 6),
    ("SEND half a surrogate pair in JSON", '[2,6,5,"\\ud83d"]', 6),
    ("SEND cid 1.0 in JSON", '[2,1.0,5,"a"]', 0),
    ("SEND number out of range", '[2,6,5,{"x":1e999}]', 6),
    ("SEND integer of 5,000 digits", '[2,6,5,{"x":' + "9" * 5000 + "}]", 6),
]

BAD_FIELDS: list[Bad] = [
    ("HELLO without token", pack([1, 3]), 3),
    ("HELLO ref 0", pack([1, 0, "token", {}]), 0),
    ("HELLO options null", pack([1, 3, "token", None]), 3),
    ("HELLO recv is a number", pack([1, 3, "token", {"recv": 1}]), 3),
    ("HELLO app too long", pack([1, 3, "token", {"app": "1" * 65}]), 3),
    ("HELLO token is binary", pack([1, 3, b"token", {}]), 3),
    ("READ without seq", pack([3, 5]), 0),
    ("READ seq is nil", pack([3, 5, None]), 0),
    ("TYPING chat is a string", pack([4, "5"]), 0),
    ("RECV negative", pack([5, -1]), 0),
    ("FETCH without limit", pack([6, 7, 5, 0]), 7),
    ("FETCH ref 0", pack([6, 0, 5, 0, 50]), 0),
    ("FETCH from is negative", pack([6, 7, 5, -1, 50]), 7),
    ("FETCH limit is a float", pack([6, 7, 5, 0, 50.0]), 7),
    ("CALL without method", pack([7, 7]), 7),
    ("CALL method is a number", pack([7, 7, 7, {}]), 7),
    ("CALL method of 65 letters", pack([7, 7, "m" * 65, {}]), 7),
    ("PING without next", pack([8]), 0),
    ("CHANGES chat is nil", pack([9, 7, None, 0, 50]), 7),
    ("FETCH from -1 in JSON", "[6,7,5,-1,50]", 7),
]


def body(value: Any) -> bytes:
    return pack([2, 6, 5, value])


def x(value: Any) -> bytes:
    return body({"t": "a", "x": value})


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


# Sound frames whose values break a rule that a decoder cannot see: answered, and the connection stays.
BAD_BODIES: list[Bad] = [
    ("SEND empty text", body(""), 6),
    ("SEND empty map", body({}), 6),
    ("SEND text with NUL", body("a\0b"), 6),
    ("SEND key with NUL", x({"a\0": 1}), 6),
    ("SEND t is a number", body({"t": 7}), 6),
    ("SEND kind of 33 letters", body({"t": "a", "k": "k" * 33}), 6),
    ("SEND reply to -1", body({"t": "a", "re": -1}), 6),
    ("SEND mention outside the text", body({"t": "@민아", "m": [[0, 4, 42]]}), 6),
    ("SEND 101 mentions", body({"t": "a", "m": [[0, 1, 42]] * 101}), 6),
    ("SEND 31 attachments", body({"t": "a", "f": [{}] * 31}), 6),
    ("SEND attachment that is no map", body({"t": "a", "f": ["x"]}), 6),
    ("SEND binary in x", x(b"\x00"), 6),
    ("SEND extension in x", x(msgpack.ExtType(5, b"\x00")), 6),
    ("SEND timestamp in x", x(msgpack.Timestamp(1)), 6),
    ("SEND NaN in x", x(math.nan), 6),
    ("SEND infinity in x", x(math.inf), 6),
    ("SEND integer 2^53 in x", x(2**53), 6),
    ("SEND integer -2^53 in x", x(-(2**53)), 6),
    ("SEND number as key in x", x({1: 1}), 6),
    ("SEND 18 arrays deep", x(nested(18)), 6),
]

BAD_REQUESTS: list[Bad] = [
    ("FETCH limit 0", pack([6, 7, 5, 0, 0]), 7),
    ("CHANGES limit 0", pack([9, 7, 5, 0, 0]), 7),
    ("CHANGES limit -1", pack([9, 7, 5, 0, -1]), 7),
    ("CALL parameters are a list", pack([7, 7, "chat.get", [5]]), 7),
    ("CALL parameters are not UTF-8", b"\x94\x07\x07\xa8chat.get\x81\xa4chat\xa1\xff", 7),
    ("CALL parameter of the wrong type", pack([7, 7, "chat.get", {"chat": "5"}]), 7),
]


def write(name: str, vectors: list[dict[str, Any]]) -> None:
    """One vector a line, so that a difference shows which one changed."""
    lines = ",\n".join("  " + json.dumps(v, ensure_ascii=False, allow_nan=False) for v in vectors)
    (HERE / f"{name}.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")


def main() -> None:
    HERE.mkdir(exist_ok=True)
    for direction, frames in (("client", CLIENT), ("server", SERVER)):
        for name, rows in frames.items():
            write(f"{rows[0][1][0]:02}-{name.lower()}", [good(direction, row) for row in rows])
    write("bad-no-frame", bad(NO_FRAMES, "close 4503"))
    fields = bad(BAD_SENDS, "bad_frame", "NACK") + bad(BAD_FIELDS, "bad_frame", "ERROR")
    write("bad-fields", bad(UNKNOWN, "unsupported", "ERROR") + fields)
    write("bad-values", bad(BAD_BODIES, "bad_frame", "NACK") + bad(BAD_REQUESTS, "bad_frame", "ERROR"))


if __name__ == "__main__":
    main()
