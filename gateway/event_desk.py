"""An event from above: opted in or out before anything is switched, shed first, then answered
(docs/control.md, "Order of acting")."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from typing import TYPE_CHECKING

from gateway.limits import key_of
from gateway.site.decision import Decision, Rule

if TYPE_CHECKING:
    from gateway.clock import Instant
    from gateway.engine import Engine
    from gateway.site.event import DrEvent


class EventDesk:
    """Each event is judged once a modification; asked again, the same answer."""

    def __init__(self, engine: Engine, rng: random.Random) -> None:
        self._engine = engine
        self._rng = rng

    async def take(self, event: DrEvent) -> bool:
        """Shed first, write beside it, return when it is on disk; the caller then answers."""
        engine = self._engine
        book = engine.book
        answered = book.answered(event)
        if answered is not None and answered[0] >= event.modification:
            await engine.journal.durable()
            return answered[1]
        now = engine.clock.now()
        known = book.events.get(key_of(event))
        delay = known.restore_delay_s if known else self._rng.uniform(0.0, engine.config.control.restore_delay_s)
        event = replace(event, restore_delay_s=delay)
        refusal, because = self._judged(event, now)
        if refusal:
            book.refuse(event)
        else:
            book.put(event)
        engine.pass_now()
        # Commands that are not on the wire yet leave before the writer's thread competes for the interpreter.
        await asyncio.sleep(0)
        book.save(event, not refusal)
        said = f"opted out, {refusal}" if refusal else "cancelled" if event.cancelled else f"opted in{because}"
        why = f"event {event.event_id} of {event.upstream}, {event.limit_w:.0f} W: {said}"
        seen = Decision(Rule.OPT, now.wall, engine.power().watts, engine.limit(now), why, event_id=event.event_id)
        engine.record(seen)
        await engine.journal.durable()
        return not refusal

    def _judged(self, event: DrEvent, now: Instant) -> tuple[str, str]:
        """Why to opt out (empty: opt in), and what is said of an opt in."""
        refusal = self._refusal(event, now)
        if refusal or event.cancelled or self._engine.config.control.opt != "price":
            return refusal, ""
        from gateway.opting import by_price

        opt_in, why = by_price(self._engine, event, now)
        return ("", f", {why}") if opt_in else (why, "")

    def _refusal(self, event: DrEvent, now: Instant) -> str:
        """Why to opt out, judged before anything is switched; empty: opt in."""
        book = self._engine.book
        policy = self._engine.config.control.opt
        if event.cancelled:
            return ""
        if policy == "never":
            return "the configuration says never"
        if now.trusted and event.end <= now.wall:
            return "it ended before it came"
        if book.is_full(event):
            return f"{len(book.events)} events are known already"
        if policy == "able":
            from gateway.opting import unable

            return unable(self._engine, event, now)
        return ""
