"""A battery conserves energy and keeps its limits, whatever it is told."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardware.simulated.battery import Battery
from tests.device_agents.twins import Time

ORDERS = st.lists(st.tuples(st.floats(-5000, 5000), st.floats(0, 20_000)), max_size=30)


def make(time: Time, soc: float = 50.0) -> Battery:
    return Battery(time, 5000.0, 2000.0, 2500.0, soc, floor_soc=20.0, ceiling_soc=95.0)


@given(orders=ORDERS, soc=st.floats(20, 95), charge=st.floats(0.5, 1), discharge=st.floats(0.5, 1))
def test_energy_is_conserved_and_limits_are_kept(
    orders: list[tuple[float, float]], soc: float, charge: float, discharge: float
) -> None:
    time = Time(0.0)
    battery = Battery(time, 5000.0, 2000.0, 2500.0, soc, 20.0, 95.0, charge, discharge)
    first = battery.stored_wh
    for watts, seconds in orders:
        battery.set(watts)
        assert -2500.0 <= battery.power_w <= 2000.0
        assert battery.power_w == 0 or abs(battery.power_w) <= abs(watts)
        time.now += seconds
        assert 20.0 - 1e-9 <= battery.soc <= 95.0 + 1e-9
    assert battery.energy_wh == pytest.approx(battery.energy_in_wh - battery.energy_out_wh)
    balance = first + battery.energy_in_wh - battery.energy_out_wh - battery.losses_wh
    assert battery.stored_wh == pytest.approx(balance)
    assert battery.losses_wh >= -1e-9
    assert battery.energy_out_wh <= first - 1000 + battery.energy_in_wh + 1e-6, "nothing comes of nothing"


@given(orders=ORDERS)
def test_it_is_the_same_however_often_one_looks(orders: list[tuple[float, float]]) -> None:
    often, once = Time(0.0), Time(0.0)
    looked, rested = make(often), make(once)
    for watts, seconds in orders:
        looked.set(watts)
        rested.set(watts)
        for _ in range(7):
            often.now += seconds / 7
            assert looked.soc >= 0
        once.now = often.now
    assert looked.stored_wh == pytest.approx(rested.stored_wh)
    assert looked.energy_wh == pytest.approx(rested.energy_wh, abs=1e-6)


def test_an_hour_each_way_loses_what_the_efficiencies_say() -> None:
    time = Time(0.0)
    battery = make(time)
    battery.set(1000.0)
    time.now += 3600
    assert battery.stored_wh == pytest.approx(2500 + 950)
    battery.set(-1000.0)
    time.now += 3600
    assert battery.stored_wh == pytest.approx(3450 - 1000 / 0.95)
    assert battery.losses_wh == pytest.approx(50 + 1000 / 0.95 - 1000)


@pytest.mark.parametrize(("watts", "soc"), [(-2500.0, 20.0), (2000.0, 95.0)])
def test_it_stops_at_its_ends_and_can_turn_round(watts: float, soc: float) -> None:
    time = Time(0.0)
    battery = make(time)
    battery.set(watts)
    time.now += 86_400
    assert battery.soc == pytest.approx(soc)
    assert battery.power_w == 0.0
    battery.set(-watts)
    assert battery.power_w != 0.0


def test_its_terminals() -> None:
    battery = make(Time())
    assert (battery.volts, battery.hertz) == (277.0, 60.0)
    battery.set(2000.0)
    charging = battery.volts
    battery.set(-2500.0)
    assert charging < 277.0 < battery.volts < 279.0
