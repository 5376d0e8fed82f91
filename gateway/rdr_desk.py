"""Reverse DR: a device asks its power back (docs/control.md, "RDR and loans").

Within the margin at once; else asked of the upper side, then of other EMAs, each with a deadline; else denied with
the reasons.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from gateway.control.rdr import answer_rdr, grant_action
from gateway.errors import TransientError
from gateway.record import slim
from gateway.site.decision import Action, Decision, Rule
from gateway.site.event import Grant, RdrAnswer, RdrRequest, RdrResult, Reservation

if TYPE_CHECKING:
    from gateway.engine import Engine
    from gateway.upstream.base import Upstream

log = logging.getLogger("smartema.rdr")

# What the menu and the demo can look back on.
LOG_LENGTH = 200


@slim(frozen=True, slots=True)
class RdrEntry:
    """One RDR and what became of it. ``at``: wall seconds."""

    at: float
    device: str
    watts: float
    result: RdrResult
    why: str


class RdrDesk:
    """One request in flight a device."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._asking: dict[int, asyncio.Task[None]] = {}
        self._within: dict[int, float] = {}
        self.log: deque[RdrEntry] = deque(maxlen=LOG_LENGTH)
        self.listeners: list[Callable[[RdrEntry], None]] = []

    def asked(self, number: int, watts: float, for_s: float, within_s: float | None = None) -> RdrAnswer:
        """The answer at once: granted, denied with its reason, or pending while the upper side is asked.

        ``within_s``: who asks waits no longer than that.
        """
        engine = self._engine
        state = engine.states.get(number)
        if state is None:
            return RdrAnswer(RdrResult.DENIED, f"device {number} is not known")
        if engine.ending:
            return RdrAnswer(RdrResult.DENIED, "this EMA is just ending")
        if number in self._asking:
            return RdrAnswer(RdrResult.PENDING, "asked already")
        request = RdrRequest(state.resource.name, number, watts, for_s)
        now = engine.clock.now()
        if awaited := engine.awaited():
            why = f"{request.resource} asks {watts:.0f} W back: not heard since the restart: {', '.join(awaited[:5])}"
            seen = Decision(Rule.RDR, now.wall, engine.power().watts, engine.limit(now), why)
            return self._settle(request, RdrResult.DENIED, seen)
        if within_s is not None and within_s <= 0:
            why = f"{request.resource} asks {watts:.0f} W back: others of it were asked for first, and its time is over"
            seen = Decision(Rule.RDR, now.wall, engine.power().watts, engine.limit(now), why)
            return self._settle(request, RdrResult.DENIED, seen)
        result, decision, action = answer_rdr(engine.site(), engine.timeline(), engine.rules(), request, now)
        if result is RdrResult.PENDING:
            above = self._above()
            if above is None and engine.loans is None:
                decision = replace(decision, why=f"{decision.why}; denied: nobody above to ask")
                return self._settle(request, RdrResult.DENIED, decision)
            if within_s is not None:
                self._within[number] = within_s
            self._asking[number] = asyncio.get_running_loop().create_task(self._ask(above, request, decision))
            asked = f"{above.name} is asked" if above is not None else "other EMAs are asked"
            engine.record(replace(decision, why=f"{decision.why}; {asked}"))
            return RdrAnswer(RdrResult.PENDING, decision.why)
        if result is RdrResult.GRANTED:
            self._give(request, action)
        return self._settle(request, result, decision)

    async def ask_above(self, watts: float, for_s: float) -> tuple[bool, str]:
        """The EMA asks for itself (the lab's menu 70): what is granted lifts the limit for that time."""
        engine = self._engine
        above = self._above()
        if above is None:
            return False, "nobody above to ask"
        request = RdrRequest(engine.config.ema.name, 0, watts, for_s)
        granted, why = await self._granted(above, request)
        now = engine.clock.now()
        result = RdrResult.GRANTED if granted else RdrResult.DENIED
        seen = Decision(Rule.RDR, now.wall, engine.power().watts, engine.limit(now), f"{watts:.0f} W for itself: {why}")
        self._settle(request, result, seen)
        return granted, why

    def _above(self) -> Upstream | None:
        return next(iter(self._engine.upstreams), None)

    async def _ask(self, above: Upstream | None, request: RdrRequest, decision: Decision) -> None:
        engine = self._engine
        try:
            granted, why = await self._granted(above, request) if above is not None else (False, "nobody above to ask")
            state = engine.states.get(request.number)
            left = state is None or (not state.present and state.reading is None)
            if granted and left:
                granted, why = False, f"{why}, but {request.resource} is gone"
                engine.book.give_back(request.resource, request.watts, "it went before the answer came")
            elif granted:
                self._give(request, grant_action(engine.site(), request, engine.clock.now(), engine.rules()))
            elif engine.loans is not None and engine.config.negotiation.enabled and not left:
                granted, lent = await engine.loans.borrow(
                    request.watts, request.for_s, request.resource, lambda: self._give_lent(request)
                )
                why = f"{why}; other EMAs: {lent}"
            result = RdrResult.GRANTED if granted else RdrResult.DENIED
            answer = self._settle(request, result, replace(decision, why=f"{decision.why}; {result.value}: {why}"))
            adapter = engine.adapters.get(request.number)
            if adapter is not None:
                await adapter.answer_rdr(request.number, answer)
        except TransientError as err:
            log.debug("RDR of %s: %s", request.resource, err)
        finally:
            self._asking.pop(request.number, None)
            self._within.pop(request.number, None)

    async def _granted(self, above: Upstream, request: RdrRequest) -> tuple[bool, str]:
        """The upper side's word, on disk if it is a grant; what cannot be written is not granted."""
        engine = self._engine
        granted, why = await self._answer_of(above, request)
        if not granted:
            return False, why
        grant = Grant(above.name, request.resource, request.watts, engine.clock.now().wall + request.for_s)
        engine.journal.save_grant(grant)
        try:
            await engine.journal.durable()
        except TransientError as err:
            engine.journal.remove_grant(grant)
            return False, f"{why}, but {err}"
        engine.book.grant(grant)
        return True, why

    async def _answer_of(self, above: Upstream, request: RdrRequest) -> tuple[bool, str]:
        """The upper side's word within the deadline; silence is a refusal with that reason."""
        engine = self._engine
        deadline = engine.config.control.ems_answer_s
        deadline = min(deadline, self._within.get(request.number, deadline))
        asking = asyncio.ensure_future(above.ask_rdr(request.number, request.watts, request.for_s))
        limit = asyncio.ensure_future(engine.clock.sleep(deadline))
        try:
            await asyncio.wait((asking, limit), return_when=asyncio.FIRST_COMPLETED)
            if not asking.done():
                return False, f"{above.name} did not answer within {deadline:g} s"
            granted, why = asking.result()
            return granted, f"{above.name} says {why}"
        except TransientError as err:
            return False, str(err)
        finally:
            asking.cancel()
            limit.cancel()

    def _give_lent(self, request: RdrRequest) -> None:
        """The limit just rose by what it asked for."""
        engine = self._engine
        self._give(request, grant_action(engine.site(), request, engine.clock.now(), engine.rules()))

    def _give(self, request: RdrRequest, action: Action | None) -> None:
        engine = self._engine
        now = engine.clock.now()
        if action is not None:
            engine.act(action, now)
            return
        state = engine.states.get(request.number)
        latency = state.resource.latency_s if state is not None else 0.0
        engine.reservations.append(Reservation(request.resource, request.watts, now.mono + latency))

    def give_back(self, resource: str, watts: float, why: str) -> None:
        """What was granted came too late for who asked."""
        engine = self._engine
        engine.book.give_back(resource, watts, why)
        now = engine.clock.now()
        said = f"{watts:.0f} W granted to {resource} are given back: {why}"
        engine.record(Decision(Rule.RDR, now.wall, engine.power().watts, engine.limit(now), said))
        if engine.loans is not None:
            engine.loans.not_needed(resource)
        for reservation in engine.reservations:
            if reservation.resource == resource and reservation.watts == watts:
                engine.reservations.remove(reservation)
                return

    def _settle(self, request: RdrRequest, result: RdrResult, decision: Decision) -> RdrAnswer:
        engine = self._engine
        engine.record(replace(decision, rule=Rule.RDR))
        entry = RdrEntry(engine.clock.now().wall, request.resource, request.watts, result, decision.why)
        self.log.append(entry)
        for listener in self.listeners:
            listener(entry)
        return RdrAnswer(result, decision.why)
