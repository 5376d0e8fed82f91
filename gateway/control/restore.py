"""Giving back what was taken, one step a pass, backwards (docs/control.md, "A pass", 3)."""

from __future__ import annotations

import math

from gateway.clock import Instant
from gateway.control.effects import full_setting, is_on, most_of_ema, runs, setting_power, turns
from gateway.control.items import NOTHING_W, on_barred
from gateway.control.power import counted_power, counts, unanswered
from gateway.control.rules import Rules
from gateway.record import slim
from gateway.site.decision import Limit
from gateway.site.picture import ResourceState, Site
from gateway.site.resource import DIMMING_STEPS, Kind, Setting


@slim(frozen=True, slots=True)
class Room:
    """How far the site's power may move: up towards the import limit, down towards the export limit."""

    up_w: float
    down_w: float


@slim(frozen=True, slots=True)
class Step:
    """One step back for one resource."""

    state: ResourceState
    setting: Setting
    effect_w: float
    target_w: float


def hysteresis(limit_w: float, rules: Rules) -> float:
    """The room under a limit that a restore leaves free."""
    return max(rules.hysteresis_share * limit_w, rules.hysteresis_min_w)


def room(power_w: float, reserved_w: float, limit: Limit, rules: Rules) -> Room:
    """The room for restores, hysteresis and reservations taken off."""
    up = down = math.inf
    if limit.import_w is not None:
        up = limit.import_w - hysteresis(limit.import_w, rules) - power_w - reserved_w
    if limit.export_w is not None:
        down = power_w + limit.export_w - hysteresis(limit.export_w, rules)
    return Room(up, down)


def next_step(site: Site, space: Room, skip: frozenset[Kind], rules: Rules, now: Instant) -> Step | None:
    """The next thing to give back: what was held last comes first, stores come last. None: nothing fits.

    ``skip``: kinds that are being prepared for an event.
    """
    held = [state for state in site.resources if state.held is not None and state.resource.kind not in skip]
    held.sort(key=lambda state: (state.resource.kind is Kind.ESS, -state.held_seq))
    for state in held:
        if not state.present or state.reading is None or state.barred_until > now.mono:
            continue
        if counts(state, now) or unanswered(state, now):
            continue
        step = _step(state, space, rules, now)
        if step is not None:
            return step
    return None


def give_back(state: ResourceState, up_w: float, down_w: float, rules: Rules, now: Instant) -> Step | None:
    """As much of a resource's wish as fits into that room; None: nothing does, or it may not be switched on yet."""
    return _step(state, Room(up_w, down_w), rules, now)


def _step(state: ResourceState, space: Room, rules: Rules, now: Instant) -> Step | None:
    power = counted_power(state, now, rules)
    full = full_setting(state)
    if _barred(state, full, now):
        return None
    target = setting_power(state, full)
    if _fits(target - power, space):
        return Step(state, full, target - power, target)
    if state.resource.setpoint is not None:
        return _part(state, power, target, space, rules)
    if state.resource.levels:
        return _dimmed(state, power, full, space)
    return None


def _fits(effect_w: float, space: Room) -> bool:
    if effect_w > 0:
        return effect_w <= space.up_w
    return effect_w == 0 or -effect_w <= space.down_w


def _barred(state: ResourceState, setting: Setting, now: Instant) -> bool:
    return turns(state, setting) is True and is_on(state) is not True and on_barred(state, now) > 0


def _dimmed(state: ResourceState, power: float, full: Setting, space: Room) -> Step | None:
    """The brightest step below the wish that fits."""
    now = runs(state)
    lowest = 0 if now.on is False or now.level is None else now.level + 1
    highest = DIMMING_STEPS if full.level is None else full.level
    if lowest >= highest or setting_power(state, Setting(on=True, level=lowest)) - power > space.up_w:
        # A brighter step draws no less.
        return None
    for level in range(highest - 1, lowest - 1, -1):
        setting = Setting(on=True, level=level)
        target = setting_power(state, setting)
        if target - power > NOTHING_W and target - power <= space.up_w:
            return Step(state, setting, target - power, target)
    return None


def _part(state: ResourceState, power: float, target: float, space: Room, rules: Rules) -> Step | None:
    """A part of the way to the wish; less than the least hysteresis is not worth a command."""
    point = state.resource.setpoint
    if point is None:
        return None
    worth = max(rules.hysteresis_min_w, NOTHING_W)
    moved = space.up_w if target > power else -space.down_w
    if abs(moved) < worth:
        return None
    part = power + moved
    if point.step_w > 0:
        part = (math.floor if moved > 0 else math.ceil)(part / point.step_w) * point.step_w
    if state.resource.kind is Kind.EV:
        part = max(part, 0.0)
        if part < max(point.min_w, NOTHING_W):
            return None
    already = state.held.setpoint_w if state.held is not None else None
    if state.resource.kind is Kind.EMA:
        # It draws what its own devices want, and a limit above that is none to be lowered by giving back.
        part = min(max(part, point.min_w), most_of_ema(state))
        if already is not None and part < already:
            return None
    else:
        part = min(max(part, point.min_w if state.resource.kind is not Kind.EV else 0.0), point.max_w)
    if already is not None and abs(part - already) < worth:
        return None
    if abs(part - power) < worth or (part - power > 0) is not (target > power):
        return None
    on = True if state.held is not None and state.held.on is False else None
    return Step(state, Setting(on=on, setpoint_w=part), part - power, part)
