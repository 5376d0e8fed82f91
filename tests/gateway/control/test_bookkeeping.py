"""How a state follows from actions and readings (docs/control.md, "What the caller keeps"), and how it is said."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from gateway.clock import Instant
from gateway.control.bookkeeping import after_action, after_reading, confirmed, leaving_at
from gateway.control.effects import setting_power, words
from gateway.control.power import counted_power, counts, unanswered
from gateway.control.rules import Rules
from gateway.site.command import Source
from gateway.site.decision import Action
from gateway.site.picture import ResourceState
from gateway.site.resource import Kind, Reading, Resource, Setpoint, Setting
from tests.gateway.control.site_text import NOW, site

OFF = Setting(on=False)
LAMP = site("lamp:60,dim/1").resources[0]


def act(state: ResourceState, setting: Setting, target: float, source: Source, command: int = 7) -> ResourceState:
    power = state.reading.power_w or 0.0 if state.reading is not None else 0.0
    action = Action("lamp-1", 1, setting, target - power, target, source, "")
    return after_action(state, action, command, NOW, 3)


def read(state: ResourceState, after: float, watts: float, on: bool, level: int = 9, done: int = 0) -> ResourceState:
    at = Instant(NOW.mono + after, NOW.wall + after)
    return after_reading(state, Reading(at.mono, watts, on=on, level=level, done=done), at)


def test_a_shed_holds_and_its_restore_frees() -> None:
    held = act(LAMP, OFF, 0.0, Source.SHED)
    assert (held.held, held.held_seq, held.switched_at) == (OFF, 3, NOW.mono)
    held = read(held, 0.1, 0.0, on=False, done=7)
    assert held.pending is not None
    assert held.pending.confirmed_at == NOW.mono + 0.1
    assert held.wish.on is True  # what it is held to teaches no wish
    dim = act(held, Setting(on=True, level=4), 30.0, Source.RESTORE, 8)
    assert (dim.held, dim.held_seq) == (Setting(on=True, level=4), 3)
    assert act(dim, Setting(on=True, level=9), 60.0, Source.RESTORE, 9).held is None


def test_an_order_from_above_becomes_the_wish() -> None:
    held = act(LAMP, OFF, 0.0, Source.SHED)
    ordered = act(held, Setting(level=2), 18.0, Source.EMS, 8)
    assert (ordered.held, ordered.wish, ordered.wish_w) == (None, Setting(on=True, level=2), 18.0)


def test_the_wish_is_learnt_while_nothing_holds_or_is_underway() -> None:
    dimmed = read(LAMP, 1, 30.0, on=True, level=4)
    assert (dimmed.wish, dimmed.wish_w) == (Setting(on=True, level=4), 30.0)
    off = read(dimmed, 2, 0.0, on=False, level=4)
    assert (off.wish.on, off.wish_w) == (False, 30.0)
    assert off.switched_at == NOW.mono + 2
    underway = act(LAMP, OFF, 0.0, Source.RESTORE)
    assert read(underway, 0.1, 30.0, on=True, level=4).wish == underway.wish


@pytest.mark.parametrize(
    ("setting", "reading", "expected"),
    [
        (OFF, Reading(NOW.mono + 1, 60.0, on=True, done=7), True),  # it says so
        (OFF, Reading(NOW.mono + 1, 0.0, on=False), True),  # it shows so
        (OFF, Reading(NOW.mono - 1, 0.0, on=False), False),  # read before it was sent
        (OFF, Reading(NOW.mono + 1, 60.0, on=True, done=6), False),
        (Setting(on=True, level=4), Reading(NOW.mono + 1, 30.0, on=True, level=4), True),
        (Setting(on=True, level=4), Reading(NOW.mono + 1, 60.0, on=True, level=9), False),
    ],
)
def test_confirmed(setting: Setting, reading: Reading, expected: bool) -> None:
    assert confirmed(act(LAMP, setting, 0.0, Source.SHED), reading) is expected


def test_who_was_given_up_and_does_as_told_is_taken_back() -> None:
    given_up = replace(act(LAMP, OFF, 0.0, Source.SHED), pending=None, barred_until=NOW.mono + 60)
    assert read(given_up, 1, 60.0, on=True).barred_until == NOW.mono + 60
    assert read(given_up, 2, 0.0, on=False).barred_until == NOW.mono + 2


def test_a_ramp_takes_its_time() -> None:
    store = Resource("ess-1", 1, Kind.ESS, setpoint=Setpoint(-500, 500, ramp_w_s=100.0), latency_s=2.0)
    state = ResourceState(store, reading=Reading(NOW.mono, 0.0, soc=50.0))
    ramping = act(state, Setting(setpoint_w=-300.0), -300.0, Source.SHED)
    assert ramping.pending is not None
    assert ramping.pending.latency_s == 5.0


@pytest.mark.parametrize(
    ("device", "setting", "watts", "said"),
    [
        ("lamp:60/1", OFF, 0, "lamp-1 off"),
        ("lamp:60,held/1", Setting(on=True), 60, "lamp-1 on"),
        ("lamp:60,dim/1", Setting(level=4), 30, "lamp-1 dimming 4"),
        ("lamp:30,dim4/1", Setting(level=1), 12, "lamp-1 dimming 1"),
        ("ess:soc50,max200/1", Setting(setpoint_w=-150.0), -150, "ess-1 discharges 150 W"),
        ("ess:soc50,max200/1", Setting(setpoint_w=-500.0), -200, "ess-1 discharges 500 W"),
        ("ess:soc20,max200/1", Setting(setpoint_w=-150.0), 0, "ess-1 discharges 150 W"),
        ("ess:soc95,max200/1", Setting(setpoint_w=150.0), 0, "ess-1 charges 150 W"),
        ("ev:3680/1", Setting(setpoint_w=1840.0), 1840, "ev-1 at most 1840 W"),
        ("ev:3680/1", Setting(setpoint_w=0.0), 0, "ev-1 paused"),
        ("pv:-900/1", Setting(setpoint_w=-800.0), -800, "pv-1 limited to 800 W"),
        ("pv:-500/1", Setting(setpoint_w=-800.0), -500, "pv-1 limited to 800 W"),
        ("pv:-500/1", Setting(free=True), -500, "pv-1 free"),
    ],
)
def test_effects_and_their_words(device: str, setting: Setting, watts: float, said: str) -> None:
    state = site(device).resources[0]
    assert setting_power(state, setting) == pytest.approx(watts)
    assert words(state.resource, setting) == said


def test_a_command_that_waits_for_its_turn_counts_however_long() -> None:
    (lamp,) = site("lamp:60/1").resources
    off = Action("lamp-1", 1, Setting(on=False), -60.0, 0.0, Source.SHED, "")
    waiting = leaving_at(after_action(lamp, off, 7, NOW, 1), math.inf)
    later = Instant(NOW.mono + 20.0, NOW.wall + 20.0)
    assert (counts(waiting, later), unanswered(waiting, later)) == (True, False)
    assert counted_power(waiting, later, Rules()) == 0.0
    left = leaving_at(waiting, later.mono)
    after = Instant(later.mono + 2.0, later.wall + 2.0)
    assert (counts(left, later), unanswered(left, later), unanswered(left, after)) == (True, False, True)


def test_what_takes_the_place_of_a_command_that_never_left_begins_where_that_one_began() -> None:
    (lamp,) = site("lamp:60,dim/1").resources
    off = Action("lamp-1", 1, Setting(on=False), -60.0, 0.0, Source.SHED, "")
    waiting = leaving_at(after_action(lamp, off, 7, NOW, 1), math.inf)
    dim = Action("lamp-1", 1, Setting(on=True, level=4), 30.0, 30.0, Source.RESTORE, "")
    pending = after_action(waiting, dim, 8, NOW, 2).pending
    assert pending is not None
    assert (pending.base_w, pending.target_w, pending.earlier) == (60.0, 30.0, None)
