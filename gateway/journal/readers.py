"""The upstreams' cursors in the outbox: what waits for each, and what each will never get."""

from __future__ import annotations

from collections.abc import Iterable

from gateway.journal.reader import Log, Reader
from gateway.journal.spans import Spans, boot_and_seq

Note = tuple[str, int, int, int]
"""Upstream, lost, waiting, appended (a position): what the essential file notes of the outbox."""


class Readers:
    """All upstreams' readers. Under the journal's lock."""

    def __init__(self, outbox: Log, spans: Spans) -> None:
        self._outbox = outbox
        self._spans = spans
        self._readers: dict[str, Reader] = {}
        self._removed: list[str] = []  # and still in the file

    def __bool__(self) -> bool:
        return bool(self._readers)

    def names(self) -> tuple[str, ...]:
        return tuple(self._readers)

    def get(self, upstream: str) -> Reader | None:
        return self._readers.get(upstream)

    def add(self, upstream: str, place: int, waiting: int = 0, lost: int = 0) -> Reader:
        reader = self._readers[upstream] = Reader(self._outbox, upstream, place, waiting, lost)
        return reader

    def remove(self, upstream: str) -> bool:
        """Was it there?"""
        if self._readers.pop(upstream, None) is None:
            return False
        self._removed.append(upstream)
        return True

    def account(self, notes: Iterable[Note], last: int, first_seq: int) -> dict[str, int]:
        """Count what the file, whose newest record is ``last``, should have by these notes and has not.

        A file that is new has lost what waited then; a file that a power cut shortened, what is missing at its end.
        Return upstream → records newly known to be lost.
        """
        missed: dict[str, int] = {}
        for upstream, lost, waiting, appended in notes:
            reader = self._readers.get(upstream)
            if reader is None:
                reader = self.add(upstream, last)
                missing = waiting
            else:
                (boot, seq), (last_boot, last_seq) = boot_and_seq(appended), boot_and_seq(last)
                missing = seq - last_seq if boot == last_boot else seq - first_seq if boot > last_boot else 0
                missing = min(max(missing, 0), waiting)
            reader.gone = max(reader.gone, lost) + missing
            if missing:
                missed[upstream] = missing
        return missed

    def notes(self, last: int) -> list[Note]:
        """What ``account`` wants to know after a loss."""
        return [(name, r.gone, r.count, last) for name, r in self._readers.items()]

    def status(self) -> dict[str, object]:
        return {
            name: {"waiting": r.count, "acknowledged": r.acknowledged, "lost": r.gone}
            for name, r in self._readers.items()
        }

    # --- the log changes ---

    def floor(self, otherwise: int) -> int:
        """Every upstream has everything up to here."""
        return min((reader.place for reader in self._readers.values()), default=otherwise)

    def appended(self) -> None:
        for reader in self._readers.values():
            reader.count += 1

    def drop_upto(self, place: int) -> None:
        """The oldest will go: count them for whoever has not had them."""
        for reader in self._readers.values():
            missed = self._spans.count(reader.place, place)
            reader.count -= missed
            reader.gone += missed
            reader.place = max(reader.place, place)

    def drop_one(self, place: int) -> None:
        for reader in self._readers.values():
            if reader.place < place:
                reader.count -= 1
                reader.gone += 1

    # --- for the file ---

    def cursors(self) -> list[tuple[str, int, int]]:
        """(upstream, position, lost) of each."""
        return [(name, r.place, r.gone) for name, r in self._readers.items()]

    def take_removed(self) -> tuple[str, ...]:
        """Whose cursors are to be deleted."""
        removed = tuple(self._removed)
        self._removed.clear()
        return removed

    def not_removed(self, names: Iterable[str]) -> None:
        """They could not be deleted."""
        self._removed[:0] = [name for name in names if name not in self._readers]
