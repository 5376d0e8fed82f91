"""The borrower's half of an EMA: it counts a loan from its result until its time since the ask is over."""

from __future__ import annotations

from dataclasses import replace

from gateway.control.negotiation.messages import Ask, Kept, Part, Result, Returned, Still, Taken
from gateway.control.negotiation.state import Asking, Draft, Situation
from gateway.control.negotiation.step import Borrowing, Hold, Kind, News, Row, watts, without


def ask(draft: Draft, message: Ask) -> None:
    """A new ask takes the place of one that is still open."""
    if draft.member.asking is not None:
        draft.answered("ask", draft.member.asking.ask.ask_id)
    answer_by = draft.now + draft.member.rules.answer_s
    draft.member = replace(draft.member, asking=Asking(message, draft.now, answer_by))
    draft.insist("ask", message.ask_id, message)


def result(draft: Draft, message: Result) -> None:
    """Take what the open ask was given; whatever else comes is given back."""
    asking = draft.member.asking
    if asking is not None and asking.ask.ask_id == message.ask_id:
        _take(draft, asking, message)
    strange = [part.loan_id for part in message.parts if part.loan_id not in draft.member.borrowed]
    for number in strange:
        refuse(draft, number)
    if not strange:  # else it comes again until these are known to be returned
        draft.say(Taken(message.ask_id))


def _take(draft: Draft, asking: Asking, message: Result) -> None:
    for_s = min(message.for_s, asking.ask.for_s)
    until = asking.asked_at + for_s
    taken: list[Part] = []
    for part in message.parts:
        known = part.loan_id in asking.refused or part.loan_id in draft.member.borrowed
        if known or part.mw <= 0 or until <= draft.now:
            continue
        loan = Borrowing(part.loan_id, part.lender, part.mw, part.price, for_s, until)
        draft.member = replace(draft.member, borrowed={**draft.member.borrowed, part.loan_id: loan})
        draft.rows.append(Row("borrowing", part.loan_id, loan))
        taken.append(part)
    if taken:
        said = ", ".join(f"{watts(p.mw)} of {p.lender} at {p.price}" for p in taken)
        total = watts(sum(p.mw for p in taken))
        draft.news.append(News(Kind.GRANTED, message.ask_id, f"{total} for {for_s} s: {said}"))
    else:
        draft.news.append(News(Kind.DENIED, message.ask_id, message.why or "what was granted was recalled"))
    _close_ask(draft)


def _close_ask(draft: Draft) -> None:
    if draft.member.asking is not None:
        draft.answered("ask", draft.member.asking.ask.ask_id)
        draft.member = replace(draft.member, asking=None)


def refuse(draft: Draft, number: int) -> None:
    """Answer for a loan that does not count here, and see to it that no late result makes it count."""
    asking = draft.member.asking
    if asking is not None:
        draft.member = replace(draft.member, asking=replace(asking, refused=asking.refused | {number}))
    if number not in draft.member.borrowed:
        draft.say(Returned(number))


def give_back(draft: Draft, number: int, why: str) -> None:
    """From now on it does not count. ``tell_returned`` says so upwards once the power followed."""
    loan = draft.member.borrowed.get(number)
    if loan is None or loan.hold is Hold.RETURNED:
        return
    back = replace(loan, hold=Hold.RETURNED)
    draft.answered("still", number)
    draft.member = replace(draft.member, borrowed={**draft.member.borrowed, number: back})
    draft.rows.append(Row("borrowing", number, back))
    draft.news.append(News(Kind.ENDED, number, f"{watts(loan.mw)} borrowed from {loan.lender} end: {why}"))


def tell_returned(draft: Draft, situation: Situation) -> None:
    """Say which loans are returned, when it draws no more than is left to it."""
    limit = max(draft.member.limit_mw(situation.own_mw, draft.now), 0)
    if not situation.certain or situation.draw_mw > limit:
        return
    for number, loan in draft.member.borrowed.items():
        if loan.hold is Hold.RETURNED and not draft.insists("returned", number):
            draft.insist("returned", number, Returned(number))


def closed(draft: Draft, number: int) -> None:
    """The coordinator knows, or knew long ago, that it is returned."""
    loan = draft.member.borrowed.get(number)
    if loan is not None and loan.hold is Hold.RETURNED:
        draft.answered("returned", number)
        draft.member = replace(draft.member, borrowed=without(draft.member.borrowed, number))
        draft.rows.append(Row("borrowing", number, None))


def end_old(draft: Draft) -> None:
    """What is over by its own clock; and an ask that nobody answered."""
    for number, loan in draft.member.borrowed.items():
        if loan.hold is not Hold.RETURNED and loan.until <= draft.now:
            give_back(draft, number, "its time is over")
        elif loan.hold is Hold.RETURNED and loan.until + draft.member.rules.guard_s <= draft.now:
            closed(draft, number)
    asking = draft.member.asking
    if asking is not None and asking.answer_by <= draft.now:
        why = f"no answer within {draft.member.rules.answer_s:g} s"
        draft.news.append(News(Kind.DENIED, asking.ask.ask_id, why))
        _close_ask(draft)


def ask_restored(draft: Draft) -> None:
    """After a restart: are they still mine?"""
    for number, loan in draft.member.borrowed.items():
        if loan.hold is Hold.DORMANT:
            draft.insist("still", number, Still(number, draft.member.boot))


def kept(draft: Draft, message: Kept) -> None:
    """How much is left, counted from this start; the question left after it, so the end is not later than it was."""
    loan = draft.member.borrowed.get(message.loan_id)
    if loan is None or loan.hold is not Hold.DORMANT or message.boot != draft.member.boot:
        return
    until = draft.member.started_at + min(message.left_s, loan.for_s)
    if message.left_s <= 0 or until <= draft.now:
        give_back(draft, message.loan_id, "it was over when this EMA came back")
        return
    draft.answered("still", message.loan_id)
    awake = replace(loan, hold=Hold.HELD, until=until)
    draft.member = replace(draft.member, borrowed={**draft.member.borrowed, message.loan_id: awake})
