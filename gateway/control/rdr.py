"""A device asks for its power back (docs/control.md, "RDR and loans")."""

from __future__ import annotations

import math
from dataclasses import replace

from gateway.clock import Instant
from gateway.control.decide import site_limit
from gateway.control.effects import is_on, words
from gateway.control.items import EQUAL_W, NOTHING_W, on_barred
from gateway.control.limit import binding_event
from gateway.control.power import SitePower, site_power
from gateway.control.restore import give_back
from gateway.control.rules import Rules
from gateway.control.shed import can_be_shed
from gateway.site.command import Source
from gateway.site.decision import Action, Decision, Limit, Rule
from gateway.site.event import RdrRequest, RdrResult
from gateway.site.picture import ResourceState, Site, Timeline
from gateway.site.resource import Kind, Setting

# A device knows its own draw no better than this; it may be given so much more than it asked, within the margin.
TOLERATED = 1.1


def answer_rdr(
    site: Site, timeline: Timeline, rules: Rules, request: RdrRequest, now: Instant
) -> tuple[RdrResult, Decision, Action | None]:
    """Granted with the action that gives it back, to be asked upwards (PENDING), or denied with the reason."""
    limit = site_limit(site, timeline, now)
    power = site_power(site, now, rules)
    margin = math.inf
    if limit.import_w is not None:
        margin = limit.import_w - power.watts - rules.reserve_w - power.reserved_w
    state = _state(site, request)
    reason = _never(site, state, timeline, limit, power, rules, request, now)
    action = None
    if reason:
        result, why = RdrResult.DENIED, reason
    elif margin >= request.watts - EQUAL_W and _adds_itself(state):
        result, why = RdrResult.GRANTED, _margin_words(margin, limit)
    elif margin >= request.watts - EQUAL_W:
        action = _giving(state, min(margin, request.watts * TOLERATED), now, rules)
        if action is None:
            result, why = RdrResult.DENIED, "nothing of it fits into what it asks for"
        else:
            result, why = RdrResult.GRANTED, _margin_words(margin, limit)
    else:
        result, why = RdrResult.PENDING, _margin_words(margin, limit)
    event = binding_event(timeline, now)
    decision = Decision(
        Rule.RDR,
        now.wall,
        power.watts,
        limit,
        f"{request.resource} asks {request.watts:.0f} W back: {why}",
        () if action is None else (action,),
        event_id=None if event is None else event.event_id,
        margin_w=None if math.isinf(margin) else margin,
    )
    return result, decision, action


def grant_action(site: Site, request: RdrRequest, now: Instant, rules: Rules | None = None) -> Action | None:
    """What gives a device its power back within the W it asked for: its wish, or as much of it as that allows.

    None for an EMA below too: the answer itself lifts its limit.
    """
    state = _state(site, request)
    return None if _adds_itself(state) else _giving(state, request.watts + NOTHING_W, now, rules or Rules())


def _adds_itself(state: ResourceState | None) -> bool:
    """Does it put what it is granted on top of its own limit?"""
    return state is not None and state.resource.kind is Kind.EMA


def _giving(state: ResourceState | None, most_w: float, now: Instant, rules: Rules) -> Action | None:
    if state is None or not state.present or on_barred(state, now) > 0:
        return None
    resource = state.resource
    if state.held is None and resource.setpoint is None and state.wish.on is False:
        # It was off of its own; whoever stands there wants it on.
        state = replace(state, wish=Setting(on=True, level=state.wish.level))
    step = give_back(state, most_w, math.inf, rules, now)
    if step is None:
        return None
    said = words(resource, step.setting)
    return Action(resource.name, resource.number, step.setting, step.effect_w, step.target_w, Source.RDR, said)


def _never(
    site: Site,
    state: ResourceState | None,
    timeline: Timeline,
    limit: Limit,
    power: SitePower,
    rules: Rules,
    request: RdrRequest,
    now: Instant,
) -> str:
    """Why nobody could grant it now; empty: somebody might."""
    if state is None:
        return f"device {request.number} is not known"
    if not state.present:
        return "it is not connected"
    if request.watts <= 0:
        return "it asks for nothing"
    if state.held is None and is_on(state) is True and not _adds_itself(state):
        return "it is on already"
    left = on_barred(state, now)
    if left > 0 and is_on(state) is not True:
        return f"minimum off time, {left:.0f} s left"
    if not power.certain:
        return f"no fresh reading of {', '.join((power.stale + power.unknown)[:3])}"
    hard = timeline.hard_w
    if hard is not None and power.watts + power.reserved_w + request.watts > hard + EQUAL_W:
        return f"{power.watts:.0f} W + {request.watts:.0f} W is over the hard limit of {hard:.0f} W"
    if limit.import_w is not None and power.watts > limit.import_w + EQUAL_W:
        granted = frozenset(grant.resource for grant in timeline.grants if now.trusted and grant.until > now.wall)
        if not can_be_shed(site, granted, rules, now):
            return f"over by {power.watts - limit.import_w:.0f} W of {limit} and nothing more may be shed"
    return ""


def _state(site: Site, request: RdrRequest) -> ResourceState | None:
    return next((state for state in site.resources if state.resource.number == request.number), None)


def _margin_words(margin: float, limit: Limit) -> str:
    if math.isinf(margin):
        return "no limit binds"
    return f"{margin:.0f} W of margin under {limit}"
