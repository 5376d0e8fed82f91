"""The outbox: one append-only log of reports, with a cursor for each upstream.

Appending and acknowledging change memory; the writer's thread brings the file after it, in batches. The newest
records stay in memory up to a bound (all that are not in the file yet, besides), older ones are read from the file
through a connection of their own, which never waits for the writer.
Cannot do: survive a power cut with its last seconds (commits are synced at checkpoints only): nothing in it was
acknowledged to anybody, and what is sent again is known by its (boot, seq).
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Callable, Iterable

from gateway.clock import EARLIEST_TRUSTED_WALL
from gateway.config.model import JournalConfig
from gateway.journal import packed
from gateway.journal.outbox_file import PLACE, SIZE, Batch, OutboxFile, Row, budget, wal_pages
from gateway.journal.reader import Reader
from gateway.journal.readers import Note, Readers
from gateway.journal.spans import Spans, footprint, position
from gateway.journal.store import PAGE_BYTES, JournalError, is_damage
from gateway.journal.tail import Tail
from gateway.journal.writer import Waiters
from gateway.site.report import OutboxBody, Record

log = logging.getLogger(__name__)


class Outbox:
    """The log in memory, and a writer's job for its file. Everything that changes it takes the journal's lock."""

    name = "the outbox"

    def __init__(self, file: OutboxFile, config: JournalConfig, lock: threading.Lock) -> None:
        self._file = file
        self.lock = lock
        self.boot = 0  # given by ``begin``
        self._seq = self._first_seq = 0
        self._most_age_s = config.outbox_max_age_s
        self._look_every_s = self._most_age_s / 1024
        self._looked_at = 0.0
        self._most_size = budget(config.outbox_max_bytes)
        self._batch_bytes = wal_pages(config.outbox_max_bytes) * PAGE_BYTES // 2
        self._spans = Spans(self._most_size, self._most_age_s)
        self._readers = Readers(self, self._spans)
        self._tail = Tail()
        self.waiters = Waiters()
        self.marks: dict[str, int] = {}
        self._in_flight: Batch | None = None
        self._damaged = False
        self.want: Callable[[], None] = lambda: None  # with the lock held
        self.hurry: Callable[[], None] = lambda: None  # likewise
        self.turn: Callable[[], None] = lambda: None  # without it
        self._load()

    def _load(self) -> None:
        for place, at, size in self._file.records():
            self._spans.add(place, footprint(size), at)
        self.marks = self._file.marks()
        newest = self._spans.newest.last if self._spans else 0
        self._last = self._written = max(self.marks.get("appended", 0), newest)
        self._floor = self._file.deleted_upto = self._spans.oldest.first - 1 if self._spans else 0
        for upstream, place, lost in self._file.cursors():
            place = max(place, self._floor)
            self._readers.add(upstream, place, self._spans.count(place, self._last), lost)
        self._trim()

    def begin(self, boot: int, first_seq: int) -> None:
        """This start's number, and behind which ``seq`` its records are numbered, as those of each start before."""
        self.boot = boot
        self._seq = self._first_seq = first_seq

    def account(self, notes: Iterable[Note]) -> dict[str, int]:
        """Count what the file should have by these notes and has not: upstream → newly known to be lost."""
        self.waiters.serial += 1
        return self._readers.account(notes, self._last, self._first_seq)

    def notes(self) -> list[Note]:
        """What ``account`` wants to know after a loss (lock held)."""
        return self._readers.notes(self._last)

    # --- what the engine and the upstreams call ---

    @property
    def last(self) -> int:
        """Position of the newest record ever appended that is known."""
        return self._last

    def mark(self, name: str, value: int) -> bool:
        """Keep a second copy of an essential counter (lock held); is it a new one?"""
        if self.marks.get(name) == value:
            return False
        self.marks[name] = value
        self._changed()
        return True

    def names(self) -> tuple[str, ...]:
        return self._readers.names()

    def reader(self, upstream: str) -> Reader:
        """The upstream's reader; a new one starts behind everything that is there."""
        with self.lock:
            reader = self._readers.get(upstream)
            if reader is None:
                reader = self._readers.add(upstream, self._last)
                self._changed()
            return reader

    def drop_reader(self, upstream: str) -> None:
        with self.lock:
            if self._readers.remove(upstream):
                self._trim()
                self._changed()

    def append(self, body: OutboxBody) -> Record:
        """The next record. Without a reader it is numbered and kept nowhere."""
        at = body.at if body.at >= EARLIEST_TRUSTED_WALL else 0.0
        with self.lock:
            self._seq += 1
            record = Record(self.boot, self._seq, body)
            self._last = place = position(self.boot, self._seq)
            if not self._readers:
                return record
            row = _row(place, at, body)
            self._spans.add(place, footprint(row[SIZE]), at)
            self._tail.add(row, record)
            self._readers.appended()
            # Looking for old spans at each record would find nothing nearly always.
            if not 0 <= at - self._looked_at < self._look_every_s or self._spans.size > self._most_size:
                self._bound(at)
            while self._tail.full() and self._drop_unwritten():
                pass
            self._changed()
        self.turn()
        return record

    def read(self, reader: Reader, start: int, most: int) -> list[Record]:
        """Up to ``most`` records behind ``start``, oldest first; fewer when they come from the file."""
        start = max(start, self._floor)
        if start < self._tail.first(self._last + 1) - 1 and self._spans:
            older = self._from_file(reader, start, most)
            if older is None or older:
                return older or []
        reader.ahead.clear()
        return self._tail.read(start, most)

    def acknowledge(self, reader: Reader, place: int) -> None:
        with self.lock:
            place = min(place, self._last)
            if place <= reader.place:
                return
            covered = self._spans.count(reader.place, place)
            reader.count -= covered
            reader.acknowledged += covered
            reader.place = place
            self._trim()
            self._changed()
        self.turn()

    def status(self) -> dict[str, object]:
        return {
            "records": self._spans.count(self._floor, self._last),
            "bytes": round(self._spans.size),
            "not_written": len(self._tail.unwritten),
            "upstreams": self._readers.status(),
        }

    def close(self) -> None:
        self._file.close()

    # --- bounds (lock held) ---

    def _changed(self) -> None:
        self.waiters.serial += 1
        self.want()

    def _bound(self, wall: float) -> None:
        self._looked_at = wall
        aged = self._spans.aged(wall, self._most_age_s)
        if aged is not None:
            self._drop_upto(aged)
        while self._spans.size > self._most_size and self._spans.oldest.last < self._last:
            self._drop_upto(self._spans.oldest.last)

    def _drop_upto(self, place: int) -> None:
        """Drop the oldest, and count it for whoever has not had it."""
        self._readers.drop_upto(place)
        self._trim()

    def _drop_unwritten(self) -> bool:
        """Drop the oldest that no file has and no transaction is writing; the newest stays."""
        busy = self._in_flight.rows[-1][PLACE] if self._in_flight and self._in_flight.rows else 0
        row = self._tail.drop_unwritten(busy)
        if row is not None:
            self._lose(row[PLACE], row[SIZE])
        return row is not None

    def _lose(self, place: int, size: int) -> None:
        if self._spans.drop_one(place, footprint(size)):
            self._readers.drop_one(place)

    def _trim(self) -> None:
        """Forget what every upstream has."""
        floor = self._readers.floor(self._last)
        if floor <= self._floor:
            return
        self._floor = floor
        self._spans.drop_upto(floor)
        self._tail.forget_upto(floor)

    # --- the file: reading on the loop ---

    def _from_file(self, reader: Reader, start: int, most: int) -> list[Record] | None:
        """None: it cannot be read now."""
        try:
            return reader.ahead.records(start, most, self._file.read, self._unreadable)
        except sqlite3.Error as error:
            log.warning("%s cannot be read: %s", self.name, error)
            with self.lock:
                self._damaged = self._damaged or is_damage(error)
                self._changed()
            return None

    def _unreadable(self, place: int, size: int) -> None:
        with self.lock:
            self._lose(place, size)

    # --- the file: the writer's job (see writer.Job) ---

    def take(self) -> Batch | None:
        if not self.waiters.pending() and not self._damaged:
            return None
        rows = self._tail.batch(self._batch_bytes)
        more = len(rows) < len(self._tail.unwritten)
        marks = {**self.marks, "appended": rows[-1][PLACE] if rows else max(self._written, self._floor)}
        batch = Batch(
            rows,
            self._floor,
            self._readers.cursors(),
            self._readers.take_removed(),
            tuple(marks.items()),
            0 if more else self.waiters.serial,
        )
        self._in_flight = batch
        return batch

    def write(self, batch: Batch) -> None:
        if self._damaged:
            self._renew()
            raise sqlite3.DatabaseError("the file was damaged, a new one is begun")
        try:
            self._file.write(batch)
        except sqlite3.Error as error:
            if is_damage(error):
                self._renew()
            raise

    def written(self, batch: Batch) -> None:
        self._in_flight = None
        if batch.rows:
            last = batch.rows[-1][PLACE]
            self._written = max(self._written, last)
            self._tail.written(self._written)
        self.waiters.written(batch.serial)
        if self._tail.unwritten and not batch.serial:
            self.hurry()  # nothing is gained by gathering more
        elif self.waiters.pending():
            self.want()

    def failed(self, batch: Batch, error: Exception) -> None:
        self._in_flight = None
        self.waiters.failed(self.waiters.serial, JournalError(f"{self.name} cannot be written: {error}"))
        self._readers.not_removed(batch.gone)

    def _renew(self) -> None:
        """Begin a new file with what memory still has; the rest is lost, and counted. Runs in the thread."""
        self._damaged = True  # until it is done; else it is tried again
        self._file.renew()
        with self.lock:
            self._damaged = False
            upto = self._tail.first(self._last + 1) - 1
            self._drop_upto(upto)
            self._tail.all_unwritten([_row(place, at, record.body) for place, at, _, record in self._tail.recent])
            self._written = upto
            self._changed()


def _row(place: int, at: float, body: OutboxBody) -> Row:
    form = packed.dumps(body)
    return place, at, len(form), packed.KINDS[type(body)], form
