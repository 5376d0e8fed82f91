"""What must survive (docs/journal.md): one object for the engine, two files on disk.

Saves return at once and keep their order; ``durable`` waits for the disk. Reads answer from memory, but for old
decisions and old outbox records.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.journal.essential import Essential, Statement
from gateway.journal.numbers import PUT, Numbers, boot_of, first_seq_of, number_of
from gateway.journal.opening import open_essential, open_outbox
from gateway.journal.state import State
from gateway.journal.store import (
    Connection,
    Connector,
    operator_error,
    transaction,
)
from gateway.journal.writer import Waiters, Writer

if TYPE_CHECKING:
    from gateway.clock import Clock
    from gateway.config.model import JournalConfig
    from gateway.journal.outbox import Outbox
    from gateway.site.report import OutboxBody, Record
    from gateway.upstream.base import OutboxReader

log = logging.getLogger(__name__)

# What is known of the outbox is noted in the essential file with every commit there, and at least this often.
NOTE_EVERY_S = 600.0


# A disk that is well needs milliseconds for what is left.
CLOSE_S = 0.4


class Journal(State):
    """See ``open``. All methods are called from the loop's thread."""

    def __init__(
        self, essential: Connection, outbox: Outbox, config: JournalConfig, clock: Clock, threaded: bool
    ) -> None:
        rows = Essential(essential, outbox.lock, config.decisions_kept)
        super().__init__(rows, Writer(outbox.lock, (rows, outbox), threaded), outbox.lock, clock)
        self._outbox = outbox
        self._closed = False
        self._noted_at = clock.monotonic()
        self._notes: list[tuple[str, int, int, int]] | None = None
        self.boot = 0

    @classmethod
    def open(
        cls,
        state_dir: Path,
        outbox_dir: Path,
        config: JournalConfig,
        clock: Clock,
        *,
        connector: Connector | None = None,
        threaded: bool = True,
    ) -> Journal:
        """Open or create ``essential.db`` and ``outbox.db``; this start's number is on disk when it returns.

        ``threaded=False`` writes within the calls: for many EMAs in one process, and for virtual time.
        A damaged file is set aside (``<name>.damaged``) and a new one begun, said at ERROR.
        Raise ``OperatorError`` (path and what to do): not writable, full, in use, or of a newer smartema.
        """
        connector = connector or Connector()
        path, outbox_path = state_dir / "essential.db", outbox_dir / "outbox.db"
        essential, salvaged = open_essential(connector, path)
        try:
            outbox = open_outbox(connector, outbox_path, config)
            try:
                journal = cls(essential, outbox, config, clock, threaded)
                journal._begin(salvaged)
            except BaseException:
                outbox.close()
                raise
        except BaseException as error:
            essential.close()
            if isinstance(error, sqlite3.Error):
                raise operator_error(path, error) from error
            raise
        journal._writer.start()
        return journal

    def _begin(self, salvaged: dict[str, int] | None) -> None:
        """Number this start, and reserve what it will number, on disk."""
        counters = {
            str(name): int(value)
            for name, value in self._essential.connection.execute("SELECT name, value FROM counter")
        }
        known = [counters, self._outbox.marks, salvaged or {}]
        names = ("boot", "first_seq", "command", "decision")
        first = {name: max(found.get(name, 0) for found in known) for name in names}
        now = self._clock.now()
        if not first["boot"]:
            first["first_seq"] = first_seq_of(now)
            if not now.trusted:
                level = logging.INFO if salvaged is None else logging.ERROR
                log.log(level, "numbers begin anew: no file tells which were used, and the clock is not set")
        self.boot = max(first["boot"] + 1, boot_of(now))
        least = max(number_of(now), 1)
        self._commands = Numbers("command", max(first["command"], least), self._essential, self._clock)
        self._decisions = Numbers("decision", max(first["decision"], least), self._essential, self._clock)
        reserved = {
            "boot": self.boot,
            "first_seq": first["first_seq"],
            "command": self._commands.upto,
            "decision": self._decisions.upto,
        }
        self._outbox.begin(self.boot, first["first_seq"])
        notes = list(self._essential.connection.execute("SELECT upstream, lost, waiting, appended FROM outbox_note"))
        for upstream, missing in self._outbox.account(notes).items():
            log.warning("the outbox lost about %d reports for %s that were not acknowledged", missing, upstream)
        self._outbox.marks.update(reserved)
        rows: list[Statement] = [(PUT, item) for item in reserved.items()]
        transaction(self._essential.connection, rows + self._note_rows())
        self._essential.notes = self._note_rows
        self._outbox.want = self._writer.want
        self._outbox.hurry = self._writer.hurry
        self._outbox.turn = self._writer.turn
        with self._lock:
            self._writer.hurry()
        self._writer.turn(urgent=True)

    # --- numbers ---

    def next_command_id(self) -> int:
        """A number that no command of this EMA ever had or will have (``numbers.py`` names the exceptions)."""
        return self._number(self._commands)

    @property
    def newest_command_id(self) -> int:
        """No command has a greater number."""
        return self._commands.newest

    def used_command_id(self, number: int) -> None:
        """A device says that it was given a command of that number: later ones are above it."""
        with self._lock:
            if self._commands.used(number):
                log.info("command numbers go on behind %d, which a device was given before", number)
                self._outbox.mark("command", self._commands.asked)
                self._writer.hurry()

    def next_decision_id(self) -> int:
        return self._number(self._decisions)

    def _number(self, numbers: Numbers) -> int:
        with self._lock:
            if numbers.exhausted():
                self._writer.hurry()
        if numbers.exhausted():
            self._writer.turn(urgent=True)
        with self._lock:
            number = numbers.next()
            reserving = self._outbox.mark(numbers.name, numbers.asked)
            if reserving:
                self._writer.hurry()
        if reserving:
            self._writer.turn(urgent=True)
        return number

    # --- the disk ---

    async def durable(self) -> None:
        """Return when everything essential handed in so far is on disk.

        Raise ``JournalError`` when it could not be written; it stays in memory, in order, and is tried again.
        """
        await self._written(self._essential.waiters)

    async def _written(self, waiters: Waiters) -> None:
        with self._lock:
            future = waiters.wait(asyncio.get_running_loop())
            if future is not None:
                self._writer.hurry()
        if future is not None:
            self._writer.turn(urgent=True)
            await future

    # --- outbox ---

    def append(self, body: OutboxBody) -> Record:
        """Number a report and keep it for every upstream that has a reader."""
        record = self._outbox.append(body)
        if self._clock.monotonic() - self._noted_at > NOTE_EVERY_S:
            with self._lock:
                self._noted_at = self._clock.monotonic()
                self._essential.touch()
                self._writer.want()
        return record

    def reader(self, upstream: str) -> OutboxReader:
        """That upstream's reader, always the same one; a new upstream begins behind what is there."""
        return self._outbox.reader(upstream)

    def readers(self) -> tuple[str, ...]:
        """Upstreams that have a reader, of earlier starts too: one that is configured no more must be dropped."""
        return self._outbox.names()

    async def outbox_written(self) -> None:
        """Return when the outbox's file has all that was appended and acknowledged so far (a kill cannot take it; a
        power cut can). Raise ``JournalError``."""
        await self._written(self._outbox.waiters)

    def drop_reader(self, upstream: str) -> None:
        self._outbox.drop_reader(upstream)

    def _note_rows(self) -> list[Statement]:
        """What is known of the outbox, to go with an essential commit (lock held)."""
        notes = self._outbox.notes()
        if notes == self._notes:
            return []
        self._notes = notes
        sql = "INSERT OR REPLACE INTO outbox_note (upstream, lost, waiting, appended) VALUES (?, ?, ?, ?)"
        return [("DELETE FROM outbox_note", ()), *((sql, note) for note in notes)]

    # --- state, end ---

    def _left(self) -> str:
        outbox = self._outbox.status()
        return f"up to {self._essential.waiting()} changes and {outbox['not_written']} reports"

    def status(self) -> dict[str, object]:
        """For `smartema status`: what waits for the disk, what was lost, what is wrong now (``problems``)."""
        return {
            "boot": self.boot,
            "problems": self._writer.failing(),
            "not_written": self._essential.waiting(),
            "dropped_decisions": self._essential.dropped_decisions,
            "outbox": self._outbox.status(),
        }

    async def close(self, within_s: float = CLOSE_S) -> None:
        """Write what is left, and close both files. A disk that hangs is waited for so long, and what is left is as
        after a kill."""
        if self._closed:
            return
        self._closed = True
        with self._lock:
            self._commands.give_back()
            self._decisions.give_back()
            for numbers in (self._commands, self._decisions):
                self._outbox.mark(numbers.name, numbers.asked)
        if not await self._writer.stop(within_s):
            log.error("the disk does not answer: %s is left unwritten, as after a kill", self._left())
            return
        for connection_owner in (self._outbox, self._essential):
            connection_owner.close()
