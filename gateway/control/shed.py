"""The least harmful set of changes that brings the site under its limit (docs/control.md, "A pass", 1 and 2)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from gateway.clock import Instant
from gateway.control.items import (
    EQUAL_W,
    NOTHING_W,
    Choice,
    Item,
    load_item,
    off_barred,
    panel_item,
    untouchable,
)
from gateway.control.power import counted_power, told_already
from gateway.control.rules import Rules
from gateway.control.search import least_cut
from gateway.site.decision import Kept
from gateway.site.picture import ResourceState, Site
from gateway.site.resource import Kind, Setting

# A store that stands still begins to discharge only so much above its floor, so that it does not flutter there.
ABOVE_FLOOR_SOC = 1.0

# A car counts as able to wait while it could still begin this much later at full power.
DEPARTURE_SPARE_S = 120.0


@dataclass(slots=True)
class Plan:
    """What to change: ``cuts`` in order, what was left alone and why, and how many W are still over."""

    short_w: float
    room_w: float = math.inf
    cuts: list[tuple[ResourceState, float, Choice]] = field(default_factory=list)
    kept: list[Kept] = field(default_factory=list)

    def take(self, state: ResourceState, power_w: float, choice: Choice) -> None:
        self.cuts.append((state, power_w, choice))
        self.short_w -= choice.cut_w
        self.room_w -= choice.cut_w

    @property
    def need_w(self) -> float:
        return min(self.short_w, self.room_w)


def import_plan(
    site: Site, excess_w: float, granted: frozenset[str], rules: Rules, now: Instant, headroom_w: float = 0.0
) -> Plan:
    """Take ``excess_w`` off the import. ``granted``: resources that a running grant speaks for go last.

    ``headroom_w``: so much more a store that already discharges takes along, so that a growing load does not
    command it at every pass.
    """
    plan = Plan(excess_w, math.inf if rules.cap_w is None else rules.cap_w)
    free, ranked = _sorted_out(site.resources, now, rules, plan, _takes)
    _stop_at_floor(plan, free, now, rules)
    for state in free:
        _store(plan, state, now, rules, headroom_w)
    for state in ranked:
        if can_wait(state, now, rules):
            item = load_item(state, now, rules)
            if item is not None:
                _take_some(plan, item)
    done = {cut[0].resource.number for cut in plan.cuts}
    groups: dict[tuple[bool, int], list[ResourceState]] = {}
    for state in ranked:
        if state.resource.number not in done:
            groups.setdefault((state.resource.name in granted, state.resource.priority), []).append(state)
    _by_priority(plan, groups, load_item, now, rules)
    return plan


def export_plan(site: Site, excess_w: float, rules: Rules, now: Instant) -> Plan:
    """Take ``excess_w`` off the export: stores take it, then generators are curtailed by priority."""
    plan = Plan(excess_w, math.inf if rules.cap_w is None else rules.cap_w)
    stores, panels = _sorted_out(site.resources, now, rules, plan, _gives)
    for state in stores:
        _charge(plan, state, now, rules)
    groups: dict[tuple[bool, int], list[ResourceState]] = {}
    for state in panels:
        groups.setdefault((False, state.resource.priority), []).append(state)
    _by_priority(plan, groups, panel_item, now, rules)
    return plan


def can_be_shed(site: Site, granted: frozenset[str], rules: Rules, now: Instant) -> bool:
    """Is there anything left that could bring the import down?"""
    plan = import_plan(site, math.inf, granted, rules, now)
    return bool(plan.cuts)


def _sorted_out(
    resources: Iterable[ResourceState],
    now: Instant,
    rules: Rules,
    plan: Plan,
    concerns: Callable[[ResourceState], bool],
) -> tuple[list[ResourceState], list[ResourceState]]:
    """Stores and the rest, without what may not be touched; what was left alone is noted."""
    stores: list[ResourceState] = []
    rest: list[ResourceState] = []
    for state in resources:
        if not concerns(state):
            continue
        reason = untouchable(state, now)
        if not reason and told_already(state, now, rules):
            reason = "was told just now"
        if reason:
            plan.kept.append(Kept(state.resource.name, reason))
            continue
        (stores if state.resource.kind is Kind.ESS else rest).append(state)

    def order(state: ResourceState) -> tuple[int, int]:
        return state.resource.priority, state.resource.number

    return sorted(stores, key=order), sorted(rest, key=order)


def _takes(state: ResourceState) -> bool:
    """May it draw, or discharge to help?"""
    if state.resource.kind is Kind.PV:
        return False
    reading = state.reading
    if reading is None:
        return state.present
    return (
        state.resource.kind is Kind.ESS or state.pending is not None or reading.power_w is None or reading.power_w > 0
    )


def _gives(state: ResourceState) -> bool:
    return state.resource.kind is Kind.ESS or (state.resource.kind is Kind.PV and state.reading is not None)


def _note_minimum(plan: Plan, item: Item, now: Instant) -> None:
    left = off_barred(item.state, now)
    if left > 0:
        plan.kept.append(Kept(item.state.resource.name, f"on for its minimum time, {left:.0f} s left"))


def at_floor(state: ResourceState) -> bool:
    """Does control let a store discharge that is at its floor?"""
    reading = state.reading
    held = state.held.setpoint_w if state.held is not None else None
    if reading is None or reading.soc is None or held is None or held >= 0 or state.resource.kind is not Kind.ESS:
        return False
    return reading.soc <= state.resource.floor_soc


def _stop_at_floor(plan: Plan, stores: list[ResourceState], now: Instant, rules: Rules) -> None:
    """A store that control lets discharge stops at its floor; what it gave is over from now on."""
    for state in stores:
        if at_floor(state):
            given = min(counted_power(state, now, rules), 0.0)
            plan.cuts.append((state, given, Choice(given, Setting(setpoint_w=0.0), 0.0)))
            plan.short_w -= given


def _store(plan: Plan, state: ResourceState, now: Instant, rules: Rules, headroom_w: float) -> None:
    """Stop its charging, then discharge above its floor: as many W as are over."""
    point, reading = state.resource.setpoint, state.reading
    if point is None or reading is None or any(cut[0] is state for cut in plan.cuts):
        return
    power = counted_power(state, now, rules)
    lowest = 0.0
    if reading.soc is not None:
        start = state.resource.floor_soc if power < 0 else state.resource.floor_soc + ABOVE_FLOOR_SOC
        if reading.soc > start:
            lowest = min(point.min_w, 0.0)
        elif plan.need_w > power:
            plan.kept.append(Kept(state.resource.name, f"at its reserve of {state.resource.floor_soc:.0f} %"))
    else:
        plan.kept.append(Kept(state.resource.name, "does not say its SoC"))
    need = plan.need_w
    if need <= EQUAL_W or power - lowest <= NOTHING_W:
        return
    if power < 0 and state.held is not None:
        need = min(need + headroom_w, plan.room_w)
    target = max(power - need, lowest)
    if point.step_w > 0:
        # Rounded towards more relief, but never over the cap.
        stepped = max(math.floor(target / point.step_w + 1e-9) * point.step_w, lowest)
        if power - stepped > plan.room_w + EQUAL_W:
            stepped = math.ceil(target / point.step_w - 1e-9) * point.step_w
        target = stepped
    if power - target > NOTHING_W:
        plan.take(state, power, Choice(power - target, Setting(setpoint_w=target), target))


def _charge(plan: Plan, state: ResourceState, now: Instant, rules: Rules) -> None:
    """Stop its discharging, then charge up to its ceiling: as many W as are over."""
    point, reading = state.resource.setpoint, state.reading
    if point is None or reading is None or plan.need_w <= EQUAL_W:
        return
    power = counted_power(state, now, rules)
    highest = 0.0
    if reading.soc is not None and reading.soc < state.resource.ceiling_soc:
        highest = max(point.max_w, 0.0)
    target = min(power + plan.need_w, highest)
    if point.step_w > 0:
        stepped = min(math.ceil(target / point.step_w - 1e-9) * point.step_w, highest)
        if stepped - power > plan.room_w + EQUAL_W:
            stepped = math.floor(target / point.step_w + 1e-9) * point.step_w
        target = stepped
    if target - power > NOTHING_W:
        plan.take(state, power, Choice(target - power, Setting(setpoint_w=target), target))


def can_wait(state: ResourceState, now: Instant, rules: Rules) -> bool:
    """A car that still makes its departure when it charges later."""
    reading, point = state.reading, state.resource.setpoint
    if state.resource.kind is not Kind.EV or reading is None or point is None:
        return False
    if reading.need_wh is None or reading.depart_at is None:
        return False
    time_left = reading.depart_at - now.mono - DEPARTURE_SPARE_S
    return time_left * point.max_w / 3600 >= reading.need_wh


def _take_some(plan: Plan, item: Item) -> None:
    need = plan.need_w
    if need <= EQUAL_W:
        return
    choice = item.at_least(need) if need < plan.room_w else None
    if choice is None or choice.cut_w > plan.room_w + EQUAL_W:
        choice = item.at_most(need) if need >= plan.room_w else item.most()
        if choice is None or choice.cut_w > plan.room_w + EQUAL_W:
            choice = item.at_most(plan.room_w)
    if choice is not None and choice.cut_w > NOTHING_W:
        plan.take(item.state, item.power_w, choice)


def _by_priority(
    plan: Plan,
    groups: dict[tuple[bool, int], list[ResourceState]],
    item_of: Callable[[ResourceState, Instant, Rules], Item | None],
    now: Instant,
    rules: Rules,
) -> None:
    """All of a smaller number before any of a greater."""
    for rank in sorted(groups):
        need = plan.need_w
        if need <= EQUAL_W:
            return
        items = [item for state in groups[rank] if (item := item_of(state, now, rules)) is not None]
        for item in items:
            _note_minimum(plan, item, now)
        for item, choice in least_cut(items, need, plan.room_w):
            plan.take(item.state, item.power_w, choice)
