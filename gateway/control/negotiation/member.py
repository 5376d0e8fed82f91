"""An EMA's side of a negotiation: it asks, lends, gives back and recalls (docs/negotiation.md, "A member").

The caller keeps the state, hands in the ``Situation`` it sees at that moment, writes ``rows``, then sends ``messages``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from gateway.control.negotiation import borrower, lender
from gateway.control.negotiation.messages import (
    Ask,
    Closed,
    FromCoordinator,
    GiveBack,
    Kept,
    Prepare,
    Query,
    Release,
    Result,
)
from gateway.control.negotiation.state import Draft, Member, MemberRules, Situation, rebuilt
from gateway.control.negotiation.step import Hold, Kind, News, Row, Step, send_again


def start(
    name: str,
    coordinator: str,
    boot: int,
    now: float,
    rows: Iterable[Row] = (),
    rules: MemberRules | None = None,
) -> Step[Member]:
    """A member, new or as its journal left it (``state.rebuilt``). Its messages ask what became of its loans."""
    draft = Draft(rebuilt(name, coordinator, boot, now, rows, rules), now)
    lender.check_restored(draft)
    borrower.ask_restored(draft)
    return _step(draft)


def ask(member: Member, message: Ask, now: float) -> Step[Member]:
    """Ask for power. ``message.ask_id`` is above that of any ask before, restarts included.

    Who lends does not borrow: it asks its own loans back.
    """
    draft = Draft(member, now)
    _end_old(draft)
    if draft.member.lent:
        lender.recall_some(draft, message.mw)
        why = "it lends: its own loans are asked back first"
        draft.news.append(News(Kind.DENIED, message.ask_id, why))
    else:
        borrower.ask(draft, message)
    return _step(draft)


def receive(member: Member, message: FromCoordinator, situation: Situation, now: float) -> Step[Member]:
    """A message of the coordinator; whatever it is and whenever it comes, the limits stay within their sum."""
    draft = Draft(member, now)
    _end_old(draft)
    match message:
        case Query():
            draft.say(lender.tell(draft, situation))
        case Prepare():
            lender.prepare(draft, message, situation)
        case Release():
            lender.release(draft, message)
        case Result():
            borrower.result(draft, message)
        case GiveBack():
            borrower.give_back(draft, message.loan_id, "the lender needs it")
            borrower.refuse(draft, message.loan_id)
        case Closed():
            borrower.closed(draft, message.loan_id)
        case Kept():
            borrower.kept(draft, message)
    _react(draft, situation)
    return _step(draft)


def look(member: Member, situation: Situation, now: float) -> Step[Member]:
    """Whenever the situation changed, and at ``next_wakeup``."""
    draft = Draft(member, now)
    _end_old(draft)
    _react(draft, situation)
    sendings, again = send_again(draft.member.sendings, member.rules.repeats, now)
    draft.member = replace(draft.member, sendings=sendings)
    draft.messages.extend(again)
    return _step(draft)


def give_back(member: Member, loan_id: int | None, situation: Situation, now: float) -> Step[Member]:
    """The borrower needs that loan (None: all of them) no longer."""
    draft = Draft(member, now)
    _end_old(draft)
    for number in [loan_id] if loan_id is not None else list(member.borrowed):
        borrower.give_back(draft, number, "it is needed no longer")
    _react(draft, situation)
    return _step(draft)


def recall(member: Member, loan_id: int, situation: Situation, now: float) -> Step[Member]:
    """The lender wants that loan back, for a reason of its own."""
    draft = Draft(member, now)
    _end_old(draft)
    lender.recall(draft, loan_id, "it is wanted back")
    _react(draft, situation)
    return _step(draft)


def next_wakeup(member: Member) -> float | None:
    """The monotonic moment at which ``look`` is due at the latest (None: only when the situation changes)."""
    return min(_moments(member), default=None)


def _moments(member: Member) -> Iterator[float]:
    for sending in member.sendings.values():
        yield sending.due
    for lending in member.lent.values():
        yield lending.until
    for loan in member.borrowed.values():
        yield loan.until + (member.rules.guard_s if loan.hold is Hold.RETURNED else 0.0)
    if member.asking is not None:
        yield member.asking.answer_by
    if member.told is not None and member.told.offer.mw > 0:
        yield member.told.at + member.rules.offer_every_s
    yield from member.released.values()


def _end_old(draft: Draft) -> None:
    lender.end_old(draft)
    borrower.end_old(draft)


def _react(draft: Draft, situation: Situation) -> None:
    borrower.tell_returned(draft, situation)
    lender.recall_short(draft, situation)
    lender.offer_changed(draft, situation)


def _step(draft: Draft) -> Step[Member]:
    return Step(draft.member, tuple(draft.rows), tuple(draft.messages), tuple(draft.news))
