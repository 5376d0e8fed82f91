"""The power that is kept by what changes is the power that a full sum gives (``gateway/sums.py``)."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.clock import Instant
from gateway.control.bookkeeping import after_action, after_reading, leaving_at
from gateway.control.power import site_power
from gateway.control.rules import Rules
from gateway.site.command import Source
from gateway.site.decision import Action
from gateway.site.picture import ResourceState, Site
from gateway.site.resource import Kind, Reading, Resource, Setpoint, Setting
from gateway.sums import RunningPower, States

# Fifths of a second, so that moments fall on one another.
TICK_S = 0.2


def fresh(rng: random.Random, number: int) -> ResourceState:
    kind = rng.choice([Kind.LED, Kind.PV, Kind.ESS, Kind.EV, Kind.EMA])
    point = None if kind is Kind.LED else Setpoint(-400.0 if kind in (Kind.PV, Kind.ESS) else 0.0, 400.0)
    safe = rng.choice([Setting(), Setting(on=False)])
    return ResourceState(
        Resource(
            f"{kind.value}-{number}",
            number,
            kind,
            setpoint=point,
            levels=kind is Kind.LED,
            rated_w=60.0,
            latency_s=rng.choice([0.4, 2.0]),
            lease_s=rng.choice([1.0, 5.0]),
            safe=safe,
        )
    )


def changed(rng: random.Random, state: ResourceState, now: Instant, seq: int) -> ResourceState:
    """What a device, a link or control may do to one state."""
    what = rng.randrange(7)
    if what == 0:
        return replace(state, present=not state.present)
    if what == 1:
        return replace(state, pending=None, barred_until=now.mono + 1.0)
    if what == 2:
        return leaving_at(state, rng.choice([now.mono, math.inf]))
    if what == 3:
        setting = rng.choice([Setting(on=False), Setting(on=True, level=rng.randrange(10))])
        target, effect = rng.uniform(-300, 300), rng.uniform(-300, 300)
        source = rng.choice([Source.SHED, Source.RESTORE, Source.MENU])
        action = Action(state.resource.name, state.resource.number, setting, effect, target, source, "")
        return after_action(state, action, seq, now, seq)
    watts = rng.choice([None, rng.uniform(-500, 500), 60.0])
    done = state.pending.command_id if state.pending is not None and rng.random() < 0.5 else 0
    on = rng.choice([True, False, None])
    return after_reading(state, Reading(now.mono, watts, on, rng.choice([None, 5]), done=done), now)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.integers(0, 1_000_000))
def test_as_the_full_sum_after_whatever_came(seed: int) -> None:
    rng = random.Random(seed)
    states, rules = States(), Rules(stale_after_s=3.0)
    running = RunningPower(states)
    mono = 1000.0
    for seq in range(1, 120):
        mono += rng.choice([0, 0, 1, 1, 2, 5, 20]) * TICK_S
        now = Instant(mono, 1_760_000_000.0 + mono)
        number = rng.randrange(6)
        if number not in states:
            states[number] = fresh(rng, number)
        elif rng.random() < 0.05:
            states.pop(number)
        elif rng.random() < 0.05:
            del states[number]
        else:
            states[number] = changed(rng, states[number], now, seq)
        if rng.random() < 0.03:
            rules = Rules(stale_after_s=rng.choice([1.0, 3.0]))
        if rng.random() < 0.7:
            full = site_power(Site(tuple(states.values())), now, rules)
            assert running.watts(now, rules) == pytest.approx(full.watts, abs=1e-6)


def test_it_does_not_drift_and_keeps_no_moments_of_the_past() -> None:
    rng = random.Random(3)
    states, rules = States(), Rules()
    running = RunningPower(states)
    for number in range(20):
        states[number] = replace(fresh(rng, number), pending=None)
    for turn in range(20_000):
        now = Instant(1000.0 + turn * 0.01, 0.0)
        number = turn % 20
        states[number] = after_reading(states[number], Reading(now.mono, rng.uniform(0, 1e5) / 3), now)
        running.watts(now, rules)
    total = sum(state.reading.power_w or 0.0 for state in states.values() if state.reading is not None)
    assert running.watts(now, rules) == pytest.approx(total, abs=1e-7)
    assert len(running._moments) <= 4 * 20 + 64 + 1
