"""Opens one SQLite file of the journal: pragmas, schema versions, and what to do with a file that is no good."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

from gateway.errors import OperatorError, TransientError

SCHEMA_DIR = Path(__file__).parent / "schema"

# How long a daemon that is just ending may still hold the file.
LOCK_WAIT_S = 3.0

# The write-ahead log is folded in after this many pages: 1 MB of flash, not SQLite's usual 4 MB.
WAL_PAGES = 256
PAGE_BYTES = 4096

_FULL, _CANTOPEN, _PERM, _READONLY, _IOERR, _BUSY, _LOCKED, _CORRUPT, _NOTADB = 13, 14, 3, 8, 10, 5, 6, 11, 26


class JournalError(TransientError):
    """The journal cannot write now (a full disk, most likely). It keeps what it was given and tries again."""


class DamagedError(Exception):
    """The file is no SQLite database any more, or not a whole one."""


class Connection(Protocol):
    """As much of ``sqlite3.Connection`` as the journal uses, in autocommit: BEGIN and COMMIT are statements."""

    def execute(self, sql: str, parameters: Sequence[Any] = ..., /) -> Iterable[Any]: ...

    def executemany(self, sql: str, parameters: Iterable[Sequence[Any]], /) -> object: ...

    def close(self) -> None: ...


class Connector:
    """How the files are reached. Tests hand in one that can lose power; errors are ``sqlite3.Error`` always."""

    def write(self, path: Path) -> Connection:
        """The one connection that writes."""
        return sqlite3.connect(path, timeout=LOCK_WAIT_S, isolation_level=None, check_same_thread=False)

    def read(self, path: Path, writer: Connection) -> Connection:
        """A connection that reads beside the writer and never waits for it."""
        connection = sqlite3.connect(path, timeout=LOCK_WAIT_S, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA query_only=ON")
        connection.execute("PRAGMA cache_size=-128")
        return connection


def code(error: BaseException) -> int:
    """SQLite's primary result code."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def is_damage(error: BaseException) -> bool:
    """Nothing but a new file helps."""
    return isinstance(error, DamagedError) or code(error) in (_CORRUPT, _NOTADB)


def newest(kind: str) -> int:
    """The schema version that this program writes."""
    return len(_scripts(kind))


def open_store(
    connector: Connector, path: Path, kind: str, *, essential: bool, wal_pages: int = WAL_PAGES
) -> Connection:
    """Open or create the file and bring its schema up to date.

    ``essential``: every commit is synced, and the file is ours alone; the exclusive lock also spares SQLite its
    shared-memory file, which JFFS2 flash cannot map. Else commits are synced at checkpoints only.
    Raise ``DamagedError``, or ``OperatorError`` that names the file and what to do.
    """
    make_directory(path.parent)
    connection: Connection | None = None
    try:
        connection = connector.write(path)
        if essential:
            connection.execute("PRAGMA locking_mode=EXCLUSIVE")
        mode = [row[0] for row in connection.execute("PRAGMA journal_mode=WAL")]
        if mode != ["wal"]:
            raise OperatorError(f"{path}: this file system has no shared memory for SQLite; choose one in RAM (/tmp)")
        for pragma in (
            f"synchronous={'FULL' if essential else 'NORMAL'}",
            f"wal_autocheckpoint={wal_pages}",
            f"journal_size_limit={wal_pages * PAGE_BYTES}",
            "cache_size=-256",
            "secure_delete=OFF",
        ):
            list(connection.execute(f"PRAGMA {pragma}"))
        if essential and [row[0] for row in connection.execute("PRAGMA quick_check(1)")] != ["ok"]:
            raise DamagedError(str(path))
        _migrate(connection, path, kind)
    except (sqlite3.Error, DamagedError, OperatorError) as error:
        if connection is not None:
            connection.close()
        if is_damage(error):
            raise DamagedError(str(path)) from error
        if isinstance(error, sqlite3.Error):
            raise operator_error(path, error) from error
        raise
    return connection


def transaction(connection: Connection, statements: Iterable[tuple[str, Sequence[Any]]]) -> None:
    """All of them or none."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        for sql, parameters in statements:
            connection.execute(sql, parameters)
        connection.execute("COMMIT")
    except BaseException:
        rollback(connection)
        raise


def rollback(connection: Connection) -> None:
    """End a transaction that failed; SQLite may have ended it by itself already."""
    with contextlib.suppress(sqlite3.Error):
        connection.execute("ROLLBACK")


def make_directory(directory: Path) -> None:
    """Create it, also on disk (a power cut must not take it); raise ``OperatorError``."""
    missing = [d for d in (directory, *directory.parents) if not d.exists()]
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o750)
        for made in missing:
            handle = os.open(made.parent, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
    except OSError as error:
        raise OperatorError(f"{directory}: {error.strerror}; create it for the user that runs smartema") from None


def operator_error(path: Path, error: sqlite3.Error) -> OperatorError:
    """What a person must do about it."""
    what = code(error)
    if what == _FULL:
        return OperatorError(f"{path}: the disk is full; make room")
    if what in (_BUSY, _LOCKED):
        return OperatorError(f"{path}: in use by another smartema; stop it, or give this one its own state_dir")
    if what in (_CANTOPEN, _PERM, _READONLY):
        return OperatorError(f"{path}: cannot be written ({error}); give it and its directory to the user of smartema")
    if what == _IOERR:
        return OperatorError(f"{path}: {error}; the disk is full or failing")
    return OperatorError(f"{path}: {error}")


def set_aside(path: Path) -> Path:
    """Rename the file (and what belongs to it) to ``<name>.damaged``, replacing an older one."""
    kept = path.with_name(path.name + ".damaged")
    for suffix in ("", "-wal", "-shm"):
        source = path.with_name(path.name + suffix)
        target = path.with_name(path.name + ".damaged" + suffix)
        try:
            target.unlink(missing_ok=True)
            if source.exists():
                source.rename(target)
        except OSError as error:
            raise OperatorError(f"{source}: damaged, and cannot be set aside: {error.strerror}") from None
    return kept


def _scripts(kind: str) -> list[Path]:
    return sorted(SCHEMA_DIR.glob(f"{kind}_[0-9][0-9][0-9][0-9].sql"))


def _migrate(connection: Connection, path: Path, kind: str) -> None:
    scripts = _scripts(kind)
    version = next(int(row[0]) for row in connection.execute("PRAGMA user_version"))
    if version > len(scripts):
        raise OperatorError(
            f"{path}: written by a newer smartema (schema {version}, this one knows {len(scripts)}); "
            "install that one again, or move the file away"
        )
    for number, script in enumerate(scripts[version:], start=version + 1):
        lines = [line for line in script.read_text("utf-8").splitlines() if not line.startswith("--")]
        statements = [part for part in "\n".join(lines).split(";") if part.strip()]
        transaction(connection, [(part, ()) for part in (*statements, f"PRAGMA user_version={number}")])
