"""Numbers that never repeat: reserved in blocks, on disk before they are used, skipped over at a restart.

One exception, told once: when a full disk outlasts the reserve they go on in memory, for shedding may not stop. They
are unique in this start, and beyond it unless it is killed before the disk has room.
"""

from __future__ import annotations

import logging

from gateway.journal.essential import Essential
from gateway.journal.store import JournalError

log = logging.getLogger(__name__)

# A block lasts hours, also when the disk is full: half of it is always in hand. Well below 2^31 after decades of
# daily restarts, which skip at most one block each (a clean end gives the rest back).
BLOCK = 65_536

PUT = "INSERT OR REPLACE INTO counter (name, value) VALUES (?, ?)"


class Numbers:
    """One counter. ``first``: the first number to give; the caller has ``first + BLOCK`` on disk already."""

    def __init__(self, name: str, first: int, essential: Essential) -> None:
        self.name = name
        self.upto = first + BLOCK  # not reserved: this and above
        self._next = first
        self._essential = essential
        self.asked = self.upto
        self._closed = False
        self.beyond = False

    def exhausted(self) -> bool:
        """Is no number left that is reserved on disk."""
        self.upto = max(self.upto, self._essential.reserved.get(self.name, 0))
        return self._closed or self._next >= self.upto

    def next(self) -> int:
        """The next number (lock held). Raise ``JournalError`` after ``give_back``."""
        if self._closed:
            raise JournalError(f"the journal is closed, no {self.name} number is given any more")
        self._tell(self.exhausted())
        if self.asked - self._next <= BLOCK // 2:
            self.asked += BLOCK
            self._essential.put(("counter", self.name), PUT, self.name, self.asked)
        number = self._next
        self._next += 1
        return number

    def _tell(self, beyond: bool) -> None:
        if beyond and not self.beyond:
            log.error("%s numbers go on beyond those reserved on disk; make room on it before smartema ends", self.name)
        elif self.beyond and not beyond:
            log.info("%s numbers are reserved on disk again", self.name)
        self.beyond = beyond

    def give_back(self) -> None:
        """No number is taken any more: the next start goes on here (lock held)."""
        self.asked = self._next
        self._essential.put(("counter", self.name), PUT, self.name, self.asked)
        self._closed = True
