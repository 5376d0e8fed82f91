"""What a step of a negotiation returns, and the messages that are sent again until they are answered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Generic, TypeVar

from gateway.control.negotiation.ledger import Entry
from gateway.control.negotiation.messages import FromCoordinator, FromMember

S = TypeVar("S")
K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Lending:
    """A lender's own note of a loan; it weighs on its limit before ``until`` (monotonic, guard time included)."""

    loan_id: int
    borrower: str
    mw: int
    price: int
    for_s: int
    until: float


class Hold(StrEnum):
    """How a borrower stands to a loan."""

    HELD = "held"  # it counts
    DORMANT = "dormant"  # held before a restart; counts again when the coordinator says so
    RETURNED = "returned"  # never counts again; kept until the coordinator knows


@dataclass(frozen=True, slots=True)
class Borrowing:
    """A borrower's own note of a loan; it raises its limit before ``until`` (monotonic) while it is ``HELD``."""

    loan_id: int
    lender: str
    mw: int
    price: int
    for_s: int
    until: float
    hold: Hold = Hold.HELD


@dataclass(frozen=True, slots=True)
class Row:
    """One row for the journal: the newest of a (``table``, ``number``) holds, ``None`` deletes it.

    Monotonic moments in a body mean nothing after a restart, and are not used there.
    """

    table: str  # "entry", "lending", "borrowing"
    number: int
    body: Entry | Lending | Borrowing | None


@dataclass(frozen=True, slots=True)
class Envelope:
    """A message and whom it is for."""

    to: str
    message: FromMember | FromCoordinator


class Kind(StrEnum):
    """What a step has to tell a person."""

    GRANTED = "granted"
    DENIED = "denied"
    LENT = "lent"
    REFUSED = "refused"
    RECALLED = "recalled"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class News:
    """``number``: the loan's, or the ask's where it was granted or denied."""

    kind: Kind
    number: int
    why: str


@dataclass(frozen=True, slots=True)
class Step(Generic[S]):
    """Contract: every row is on disk before any message leaves; the state holds from now on."""

    state: S
    rows: tuple[Row, ...] = ()
    messages: tuple[Envelope, ...] = ()
    news: tuple[News, ...] = ()


Key = tuple[str, int | str]


@dataclass(frozen=True, slots=True)
class Repeats:
    """A message is sent again after ``first_s``, then after twice that and so on, at most after ``most_s``."""

    first_s: float = 2.0
    most_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Sending:
    """A message that is due again at ``due`` (monotonic) unless it was answered."""

    envelope: Envelope
    due: float
    wait_s: float


Sendings = Mapping[Key, Sending]


def send(sendings: Sendings, key: Key, envelope: Envelope, repeats: Repeats, now: float) -> Sendings:
    """It leaves now, and again until it is taken out."""
    return {**sendings, key: Sending(envelope, now + repeats.first_s, repeats.first_s)}


def send_again(sendings: Sendings, repeats: Repeats, now: float) -> tuple[Sendings, list[Envelope]]:
    """Those that are due, each a longer while from its next time."""
    due = {key: sending for key, sending in sendings.items() if sending.due <= now}
    if not due:
        return sendings, []
    later = dict(sendings)
    for key, sending in due.items():
        wait_s = min(sending.wait_s * 2, repeats.most_s)
        later[key] = replace(sending, due=now + wait_s, wait_s=wait_s)
    return later, [sending.envelope for sending in due.values()]


def without(mapping: Mapping[K, V], key: K) -> Mapping[K, V]:
    """The mapping, less that key."""
    return mapping if key not in mapping else {k: v for k, v in mapping.items() if k != key}


def watts(mw: int) -> str:
    """As a person reads it."""
    return f"{mw // 1000} W" if mw % 1000 == 0 else f"{mw / 1000:.3f} W"
