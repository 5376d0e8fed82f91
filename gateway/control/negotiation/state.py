"""What an EMA knows of its loans, and what they make of its limit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from gateway.clock import Instant
from gateway.control.negotiation.messages import Ask, FromMember, Offer
from gateway.control.negotiation.step import (
    Borrowing,
    Envelope,
    Hold,
    Lending,
    News,
    Repeats,
    Row,
    Sendings,
    send,
)
from gateway.site.event import Loan


@dataclass(frozen=True, slots=True)
class MemberRules:
    """``guard_s``: a lender waits so much longer than the loan's time. It covers how far two crystals drift apart in
    the longest loan, and the borrower's way under its own limit (k passes and its devices' latency)."""

    guard_s: float = 30.0
    answer_s: float = 4.0  # a result that comes later is given back; the coordinator decides in less
    reserve_mw: int = 0  # never lent
    offer_step_mw: int = 10_000  # an offer that changed by less is not told again before ``offer_every_s``
    offer_every_s: float = 900.0
    repeats: Repeats = field(default_factory=Repeats)


@dataclass(frozen=True, slots=True)
class Situation:
    """The site, as the caller sees it at this moment, in mW.

    ``own_mw``: min(hard, soft), without grants and loans. ``lowest_mw``: the least that will be, by the events known,
    within the longest loan (None: as now). ``draw_mw``: the power that counts and what is reserved. ``ask_price``: it
    lends from there on (None: not at all). ``certain``: the readings are fresh.
    """

    own_mw: int
    draw_mw: int
    lowest_mw: int | None = None
    ask_price: int | None = None
    certain: bool = True

    @property
    def least_own_mw(self) -> int:
        return self.own_mw if self.lowest_mw is None else min(self.own_mw, self.lowest_mw)


@dataclass(frozen=True, slots=True)
class Asking:
    """The one ask in flight. ``refused``: loans that it must not take any more, whatever result is still under way."""

    ask: Ask
    asked_at: float
    answer_by: float
    refused: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Told:
    """The offer that the coordinator was told last."""

    offer: Offer
    at: float


@dataclass(frozen=True, slots=True)
class Member:
    """An EMA in a negotiation; ``coordinator`` is the name its messages go to. All moments are monotonic seconds."""

    name: str
    coordinator: str
    boot: int
    started_at: float
    rules: MemberRules = field(default_factory=MemberRules)
    lent: Mapping[int, Lending] = field(default_factory=dict)
    borrowed: Mapping[int, Borrowing] = field(default_factory=dict)
    asking: Asking | None = None
    told: Told | None = None
    sendings: Sendings = field(default_factory=dict)
    released: Mapping[int, float] = field(default_factory=dict)  # loan → when its Prepare may be forgotten
    recalled: Mapping[int, float] = field(default_factory=dict)  # loan → since when it is asked back

    def lent_mw(self, now: float) -> int:
        """What its limit is lower by."""
        return sum(loan.mw for loan in self.lent.values() if loan.until > now)

    def borrowed_mw(self, now: float) -> int:
        """What its limit is higher by."""
        return sum(loan.mw for loan in self.borrowed.values() if loan.hold is Hold.HELD and loan.until > now)

    def coming_mw(self, now: float, within_s: float) -> int:
        """What it lent and asked back less than ``within_s`` ago. The site may wait so long, its k passes, before it
        sheds for that part: as a rule it is back by then."""
        return sum(self.lent[number].mw for number, since in self.recalled.items() if now - since < within_s)

    def limit_mw(self, own_mw: int, now: float) -> int:
        """own + borrowed − lent; below 0 where events took more than was kept (the limit that binds is then 0)."""
        return own_mw + self.borrowed_mw(now) - self.lent_mw(now)

    def free_mw(self, situation: Situation, now: float) -> int:
        """What it could lend: of its own limit alone, at its lowest, above what it draws; never what it borrowed."""
        if not situation.certain or situation.ask_price is None or self.asking is not None:
            return 0
        if any(loan.hold is not Hold.RETURNED for loan in self.borrowed.values()):
            return 0
        draw_mw = max(situation.draw_mw, 0) + self.rules.reserve_mw
        return max(situation.least_own_mw - self.lent_mw(now) - draw_mw, 0)

    def loans(self, now: Instant) -> tuple[Loan, ...]:
        """For the timeline of the limit (``gateway/control/limit.py``), by the wall clock of this moment."""
        lent = (Loan(n, e.borrower, -e.mw / 1000, _wall(e.until, now)) for n, e in self.lent.items())
        held = ((n, e) for n, e in self.borrowed.items() if e.hold is Hold.HELD)
        borrowed = (Loan(n, e.lender, e.mw / 1000, _wall(e.until, now)) for n, e in held)
        return tuple(loan for loan in (*lent, *borrowed) if loan.until > now.wall)


def _wall(until: float, now: Instant) -> float:
    return now.wall + (until - now.mono)


def rebuilt(
    name: str, coordinator: str, boot: int, now: float, rows: Iterable[Row], rules: MemberRules | None = None
) -> Member:
    """A member as its journal left it; ``boot`` is greater than at any start before.

    How long it was away nobody knows for certain. So what it lent weighs on it for the whole time anew, unless the
    coordinator releases it; what it borrowed does not count until the coordinator says how much of it is left; its ask
    is forgotten.
    """
    rules = rules or MemberRules()
    lent: dict[int, Lending] = {}
    borrowed: dict[int, Borrowing] = {}
    for row in rows:
        if isinstance(row.body, Lending):
            lent[row.number] = replace(row.body, until=now + row.body.for_s + rules.guard_s)
        elif isinstance(row.body, Borrowing):
            hold = Hold.RETURNED if row.body.hold is Hold.RETURNED else Hold.DORMANT
            borrowed[row.number] = replace(row.body, until=now + row.body.for_s, hold=hold)
    return Member(name, coordinator, boot, now, rules, lent, borrowed)


@dataclass(slots=True)
class Draft:
    """A step in the making: the member as it becomes, and what goes with it."""

    member: Member
    now: float
    rows: list[Row] = field(default_factory=list)
    messages: list[Envelope] = field(default_factory=list)
    news: list[News] = field(default_factory=list)

    def say(self, message: FromMember) -> None:
        """It leaves once."""
        self.messages.append(Envelope(self.member.coordinator, message))

    def insist(self, kind: str, number: int, message: FromMember) -> None:
        """It leaves now and again until ``answered``."""
        member, envelope = self.member, Envelope(self.member.coordinator, message)
        self.messages.append(envelope)
        sendings = send(member.sendings, (kind, number), envelope, member.rules.repeats, self.now)
        self.member = replace(member, sendings=sendings)

    def answered(self, kind: str, number: int) -> None:
        """It needs not be sent again."""
        if (kind, number) in self.member.sendings:
            left = {key: value for key, value in self.member.sendings.items() if key != (kind, number)}
            self.member = replace(self.member, sendings=left)

    def insists(self, kind: str, number: int) -> bool:
        return (kind, number) in self.member.sendings
