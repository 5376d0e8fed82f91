"""The sun against an almanac, and a panel under it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.clock import ManualClock
from hardware.simulated.panel import Panel
from hardware.simulated.sun import day_length_h, irradiance, position
from tests.device_agents.twins import Time

SEOUL = (37.56, 127.04)


def wall(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("place", "when", "elevation", "azimuth"),
    [
        # 90 − latitude + declination at true noon: solstices 23.44, equinoxes 0.
        (SEOUL, "2026-06-21T03:33:00", 75.9, 180),
        (SEOUL, "2026-12-21T03:30:00", 29.0, 180),
        (SEOUL, "2026-03-20T03:39:00", 52.4, 180),
        # At an equinox the sun rises in the east and sets in the west, 6 h from true noon.
        (SEOUL, "2026-03-19T21:39:00", 0.0, 90),
        (SEOUL, "2026-03-20T09:39:00", 0.0, 270),
        # Greenwich; the tropic, where it stands overhead; the south, where noon is in the north.
        ((51.48, 0.0), "2026-06-21T12:02:00", 61.96, 180),
        ((23.44, 0.0), "2026-06-21T12:02:00", 90.0, None),
        ((-33.87, 151.21), "2026-12-21T01:53:00", 79.57, 0),
        # The pole in summer: round the horizon, never below it.
        ((89.9, 0.0), "2026-06-21T00:00:00", 23.4, None),
    ],
)
def test_the_sun_stands_where_the_almanac_says(
    place: tuple[float, float], when: str, elevation: float, azimuth: float | None
) -> None:
    sun = position(*place, wall(when))
    assert sun.elevation == pytest.approx(elevation, abs=1.0)
    if azimuth is not None:
        assert min(abs(sun.azimuth - azimuth), 360 - abs(sun.azimuth - azimuth)) < 2.5


@given(latitude=st.floats(-65, 65), day=st.integers(0, 3650))
def test_it_is_up_for_the_length_of_the_day(latitude: float, day: int) -> None:
    start = wall("2025-01-01T00:00:00") + day * 86_400
    up = sum(position(latitude, 0.0, start + minute * 60).elevation > 0 for minute in range(0, 1440, 10)) / 6
    assert up == pytest.approx(day_length_h(latitude, start + 43_200), abs=0.4)


@given(latitude=st.floats(-90, 90), longitude=st.floats(-180, 180), when=st.floats(1.7e9, 2.0e9))
def test_light_is_within_what_the_sun_sends(latitude: float, longitude: float, when: float) -> None:
    sun = position(latitude, longitude, when)
    light = irradiance(sun, 30.0, 180.0)
    assert 0.0 <= light < 1200
    if sun.elevation <= 0:
        assert light == 0.0


def test_a_day_in_june_and_one_in_december() -> None:
    energies = {}
    for month in (6, 12):
        clock = Time(wall(f"2026-{month:02}-20T15:00:00"))  # midnight in Seoul
        panel = Panel(clock, 3000.0)
        assert panel.power_w == 0.0
        clock.now += 86_400
        energies[month] = -panel.energy_wh / 3000
    # Clear days of a tilted plane: 3 to 8 full hours a day, and December's fewer.
    assert 3 < energies[12] < energies[6] < 8


@given(step=st.floats(1, 7200), most=st.none() | st.floats(0, 4000))
def test_energy_is_the_integral_however_often_one_looks(step: float, most: float | None) -> None:
    start = wall("2026-06-20T21:00:00")
    often, once = Time(start), Time(start)
    looked, rested = Panel(often, 3000.0), Panel(once, 3000.0)
    for panel in (looked, rested):
        panel.set(True, most)
    while often.now < start + 4 * 3600:
        often.now = min(often.now + max(step, 60), start + 4 * 3600)
        assert -3000.0 <= looked.power_w <= 0.0
        if most is not None:
            assert looked.power_w >= -most
    once.now = often.now
    assert looked.energy_wh == pytest.approx(rested.energy_wh, rel=1e-3, abs=0.5)


def test_curtailed_disconnected_and_free() -> None:
    time = Time()
    panel = Panel(time, 3000.0)
    free = panel.power_w
    assert free == -panel.available_w < -2000
    panel.set(True, 500.0)
    assert panel.power_w == -500.0
    panel.set(False, None)
    assert panel.power_w == 0.0
    time.now += 3600
    assert panel.energy_wh == 0.0
    panel.set(True, None)
    assert panel.power_w < -2000


def test_clouds() -> None:
    assert Panel(Time(), 3000.0, sky=lambda wall: 0.3).power_w == pytest.approx(Panel(Time(), 3000.0).power_w * 0.3)


async def test_a_wall_clock_that_is_set_moves_the_sun_and_makes_no_energy() -> None:
    clock = ManualClock(wall=wall("2026-06-20T16:00:00"))  # night
    panel = Panel(clock, 3000.0)
    clock.jump_wall(timedelta(hours=11).total_seconds())
    assert panel.power_w < -2000
    assert panel.energy_wh == 0.0
    await clock.advance(3600)
    assert panel.energy_wh == pytest.approx(panel.power_w, rel=0.1)
