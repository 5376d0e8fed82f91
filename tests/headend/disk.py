"""The EMS's database on the disk that loses power (tests.gateway.journal.disk), by DB-API as SQLAlchemy wants it."""

from __future__ import annotations

import itertools
import random
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import apsw

from tests.gateway.journal.disk import Disk, File

FILE = "/ems.db"
# So that a short test checkpoints many times.
CHECKPOINT_PAGES = 20


class WatchedDisk(Disk):
    """At each sync, before it: ``watch`` is called, in the thread that writes."""

    watch: Callable[[], None] | None = None

    @property
    def syncs(self) -> int:
        return self._syncs

    @syncs.setter
    def syncs(self, count: int) -> None:
        self._syncs = count
        if self.watch is not None:
            self.watch()

    def left(self, rng: random.Random) -> dict[str, File]:
        """What a power cut at this moment would leave."""
        share = rng.choice([0.0, 0.5, 1.0])
        return {name: File(file.after_cut(lambda: rng.random() < share)) for name, file in self.files.items()}


def connect(disk: Disk) -> Callable[[], Connection]:
    """For ``Store(creator=…)``."""
    vfs = disk.boot()
    return lambda: Connection(apsw.Connection(FILE, vfs=vfs.vfs))  # type: ignore[attr-defined]


class Connection:
    """A transaction begins with the first statement that writes, as in sqlite3."""

    isolation_level = ""

    def __init__(self, inner: apsw.Connection) -> None:
        self.inner = inner
        inner.execute("PRAGMA locking_mode=EXCLUSIVE")  # this disk has no shared memory
        inner.execute(f"PRAGMA wal_autocheckpoint={CHECKPOINT_PAGES}")

    def cursor(self) -> Cursor:
        return Cursor(self)

    def create_function(self, *_: object, **__: object) -> None: ...

    def commit(self) -> None:
        if self.inner.in_transaction:
            _translated(lambda: self.inner.execute("COMMIT"))

    def rollback(self) -> None:
        if self.inner.in_transaction:
            _translated(lambda: self.inner.execute("ROLLBACK"))

    def close(self) -> None:
        self.inner.close()


class Cursor:
    arraysize = 1

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.description: Sequence[Any] | None = None
        self.rowcount = -1
        self.lastrowid = 0
        self._rows: Iterable[Any] = iter(())

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> Cursor:
        inner = self._connection.inner
        writes = sql.lstrip()[:6].upper() in ("INSERT", "UPDATE", "DELETE")
        if writes and not inner.in_transaction:
            inner.execute("BEGIN")
        cursor = inner.cursor()

        def described(_cursor: Any, _sql: str, _bindings: Any) -> bool:
            names = cursor.get_description()
            self.description = [(name, *[None] * 6) for name, *_ in names] or None
            return True

        cursor.exec_trace = described
        self._rows = iter(_translated(lambda: list(cursor.execute(sql, tuple(parameters)))))
        self.rowcount = inner.changes() if writes else -1
        self.lastrowid = inner.last_insert_rowid()
        return self

    def executemany(self, sql: str, many: Iterable[Sequence[Any]]) -> Cursor:
        count = sum(self.execute(sql, parameters).rowcount for parameters in many)
        self.rowcount = count
        return self

    def fetchone(self) -> Any:
        return next(iter(self._rows), None)

    def fetchall(self) -> list[Any]:
        return list(self._rows)

    def fetchmany(self, size: int = 1) -> list[Any]:
        return list(itertools.islice(self._rows, size))

    def close(self) -> None: ...


def _translated(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except apsw.Error as error:
        raise sqlite3.OperationalError(str(error)) from error
