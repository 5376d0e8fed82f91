"""How a coordinator settles an ask: lenders first, all of them lower, then the borrower is told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from gateway.control.negotiation.book import Draft, OpenAsk, Sharing
from gateway.control.negotiation.ledger import Entry, Stage
from gateway.control.negotiation.matching import Spare, cheapest_first, equal_shares
from gateway.control.negotiation.messages import Ask, Part, Prepare, Release, Result
from gateway.control.negotiation.step import Kind, News, watts, without


def open_ask(draft: Draft, borrower: str, ask: Ask) -> None:
    """Take it up, unless it is known: one that was granted gets its loans again, one that was decided its answer."""
    state = draft.state
    known = draft.loans_of(borrower, ask.ask_id)
    waiting = state.asks.get(borrower)
    last, why = state.decided.get(borrower, (0, ""))
    if waiting is not None and waiting.ask.ask_id >= ask.ask_id:
        return
    if any(entry.stage is Stage.GRANTED for entry in known):
        tell_granted(draft, borrower, ask.ask_id)
    elif known or ask.ask_id == last:
        draft.say(borrower, Result(ask.ask_id, (), ask.for_s, why or "it was settled already"))
    elif ask.ask_id > last and borrower in state.members:
        if waiting is not None:
            _decide(draft, borrower, "a newer ask took its place", grant=False)
        if ask.mw <= 0 or ask.for_s <= 0:
            _answer(draft, borrower, ask, "it asks for nothing")
            return
        for_s = min(ask.for_s, state.rules.longest_s)
        opened = OpenAsk(ask, draft.now, draft.now + state.rules.answer_s, for_s)
        draft.state = replace(draft.state, asks={**draft.state.asks, borrower: opened})
        go_on(draft, borrower)


def go_on(draft: Draft, borrower: str) -> None:
    """Prepare what is missing; decide when it is complete, when nobody is left to ask, or when its time is over."""
    waiting = draft.state.asks.get(borrower)
    if waiting is None:
        return
    loans = [e for e in draft.loans_of(borrower, waiting.ask.ask_id) if e.stage in (Stage.PREPARED, Stage.LENT)]
    missing = waiting.ask.mw - sum(entry.mw for entry in loans)
    prepared = [entry for entry in loans if entry.stage is Stage.PREPARED]
    if waiting.answer_by <= draft.now:
        _decide(draft, borrower, "not enough was lent in time")
    elif missing <= 0:
        if not prepared:
            _decide(draft, borrower, "")
    else:
        parts = _parts(draft, borrower, waiting, missing)
        for part in parts:
            _prepare(draft, borrower, waiting, part)
        if not parts and not prepared and _all_offers_known(draft, borrower):
            _decide(draft, borrower, _lacking(draft, borrower, waiting, missing))


def _parts(draft: Draft, borrower: str, waiting: OpenAsk, missing: int) -> Sequence[Spare]:
    state, ask = draft.state, waiting.ask
    spares = [
        Spare(name, offer.mw, offer.price)
        for name, offer in state.offers.items()
        if name != borrower and name not in waiting.tried
    ]
    if state.rules.sharing is Sharing.EQUAL:
        others = len(state.members - {borrower})
        return () if waiting.tried else equal_shares(missing, ask.cap, spares, others, state.going)
    return cheapest_first(missing, ask.cap, spares, state.going, state.rules.smallest_mw)


def _prepare(draft: Draft, borrower: str, waiting: OpenAsk, part: Spare) -> None:
    state = draft.state
    number, ask = state.next_id, waiting.ask
    until = waiting.received + waiting.for_s
    entry = Entry(number, ask.ask_id, part.lender, borrower, part.mw, part.price, waiting.for_s, until)
    tried = replace(state.asks[borrower], tried=state.asks[borrower].tried | {part.lender})
    offer = state.offers[part.lender]
    # Till its next offer comes, others see what is left.
    left = {**state.offers, part.lender: replace(offer, mw=max(offer.mw - part.mw, 0))}
    draft.state = replace(state, next_id=number + 1, asks={**state.asks, borrower: tried}, offers=left)
    draft.book(entry)
    draft.insist("prepare", number, part.lender, Prepare(number, borrower, part.mw, part.price, waiting.for_s))


def _all_offers_known(draft: Draft, borrower: str) -> bool:
    return all(name in draft.state.offers for name in draft.state.members if name != borrower)


def _lacking(draft: Draft, borrower: str, waiting: OpenAsk, missing: int) -> str:
    going, cap = draft.state.going, waiting.ask.cap
    if going is not None and cap is not None and going > cap:
        return f"the negotiation price of {going} a kWh is above its cap of {cap}"
    price = going if going is not None else cap
    named = "" if price is None else f" at {price} a kWh or less"
    if draft.state.rules.sharing is Sharing.EQUAL:
        return f"not everybody could lend an equal share of {watts(waiting.ask.mw)}{named}"
    return f"{watts(missing)} of {watts(waiting.ask.mw)} are missing: nobody lends more{named}"


def _decide(draft: Draft, borrower: str, why: str, grant: bool = True) -> None:
    """Grant what is lent if that is enough; all else is the lenders' again."""
    waiting = draft.state.asks[borrower]
    ask = waiting.ask
    draft.state = replace(draft.state, asks=without(draft.state.asks, borrower))
    loans = draft.loans_of(borrower, ask.ask_id)
    lent = [entry for entry in loans if entry.stage is Stage.LENT]
    total = sum(entry.mw for entry in lent)
    may_be_less = draft.state.rules.partial and draft.state.rules.sharing is Sharing.CHEAPEST
    enough = total > 0 and total >= (min(ask.least_mw, ask.mw) if may_be_less else ask.mw)
    granted = lent if grant and enough else []
    for entry in loans:
        if entry in granted:
            draft.book(replace(entry, stage=Stage.GRANTED))
        elif entry.stage in (Stage.PREPARED, Stage.LENT):
            give_to_lender(draft, entry)
    if granted:
        draft.state = replace(draft.state, decided={**draft.state.decided, borrower: (ask.ask_id, "")})
        tell_granted(draft, borrower, ask.ask_id)
        said = f"{borrower} borrows {watts(total)} of {watts(ask.mw)} for {waiting.for_s} s"
        draft.news.append(News(Kind.GRANTED, ask.ask_id, said))
    else:
        _answer(draft, borrower, ask, why)


def _answer(draft: Draft, borrower: str, ask: Ask, why: str) -> None:
    draft.state = replace(draft.state, decided={**draft.state.decided, borrower: (ask.ask_id, why)})
    draft.say(borrower, Result(ask.ask_id, (), ask.for_s, why))
    draft.news.append(News(Kind.DENIED, ask.ask_id, f"{borrower} asks for {watts(ask.mw)}: {why}"))


def tell_granted(draft: Draft, borrower: str, ask_id: int) -> None:
    """The loans of that ask that still stand, until the borrower says it knows."""
    loans = [entry for entry in draft.loans_of(borrower, ask_id) if entry.stage is Stage.GRANTED]
    parts = tuple(Part(entry.loan_id, entry.lender, entry.mw, entry.price) for entry in loans)
    draft.insist("result", f"{borrower} {ask_id}", borrower, Result(ask_id, parts, loans[0].for_s, ""))


def give_to_lender(draft: Draft, entry: Entry) -> None:
    """Nobody counts it, and nobody will: the lender may raise its limit."""
    draft.answered("prepare", entry.loan_id)
    draft.answered("give back", entry.loan_id)
    draft.book(replace(entry, stage=Stage.RETURNED))
    draft.insist("release", entry.loan_id, entry.lender, Release(entry.loan_id))
    told = f"{entry.borrower} {entry.ask_id}"
    if ("result", told) in draft.state.sendings:
        if any(e.stage is Stage.GRANTED for e in draft.loans_of(entry.borrower, entry.ask_id)):
            tell_granted(draft, entry.borrower, entry.ask_id)
        else:
            draft.answered("result", told)
