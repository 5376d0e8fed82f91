"""One pass of control: what is seen, what is done about it, and when to look again (docs/control.md, "A pass")."""

from __future__ import annotations

import math
from dataclasses import replace

from gateway.clock import Instant
from gateway.control.effects import words
from gateway.control.guard import event_ahead, failsafe_set, preparation
from gateway.control.items import EQUAL_W
from gateway.control.limit import binding_event, current_events, limit_at, next_change
from gateway.control.power import SitePower, site_power, told_already
from gateway.control.restore import hysteresis, next_step, room
from gateway.control.rules import Memory, Outcome, Rules
from gateway.control.shed import Plan, at_floor, export_plan, import_plan
from gateway.site.command import Source
from gateway.site.decision import Action, Decision, Kept, Limit, Rule, Term
from gateway.site.event import Direction, DrEvent, Grant
from gateway.site.picture import Connection, Site, Timeline
from gateway.site.resource import Kind

# Where nothing is held, over or underway, control looks again after so many passes at the latest.
IDLE_PASSES = 10

# A decision names so many of what was left alone; the rest is counted.
MOST_KEPT = 8

# What lies between this share of the hysteresis and the limit is taken along when a store discharges more.
HEADROOM_SHARE = 0.5


def crosses(power: SitePower, limit: Limit, memory: Memory) -> bool:
    """Is a pass due at once? Cheap: asked at each report."""
    if memory.futile or power.at < memory.quiet_until:
        return False
    return excess_of(power.watts, limit) > EQUAL_W


def excess_of(watts: float, limit: Limit) -> float:
    """How many W the site is over, on whichever side (0 or less: it is not)."""
    over_in = -math.inf if limit.import_w is None else max(watts, 0.0) - limit.import_w
    over_out = -math.inf if limit.export_w is None else max(-watts, 0.0) - limit.export_w
    return max(over_in, over_out)


def site_limit(site: Site, timeline: Timeline, now: Instant) -> Limit:
    """The limit in force; on an island generation and storage must carry the load, so nothing may flow either way."""
    if site.connection is Connection.ISLAND:
        term = (Term("island", 0.0),)
        return Limit(0.0, 0.0, timeline.phase_a, term, term)
    return limit_at(timeline, now)


def decide(site: Site, timeline: Timeline, rules: Rules, memory: Memory, now: Instant) -> Outcome:
    """One pass. No clock is read and nothing is sent; the same input gives the same decisions."""
    one = _Pass(site, timeline, rules, memory, now)
    one.look()
    return Outcome(tuple(one.decisions), one.memory, one.next_wakeup())


class _Pass:
    """What one pass has seen and decided so far."""

    def __init__(self, site: Site, timeline: Timeline, rules: Rules, memory: Memory, now: Instant) -> None:
        self.site, self.timeline, self.rules, self.now = site, timeline, rules, now
        self.limit = site_limit(site, timeline, now)
        self.power = site_power(site, now, rules)
        self.decisions: list[Decision] = []
        self.memory = _events_followed(timeline, memory, now)

    def look(self) -> None:
        self._failsafe()
        bound, ending = self._bound()
        over = excess_of(self.power.watts, bound)
        if over > EQUAL_W:
            self._shed(over, bound, ending)
        else:
            if self.memory.futile:
                self.memory = replace(self.memory, futile=False)
                self._say(Rule.RELIEVED, f"no longer over: {_drawn(self.power.watts, self.limit)}")
            self.memory = replace(self.memory, quiet_until=0.0)
            if any(state.held is not None and at_floor(state) for state in self.site.resources):
                self._shed(-math.inf if bound.import_w is None else self.power.watts - bound.import_w, bound, None)
            elif not self._prepared():
                self._restore()

    def next_wakeup(self) -> float:
        """A pass later while something is to be followed; else when something changes by itself."""
        now, rules = self.now.mono, self.rules
        busy = (
            bool(self.decisions)
            or self.power.underway
            or excess_of(self.power.watts, self.limit) > EQUAL_W
            or not self.power.certain
            or any(state.held is not None for state in self.site.resources)
        )
        due = now + rules.pass_s * (1 if busy else IDLE_PASSES)
        change = next_change(self.timeline, self.now)
        if change is not None:
            due = min(due, change)
            if rules.prepare_s > 0 and change - rules.prepare_s > now:
                due = min(due, change - rules.prepare_s)
        return due

    # --- the steps of a pass ---------------------------------------------------------------------------------

    def _failsafe(self) -> None:
        binds = self.limit.import_w is not None or self.limit.export_w is not None
        if self.power.stale and binds:
            if not self.memory.failsafe:
                actions, kept = failsafe_set(self.site, self.rules, self.now)
                self.memory = replace(self.memory, failsafe=True)
                named = ", ".join(self.power.stale[:MOST_KEPT])
                why = f"nothing heard for {self.rules.stale_after_s:.0f} s from {named}"
                self._say(Rule.FAILSAFE, why, actions, kept)
        elif self.memory.failsafe:
            self.memory = replace(self.memory, failsafe=False)
            self._say(Rule.FAILSAFE, "readings are fresh again")

    def _bound(self) -> tuple[Limit, Grant | None]:
        """The limit to shed to: a grant that ends before a command could take effect counts no longer."""
        ending = _ending(self.site, self.timeline, self.rules, self.now)
        if ending is None or self.site.connection is Connection.ISLAND:
            return self.limit, None
        left = tuple(grant for grant in self.timeline.grants if grant is not ending)
        return limit_at(replace(self.timeline, grants=left), self.now), ending

    def _shed(self, over: float, bound: Limit, ending: Grant | None) -> None:
        """Shed what is over. With room left (``over`` below 0) only what must stop does: a store at its floor."""
        now, rules = self.now, self.rules
        importing = over <= 0 or (bound.import_w is not None and self.power.watts > bound.import_w)
        if over > 0 and _capped(rules, self.memory, now):
            self.memory = replace(self.memory, quiet_until=(self.memory.last_shed_at or now.mono) + rules.pass_s)
            return
        direction = Direction.IMPORT if importing else Direction.EXPORT
        if importing:
            headroom = HEADROOM_SHARE * hysteresis(bound.import_w or 0.0, rules)
            plan = import_plan(self.site, over, _granted(self.timeline, now), rules, now, headroom)
        else:
            plan = export_plan(self.site, over, rules, now)
        limit = str(bound) if importing else f"{bound.export_w:.0f} W{_named(bound)}"
        side = "" if importing else "export "
        event = None if self.site.connection is Connection.ISLAND else binding_event(self.timeline, now, direction)
        if plan.cuts:
            actions = tuple(
                Action(
                    state.resource.name,
                    state.resource.number,
                    choice.setting,
                    choice.target_w - power,
                    choice.target_w,
                    Source.SHED,
                    words(state.resource, choice.setting),
                )
                for state, power, choice in plan.cuts
            )
            why = f"{side}over by {over:.0f} W of {limit}" if over > 0 else _drawn(self.power.watts, bound)
            if ending is not None:
                why += f", {ending.watts:.0f} W granted to {ending.resource} end"
            self._say(Rule.SHED, why, actions, _worth_saying(plan), event)
            self.memory = replace(self.memory, last_shed_at=now.mono)
        if over > 0 and plan.short_w > EQUAL_W:
            self.memory = replace(self.memory, quiet_until=now.mono + rules.pass_s)
            if not plan.cuts and not self.memory.futile and ending is None and not self._awaited():
                self.memory = replace(self.memory, futile=True)
                why = f"{side}over by {over:.0f} W of {limit} and nothing more may be shed"
                self._say(Rule.FUTILITY, why, (), _worth_saying(plan), event)

    def _awaited(self) -> bool:
        """Was somebody told just now whose readings are missing, so that it may yet be enough?"""
        return any(told_already(state, self.now, self.rules) for state in self.site.resources)

    def _prepared(self) -> bool:
        event = event_ahead(self.timeline, self.rules, self.now)
        if event is None or not self.power.certain:
            return False
        space = room(self.power.watts, self.power.reserved_w, self.limit, self.rules)
        actions = preparation(self.site, space, self.rules, self.now)
        if actions:
            ahead = event.start - self.now.wall
            why = f"event {event.event_id} ({event.limit_w:.0f} W) begins in {ahead:.0f} s"
            self._say(Rule.PREPARE, why, actions, (), event)
        return bool(actions)

    def _restore(self) -> None:
        now, rules, memory = self.now, self.rules, self.memory
        if (
            not self.power.certain
            or memory.failsafe
            or now.mono < max(memory.restore_not_before, memory.awaiting_until)
        ):
            return
        if self.power.underway and self.site.has_meter:
            # The meter may show a shed already that its device has not confirmed yet: it would count twice.
            return
        if memory.last_restore_at is not None and 0 <= now.mono - memory.last_restore_at < rules.pass_s - EQUAL_W:
            return
        bound, _ = self._bound()
        space = room(self.power.watts, self.power.reserved_w, bound, rules)
        preparing = event_ahead(self.timeline, rules, now) is not None
        skip = frozenset((Kind.ESS, Kind.EV)) if preparing else frozenset[Kind]()
        step = next_step(self.site, space, skip, rules, now)
        if step is None:
            return
        resource = step.state.resource
        action = Action(
            resource.name,
            resource.number,
            step.setting,
            step.effect_w,
            step.target_w,
            Source.RESTORE,
            words(resource, step.setting),
        )
        self.memory = replace(memory, last_restore_at=now.mono)
        self._say(Rule.RESTORE, _drawn(self.power.watts, self.limit), (action,))

    def _say(
        self,
        rule: Rule,
        why: str,
        actions: tuple[Action, ...] = (),
        kept: tuple[Kept, ...] = (),
        event: DrEvent | None = None,
    ) -> None:
        limit_w = self.limit.import_w
        margin = None
        if limit_w is not None:
            margin = limit_w - max(self.power.watts, 0.0) - self.rules.reserve_w - self.power.reserved_w
        event_id = event.event_id if event is not None else None
        self.decisions.append(
            Decision(rule, self.now.wall, self.power.watts, self.limit, why, actions, kept, event_id, margin_w=margin)
        )


def _events_followed(timeline: Timeline, memory: Memory, now: Instant) -> Memory:
    """Which events run; when one ended, restores wait for its own random delay."""
    if not now.trusted:
        return memory
    running = tuple(
        (event.upstream, event.event_id, event.restore_delay_s)
        for event in current_events(timeline.events)
        if event.running(now.wall)
    )
    if running == memory.running_events:
        return memory
    not_before = memory.restore_not_before
    still = {(upstream, event_id) for upstream, event_id, _ in running}
    for upstream, event_id, delay in memory.running_events:
        if (upstream, event_id) not in still:
            not_before = max(not_before, now.mono + delay)
    return replace(memory, running_events=running, restore_not_before=not_before)


def _granted(timeline: Timeline, now: Instant) -> frozenset[str]:
    if not timeline.grants or not now.trusted:
        return frozenset()
    return frozenset(grant.resource for grant in timeline.grants if grant.until > now.wall)


def _ending(site: Site, timeline: Timeline, rules: Rules, now: Instant) -> Grant | None:
    """The running grant that ends first, if it ends before a command sent a pass later could take effect."""
    if not timeline.grants or not now.trusted:
        return None
    running = [grant for grant in timeline.grants if grant.until > now.wall]
    first = min(running, key=lambda grant: grant.until, default=None)
    if first is None:
        return None
    latency = max((s.resource.latency_s for s in site.resources if s.resource.name == first.resource), default=0.0)
    return first if first.until - now.wall <= rules.pass_s + latency else None


def _capped(rules: Rules, memory: Memory, now: Instant) -> bool:
    """Was the cap of this pass used already? Passes on a crossing come sooner than ``pass_s``."""
    if rules.cap_w is None or memory.last_shed_at is None:
        return False
    return 0 <= now.mono - memory.last_shed_at < rules.pass_s - EQUAL_W


def _worth_saying(plan: Plan) -> tuple[Kept, ...]:
    kept = plan.kept
    if len(kept) <= MOST_KEPT:
        return tuple(kept)
    return (*kept[:MOST_KEPT], Kept(f"{len(kept) - MOST_KEPT} more", "see their states"))


def _named(limit: Limit) -> str:
    named = ", ".join(term.source for term in limit.export_terms)
    return f" ({named})" if named else ""


def _drawn(watts: float, limit: Limit) -> str:
    return f"{watts:.0f} W, no limit" if limit.import_w is None else f"{watts:.0f} W of {limit}"
