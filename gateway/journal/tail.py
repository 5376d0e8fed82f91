"""The outbox's newest records in memory: all that no file has yet, and of the rest the newest, up to a bound."""

from __future__ import annotations

from collections import deque
from itertools import islice

from gateway.journal.outbox_file import PLACE, SIZE, Row
from gateway.site.report import Record

# Records in memory although they are in the file: what a live upstream asks for.
RECENT_RECORDS = 1_000
RECENT_BYTES = 128_000  # of bodies; as objects about eight times that
# Records that wait for a full disk; beyond them the oldest of these are dropped, and counted.
WAITING_RECORDS = 2_000
WAITING_BYTES = 500_000
# Written in one transaction.
BATCH_RECORDS = 1_000

Kept = tuple[int, float, int, Record]
"""A record in memory: position, at, size of the body in the file, and itself. Begins as a ``Row`` does."""


class Tail:
    """``recent`` are all in memory, ``unwritten`` the rows of those that no file has; both oldest first."""

    def __init__(self) -> None:
        self.recent: deque[Kept] = deque()
        self.unwritten: deque[Row] = deque()
        self._recent_bytes = 0
        self._unwritten_bytes = 0

    def first(self, otherwise: int) -> int:
        """Position of the oldest in memory."""
        return self.recent[0][PLACE] if self.recent else otherwise

    def add(self, row: Row, record: Record) -> None:
        place, at, size, _, _ = row
        self.recent.append((place, at, size, record))
        self.unwritten.append(row)
        self._recent_bytes += size
        self._unwritten_bytes += size

    def read(self, start: int, most: int) -> list[Record]:
        """Up to ``most`` behind position ``start``."""
        recent = self.recent
        if not recent or most <= 0:
            return []
        skip = max(start - recent[0][PLACE] + 1, 0)  # right where no position is missing
        if skip > 0 and not (skip < len(recent) and recent[skip - 1][PLACE] == start):
            skip = sum(1 for kept in recent if kept[PLACE] <= start)
        return [record for _, _, _, record in islice(recent, skip, skip + most)]

    def batch(self, most_bytes: int) -> list[Row]:
        """The oldest unwritten rows, as many as one transaction takes: one at least."""
        if len(self.unwritten) <= BATCH_RECORDS and self._unwritten_bytes <= most_bytes:
            return list(self.unwritten)
        rows: list[Row] = []
        size = 0
        for row in islice(self.unwritten, BATCH_RECORDS):
            rows.append(row)
            size += row[SIZE]
            if size >= most_bytes:
                break
        return rows

    def forget_upto(self, place: int) -> None:
        recent = self.recent
        if recent and recent[-1][PLACE] <= place:
            recent.clear()
            self._recent_bytes = 0
        while recent and recent[0][PLACE] <= place:
            self._recent_bytes -= recent.popleft()[SIZE]
        self._no_more_unwritten(place)

    def written(self, place: int) -> None:
        """Everything up to ``place`` is in the file."""
        self._no_more_unwritten(place)
        self.evict(place)

    def _no_more_unwritten(self, place: int) -> None:
        unwritten = self.unwritten
        if unwritten and unwritten[-1][PLACE] <= place:
            unwritten.clear()
            self._unwritten_bytes = 0
        while unwritten and unwritten[0][PLACE] <= place:
            self._unwritten_bytes -= unwritten.popleft()[SIZE]

    def evict(self, place: int) -> None:
        """Keep of those up to ``place``, which are in the file, the newest."""
        while self.recent and self.recent[0][PLACE] <= place:
            if len(self.recent) <= RECENT_RECORDS and self._recent_bytes <= RECENT_BYTES:
                return
            self._recent_bytes -= self.recent.popleft()[SIZE]

    def full(self) -> bool:
        """Is more unwritten than may be."""
        return len(self.unwritten) > WAITING_RECORDS or self._unwritten_bytes > WAITING_BYTES

    def drop_unwritten(self, after: int) -> Row | None:
        """Take out the oldest unwritten one behind ``after``; the newest stays (None: there is no other)."""
        row = next((row for row in self.unwritten if row[PLACE] > after), None)
        if row is None or row is self.unwritten[-1]:
            return None
        self.unwritten.remove(row)
        self._unwritten_bytes -= row[SIZE]
        del self.recent[next(index for index, kept in enumerate(self.recent) if kept[PLACE] == row[PLACE])]
        self._recent_bytes -= row[SIZE]
        return row

    def all_unwritten(self, rows: list[Row]) -> None:
        """The file is gone: all that is in memory is to be written anew, as ``rows``."""
        self.unwritten = deque(rows)
        self._unwritten_bytes = self._recent_bytes = sum(row[SIZE] for row in rows)
