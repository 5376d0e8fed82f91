"""The lender's half of an EMA: it lowers its limit before anybody raises one, and raises it after everybody fell."""

from __future__ import annotations

from dataclasses import replace

from gateway.control.negotiation.messages import Lent, Offer, Prepare, Recall, Refused, Release, Released
from gateway.control.negotiation.state import Draft, Situation, Told
from gateway.control.negotiation.step import Kind, Lending, News, Row, watts, without


def prepare(draft: Draft, message: Prepare, situation: Situation) -> None:
    """Lend it, if at this moment it is free: nobody is cut below what it draws by lending."""
    member, number = draft.member, message.loan_id
    if number in member.lent:
        draft.say(Lent(number))
        return
    why = _refusal(draft, message, situation)
    if why:
        draft.say(Refused(number, why, tell(draft, situation)))
        draft.news.append(News(Kind.REFUSED, number, why))
        return
    until = draft.now + message.for_s + member.rules.guard_s
    lending = Lending(number, message.borrower, message.mw, message.price, message.for_s, until)
    draft.member = replace(member, lent={**member.lent, number: lending})
    draft.rows.append(Row("lending", number, lending))
    draft.say(Lent(number))
    said = f"lends {watts(message.mw)} to {message.borrower} for {message.for_s} s at {message.price} a kWh"
    draft.news.append(News(Kind.LENT, number, said))


def _refusal(draft: Draft, message: Prepare, situation: Situation) -> str:
    """Why it does not lend that; empty: it does."""
    member = draft.member
    if message.loan_id in member.released:
        return "it was released already"
    if message.mw <= 0 or message.for_s <= 0 or message.borrower == member.name:
        return "that is no loan"
    free = member.free_mw(situation, draft.now)
    if free < message.mw:
        return f"{watts(message.mw)} asked, {watts(free)} free"
    if situation.ask_price is None or message.price < situation.ask_price:
        return f"at {message.price} a kWh, below its ask of {situation.ask_price}"
    return ""


def release(draft: Draft, message: Release) -> None:
    """Nobody counts it any more."""
    if message.loan_id in draft.member.lent:
        _end(draft, message.loan_id, "it is returned")
    draft.say(Released(message.loan_id))


def end_old(draft: Draft) -> None:
    """What is over by its own clock, guard time included."""
    for number, lending in draft.member.lent.items():
        if lending.until <= draft.now:
            _end(draft, number, "its time and the guard time are over")
    gone = [number for number, until in draft.member.released.items() if until <= draft.now]
    for number in gone:
        draft.member = replace(draft.member, released=without(draft.member.released, number))


def _end(draft: Draft, number: int, why: str) -> None:
    member = draft.member
    lending = member.lent[number]
    draft.answered("recall", number)
    draft.answered("lent", number)
    draft.member = replace(
        draft.member,
        lent=without(member.lent, number),
        released={**member.released, number: lending.until},
        recalled=without(member.recalled, number),
    )
    draft.rows.append(Row("lending", number, None))
    draft.news.append(News(Kind.ENDED, number, f"{watts(lending.mw)} lent to {lending.borrower} end: {why}"))


def recall_short(draft: Draft, situation: Situation) -> None:
    """Ask back as many loans, the newest first, as it needs for what it draws, or will need by the events known."""
    member = draft.member
    if not member.lent:
        return
    need = min(max(situation.draw_mw, 0), situation.least_own_mw)
    recall_some(draft, need - (situation.least_own_mw - member.lent_mw(draft.now)))


def recall_some(draft: Draft, short: int) -> None:
    """Ask back as many loans as make up ``short`` mW together with those that are asked back already."""
    member = draft.member
    short -= sum(lending.mw for number, lending in member.lent.items() if number in member.recalled)
    for number in sorted(member.lent, reverse=True):
        if short <= 0:
            return
        if number not in member.recalled:
            mw = member.lent[number].mw
            why = f"asks {watts(mw)} back from {member.lent[number].borrower}: it lacks {watts(short)}"
            recall(draft, number, why)
            short -= mw


def recall(draft: Draft, number: int, why: str) -> None:
    """Ask that loan back, now and again until it is released."""
    if number in draft.member.lent and number not in draft.member.recalled:
        draft.member = replace(draft.member, recalled={**draft.member.recalled, number: draft.now})
        draft.insist("recall", number, Recall(number))
        draft.news.append(News(Kind.RECALLED, number, why))


def check_restored(draft: Draft) -> None:
    """After a restart its loans last the whole time anew; the coordinator releases those that are over."""
    for number in draft.member.lent:
        draft.insist("lent", number, Lent(number))


def offer_changed(draft: Draft, situation: Situation) -> None:
    """Tell what is free when that changed enough, became nothing, or was told long ago."""
    member, told = draft.member, draft.member.told
    free = member.free_mw(situation, draft.now)
    if told is not None and told.offer.price == (situation.ask_price or 0):
        step = abs(free - told.offer.mw) >= member.rules.offer_step_mw or (free == 0) is not (told.offer.mw == 0)
        if not step and draft.now - told.at < member.rules.offer_every_s:
            return
    elif told is None and situation.ask_price is None:
        return
    draft.say(tell(draft, situation))


def tell(draft: Draft, situation: Situation) -> Offer:
    """Its offer now, numbered."""
    member = draft.member
    number = 1 if member.told is None else member.told.offer.number + 1
    offer = Offer(member.boot, number, member.free_mw(situation, draft.now), situation.ask_price or 0)
    draft.member = replace(member, told=Told(offer, draft.now))
    return offer
