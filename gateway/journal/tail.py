"""The outbox's newest records in memory: all that no file has yet, and of the rest the newest, up to a bound."""

from __future__ import annotations

from collections import deque
from itertools import islice

from gateway.journal.outbox_file import Entry
from gateway.site.report import Record

# Records in memory although they are in the file: what a live upstream asks for.
RECENT_RECORDS = 1_000
RECENT_BYTES = 256_000  # of JSON; as objects about four times that
# Records that wait for a full disk; beyond them the oldest of these are dropped, and counted.
WAITING_RECORDS = 2_000
WAITING_BYTES = 1_000_000


class Tail:
    """``recent`` are all in memory, ``unwritten`` those of them that no file has; both oldest first."""

    def __init__(self) -> None:
        self.recent: deque[Entry] = deque()
        self.unwritten: deque[Entry] = deque()
        self._recent_bytes = 0
        self._unwritten_bytes = 0

    def first(self, otherwise: int) -> int:
        """Position of the oldest in memory."""
        return self.recent[0].place if self.recent else otherwise

    def add(self, entry: Entry) -> None:
        self.recent.append(entry)
        self.unwritten.append(entry)
        self._recent_bytes += entry.size
        self._unwritten_bytes += entry.size

    def read(self, start: int, most: int) -> list[Record]:
        """Up to ``most`` behind position ``start``."""
        recent = self.recent
        if not recent or most <= 0:
            return []
        skip = max(start - recent[0].place + 1, 0)  # right where no position is missing
        if skip > 0 and not (skip < len(recent) and recent[skip - 1].place == start):
            skip = sum(1 for entry in recent if entry.place <= start)
        return [entry.record for entry in islice(recent, skip, skip + most)]

    def forget_upto(self, place: int) -> None:
        while self.recent and self.recent[0].place <= place:
            self._recent_bytes -= self.recent.popleft().size
        while self.unwritten and self.unwritten[0].place <= place:
            self._unwritten_bytes -= self.unwritten.popleft().size

    def written(self, place: int) -> None:
        """Everything up to ``place`` is in the file."""
        while self.unwritten and self.unwritten[0].place <= place:
            entry = self.unwritten.popleft()
            self._unwritten_bytes -= entry.size
            entry.body = ""
        self.evict(place)

    def evict(self, place: int) -> None:
        """Keep of those up to ``place``, which are in the file, the newest."""
        while self.recent and self.recent[0].place <= place:
            if len(self.recent) <= RECENT_RECORDS and self._recent_bytes <= RECENT_BYTES:
                return
            self._recent_bytes -= self.recent.popleft().size

    def full(self) -> bool:
        """Is more unwritten than may be."""
        return len(self.unwritten) > WAITING_RECORDS or self._unwritten_bytes > WAITING_BYTES

    def drop_unwritten(self, after: int) -> Entry | None:
        """Take out the oldest unwritten one behind ``after``; the newest stays (None: there is no other)."""
        entry = next((entry for entry in self.unwritten if entry.place > after), None)
        if entry is None or entry is self.unwritten[-1]:
            return None
        self.unwritten.remove(entry)
        self._unwritten_bytes -= entry.size
        self.recent.remove(entry)
        self._recent_bytes -= entry.size
        return entry

    def all_unwritten(self) -> None:
        """The file is gone."""
        self.unwritten = deque(self.recent)
        self._unwritten_bytes = self._recent_bytes
