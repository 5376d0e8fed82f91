"""A coordinator of negotiations among a disk, members and a clock: the EMS's, and an upper EMA's
(docs/negotiation.md, "The coordinator").

All rows of a step are on disk before any message of it leaves. Who takes part is told by ``came`` and ``gone``; whoever
speaks takes part.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Protocol

from gateway.clock import EARLIEST_TRUSTED_WALL, Clock, Instant
from gateway.control.negotiation import coordinator as side
from gateway.control.negotiation.coordinator import Coordinator, CoordinatorRules
from gateway.control.negotiation.ledger import Entry
from gateway.control.negotiation.messages import FromCoordinator, FromMember
from gateway.control.negotiation.step import Envelope, News, Row, Step

# Loans are numbered from the clock, so many a second; so they do not repeat where the disk was lost either.
NUMBERS_A_S = 1024
# Numbers are reserved on disk, so many at a time.
BLOCK = 65_536
# A disk that cannot be written is tried again after this.
AGAIN_S = 2.0
# Messages that wait for the disk; beyond them the oldest are dropped, for they are said again.
MOST_WAITING = 10_000

Key = tuple[str, int]
Rows = Mapping[Key, Entry | int | None]
RESERVED: Key = ("reserved", 0)


class Disk(Protocol):
    """Where a coordinator's rows live."""

    def save(self, rows: Rows, done: Callable[[Exception | None], None]) -> None:
        """Write all or none, in order of the calls; a row without a value is deleted. ``done`` on the loop, after the
        commit."""


def first_number(now: Instant, reserved: int | None) -> int:
    """Above every loan's number before, by what was reserved and by the clock."""
    told = int((now.wall - EARLIEST_TRUSTED_WALL) * NUMBERS_A_S) if now.trusted else 0
    return max(reserved or 1, told)


class CoordinatorDesk:
    """``loaded``: what the disk holds, ``reserved`` among it None for a disk that is new. ``send`` and ``tell`` return
    at once. Call ``tick`` when it says, and after ``wake`` was called."""

    def __init__(
        self,
        clock: Clock,
        disk: Disk,
        send: Callable[[str, FromCoordinator], None],
        tell: Callable[[News], None],
        wake: Callable[[], None],
        entries: Iterable[Entry] = (),
        reserved: int | None = None,
        rules: CoordinatorRules | None = None,
    ) -> None:
        self._clock = clock
        self._disk = disk
        self._send = send
        self._tell = tell
        self._wake = wake
        self._rows: dict[Key, Entry | int | None] = {}
        self._messages: list[Envelope] = []
        self._writing = False
        self._again_at: float | None = None
        now = clock.now()
        number = first_number(now, reserved)
        self._reserved = number
        rows = [Row("entry", entry.loan_id, entry) for entry in entries]
        # A new disk may be one that was lost.
        step = side.start((), number, now.mono, rows, rules, lost_journal=reserved is None)
        self._state = step.state
        self._apply(step)

    # --- who takes part --------------------------------------------------------------------------------------

    @property
    def members(self) -> frozenset[str]:
        """Those that take part now."""
        return self._state.members

    def came(self, member: str) -> None:
        """It takes part (again): its offer is asked, and what waits for it is said now."""
        now = self._clock.monotonic()
        due = {
            key: replace(sending, due=now) if sending.envelope.to == member else sending
            for key, sending in self._state.sendings.items()
        }
        self._state = replace(self._state, sendings=due)
        self._apply(side.with_members(self._state, self._state.members | {member}, now))

    def gone(self, member: str) -> None:
        """It cannot be reached: nothing new is asked of it; its loans go on until they end."""
        if member in self._state.members:
            left = self._state.members - {member}
            self._apply(side.with_members(self._state, left, self._clock.monotonic()))

    def heard(self, member: str, message: FromMember) -> None:
        """It speaks. Doubled, late and strange messages do no harm."""
        if member not in self._state.members:
            self.came(member)
        self._apply(side.receive(self._state, member, message, self._clock.monotonic()))

    def at_price(self, going: int | None) -> None:
        """The negotiation price from now on."""
        self._state = side.at_price(self._state, going)

    def obey(self, rules: CoordinatorRules) -> None:
        """Other rules from now on."""
        self._state = replace(self._state, rules=rules)

    # --- what is known ---------------------------------------------------------------------------------------

    @property
    def state(self) -> Coordinator:
        """For pages and scripts; read only."""
        return self._state

    def balances(self) -> dict[str, int]:
        """mW borrowed less lent, of everybody who has a loan; their sum is 0."""
        return self._state.ledger.balances()

    # --- time and disk ---------------------------------------------------------------------------------------

    def tick(self) -> float | None:
        """Do what is due; the monotonic moment of the next (None: nothing waits)."""
        now = self._clock.monotonic()
        if self._again_at is not None and self._again_at <= now:
            self._again_at = None
            self._write()
        due = side.next_wakeup(self._state)
        if due is not None and due <= now:
            self._apply(side.look(self._state, now))
        due = side.next_wakeup(self._state)
        return min((moment for moment in (due, self._again_at) if moment is not None), default=None)

    def _apply(self, step: Step[Coordinator]) -> None:
        self._state = step.state
        for row in step.rows:
            assert not isinstance(row.body, tuple)
            self._rows[row.table, row.number] = row.body  # type: ignore[assignment]
        if self._state.next_id + BLOCK // 2 > self._reserved:
            self._reserved = self._state.next_id + BLOCK
            self._rows[RESERVED] = self._reserved
        self._messages += step.messages
        del self._messages[:-MOST_WAITING]
        for news in step.news:
            self._tell(news)
        self._write()
        self._wake()

    def _write(self) -> None:
        """Rows to the disk, then the messages that belong to them; without rows these leave at once."""
        if self._writing or self._again_at is not None:
            return
        rows, self._rows = self._rows, {}
        messages, self._messages = self._messages, []
        if not rows:
            self._leave(messages)
            return
        self._writing = True

        def written(error: Exception | None) -> None:
            self._writing = False
            if error is not None:
                self._rows = {**rows, **self._rows}
                self._messages = messages + self._messages
                self._again_at = self._clock.monotonic() + AGAIN_S
                self._wake()
                return
            self._leave(messages)
            if self._rows or self._messages:
                self._write()

        self._disk.save(rows, written)

    def _leave(self, messages: list[Envelope]) -> None:
        for envelope in messages:
            self._send(envelope.to, envelope.message)  # type: ignore[arg-type]
