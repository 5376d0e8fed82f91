"""How one resource's state follows from what is done to it and what it says (docs/control.md, "What the caller keeps").

Called at each report of each device; states are built outright, for ``dataclasses.replace`` takes several times as
long.
"""

from __future__ import annotations

from dataclasses import replace

from gateway.clock import Instant
from gateway.control.effects import full_setting, is_on, merged, read_back, shows, turns
from gateway.site.command import Pending, Source
from gateway.site.decision import Action
from gateway.site.picture import ResourceState
from gateway.site.resource import Kind, Reading, Resource, Setting

# A confirmed command is kept this long for a grid meter that may not show it yet; a slower one is no control meter.
METER_S = 10.0

_HOLDING = (Source.SHED, Source.FAILSAFE, Source.PREPARE)
_RETURNING = (Source.RESTORE, Source.RDR)
_WISHING = (Source.EMS, Source.MENU)


def after_action(state: ResourceState, action: Action, command_id: int, now: Instant, seq: int) -> ResourceState:
    """The state once the action's command is sent. ``seq``: greater than that of every hold before it."""
    setting = action.setting
    held, held_seq, wish, wish_w = state.held, state.held_seq, state.wish, state.wish_w
    if action.source in _HOLDING:
        held, held_seq = setting, seq
    elif action.source in _RETURNING:
        if state.held is None:
            wish = merged(wish, setting)
        elif setting == full_setting(state):
            held, held_seq = None, 0
        else:
            held, held_seq = setting, held_seq or seq
    elif action.source in _WISHING:
        held, held_seq, wish = None, 0, merged(state.wish, setting)
        wish_w = action.target_w if turns(state, setting) is not False else wish_w
    turned = turns(state, setting)
    switched_at = state.switched_at
    if turned is not None and turned is not is_on(state):
        switched_at = now.mono
    return ResourceState(
        state.resource,
        state.present,
        state.reading,
        wish,
        wish_w,
        held,
        held_seq,
        _pending(state, action, command_id, now),
        switched_at,
        state.barred_until,
    )


def leaving_at(state: ResourceState, mono: float) -> ResourceState:
    """The state whose newest command leaves at that moment; infinite: it waits for its turn, however long."""
    pending = state.pending
    return state if pending is None else replace(state, pending=replace(pending, sent_at=mono))


def after_reading(state: ResourceState, reading: Reading, now: Instant) -> ResourceState:
    """The state once a reading came: its command confirmed, its switching noticed, its wish learnt while it is free.

    A confirmed command stays in ``pending`` with ``confirmed_at`` for the meter's sake, a command that was not
    confirmed stays until the caller gives it up; neither counts against a newer reading.
    """
    pending = state.pending
    if pending is not None:
        if pending.confirmed_at is not None:
            if reading.taken_at > pending.confirmed_at + METER_S:
                pending = None
        elif confirmed(state, reading):
            pending = _confirm(pending, reading.taken_at)
    before = state.reading
    switched_at = state.switched_at
    if before is not None:
        ran, runs_now = _running(state.resource, before), _running(state.resource, reading)
        if ran is not runs_now and ran is not None and runs_now is not None:
            # Counted from when it was seen, which is later than when its command was sent.
            switched_at = reading.taken_at
    barred_until = state.barred_until
    if barred_until > now.mono and _obeyed_late(state, reading):
        # It did what it was given up for: it answers again.
        barred_until = now.mono
    wish, wish_w = state.wish, state.wish_w
    if state.held is None and (pending is None or pending.confirmed_at is not None) and now.mono >= state.barred_until:
        wish, wish_w = _learnt(state, reading)
    return ResourceState(
        state.resource,
        state.present,
        reading,
        wish,
        wish_w,
        state.held,
        state.held_seq,
        pending,
        switched_at,
        barred_until,
    )


def confirmed(state: ResourceState, reading: Reading) -> bool:
    """Does a reading confirm the state's pending command, by ``done`` or by what it shows?"""
    pending = state.pending
    if pending is None:
        return False
    if reading.done == pending.command_id:
        return True
    return read_back(replace(state, reading=reading))


def _running(resource: Resource, reading: Reading) -> bool | None:
    if resource.kind is Kind.EV and reading.power_w is not None:
        return reading.power_w > 0 and reading.on is not False
    return reading.on


def _pending(state: ResourceState, action: Action, command_id: int, now: Instant) -> Pending:
    resource = state.resource
    latency = resource.latency_s
    if resource.setpoint is not None and resource.setpoint.ramp_w_s > 0:
        latency += abs(action.effect_w) / resource.setpoint.ramp_w_s
    base, before = action.target_w - action.effect_w, state.pending
    if before is not None and before.waits:
        # That one never leaves: this one takes its place.
        base, before = before.base_w, before.earlier
    return Pending(command_id, action.setting, action.target_w, base, now.mono, latency, None, _kept(before, now, 0))


def _confirm(pending: Pending, at: float) -> Pending:
    """A setting is absolute: what confirms it confirms the change that the commands before it were to make."""
    earlier = pending.earlier
    if earlier is not None and earlier.confirmed_at is None:
        earlier = _confirm(earlier, at)
    return replace(pending, confirmed_at=at, earlier=earlier)


def _kept(pending: Pending | None, now: Instant, depth: int) -> Pending | None:
    """The commands before, as far as a control meter may not show them yet."""
    if pending is None or depth > 7 or now.mono - pending.sent_at > METER_S + pending.latency_s:
        return None
    earlier = _kept(pending.earlier, now, depth + 1)
    return pending if earlier is pending.earlier else replace(pending, earlier=earlier)


def _obeyed_late(state: ResourceState, reading: Reading) -> bool:
    """Does it show only now what it is held to? What showed it all the time did not answer another command."""
    held, before = state.held, state.reading
    if held is None or (before is not None and shows(state.resource, held, before)):
        return False
    return shows(state.resource, held, reading)


def _learnt(state: ResourceState, reading: Reading) -> tuple[Setting, float]:
    wish, wish_w = state.wish, state.wish_w
    watts = reading.power_w
    kind = state.resource.kind
    if kind in (Kind.LED, Kind.VIRTUAL) or state.resource.setpoint is None:
        if reading.on is not None and (reading.on is not wish.on or reading.level != wish.level):
            level = reading.level if reading.on or reading.level is not None else wish.level
            wish = Setting(on=reading.on, level=level)
        # What it drew when it last ran is worth keeping while it is off.
        if watts is not None and (watts > 0 or kind is Kind.PV):
            wish_w = watts
    elif watts is not None:
        wish_w = watts
    return wish, wish_w
