"""Sites in one line of text, so that a table of control can be read by a field engineer.

``lamp:60/1`` draws 60 W, priority 1 · ``!`` never shed · ``,dim`` dimmable, ``,dim4`` at step 4 ·
``,held`` control holds it off · ``,on3`` switched on 3 s ago · ``,min10`` minimum on and off time 10 s ·
``ess:soc50,max200`` idle, up to 200 W each way; ``ess:-100,soc50,max200`` discharging ·
``ev:3680,max7360,min1380`` charging, ``,need2000,in7200`` wants 2 kWh in two hours · ``pv:-500``.
"""

from __future__ import annotations

import re
from dataclasses import replace

from gateway.clock import Instant
from gateway.site.picture import ResourceState, Site
from gateway.site.resource import Kind, Reading, Resource, Setpoint, Setting

NOW = Instant(1000.0, 1_760_000_000.0)

_KINDS = {"lamp": Kind.LED, "ess": Kind.ESS, "ev": Kind.EV, "pv": Kind.PV}


def site(text: str, **more: object) -> Site:
    counts: dict[str, int] = {}
    states = []
    for number, word in enumerate(text.split(), 1):
        name = word.partition(":")[0]
        counts[name] = counts.get(name, 0) + 1
        states.append(_state(word, number, f"{name}-{counts[name]}"))
    return replace(Site(tuple(states)), **more)  # type: ignore[arg-type]


def _state(word: str, number: int, name: str) -> ResourceState:
    head, _, tail = word.partition("/")
    kind_name, _, facts = head.partition(":")
    kind = _KINDS[kind_name]
    never = tail.endswith("!")
    power = 0.0
    fact: dict[str, float] = {}
    for part in facts.split(","):
        if re.fullmatch(r"-?[\d.]+", part):
            power = float(part)
        elif part:
            match = re.fullmatch(r"([a-z]+)(-?[\d.]*)", part)
            assert match, f"{part!r} in {word!r}"
            fact[match[1]] = float(match[2]) if match[2] else -1.0
    setpoint = None
    if kind is Kind.ESS:
        most = fact.get("max", 1000.0)
        setpoint = Setpoint(-most, most, fact.get("step", 0.0))
    elif kind is Kind.EV:
        setpoint = Setpoint(fact.get("min", 1380.0), fact.get("max", 7360.0), fact.get("step", 0.0))
    elif kind is Kind.PV:
        setpoint = Setpoint(min(power, -fact.get("max", 3000.0)), 0.0, fact.get("step", 0.0))
    level = int(fact["dim"]) if fact.get("dim", -1) >= 0 else 9 if "dim" in fact else None
    held_off = "held" in fact
    resource = Resource(
        name,
        number,
        kind,
        int(tail.rstrip("!") or 0),
        levels="dim" in fact,
        setpoint=setpoint,
        rated_w=power * 10 / (level + 1) if level is not None else power if kind is Kind.LED else 0.0,
        min_on_s=fact.get("min", 0.0) if kind is not Kind.EV else fact.get("wait", 0.0),
        min_off_s=fact.get("min", 0.0) if kind is not Kind.EV else fact.get("wait", 0.0),
        never_shed=never,
        gives=kind in (Kind.ESS, Kind.PV),
        safe=Setting(on=False) if "safe" in fact else Setting(),
    )
    reading = Reading(
        NOW.mono - fact.get("age", 0.5),
        0.0 if held_off else power,
        on=not held_off,
        level=level,
        soc=fact.get("soc"),
        need_wh=fact.get("need"),
        depart_at=NOW.mono + fact["in"] if "in" in fact else None,
    )
    held: Setting | None = None
    if held_off:
        held = Setting(on=False) if kind is Kind.LED else Setting(setpoint_w=0.0)
    elif "held" not in fact and "as" in fact:
        held = Setting(setpoint_w=power) if setpoint is not None else Setting(on=True, level=level)
    wish = Setting(on=True, level=9 if "dim" in fact else None) if kind is Kind.LED else Setting()
    return ResourceState(
        resource,
        reading=reading,
        wish=wish,
        wish_w=power if kind is Kind.LED and level is None else 0.0,
        held=held,
        held_seq=number if held is not None else 0,
        switched_at=NOW.mono - fact["on"] if "on" in fact else NOW.mono - fact["off"] if "off" in fact else None,
    )
