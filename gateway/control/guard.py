"""Two things done before they are needed or when nothing is known: preparing for an event, and the fail-safe set."""

from __future__ import annotations

from gateway.clock import Instant
from gateway.control.effects import setting_power, words
from gateway.control.items import NOTHING_W, off_barred, on_barred, untouchable
from gateway.control.limit import current_events
from gateway.control.power import counted_power
from gateway.control.restore import Room
from gateway.control.rules import Rules
from gateway.control.shed import can_wait
from gateway.site.command import Source
from gateway.site.decision import Action, Kept
from gateway.site.event import Direction, DrEvent
from gateway.site.picture import ResourceState, Site, Timeline
from gateway.site.resource import Kind, Setting


def failsafe_set(site: Site, rules: Rules, now: Instant) -> tuple[tuple[Action, ...], tuple[Kept, ...]]:
    """Every resource to its safe state, and what was left as it is.

    A safe state that would draw more than what it does now relieves nobody: that resource stays as it is.
    """
    actions: list[Action] = []
    kept: list[Kept] = []
    for state in site.resources:
        resource, safe = state.resource, state.resource.safe
        if safe == Setting() or state.held == safe or not state.present:
            continue
        reason = untouchable(state, now)
        if not reason and safe.on is False and off_barred(state, now) > 0:
            reason = "on for its minimum time"
        power = counted_power(state, now, rules)
        target = setting_power(state, safe)
        if not reason and target > _last_known(state, power) + NOTHING_W:
            reason = "its safe state draws more"
        if reason:
            kept.append(Kept(resource.name, reason))
            continue
        if state.reading is not None and state.reading.on is False and safe.on is False:
            continue
        actions.append(
            Action(
                resource.name,
                resource.number,
                safe,
                target - power,
                target,
                Source.FAILSAFE,
                words(resource, safe),
            )
        )
    return tuple(actions), tuple(kept)


def _last_known(state: ResourceState, otherwise: float) -> float:
    """What it last said: the worst that is counted for it meanwhile is no reason to switch on what was off."""
    reading = state.reading
    return otherwise if reading is None or reading.power_w is None else reading.power_w


def event_ahead(timeline: Timeline, rules: Rules, now: Instant) -> DrEvent | None:
    """The next import event that begins within ``prepare_s`` (None: none, or nothing is to be prepared)."""
    if rules.prepare_s <= 0 or not now.trusted:
        return None
    ahead = [
        event
        for event in current_events(timeline.events)
        if event.direction is Direction.IMPORT and now.wall < event.start <= now.wall + rules.prepare_s
    ]
    return min(ahead, key=lambda event: event.start, default=None)


def preparation(site: Site, space: Room, rules: Rules, now: Instant) -> tuple[Action, ...]:
    """Delay what can wait, then charge the stores with the room there is."""
    actions: list[Action] = []
    up = space.up_w
    for state in site.resources:
        resource, point = state.resource, state.resource.setpoint
        if untouchable(state, now) or state.held is not None or point is None or state.reading is None:
            continue
        power = counted_power(state, now, rules)
        if resource.kind is Kind.EV and power > NOTHING_W and off_barred(state, now) <= 0:
            if can_wait(state, now, rules):
                actions.append(_prepare(state, Setting(setpoint_w=0.0), power, 0.0))
                up += power
        elif resource.kind is Kind.ESS and on_barred(state, now) <= 0:
            soc = state.reading.soc
            target = min(power + up, point.max_w)
            if soc is None or soc >= resource.ceiling_soc or target - power < max(rules.hysteresis_min_w, NOTHING_W):
                continue
            if target <= 0:
                continue
            actions.append(_prepare(state, Setting(setpoint_w=target), power, target))
            up -= target - power
    return tuple(actions)


def _prepare(state: ResourceState, setting: Setting, power: float, target: float) -> Action:
    resource = state.resource
    said = words(resource, setting)
    return Action(resource.name, resource.number, setting, target - power, target, Source.PREPARE, said)
