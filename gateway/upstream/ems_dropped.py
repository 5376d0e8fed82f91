"""What the EMS will never take: counted over restarts, said once, and noted in the journal with the reason."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.clock import Clock
    from gateway.upstream.base import Notes

LONGEST = 300


class Dropped:
    """The count of one upstream. ``last``: which record and why ("" when there was none).

    Noted with the first and then each time the count has doubled: an EMS that rejects everything must not wear out
    a flash. So after a kill up to half of the count may be missing.
    """

    def __init__(self, name: str, clock: Clock, log: logging.Logger, notes: Notes | None) -> None:
        self.count = 0
        self.last = ""
        self._name = name
        self._key = f"rejected {name}"
        self._clock = clock
        self._log = log
        self._notes = notes
        self._said = False
        noted = notes.value(self._key) if notes is not None else None
        if noted:
            known = json.loads(noted)
            self.count, self.last = int(known["count"]), str(known["last"])

    def add(self, what: str) -> None:
        """One more: which record it was, and the reason."""
        self.count += 1
        self.last = what[:LONGEST]
        level = logging.DEBUG if self._said else logging.WARNING
        self._said = True
        self._log.log(level, "%s: the EMS does not take %s; dropped", self._name, self.last)
        if self._notes is not None and self.count.bit_count() == 1:
            note = {"count": self.count, "last": self.last, "at": round(self._clock.now().wall)}
            self._notes.save_value(self._key, json.dumps(note))
