"""A car comes, is charged by its curve and never beyond its offer, and leaves."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.clock import ManualClock
from hardware.simulated.car import Car, Visit
from tests.device_agents.twins import Time

AMPS = st.sampled_from([0, *range(6, 33)])


@given(
    orders=st.lists(st.tuples(AMPS, st.floats(0, 7200)), max_size=20),
    soc=st.floats(0, 100),
    phases=st.sampled_from([1, 3]),
    most=st.integers(6, 32),
)
def test_energy_is_conserved_and_no_offer_is_exceeded(
    orders: list[tuple[int, float]], soc: float, phases: int, most: int
) -> None:
    time = Time(0.0)
    car = Car(time, 50_000.0, phases, most)
    car.plug(soc, 1e9)
    first = car.stored_wh
    for amps, seconds in orders:
        car.offer(amps)
        assert 0.0 <= car.power_w <= min(amps, most) * 230.0 * phases
        time.now += seconds
        assert car.stored_wh <= 50_000.0
    assert car.stored_wh == pytest.approx(first + 0.9 * car.energy_wh)


def test_its_curve_falls_towards_full() -> None:
    powers = []
    for soc in (10, 50, 80, 90, 99, 100):
        car = Car(Time(), 50_000.0)
        car.plug(soc, 1e12)
        car.offer(32)
        powers.append(car.power_w)
    assert powers[0] == powers[1] == powers[2] == 7360.0
    assert powers[2] > powers[3] > powers[4] > powers[5] == 0.0


def test_its_need_is_what_it_takes_until_its_target() -> None:
    time = Time(0.0)
    car = Car(time, 50_000.0)
    car.plug(40, 86_400.0, 80.0)
    need = car.need_wh
    assert need == pytest.approx(20_000 / 0.9)
    car.offer(10)
    time.now += 3600
    assert car.need_wh == pytest.approx(need - 2300)
    car.offer(32)
    time.now += 4 * 3600
    assert car.need_wh == 0.0
    assert car.power_w > 0, "it takes more than it came for, if nobody stops it"


def test_cars_come_and_go_by_their_visits() -> None:
    time = Time(0.0)
    car = Car(time, 50_000.0, visits=[Visit(7200, 10_800, 20), Visit(3600, 5400, 50), Visit(100, 50, 50)])
    car.offer(32)
    seen = []
    for _ in range(13):
        seen.append((time.now, car.plugged))
        time.now += 900
    assert [at for at, plugged in seen if plugged] == [3600, 4500, 7200, 8100, 9000, 9900]
    assert car.energy_wh == pytest.approx(7360 * 1.5)
    assert (car.soc, car.need_wh, car.depart_in_s) == (None, None, None)


def test_a_long_sleep_gives_the_same_as_many_looks() -> None:
    often, once = Time(0.0), Time(0.0)
    visits = [Visit(1000, 20_000, 30), Visit(30_000, 80_000, 70)]
    looked, rested = (Car(time, 50_000.0, visits=visits) for time in (often, once))
    looked.offer(20)
    rested.offer(20)
    while often.now < 90_000:
        often.now += 13
        assert looked.power_w >= 0
    once.now = often.now
    assert looked.energy_wh == pytest.approx(rested.energy_wh, rel=1e-3)


def test_unplugged_draws_nothing() -> None:
    car = Car(Time())
    car.offer(32)
    assert (car.power_w, car.plugged) == (0.0, False)
    car.plug(50, 1e12)
    assert car.power_w == 7360.0
    car.unplug()
    assert (car.power_w, car.plugged) == (0.0, False)


@pytest.mark.parametrize("amps", [-1, 1, 5, 33])
def test_no_other_offers(amps: int) -> None:
    with pytest.raises(ValueError, match="amps"):
        Car(Time()).offer(amps)


async def test_on_a_clock_of_the_project() -> None:
    clock = ManualClock()
    now = clock.now().wall
    car = Car(clock, visits=[Visit(now + 100, now + 3700, 50)])
    car.offer(16)
    await clock.advance(1900)
    assert car.depart_in_s == pytest.approx(1800)
    await clock.advance(10_000)
    assert not car.plugged
    assert car.energy_wh == pytest.approx(3680)
