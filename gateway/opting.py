"""Whether to opt in to an event: can the site hold it, and is it paid for what it gives up (docs/price.md, "Opt")."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from gateway.clock import Instant
from gateway.control.decide import decide, excess_of
from gateway.control.items import EQUAL_W
from gateway.control.limit import limit_at
from gateway.site.decision import Action, Rule
from gateway.site.event import DrEvent
from gateway.site.resource import Kind

if TYPE_CHECKING:
    from gateway.engine import Engine

# What sheds by giving up a service; a battery or a panel has no load of its own.
_SERVES = (Kind.LED, Kind.EV, Kind.VIRTUAL, Kind.EMA)


def trial(engine: Engine, event: DrEvent, now: Instant) -> tuple[list[Action], float]:
    """What would be shed if it began now and everything was done that a pass may do, and by how many W it would still
    be over."""
    begun = replace(event, start=now.wall, end=now.wall + 1.0)
    timeline = replace(engine.timeline(), events=(*engine.timeline().events, begun))
    outcome = decide(engine.site(), timeline, replace(engine.rules(), cap_w=None), engine.memory(), now)
    actions = [action for d in outcome.decisions if d.rule is Rule.SHED for action in d.actions]
    shed = sum(action.effect_w for action in actions)
    return actions, excess_of(engine.power().watts + shed, limit_at(timeline, now))


def unable(engine: Engine, event: DrEvent, now: Instant) -> str:
    """What would be over with all off that may be shed; empty: nothing."""
    over = trial(engine, event, now)[1]
    return f"{over:.0f} W would be over with all off that may be shed" if over > EQUAL_W else ""


def by_price(engine: Engine, event: DrEvent, now: Instant) -> tuple[bool, str]:
    """(opt in, why): reduction × incentive against the stated value of what would be shed."""
    from gateway.control.price import AtStake, opt  # only where the configuration asks for it

    actions, over = trial(engine, event, now)
    loads = [
        AtStake(action.resource, math.ceil(-action.effect_w * 1000), _value(engine, action.number))
        for action in actions
        if action.effect_w < 0
    ]
    reduction = sum(load.mw for load in loads) + (math.ceil(over * 1000) if over > EQUAL_W else 0)
    seconds = max(math.ceil(event.end - max(event.start, now.wall)), 1)
    judged = opt(engine.prices.of(event.upstream), reduction, seconds, loads)
    return judged.opt_in, judged.why


def _value(engine: Engine, number: int) -> int | None:
    device = next((device for device in engine.config.device if device.number == number), None)
    if device is not None and device.value >= 0:
        return device.value
    state = engine.states.get(number)
    value = engine.config.negotiation.value
    return value if value >= 0 and state is not None and state.resource.kind in _SERVES else None
