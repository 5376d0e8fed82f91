"""The essential file: what must be on disk before it is acknowledged to anybody.

Its small tables are mirrored in memory (the engine holds the same frozen objects), so reads never touch the file.
A change is one row, keyed: a newer change to the same row replaces an older one that is not written yet, and all
that is not written goes in one transaction, so the file always shows one moment of the past.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from gateway.journal.store import Connection, JournalError, transaction
from gateway.journal.writer import Waiters

Statement = tuple[str, Sequence[Any]]
Key = tuple[Any, ...]

# Decisions kept in memory: what a menu or `smartema why` asks for most.
RECENT_DECISIONS = 32
# Decisions that wait for a full disk; beyond them the oldest are dropped, and counted.
MOST_WAITING_DECISIONS = 1_000
# Somebody who asks for old decisions waits for a commit, not for a disk that hangs: control stands still meanwhile.
READ_WAIT_S = 0.1
_INSERT_DECISION = "INSERT INTO decision (n, id, devices, body) VALUES (?, ?, ?, ?)"


class _Batch:
    def __init__(self, rows: dict[Key, Statement], decisions: list[Statement], last_n: int, serial: int) -> None:
        self.rows = rows
        self.decisions = decisions
        self.last_n = last_n
        self.serial = serial
        self.extra: list[Statement] = []


class Essential:
    """Rows waiting for the file, and who waits for them. All but ``write`` runs under the journal's lock."""

    name = "the essential journal"

    def __init__(self, connection: Connection, lock: threading.Lock, decisions_kept: int) -> None:
        self.connection = connection
        self._file = threading.Lock()  # one transaction, or one read, at a time
        self._lock = lock
        self._kept = decisions_kept
        self._waiting: dict[Key, Statement] = {}
        self._in_flight: _Batch | None = None
        self.waiters = Waiters()
        rows = list(connection.execute("SELECT coalesce(max(n), 0) FROM decision"))
        self._last_n = self._written_n = int(rows[0][0])
        self._trimmed_n = max(self._last_n - decisions_kept, 0)
        self._decisions: deque[tuple[int, Statement]] = deque()
        self.dropped_decisions = 0
        self.reserved: dict[str, int] = {}  # counters on disk
        self.commands: set[int] = {int(row[0]) for row in connection.execute("SELECT id FROM command")}  # on disk
        self.notes: Callable[[], list[Statement]] = list

    # --- handing in (lock held) ---

    def put(self, key: Key, sql: str, *parameters: Any) -> None:
        """One row's newest form; ``key`` names the row."""
        self._waiting[key] = (sql, parameters)
        self.waiters.serial += 1

    def withdraw(self, key: Key, on_disk: bool, sql: str, *parameters: Any) -> None:
        """Delete a row, or forget it if no transaction ever took it."""
        self._waiting.pop(key, None)
        if on_disk or (self._in_flight is not None and key in self._in_flight.rows):
            self._waiting[key] = (sql, parameters)
        self.waiters.serial += 1

    def add_decision(self, decision_id: int, devices: str, body: str) -> None:
        self._last_n += 1
        self._decisions.append((self._last_n, (_INSERT_DECISION, (self._last_n, decision_id, devices, body))))
        self.waiters.serial += 1
        while self._decisions[0][0] <= self._written_n and len(self._decisions) > RECENT_DECISIONS:
            self._decisions.popleft()
        if len(self._decisions) > MOST_WAITING_DECISIONS:
            self._drop_waiting()

    def _drop_waiting(self) -> None:
        """The oldest that no file has and no transaction is writing; a disk that hangs keeps one under way."""
        busy = self._in_flight.last_n if self._in_flight is not None else 0
        index = next((i for i, (n, _) in enumerate(self._decisions) if n > busy), None)
        if index is not None:
            del self._decisions[index]
            self.dropped_decisions += 1

    def touch(self) -> None:
        """Commit, though no row changed: for the notes that go with every commit."""
        self.waiters.serial += 1

    def waiting(self) -> int:
        """Changes that are not on disk."""
        taken = len(self._in_flight.rows) if self._in_flight else 0
        return len(self._waiting) + taken + self._last_n - self._written_n or int(self.waiters.pending())

    # --- the job (see writer.Job) ---

    def take(self) -> _Batch | None:
        if not self.waiters.pending():
            return None
        decisions = [row for n, row in self._decisions if n > self._written_n]
        batch = _Batch(self._waiting, decisions, self._last_n, self.waiters.serial)
        batch.extra = self.notes()
        self._waiting = {}
        self._in_flight = batch
        return batch

    def write(self, batch: _Batch) -> None:
        statements = [*batch.rows.values(), *batch.decisions, *batch.extra]
        if batch.last_n - self._kept > self._trimmed_n + self._kept // 20:
            statements.append(("DELETE FROM decision WHERE n <= ?", (batch.last_n - self._kept,)))
        with self._file:
            transaction(self.connection, statements)

    def written(self, batch: _Batch) -> None:
        self._in_flight = None
        for key, (sql, parameters) in batch.rows.items():
            if key[0] == "counter":
                self.reserved[key[1]] = parameters[1]
            elif key[0] == "command":
                (self.commands.discard if sql.startswith("DELETE") else self.commands.add)(key[1])
        self._written_n = batch.last_n
        if batch.last_n - self._kept > self._trimmed_n + self._kept // 20:
            self._trimmed_n = batch.last_n - self._kept
        self.waiters.written(batch.serial)

    def failed(self, batch: _Batch, error: Exception) -> None:
        self._in_flight = None
        self._waiting = {**batch.rows, **self._waiting}
        self.waiters.failed(batch.serial, JournalError(f"{self.name} cannot be written: {error}"))

    def close(self) -> None:
        with self._file:
            self.connection.close()

    # --- reading decisions ---

    def decision_bodies(self, last: int, device: str | None) -> list[str]:
        """Newest first. Older ones than memory holds come from the file, unless a commit hangs in it."""
        mark = f"|{device}|" if device is not None else ""
        with self._lock:
            recent = list(self._decisions)
            kept_from = self._last_n - self._kept
        found = [row[1][3] for n, row in reversed(recent) if mark in row[1][2] and n > kept_from][:last]
        before = recent[0][0] if recent else self._last_n + 1
        if len(found) < last and self._file.acquire(timeout=READ_WAIT_S):
            try:
                found += [row[0] for row in self._older(before, kept_from, mark, last - len(found))]
            finally:
                self._file.release()
        return found

    def _older(self, before: int, after: int, mark: str, most: int) -> Iterable[Any]:
        return list(
            self.connection.execute(
                "SELECT body FROM decision WHERE n < ? AND n > ? AND (? = '' OR instr(devices, ?) > 0)"
                " ORDER BY n DESC LIMIT ?",
                (before, after, mark, mark, most),
            )
        )
