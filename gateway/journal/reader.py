"""One upstream's view of the outbox, and its way through what only the file has."""

from __future__ import annotations

import logging
from bisect import bisect_right
from collections.abc import Callable
from operator import itemgetter
from typing import Protocol

from gateway.errors import PeerError
from gateway.journal import packed
from gateway.journal.outbox_file import PLACE, SIZE, Row
from gateway.journal.spans import boot_and_seq, position
from gateway.site.report import Record

log = logging.getLogger(__name__)

# One query reads ahead so much for many calls. Of the packed form that is at most 10 ms of the loop's time to decode.
AHEAD_RECORDS = 250
AHEAD_BYTES = 128_000

_place = itemgetter(PLACE)


class Log(Protocol):
    """What a reader needs of the outbox."""

    def read(self, reader: Reader, start: int, most: int) -> list[Record]: ...

    def acknowledge(self, reader: Reader, place: int) -> None: ...


class Reader:
    """One upstream's view; an ``OutboxReader`` (gateway/upstream/base.py)."""

    def __init__(self, outbox: Log, upstream: str, place: int, waiting: int, lost: int) -> None:
        self._outbox = outbox
        self.upstream = upstream
        self.place = place
        self.count = waiting
        self.gone = lost
        self.acknowledged = 0
        self.ahead = Ahead()

    def unacknowledged(self, after: tuple[int, int] | None, most: int) -> list[Record]:
        start = self.place if after is None else max(self.place, position(*after))
        return self._outbox.read(self, start, most)

    def acknowledge(self, boot: int, seq: int) -> None:
        self._outbox.acknowledge(self, position(boot, seq))

    def waiting(self) -> int:
        return self.count

    def lost(self) -> int:
        return self.gone


class Ahead:
    """Successive rows of the file, not decoded yet, for a reader that asks for a few at a time."""

    def __init__(self) -> None:
        self._after = 0
        self._rows: list[Row] = []

    def records(
        self, start: int, most: int, read: Callable[[int, int], list[Row]], lose: Callable[[int, int], None]
    ) -> list[Record]:
        """Up to ``most`` behind ``start``, from ``read`` when they are not here; empty: the file has none.

        One that cannot be decoded is told to ``lose`` (its position, its size), and passed over.
        Raise what ``read`` raises.
        """
        while most > 0:
            rows = self._behind(start, most)
            if not rows:
                self._fill(start, read(start, AHEAD_RECORDS))
                rows = self._behind(start, most)
                if not rows:
                    return []
            found: list[Record] = []
            for place, _, size, kind, body in rows:
                boot, seq = boot_and_seq(place)
                try:
                    found.append(Record(boot, seq, packed.loads(kind, body)))
                except PeerError as error:
                    log.warning("record %d.%d of the outbox is not readable and lost: %s", boot, seq, error)
                    lose(place, size)
            if found:
                return found
            start = rows[-1][PLACE]
        return []

    def clear(self) -> None:
        self._rows = []

    def _behind(self, start: int, most: int) -> list[Row]:
        rows = self._rows
        if not rows or not self._after <= start < rows[-1][PLACE]:
            return []
        skip = bisect_right(rows, start, key=_place)
        return rows[skip : skip + most]

    def _fill(self, start: int, rows: list[Row]) -> None:
        size = 0
        for index, row in enumerate(rows):
            size += row[SIZE]
            if size >= AHEAD_BYTES:
                del rows[index + 1 :]
                break
        self._after = start
        self._rows = rows
