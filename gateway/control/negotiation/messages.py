"""What is said in a negotiation, before any protocol writes it down (docs/negotiation.md, "Messages").

Powers in mW, prices in price units a kWh, durations in s; there is no time of day in them, for no two clocks need to
agree. Each may come doubled, late, out of order or never.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Ask:
    """Borrower → coordinator: ``mw`` more for ``for_s``, counted from when this was first sent.

    ``ask_id`` grows with each ask of that EMA, restarts included. At most ``cap`` a kWh (None: any price).
    ``least_mw``: less than that is no use to it.
    """

    ask_id: int
    mw: int
    least_mw: int
    cap: int | None
    for_s: int


@dataclass(frozen=True, slots=True)
class Offer:
    """Member → coordinator: what it could lend now, at ``price`` or more. The newest (boot, number) holds."""

    boot: int
    number: int
    mw: int
    price: int


@dataclass(frozen=True, slots=True)
class Query:
    """Coordinator → member: say your offer."""


@dataclass(frozen=True, slots=True)
class Prepare:
    """Coordinator → lender: lower your limit by ``mw`` for ``for_s``, counted from when you first read this."""

    loan_id: int
    borrower: str
    mw: int
    price: int
    for_s: int


@dataclass(frozen=True, slots=True)
class Lent:
    """Lender → coordinator: my limit is lower, and that is on my disk."""

    loan_id: int


@dataclass(frozen=True, slots=True)
class Refused:
    """Lender → coordinator: my limit was not lowered; ``offer`` is what I could lend."""

    loan_id: int
    why: str
    offer: Offer


@dataclass(frozen=True, slots=True)
class Part:
    """What one lender gives."""

    loan_id: int
    lender: str
    mw: int
    price: int


@dataclass(frozen=True, slots=True)
class Result:
    """Coordinator → borrower: these loans are yours, each of them lent already (none: denied, and ``why``).

    ``for_s`` counts from when the ask was first sent, and is what was asked for or less.
    """

    ask_id: int
    parts: tuple[Part, ...]
    for_s: int
    why: str


@dataclass(frozen=True, slots=True)
class Taken:
    """Borrower → coordinator: I read that result."""

    ask_id: int


@dataclass(frozen=True, slots=True)
class GiveBack:
    """Coordinator → borrower: the lender needs it."""

    loan_id: int


@dataclass(frozen=True, slots=True)
class Returned:
    """Borrower → coordinator: I do not count that loan, never will again, and draw no more than what is left to me."""

    loan_id: int


@dataclass(frozen=True, slots=True)
class Closed:
    """Coordinator → borrower: I know that it is returned."""

    loan_id: int


@dataclass(frozen=True, slots=True)
class Recall:
    """Lender → coordinator: I need it back."""

    loan_id: int


@dataclass(frozen=True, slots=True)
class Release:
    """Coordinator → lender: nobody counts that loan and nobody will; raise your limit."""

    loan_id: int


@dataclass(frozen=True, slots=True)
class Released:
    """Lender → coordinator: that loan weighs on me no longer."""

    loan_id: int


@dataclass(frozen=True, slots=True)
class Still:
    """Borrower → coordinator after a restart, whose number is ``boot``: is that loan still mine?"""

    loan_id: int
    boot: int


@dataclass(frozen=True, slots=True)
class Kept:
    """Coordinator → borrower: for ``left_s`` more, counted from the start that ``boot`` numbers (0: no longer)."""

    loan_id: int
    boot: int
    left_s: int


FromMember = Ask | Offer | Lent | Refused | Taken | Returned | Recall | Released | Still
FromCoordinator = Query | Prepare | Result | GiveBack | Closed | Release | Kept
