"""What a coordinator knows: members, offers, open asks and the ledger; and a step of it in the making."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from gateway.control.negotiation.ledger import Entry, Ledger, Stage
from gateway.control.negotiation.messages import Ask, FromCoordinator, Offer
from gateway.control.negotiation.step import Envelope, News, Repeats, Row, Sendings, send, without


class Sharing(StrEnum):
    """Who lends (docs/negotiation.md, "Who lends")."""

    CHEAPEST = "cheapest"
    EQUAL = "equal"  # the lab's rule


@dataclass(frozen=True, slots=True)
class CoordinatorRules:
    """``answer_s``: an ask is decided in that time, with what was lent until then."""

    sharing: Sharing = Sharing.CHEAPEST
    partial: bool = True  # grant a part, if the borrower takes parts
    answer_s: float = 2.0
    longest_s: int = 3600
    smallest_mw: int = 1_000  # smaller loans are not worth their messages
    guard_s: float = 30.0  # as the members'; an entry stays in the book so long after its time
    repeats: Repeats = field(default_factory=Repeats)


@dataclass(frozen=True, slots=True)
class OpenAsk:
    """An ask that is not decided. Monotonic moments; the loans' time counts from ``received``."""

    ask: Ask
    received: float
    answer_by: float
    for_s: int
    tried: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Coordinator:
    """The EMS, or an EMA above EMAs. ``going``: the negotiation price, where one is set (docs/price.md)."""

    members: frozenset[str]
    next_id: int
    rules: CoordinatorRules = field(default_factory=CoordinatorRules)
    going: int | None = None
    ledger: Ledger = field(default_factory=Ledger)
    asks: Mapping[str, OpenAsk] = field(default_factory=dict)
    offers: Mapping[str, Offer] = field(default_factory=dict)
    decided: Mapping[str, tuple[int, str]] = field(default_factory=dict)  # borrower → its last ask, why it got nothing
    sendings: Sendings = field(default_factory=dict)
    restored: frozenset[int] = frozenset()  # loans of which nobody here knows how much time is left
    forgetful_until: float = 0.0  # before that, a loan that is not in the book may be one all the same


def rebuilt(
    members: Iterable[str], next_id: int, rows: Iterable[Row], now: float, rules: CoordinatorRules | None = None
) -> Coordinator:
    """A coordinator as its journal left it; ``next_id`` is above every loan's number before.

    What was not granted is the lender's again. What was granted stays so, its whole time anew: only the book is longer,
    for both members end by their own clocks.
    """
    rules = rules or CoordinatorRules()
    entries: dict[int, Entry] = {}
    for row in rows:
        if isinstance(row.body, Entry):
            told = row.body.stage in (Stage.GRANTED, Stage.RECALLED)
            stage = row.body.stage if told else Stage.RETURNED
            entries[row.number] = replace(row.body, stage=stage, until=now + row.body.for_s)
    return Coordinator(frozenset(members), next_id, rules, ledger=Ledger(entries), restored=frozenset(entries))


@dataclass(slots=True)
class Draft:
    """A step in the making: the coordinator as it becomes, and what goes with it."""

    state: Coordinator
    now: float
    rows: list[Row] = field(default_factory=list)
    messages: list[Envelope] = field(default_factory=list)
    news: list[News] = field(default_factory=list)

    def say(self, to: str, message: FromCoordinator) -> None:
        """It leaves once."""
        self.messages.append(Envelope(to, message))

    def insist(self, kind: str, number: int | str, to: str, message: FromCoordinator) -> None:
        """It leaves now and again until ``answered``."""
        envelope = Envelope(to, message)
        self.messages.append(envelope)
        sendings = send(self.state.sendings, (kind, number), envelope, self.state.rules.repeats, self.now)
        self.state = replace(self.state, sendings=sendings)

    def answered(self, kind: str, number: int | str) -> None:
        """It needs not be sent again."""
        if (kind, number) in self.state.sendings:
            self.state = replace(self.state, sendings=without(self.state.sendings, (kind, number)))

    def book(self, entry: Entry) -> None:
        """Write a loan down, new or in its next stage."""
        self.state = replace(self.state, ledger=self.state.ledger.put(entry))
        self.rows.append(Row("entry", entry.loan_id, entry))

    def strike(self, number: int) -> None:
        """It is over on both sides."""
        for kind in ("prepare", "give back", "release"):
            self.answered(kind, number)
        left = self.state.restored - {number}
        self.state = replace(self.state, ledger=self.state.ledger.drop(number), restored=left)
        self.rows.append(Row("entry", number, None))

    def loans_of(self, borrower: str, ask_id: int) -> list[Entry]:
        """The loans of one ask, whatever their stage."""
        entries = self.state.ledger.entries.values()
        return [entry for entry in entries if entry.borrower == borrower and entry.ask_id == ask_id]
