"""EMAs of the lab in a negotiation: they ask by an absolute threshold, and are told one (wire reference, 7).

They borrow only: an EMA of the lab cannot say that it lent. What it borrowed is an event with the higher threshold that
ends with the loan, on a whole minute before it; so the old threshold is back by itself.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from gateway.control.negotiation import messages as n
from gateway.control.negotiation.absolute import need_mw, threshold_w
from gateway.control.negotiation.step import watts
from headend.ems.book import Book
from headend.ems.errors import Refused
from headend.ems.events import MINUTE, EventDesk

BY = "loan"
# The lab's ask names no time.
FOR_S = 900
NOTHING = n.Offer(1, 1, 0, 0)


@dataclass(slots=True)
class _Open:
    """What it asked for: the threshold it wants and the one it has, in W and mW."""

    ask_id: int
    energy_w: int
    own_mw: int
    asked_at: float  # wall


@dataclass(slots=True)
class _Borrowed:
    """Loans that one event tells. ``returning``: that event is cancelled; they are returned once that is answered."""

    event_id: int
    loans: tuple[int, ...]
    returning: bool = False


class LabMembers:
    """Speaks the ledger's messages for EMAs that know none. ``heard(member, message)``: to the coordinator."""

    def __init__(self, book: Book, events: EventDesk, heard: Callable[[str, n.FromMember], None]) -> None:
        self._book = book
        self._events = events
        self._heard = heard
        self._open: dict[str, _Open] = {}
        self._borrowed: dict[str, list[_Borrowed]] = {}
        self._members: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._last_ask = 0

    def __contains__(self, member: str) -> bool:
        return member in self._members

    def asked(self, member: str, energy_w: int) -> None:
        """``{ID, energy}``."""
        ema = self._book.emas[member]
        self._members.add(member)
        self._heard(member, NOTHING)
        own_w = self._book.limits.get(member, ema.threshold_w)
        if own_w is None:
            self._answer(member, False, 0)
            return
        own_mw = round(own_w * 1000)
        need = need_mw(energy_w, own_mw)
        if need <= 0:
            self._answer(member, True, energy_w)
            return
        wall = self._book.wall
        self._last_ask = max(self._last_ask + 1, int(wall * 1000))
        self._open[member] = _Open(self._last_ask, energy_w, own_mw, wall)
        self._heard(member, n.Ask(self._last_ask, need, need, None, FOR_S))

    def told(self, member: str, message: n.FromCoordinator) -> None:
        """The coordinator speaks to it."""
        match message:
            case n.Query():
                self._heard(member, NOTHING)
            case n.Result():
                self._result(member, message)
            case n.GiveBack(loan_id):
                self._start(self._give_back(member, loan_id))
            case _:
                pass

    def tick(self) -> None:
        """Say what is returned: its event is cancelled, and it answered that."""
        for member, all_of_it in self._borrowed.items():
            for borrowed in list(all_of_it):
                event = self._book.events.get(borrowed.event_id)
                delivery = event.deliveries.get(member) if event is not None else None
                over = event is None or event.state(self._book.wall) == "ended"
                told = event is not None and delivery is not None and delivery.answered == event.modification
                if over or (borrowed.returning and told):
                    all_of_it.remove(borrowed)
                    for loan in borrowed.loans:
                        self._heard(member, n.Returned(loan))

    def _result(self, member: str, result: n.Result) -> None:
        asked = self._open.get(member)
        if asked is None or asked.ask_id != result.ask_id:
            known = {loan for borrowed in self._borrowed.get(member, ()) for loan in borrowed.loans}
            for part in result.parts:
                if part.loan_id not in known:
                    self._heard(member, n.Returned(part.loan_id))
            self._heard(member, n.Taken(result.ask_id))
            return
        del self._open[member]
        if not result.parts:
            self._answer(member, False, 0)
            return
        self._start(self._tell(member, asked, result))

    async def _tell(self, member: str, asked: _Open, result: n.Result) -> None:
        """Its new threshold, until the whole minute before the loan's end."""
        wall = self._book.wall
        lent = sum(part.mw for part in result.parts)
        end = math.floor((asked.asked_at + result.for_s) / MINUTE) * MINUTE
        loans = tuple(part.loan_id for part in result.parts)
        try:
            event = await self._events.create(threshold_w(asked.own_mw, lent), wall, end, [member], by=BY)
        except (Refused, SQLAlchemyError) as err:
            self._book.log.warning("%s borrows %s and cannot be told: %s", member, watts(lent), err)
            for loan in loans:
                self._heard(member, n.Returned(loan))
            self._answer(member, False, 0)
            return
        self._borrowed.setdefault(member, []).append(_Borrowed(event.id, loans))
        self._heard(member, n.Taken(result.ask_id))
        self._answer(member, True, asked.energy_w)

    async def _give_back(self, member: str, loan_id: int) -> None:
        for borrowed in self._borrowed.get(member, ()):
            if loan_id in borrowed.loans:
                if not borrowed.returning:
                    borrowed.returning = True
                    await self._events.cancel(borrowed.event_id)
                return
        self._heard(member, n.Returned(loan_id))

    def _answer(self, member: str, accepted: bool, margin_w: int) -> None:
        head = self._book.head(self._book.emas[member])
        if head is not None and head.negotiates:
            head.answer_ask(member, accepted, margin_w)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
