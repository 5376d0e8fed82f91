"""The book of loans: each takes from one member's limit what it gives to another's, so the sum never changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Stage(StrEnum):
    """How far a loan is, in this order. In the book it counts on both sides until it is returned."""

    PREPARED = "prepared"  # the lender was asked to lower its limit
    LENT = "lent"  # it did
    GRANTED = "granted"  # the borrower was told; it may count it
    RECALLED = "recalled"  # the borrower was told to give it back
    RETURNED = "returned"  # the borrower counts it no longer, or never did; the lender may have it back


_ORDER = tuple(Stage)


@dataclass(frozen=True, slots=True)
class Entry:
    """A loan: ``mw`` from ``lender`` to ``borrower`` at ``price`` a kWh, before ``until`` (monotonic)."""

    loan_id: int
    ask_id: int
    lender: str
    borrower: str
    mw: int
    price: int
    for_s: int
    until: float
    stage: Stage = Stage.PREPARED

    def __post_init__(self) -> None:
        if self.mw <= 0 or self.lender == self.borrower:
            raise ValueError(f"loan {self.loan_id}: {self.mw} mW from {self.lender} to {self.borrower}")


@dataclass(frozen=True, slots=True)
class Ledger:
    """Immutable; every change is a new one."""

    entries: Mapping[int, Entry] = field(default_factory=dict)

    def put(self, entry: Entry) -> Ledger:
        """A new loan, or a later stage of one. Raise ``ValueError`` for anything else: a booked loan never changes."""
        known = self.entries.get(entry.loan_id)
        if known is not None:
            same = (known.lender, known.borrower, known.mw) == (entry.lender, entry.borrower, entry.mw)
            if not same or _ORDER.index(entry.stage) < _ORDER.index(known.stage):
                raise ValueError(f"loan {entry.loan_id}: {known} cannot become {entry}")
        return Ledger({**self.entries, entry.loan_id: entry})

    def drop(self, loan_id: int) -> Ledger:
        """It is over on both sides."""
        return Ledger({number: entry for number, entry in self.entries.items() if number != loan_id})

    def balance(self, member: str) -> int:
        """What is booked on top of that member's own limit, in mW (negative: it lends more than it borrows)."""
        return self.balances().get(member, 0)

    def balances(self) -> dict[str, int]:
        """Of everybody who has a loan; their sum is 0."""
        sums: dict[str, int] = {}
        for entry in self.entries.values():
            if entry.stage is not Stage.RETURNED:
                sums[entry.borrower] = sums.get(entry.borrower, 0) + entry.mw
                sums[entry.lender] = sums.get(entry.lender, 0) - entry.mw
        return sums

    def limits(self, own_mw: Mapping[str, int]) -> dict[str, int]:
        """Everybody's limit as it is booked; their sum is the sum of ``own_mw``, which names every member."""
        sums = self.balances()
        return {member: mw + sums.get(member, 0) for member, mw in own_mw.items()}
