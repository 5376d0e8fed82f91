"""The outbox's file: what is in it, one batch written at a time, older records read beside the writer."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Iterable
from typing import Final

from gateway.journal.packed import Body
from gateway.journal.store import PAGE_BYTES, WAL_PAGES, Connection, rollback
from gateway.record import slim

log = logging.getLogger(__name__)

Connect = Callable[[], tuple[Connection, Callable[[], Connection]]]

Row = tuple[int, float, int, str, Body]
"""A record as the file has it: position, at, size of the body, kind, body (packed.py)."""

PLACE: Final = 0
SIZE: Final = 2


@slim(frozen=True, slots=True)
class Batch:
    """What one transaction brings: new rows, everything up to ``floor`` gone, cursors (upstream, position, lost)."""

    rows: list[Row]
    floor: int
    cursors: list[tuple[str, int, int]]
    gone: tuple[str, ...]
    marks: tuple[tuple[str, int], ...]
    serial: int  # 0: there is more to write than this


class OutboxFile:
    """``connect`` gives the writing connection and how the reading one is opened, which costs 0.2 MB and is only needed
    where records are no longer in memory; ``reconnect`` sets a damaged file aside before."""

    def __init__(self, connect: Connect, reconnect: Connect) -> None:
        self._reconnect = reconnect
        self._writing, self._open_reading = connect()
        self._reading: Connection | None = None
        self.deleted_upto = 0

    def records(self) -> Iterable[tuple[int, float, int]]:
        """(position, at, size) of all, oldest first, one by one."""
        return self._writing.execute("SELECT position, at, size FROM record ORDER BY position")

    def marks(self) -> dict[str, int]:
        return dict(self._writing.execute("SELECT name, value FROM mark"))

    def cursors(self) -> list[tuple[str, int, int]]:
        return list(self._writing.execute("SELECT upstream, position, lost FROM cursor"))

    def read(self, start: int, most: int) -> list[Row]:
        """Up to ``most`` behind ``start``; never waits for the writer. Raise ``sqlite3.Error``."""
        sql = "SELECT position, at, size, kind, body FROM record WHERE position > ? ORDER BY position LIMIT ?"
        if self._reading is None:
            self._reading = self._open_reading()
        return list(self._reading.execute(sql, (start, most)))

    def write(self, batch: Batch) -> None:
        """All of it or nothing; raise ``sqlite3.Error``."""
        connection = self._writing
        try:
            connection.execute("BEGIN IMMEDIATE")
            if batch.rows:
                connection.executemany(
                    "INSERT OR REPLACE INTO record (position, at, size, kind, body) VALUES (?, ?, ?, ?, ?)", batch.rows
                )
            if batch.floor > self.deleted_upto:
                connection.execute("DELETE FROM record WHERE position <= ?", (batch.floor,))
            if batch.gone:
                connection.executemany("DELETE FROM cursor WHERE upstream = ?", [(name,) for name in batch.gone])
            connection.executemany(
                "INSERT OR REPLACE INTO cursor (upstream, position, lost) VALUES (?, ?, ?)", batch.cursors
            )
            connection.executemany("INSERT OR REPLACE INTO mark (name, value) VALUES (?, ?)", batch.marks)
            connection.execute("COMMIT")
        except sqlite3.Error:
            rollback(connection)
            raise
        self.deleted_upto = batch.floor

    def renew(self) -> None:
        """Set the file aside and begin a new one. Raise ``OperatorError`` or ``sqlite3.Error``."""
        log.error("the outbox is damaged; it is set aside and a new one begun")
        self._writing.close()
        self._writing, self._open_reading = self._reconnect()
        self._reading = None  # another thread may be reading from the old one
        self.deleted_upto = 0

    def close(self) -> None:
        if self._reading is not None:
            self._reading.close()
            self._reading = None
        self._writing.close()


def wal_pages(most_bytes: int) -> int:
    """Pages of write-ahead log for an outbox of that size."""
    return min(max(most_bytes // 16 // PAGE_BYTES, 4), WAL_PAGES)


def budget(most_bytes: int) -> float:
    """What the rows may take, so that file and write-ahead log together stay within ``most_bytes``."""
    return float(most_bytes - 3 * wal_pages(most_bytes) * PAGE_BYTES - 8 * PAGE_BYTES)
