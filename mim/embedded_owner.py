"""As whom the private Postgres runs, and how that user gets to its files.

Postgres refuses to run as root. Started by root it runs as the owner of an existing cluster, else as the user
`pgserver`. Where a parent folder is closed to that user, an access list entry of his own lets him pass
through; the folder is not opened to everybody.
"""

import os
import pwd
import struct
import subprocess
from contextlib import suppress
from pathlib import Path

import structlog

log = structlog.get_logger("mim.embedded")

SERVER_USER = "pgserver"


class EmbeddedError(Exception):
    """The private Postgres or Redis cannot be used; the text is a sentence for the operator that says what to do."""


def owner_of(cluster: Path) -> pwd.struct_passwd | None:
    """The system user to switch to, None to stay who we are. Raises EmbeddedError."""
    me = os.geteuid()
    uid = cluster.stat().st_uid if cluster.exists() else me
    if me != 0:
        if uid != me:
            raise EmbeddedError(f"{cluster} belongs to user {_user_name(uid)}; start mim as that user")
        return None
    if uid != 0:
        return pwd.getpwuid(uid)
    if cluster.exists():
        raise EmbeddedError(f"{cluster} belongs to root, as whom Postgres does not run; chown -R it to {SERVER_USER}")
    return _server_user()


def _server_user() -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(SERVER_USER)
    except KeyError:
        pass
    try:
        subprocess.run(  # noqa: S603
            ["useradd", "--system", "--no-create-home", "--shell", "/bin/false", SERVER_USER],  # noqa: S607
            check=True,
            capture_output=True,
        )
        return pwd.getpwnam(SERVER_USER)
    except (OSError, subprocess.CalledProcessError, KeyError) as exc:
        raise EmbeddedError(
            f"Postgres does not run as root, and user {SERVER_USER} cannot be created; "
            "start mim as an ordinary user or set MIM_DATABASE_URL"
        ) from exc


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def let_in(user: pwd.struct_passwd, path: Path) -> None:
    """Let `user` pass through the parent folders of `path`. Raises EmbeddedError."""
    for folder in reversed(path.parents):
        if not _may_enter(user, folder):
            with suppress(OSError):
                _grant_search(user.pw_uid, folder)
            if not _may_enter(user, folder):
                raise EmbeddedError(
                    f"Postgres runs as user {user.pw_name}, who may not enter {folder}; "
                    f"`chmod o+x {folder}`, use another --data-dir or place of installation, "
                    "or start mim as an ordinary user"
                )
            log.info("access list entry added", folder=str(folder), user=user.pw_name)


def _may_enter(user: pwd.struct_passwd, folder: Path) -> bool:
    return (
        subprocess.run(  # noqa: S603
            ["test", "-x", str(folder)],  # noqa: S607
            check=False,
            cwd="/",
            user=user.pw_uid,
            group=user.pw_gid,
            extra_groups=[],
        ).returncode
        == 0
    )


def _grant_search(uid: int, folder: Path) -> None:
    """Add `user:uid:--x` to the POSIX access list of `folder`; nobody else's rights change."""
    name, no_id, search = "system.posix_acl_access", 0xFFFFFFFF, 0o1
    mode = folder.stat().st_mode
    try:
        raw = os.getxattr(folder, name)  # type: ignore[attr-defined,unused-ignore]
        entries = set(struct.iter_unpack("<HHI", raw[4:]))
    except OSError:  # none yet: the mode bits, written as entries (tags 1 owner, 4 group, 32 others)
        entries = {(1, mode >> 6 & 7, no_id), (4, mode >> 3 & 7, no_id), (32, mode & 7, no_id)}
    entries = {entry for entry in entries if (entry[0], entry[2]) != (2, uid) and entry[0] != 16}
    entries.add((2, search, uid))
    mask = 0  # tag 16: bounds every entry but owner's and others'
    for tag, rights, _ in entries:
        mask |= rights if tag in {2, 4, 8} else 0
    entries.add((16, mask, no_id))
    raw = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in sorted(entries))
    os.setxattr(folder, name, raw)  # type: ignore[attr-defined,unused-ignore]
