"""What a setting is expected to make of a resource, and how it is said (docs/control.md, "What can be done").

Where the truth cannot be known the estimate errs towards import: what is raised is expected to draw the most it
may, what is lowered no less than was asked.
"""

from __future__ import annotations

from gateway.site.picture import ResourceState
from gateway.site.resource import DIMMING_STEPS, Kind, Reading, Resource, Setting

FREE = Setting(free=True)
OFF = Setting(on=False)

# A set point is taken for followed within this share of it, or within this many W where it is small.
FOLLOWED_SHARE = 0.05
FOLLOWED_W = 10.0


def setting_power(state: ResourceState, setting: Setting) -> float:
    """The W that a resource is expected to draw (negative: give) after a setting."""
    if turns(state, setting) is False:
        return 0.0
    match state.resource.kind:
        case Kind.ESS:
            return _storage_power(state, setting)
        case Kind.EV if state.resource.setpoint is not None:
            return _charger_power(state, setting)
        case Kind.EMA:
            return _ema_power(state, setting)
        case Kind.PV:
            return _panel_power(state, setting)
        case _:
            return _load_power(state, setting)


def full_setting(state: ResourceState) -> Setting:
    """What returns a resource to its wish."""
    wish = state.wish
    if state.resource.setpoint is None:
        if wish.on is None and wish.level is None:
            return Setting(on=True)
        return Setting(on=wish.on, level=wish.level) if wish.on is not False else OFF
    if wish.on is False:
        return OFF
    on = True if state.held is not None and state.held.on is False else None
    if wish.setpoint_w is not None:
        return Setting(on=on, setpoint_w=wish.setpoint_w)
    return Setting(on=on, free=True)


def runs(state: ResourceState) -> Setting:
    """How it runs as far as is known: the newest command that was not read back, over the last reading."""
    reading = state.reading
    pending = state.pending
    seen = Setting() if reading is None else Setting(on=reading.on, level=reading.level)
    if pending is not None and pending.confirmed_at is None and not read_back(state):
        return merged(seen, pending.setting)
    return seen


def merged(under: Setting, over: Setting) -> Setting:
    """One setting laid over another: what it leaves open stays."""
    return Setting(
        on=under.on if over.on is None else over.on,
        level=under.level if over.level is None else over.level,
        setpoint_w=None if over.free else under.setpoint_w if over.setpoint_w is None else over.setpoint_w,
        free=over.free or (under.free and over.setpoint_w is None),
    )


def turns(state: ResourceState, setting: Setting) -> bool | None:
    """Does it run (True) or stand still (False) after a setting? None: the setting leaves that as it is.

    A charger with a set point of 0 W stands still: its contactor opens.
    """
    if setting.on is False:
        return False
    if state.resource.kind is Kind.EV and setting.setpoint_w is not None:
        return setting.setpoint_w > 0
    if setting.free and state.resource.kind is Kind.EV:
        return True
    return setting.on


def is_on(state: ResourceState) -> bool | None:
    """Does it run now? None: not known."""
    pending = state.pending
    if pending is not None and pending.confirmed_at is None and not read_back(state):
        turned = turns(state, pending.setting)
        if turned is not None:
            return turned
    reading = state.reading
    if reading is None:
        return None
    if state.resource.kind is Kind.EV and reading.power_w is not None and reading.on is not False:
        if reading.power_w > 0:
            return True
        return False if state.held is not None and turns(state, state.held) is False else reading.on
    return reading.on


def read_back(state: ResourceState) -> bool:
    """Does the state's own reading confirm its pending command, by ``done`` or by what it shows?"""
    pending = state.pending
    reading = state.reading
    if pending is None or reading is None:
        return False
    if reading.done == pending.command_id:
        return True
    return reading.taken_at > pending.sent_at and shows(state.resource, pending.setting, reading)


def shows(resource: Resource, setting: Setting, reading: Reading) -> bool:
    """Does a reading show a setting? A lifted set point shows nothing; who never says ``done`` is believed then."""
    if setting.on is not None and reading.on is not setting.on:
        return False
    if setting.on is False:
        return True
    if setting.level is not None and reading.level != setting.level:
        return False
    if setting.free:
        return reading.done == 0
    if setting.setpoint_w is None:
        return setting.on is not None or setting.level is not None
    if reading.power_w is None:
        return False
    slack = max(abs(setting.setpoint_w) * FOLLOWED_SHARE, FOLLOWED_W)
    if resource.kind in (Kind.EV, Kind.EMA):
        return reading.power_w <= setting.setpoint_w + slack
    if resource.kind is Kind.PV:
        return reading.power_w >= setting.setpoint_w - slack
    return abs(reading.power_w - setting.setpoint_w) <= slack


def reading_power(state: ResourceState, reading: Reading) -> float | None:
    """What a reading says it draws; by its switch and steps where it gives no W (None: nothing can be said)."""
    if reading.power_w is not None:
        return reading.power_w
    if reading.on is False:
        return 0.0
    full = full_power(state)
    if full <= 0:
        return None
    return full * _share(state.resource, reading.level)


def full_power(state: ResourceState) -> float:
    """A load's draw when on and undimmed, the most of what is known of it (0: nothing is known)."""
    known = state.resource.rated_w
    if state.wish_w > 0:
        known = max(known, state.wish_w / _share(state.resource, state.wish.level))
    reading = state.reading
    if reading is not None and reading.power_w is not None and reading.power_w > 0 and reading.on is not False:
        known = max(known, reading.power_w / _share(state.resource, reading.level))
    return known


def words(resource: Resource, setting: Setting) -> str:
    """A setting of a resource as a person says it: "lamp-3 off", "ess-1 discharges 150 W"."""
    return f"{resource.name} {_verb(resource, setting)}"


def _verb(resource: Resource, setting: Setting) -> str:
    if setting.on is False:
        return "off"
    if setting.setpoint_w is not None:
        watts = setting.setpoint_w
        if resource.kind is Kind.ESS:
            return "idle" if watts == 0 else f"{'charges' if watts > 0 else 'discharges'} {abs(watts):.0f} W"
        if resource.kind is Kind.PV:
            return f"limited to {abs(watts):.0f} W"
        if resource.kind is Kind.EMA:
            return f"at most {watts:.0f} W"
        if resource.kind is Kind.EV:
            return "paused" if watts <= 0 else f"at most {watts:.0f} W"
        return f"{watts:.0f} W"
    if setting.level is not None:
        return f"dimming {setting.level}"
    if setting.free:
        return "free"
    return "on" if setting.on else "as it is"


def _share(resource: Resource, level: int | None) -> float:
    return 1.0 if level is None or not resource.levels else (level + 1) / DIMMING_STEPS


def _load_power(state: ResourceState, setting: Setting) -> float:
    now = runs(state)
    level = now.level if setting.level is None else setting.level
    share = _share(state.resource, level)
    reading = state.reading
    if now.on is not False and reading is not None and reading.on is not False and (reading.power_w or 0.0) > 0:
        seen = reading.power_w or 0.0
        seen_share = _share(state.resource, reading.level)
        if share <= seen_share:
            return seen * share / seen_share
    return full_power(state) * share


def _storage_power(state: ResourceState, setting: Setting) -> float:
    reading = state.reading
    if setting.setpoint_w is not None:
        watts = setting.setpoint_w
    elif setting.free:
        watts = state.wish_w
    else:
        watts = 0.0 if reading is None or reading.power_w is None else reading.power_w
    limits = state.resource.setpoint
    if limits is not None:
        watts = min(max(watts, limits.min_w), limits.max_w)
    if reading is not None and reading.soc is not None:
        if watts < 0 and reading.soc <= state.resource.floor_soc:
            return 0.0
        if watts > 0 and reading.soc >= state.resource.ceiling_soc:
            return 0.0
    return watts


def _charger_power(state: ResourceState, setting: Setting) -> float:
    reading = state.reading
    limits = state.resource.setpoint
    if reading is not None and reading.plugged is False:
        return 0.0
    most = full_power(state) if limits is None else limits.max_w
    drawn = None if reading is None else reading.power_w
    if setting.setpoint_w is None:
        return drawn if drawn is not None and drawn > 0 and not setting.free and setting.on is None else most
    return min(setting.setpoint_w, most)


def _ema_power(state: ResourceState, setting: Setting) -> float:
    """An EMA below holds what it is told; without that it may draw the most it can."""
    most = most_of_ema(state)
    if setting.setpoint_w is not None:
        return min(setting.setpoint_w, most)
    reading = state.reading
    if setting.free or setting.on or reading is None or reading.power_w is None:
        return most
    return reading.power_w


def most_of_ema(state: ResourceState) -> float:
    """The most that an EMA below may draw: as its resource says, and no less than it was seen to."""
    reading, limits = state.reading, state.resource.setpoint
    seen = reading.power_w if reading is not None and reading.power_w is not None else 0.0
    return max(limits.max_w if limits is not None else 0.0, state.wish_w, seen)


def _panel_power(state: ResourceState, setting: Setting) -> float:
    reading = state.reading
    drawn = state.wish_w if reading is None or reading.power_w is None else reading.power_w
    limits = state.resource.setpoint
    if setting.setpoint_w is not None:
        if state.held is None or drawn > setting.setpoint_w:
            # Lifted or not reached: the sun decides, and it may give all that is allowed.
            return max(drawn, setting.setpoint_w) if state.held is None else min(drawn, setting.setpoint_w)
        return setting.setpoint_w
    if setting.free or setting.on:
        peak = limits.min_w if limits is not None and limits.min_w < 0 else state.wish_w
        return min(drawn, peak) if state.held is not None else drawn
    return drawn
