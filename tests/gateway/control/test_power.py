"""The power that counts, as a table (docs/control.md)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.clock import Instant
from gateway.control.bookkeeping import after_action, after_reading
from gateway.control.power import expected_power, site_power
from gateway.control.rules import Rules
from gateway.site.command import Pending, Source
from gateway.site.decision import Action
from gateway.site.event import Reservation
from gateway.site.picture import ResourceState, Site
from gateway.site.resource import Kind, Reading, Resource, Setting

RULES = Rules()
OFF = Setting(on=False)
ON = Setting(on=True)
LAMP = Resource("lamp-1", 1, Kind.LED, rated_w=60.0, latency_s=2.0)


def at(mono: float) -> Instant:
    return Instant(mono, 1_760_000_000.0 + mono)


def lamp(watts: float, taken_at: float, pending: Pending | None = None, done: int = 0) -> ResourceState:
    reading = Reading(taken_at, watts, on=watts > 0, done=done)
    return ResourceState(LAMP, reading=reading, pending=pending, wish=ON, wish_w=60.0)


SHED = Pending(7, OFF, 0.0, 60.0, sent_at=100.0, latency_s=2.0)
RAISE = Pending(7, ON, 60.0, 0.0, sent_at=100.0, latency_s=2.0)


@pytest.mark.parametrize(
    ("state", "now", "expected"),
    [
        (lamp(60, 99), 100, 60),
        (lamp(60, 99, SHED), 101, 0),  # a shed counts at once
        (lamp(60, 100.5, SHED), 101, 0),  # a reading in between is older than its effect
        (lamp(60, 99, SHED), 102, 60),  # not confirmed within its latency: it stops counting
        (lamp(20, 101, SHED, done=7), 101, 20),  # done: the reading knows better
        (lamp(60, 102.5, SHED), 103, 60),
        (lamp(0, 99, RAISE), 101, 60),
        (lamp(0, 99, RAISE), 103, 60),  # an increase counts on until it is read
        (lamp(0, 102.5, RAISE), 103, 0),
        (lamp(0, 101, RAISE, done=7), 101, 0),
        (lamp(60, 70), 101, None),  # older than stale_after
        (ResourceState(LAMP), 100, None),
    ],
)
def test_one_resource(state: ResourceState, now: float, expected: float | None) -> None:
    assert expected_power(state, at(now), RULES) == expected


@pytest.mark.parametrize(
    ("metered_at", "confirmed_at", "now", "expected"),
    [
        (99, None, 101, 940),  # newer than the meter's reading
        (99, None, 103, 1000),  # not confirmed: the meter counts alone
        (99, 100.4, 108, 940),  # confirmed by the lamp, but the meter still shows it lit
        (100.5, 100.4, 108, 1000),  # now the meter has it
        (102, None, 103, 1000),
        (100, 100, 101, 940),  # all in one instant: the meter was read before the command left
    ],
)
def test_a_slow_meter_never_makes_the_same_watts_be_shed_twice(
    metered_at: float, confirmed_at: float | None, now: float, expected: float
) -> None:
    state = lamp(60, 99)
    state = after_action(state, Action("lamp-1", 1, OFF, -60, 0, Source.SHED, "lamp-1 off"), 7, at(100), 1)
    if confirmed_at is not None:
        state = after_reading(state, Reading(confirmed_at, 0.0, on=False, done=7), at(confirmed_at))
    site = Site((state,), Reading(metered_at, 1000.0), has_meter=True)
    assert site_power(site, at(now), RULES).watts == expected


def test_a_command_on_top_of_another_keeps_both_for_the_meter() -> None:
    dimmer = replace(LAMP, levels=True)
    state = ResourceState(dimmer, reading=Reading(99, 60.0, on=True, level=9), wish=ON, wish_w=60.0)
    half = Setting(on=True, level=4)
    state = after_action(state, Action("lamp-1", 1, half, -30, 30, Source.SHED, ""), 7, at(100), 1)
    state = after_action(state, Action("lamp-1", 1, OFF, -30, 0, Source.SHED, ""), 8, at(101), 2)
    site = Site((state,), Reading(99, 1000.0), has_meter=True)
    assert site_power(site, at(101.5), RULES).watts == 940
    state = after_reading(state, Reading(101.6, 0.0, on=False, level=4, done=8), at(101.6))
    assert site_power(replace(site, resources=(state,)), at(108), RULES).watts == 940
    assert site_power(replace(site, resources=(state,), meter=Reading(102, 940.0)), at(108), RULES).watts == 940


def test_silence_is_worst_case() -> None:
    power = site_power(Site((lamp(0, 60), lamp(20, 99))), at(100), RULES)
    assert (power.watts, power.stale, power.certain) == (80, ("lamp-1",), False)
    new = site_power(Site((ResourceState(LAMP),)), at(100), RULES)
    assert (new.watts, new.unknown, new.certain) == (0, ("lamp-1",), False)
    known = site_power(Site((ResourceState(LAMP, wish=ON, wish_w=55.0),)), at(100), RULES)
    assert (known.watts, known.unknown) == (55, ("lamp-1",))
    meter = site_power(Site((lamp(60, 99),), Reading(60, 500.0), has_meter=True), at(100), RULES)
    assert (meter.watts, meter.stale) == (500, ("meter",))
    mute = site_power(Site((lamp(60, 99),), None, has_meter=True), at(100), RULES)
    assert (mute.watts, mute.stale, mute.unknown) == (60, (), ("meter",))


def test_who_said_goodbye_does_not_count_and_who_vanished_goes_to_its_safe_state() -> None:
    gone = ResourceState(LAMP, present=False)
    assert site_power(Site((gone,)), at(100), RULES).watts == 0
    vanished = replace(lamp(30, 99), present=False, resource=replace(LAMP, safe=OFF, lease_s=60.0))
    assert site_power(Site((vanished,)), at(100), RULES).watts == 30
    assert site_power(Site((vanished,)), at(135), RULES).watts == 60
    after_its_lease = site_power(Site((vanished,)), at(165), RULES)
    assert (after_its_lease.watts, after_its_lease.stale) == (0, ())


def test_a_reservation_ends_when_its_command_counts() -> None:
    site = Site((lamp(0, 99),), reservations=(Reservation("lamp-1", 60.0, 110.0),))
    assert site_power(site, at(100), RULES).reserved_w == 60
    assert site_power(site, at(110), RULES).reserved_w == 0
    counting = replace(site, resources=(lamp(0, 99, RAISE),))
    power = site_power(counting, at(101), RULES)
    assert (power.watts, power.reserved_w) == (60, 0)
