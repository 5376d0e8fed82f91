"""What limits the site from above, and who asks to use more (control.md, "The limit", "RDR and loans")."""

from __future__ import annotations

from enum import StrEnum

from gateway.record import slim


class Direction(StrEnum):
    """Which side of the limit an event binds."""

    IMPORT = "import"
    EXPORT = "export"


@slim(frozen=True, slots=True)
class DrEvent:
    """A demand response event: hold ``limit_w`` from ``start`` to ``end`` (wall seconds, UTC).

    ``upstream`` names who gave it: ids are unique per upstream only. A higher ``modification`` replaces;
    ``end <= start`` cancels. ``restore_delay_s`` is drawn once by the caller and journaled with it.
    """

    upstream: str
    event_id: int
    modification: int
    start: float
    end: float
    limit_w: float
    direction: Direction = Direction.IMPORT
    restore_delay_s: float = 0.0

    @property
    def cancelled(self) -> bool:
        return self.end <= self.start

    def running(self, wall: float) -> bool:
        return self.start <= wall < self.end


@slim(frozen=True, slots=True)
class Grant:
    """Power on top of the soft limit that an upstream allowed, for one resource's RDR. ``until``: wall seconds."""

    upstream: str
    resource: str
    watts: float
    until: float


@slim(frozen=True, slots=True)
class Loan:
    """An entry of the negotiation ledger: ``watts`` > 0 borrowed, < 0 lent. ``until``: wall seconds."""

    loan_id: int
    peer: str
    watts: float
    until: float


@slim(frozen=True, slots=True)
class Reservation:
    """Margin held for a granted RDR until its command counts (monotonic ``until``)."""

    resource: str
    watts: float
    until: float


@slim(frozen=True, slots=True)
class RdrRequest:
    """A device asks for its power back: ``watts`` more, for ``for_s`` seconds (wire reference, 5a)."""

    resource: str
    number: int
    watts: float
    for_s: float


class RdrResult(StrEnum):
    """What became of it."""

    GRANTED = "granted"
    PENDING = "pending"
    DENIED = "denied"


@slim(frozen=True, slots=True)
class RdrAnswer:
    """The answer that the device gets; ``why`` is one line for a person."""

    result: RdrResult
    why: str = ""
