"""The coordinator's side of a negotiation, at the EMS or at an EMA above EMAs (docs/negotiation.md, "The coordinator").

The caller keeps the state, writes ``rows``, then sends ``messages``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from gateway.control.negotiation import desk
from gateway.control.negotiation.book import Coordinator, CoordinatorRules, Draft, rebuilt
from gateway.control.negotiation.ledger import Stage
from gateway.control.negotiation.messages import (
    Ask,
    Closed,
    FromMember,
    GiveBack,
    Kept,
    Lent,
    Offer,
    Query,
    Recall,
    Refused,
    Release,
    Released,
    Returned,
    Still,
    Taken,
)
from gateway.control.negotiation.step import Kind, News, Row, Step, send_again, watts


def start(
    members: Iterable[str],
    next_id: int,
    now: float,
    rows: Iterable[Row] = (),
    rules: CoordinatorRules | None = None,
    lost_journal: bool = False,
) -> Step[Coordinator]:
    """A coordinator, new or as its journal left it. It asks everybody's offer, and goes on with every loan.

    ``lost_journal``: there may be loans that are not in ``rows``. For the longest time a loan lasts nobody is released
    from one it does not know.
    """
    draft = Draft(rebuilt(members, next_id, rows, now, rules), now)
    if lost_journal:
        longest = draft.state.rules.longest_s + draft.state.rules.guard_s
        draft.state = replace(draft.state, forgetful_until=now + longest)
    for name in sorted(draft.state.members):
        draft.insist("query", name, name, Query())
    told: set[tuple[str, int]] = set()
    for entry in list(draft.state.ledger.entries.values()):
        if entry.stage is Stage.RETURNED:
            desk.give_to_lender(draft, entry)
        elif entry.stage is Stage.RECALLED:
            draft.insist("give back", entry.loan_id, entry.borrower, GiveBack(entry.loan_id))
        elif (entry.borrower, entry.ask_id) not in told:
            told.add((entry.borrower, entry.ask_id))
            desk.tell_granted(draft, entry.borrower, entry.ask_id)
    return _step(draft)


def with_members(state: Coordinator, members: Iterable[str], now: float) -> Step[Coordinator]:
    """Who takes part from now on. Loans of those who left stay until they end."""
    chosen = frozenset(members)
    offers = {name: offer for name, offer in state.offers.items() if name in chosen}
    draft = Draft(replace(state, members=chosen, offers=offers), now)
    for name in sorted(chosen - state.members):
        draft.insist("query", name, name, Query())
    for name in state.members - chosen:
        draft.answered("query", name)
    return _step(draft)


def at_price(state: Coordinator, going: int | None) -> Coordinator:
    """From now on loans are made at that price (None: each at its lender's ask)."""
    return replace(state, going=going)


def receive(state: Coordinator, sender: str, message: FromMember, now: float) -> Step[Coordinator]:
    """A message of a member; a member speaks for its own loans only."""
    draft = Draft(state, now)
    match message:
        case Ask():
            desk.open_ask(draft, sender, message)
        case Offer():
            _offer(draft, sender, message)
        case Lent():
            _lent(draft, sender, message.loan_id)
        case Refused():
            _refused(draft, sender, message)
        case Taken():
            draft.answered("result", f"{sender} {message.ask_id}")
        case Returned():
            _returned(draft, sender, message.loan_id)
        case Recall():
            _recalled(draft, sender, message.loan_id)
        case Released():
            entry = state.ledger.entries.get(message.loan_id)
            if entry is not None and entry.lender == sender and entry.stage is Stage.RETURNED:
                draft.strike(message.loan_id)
        case Still():
            _still(draft, sender, message)
    return _step(draft)


def look(state: Coordinator, now: float) -> Step[Coordinator]:
    """At ``next_wakeup``: decide what is due, strike what is over, send again what was not answered."""
    draft = Draft(state, now)
    for borrower, waiting in state.asks.items():
        if waiting.answer_by <= now:
            desk.go_on(draft, borrower)
    for entry in list(draft.state.ledger.entries.values()):
        if entry.until + state.rules.guard_s <= now:
            # Both ended by their own clocks; a lender that was away asks, and is released.
            draft.answered("result", f"{entry.borrower} {entry.ask_id}")
            draft.strike(entry.loan_id)
            draft.news.append(_ended(entry.loan_id, entry.mw, entry.lender, entry.borrower, "its time is over"))
    sendings, again = send_again(draft.state.sendings, state.rules.repeats, now)
    draft.state = replace(draft.state, sendings=sendings)
    draft.messages.extend(again)
    return _step(draft)


def next_wakeup(state: Coordinator) -> float | None:
    """The monotonic moment at which ``look`` is due (None: nothing waits)."""
    return min(_moments(state), default=None)


def _moments(state: Coordinator) -> Iterator[float]:
    for waiting in state.asks.values():
        yield waiting.answer_by
    for sending in state.sendings.values():
        yield sending.due
    for entry in state.ledger.entries.values():
        yield entry.until + state.rules.guard_s


def _offer(draft: Draft, sender: str, offer: Offer) -> None:
    if sender not in draft.state.members:
        return
    draft.answered("query", sender)
    known = draft.state.offers.get(sender)
    if known is not None and (known.boot, known.number) >= (offer.boot, offer.number):
        return
    draft.state = replace(draft.state, offers={**draft.state.offers, sender: offer})
    for borrower in list(draft.state.asks):
        desk.go_on(draft, borrower)


def _lent(draft: Draft, sender: str, number: int) -> None:
    entry = draft.state.ledger.entries.get(number)
    if entry is None:
        _release_unknown(draft, sender, number)
    elif entry.lender == sender and entry.stage is Stage.PREPARED:
        draft.answered("prepare", number)
        # Not told to anybody before it is granted, and taken back at a restart: it needs no row of its own.
        draft.state = replace(draft.state, ledger=draft.state.ledger.put(replace(entry, stage=Stage.LENT)))
        desk.go_on(draft, entry.borrower)
    elif entry.lender == sender and entry.stage is Stage.RETURNED:
        draft.say(sender, Release(number))


def _release_unknown(draft: Draft, sender: str, number: int) -> None:
    """What was granted is in the book; so what is not there was never granted, or is over."""
    if draft.now >= draft.state.forgetful_until:
        draft.say(sender, Release(number))


def _refused(draft: Draft, sender: str, message: Refused) -> None:
    entry = draft.state.ledger.entries.get(message.loan_id)
    if entry is not None and entry.lender == sender and entry.stage is Stage.PREPARED:
        draft.strike(message.loan_id)
    _offer(draft, sender, message.offer)
    if entry is not None:
        desk.go_on(draft, entry.borrower)


def _returned(draft: Draft, sender: str, number: int) -> None:
    entry = draft.state.ledger.entries.get(number)
    if entry is not None:
        if entry.borrower != sender or entry.stage in (Stage.PREPARED, Stage.LENT):
            return
        if entry.stage is not Stage.RETURNED:
            desk.give_to_lender(draft, entry)
            draft.news.append(_ended(number, entry.mw, entry.lender, entry.borrower, "it gave it back"))
    draft.say(sender, Closed(number))


def _recalled(draft: Draft, sender: str, number: int) -> None:
    entry = draft.state.ledger.entries.get(number)
    if entry is None:
        _release_unknown(draft, sender, number)
    elif entry.lender != sender:
        return
    elif entry.stage in (Stage.PREPARED, Stage.LENT):
        desk.give_to_lender(draft, entry)
        desk.go_on(draft, entry.borrower)
    elif entry.stage is Stage.GRANTED:
        draft.book(replace(entry, stage=Stage.RECALLED))
        draft.insist("give back", number, entry.borrower, GiveBack(number))
        said = f"{entry.lender} recalls {watts(entry.mw)} from {entry.borrower}"
        draft.news.append(News(Kind.RECALLED, number, said))
    elif entry.stage is Stage.RETURNED:
        draft.say(sender, Release(number))


def _still(draft: Draft, sender: str, message: Still) -> None:
    entry = draft.state.ledger.entries.get(message.loan_id)
    left_s = 0
    if entry is not None and entry.borrower == sender and entry.stage is Stage.GRANTED:
        known = message.loan_id not in draft.state.restored
        left_s = max(int(entry.until - draft.now), 0) if known else 0
    draft.say(sender, Kept(message.loan_id, message.boot, left_s))


def _ended(number: int, mw: int, lender: str, borrower: str, why: str) -> News:
    return News(Kind.ENDED, number, f"{watts(mw)} of {lender} for {borrower} end: {why}")


def _step(draft: Draft) -> Step[Coordinator]:
    return Step(draft.state, tuple(draft.rows), tuple(draft.messages), tuple(draft.news))


__all__ = ["Coordinator", "CoordinatorRules", "at_price", "look", "next_wakeup", "receive", "start", "with_members"]
