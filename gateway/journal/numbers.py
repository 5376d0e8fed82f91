"""Numbers that never repeat: reserved in blocks, on disk before they are used, skipped over at a restart.

Each start begins at the clock where that is ahead of what was reserved. So numbers do not repeat either where the
disk cannot tell: a journal that was wiped or brought back from a backup, or a full disk that outlasts the reserve.
Exceptions, each told once: the wall clock is not trusted, or was set back by more than the time that was lost.
"""

from __future__ import annotations

import logging

from gateway.clock import EARLIEST_TRUSTED_WALL, Clock, Instant
from gateway.journal.essential import Essential
from gateway.journal.store import JournalError

log = logging.getLogger(__name__)

# A block lasts hours, also when the disk is full: half of it is always in hand. By the clock it is 65 ms, less than
# any start takes: so kills, which skip a block each, never bring the numbers ahead of the clock.
BLOCK = 65_536
# No start comes sooner after a number was given (microseconds).
LEAST_START_US = 65_536
# Commands and decisions begin at the microseconds since 2025; they stay exact in a double (2**53) until 2310. Half of
# it at most is taken from a clock or a peer's word, so that neither can use them up.
MOST_TOLD = 2**52
# Starts begin at the minutes since 2025. Beyond this (2036) the clock is taken to be wrong: a RequestID has room for
# seven million (gateway/links/mir2017).
MOST_BOOT_TOLD = 6_000_000

PUT = "INSERT OR REPLACE INTO counter (name, value) VALUES (?, ?)"


def number_of(now: Instant) -> int:
    """What a command or decision of this moment is numbered at least; 0: the clock does not tell."""
    since = int((now.wall - EARLIEST_TRUSTED_WALL) * 1_000_000) if now.trusted else 0
    return since if since <= MOST_TOLD else 0


def boot_of(now: Instant) -> int:
    """What a start at this moment is numbered at least; 0: the clock does not tell."""
    minutes = int(now.wall - EARLIEST_TRUSTED_WALL) // 60 if now.trusted else 0
    return minutes if minutes <= MOST_BOOT_TOLD else 0


def first_seq_of(now: Instant) -> int:
    """Behind which the reports of a new journal are numbered, in each of its starts.

    Two journals that begin within a minute, one wiped, may count the same starts: their reports differ by this, 1,024
    a second, for six days. Below 2**29, so that a start has as many numbers left (RequestIDs: 2**30).
    """
    return (int((now.wall - EARLIEST_TRUSTED_WALL) * 64) % 2**25) << 4 if now.trusted else 0


class Numbers:
    """One counter. ``first``: the first number to give; the caller has ``first + BLOCK`` on disk already."""

    def __init__(self, name: str, first: int, essential: Essential, clock: Clock) -> None:
        self.name = name
        self.upto = first + BLOCK  # not reserved: this and above
        self._next = first
        self._essential = essential
        self._clock = clock
        self._by_clock = clock.now().trusted
        self.asked = self.upto
        self._closed = False
        self.beyond = False

    @property
    def newest(self) -> int:
        """The last number that was given, or passed over."""
        return self._next - 1

    def exhausted(self) -> bool:
        """Is no number left that is reserved on disk."""
        self.upto = max(self.upto, self._essential.reserved.get(self.name, 0))
        return self._closed or self._next >= self.upto

    def next(self) -> int:
        """The next number (lock held). Raise ``JournalError`` after ``give_back``."""
        if self._closed:
            raise JournalError(f"the journal is closed, no {self.name} number is given any more")
        beyond = False
        if not self._by_clock or self.exhausted():
            # What is not reserved on disk, the clock vouches for: the next start begins behind it.
            now = self._clock.now()
            told = number_of(now)
            self._by_clock = now.trusted
            self._next = max(self._next, told)
            beyond = self.exhausted() and (not told or self._next > told + LEAST_START_US)
        self._tell(beyond)
        number = self._next
        self._next += 1
        self._reserve()
        return number

    def used(self, number: int) -> bool:
        """Somebody knows that number as given, by an EMA whose journal was lost: go on behind it (lock held)."""
        if not self._next <= number <= MOST_TOLD or self._closed:
            return False
        self._next = number + 1
        self._reserve()
        return True

    def _reserve(self) -> None:
        if self.asked - self._next < BLOCK // 2:
            self.asked = max(self.asked, self._next) + BLOCK
            self._essential.put(("counter", self.name), PUT, self.name, self.asked)

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
