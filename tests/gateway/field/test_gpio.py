"""Local devices on gpiozero's mock pins: commands, buttons, interlock, leases, exit states."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from gateway.clock import ManualClock, SystemClock
from gateway.config.model import ControlConfig, DeviceConfig
from gateway.errors import OperatorError, TransientError
from gateway.field.deadman import Deadman
from gateway.field.gpio import GpioDevices
from gateway.site.event import RdrAnswer, RdrResult
from gateway.site.resource import Setting
from hardware.simulated.battery import Battery
from hardware.simulated.car import Car, Visit
from hardware.simulated.lamp import Lamp
from hardware.simulated.panel import Panel
from hardware.simulated.plants import TwinBattery, TwinCar, TwinLamp, TwinPanel
from tests.gateway.field.site import RememberingSite, command, listening_logger
from tests.support.wait import until

pytest.importorskip("gpiozero")
from hardware.gpio_zero import ZeroPins

LAMP = DeviceConfig(number=1, name="lamp", link="gpio", pin="4", pwm_pin="18", button_pin="17", rated_w=60.0)
RELAY = DeviceConfig(number=2, name="heater", link="gpio", pin="5", rated_w=2000.0, active_low=True)
SUN = DeviceConfig(number=3, name="sun", type="pv", link="gpio", pins=("6", "7", "8", "9"), rated_w=1000.0)
ESS = DeviceConfig(number=4, name="ess", type="ess", link="gpio", pin="10", pins=("11", "12"), min_w=-500, max_w=400)
EV = DeviceConfig(number=5, name="car", type="ev", link="gpio", pin="13", pwm_pin="19", button_pin="16")
ALL = (LAMP, RELAY, SUN, ESS, EV)


class Bench:
    def __init__(self, adapter: GpioDevices, site: RememberingSite, pins: ZeroPins, clock: Any) -> None:
        self.adapter, self.site, self.pins, self.clock = adapter, site, pins, clock
        self.lines: Any = None

    def pin(self, number: int) -> Any:
        return self.pins.factory.pin(f"GPIO{number}")

    def levels(self, *numbers: int) -> list[float]:
        return [round(float(self.pin(n).state), 4) for n in numbers]

    async def tell(self, id: int, number: int, setting: Setting) -> None:
        await self.adapter.send(command(id, number, setting))


@asynccontextmanager
async def bench(
    *devices: DeviceConfig,
    clock: Any = None,
    plants: Mapping[int, object] | None = None,
    pins: ZeroPins | None = None,
    pulse: Any = None,
    lease_s: float = 60.0,
) -> AsyncIterator[Bench]:
    logger, lines = listening_logger("gpio")
    site, clock, pins = RememberingSite(), clock or ManualClock(), pins or ZeroPins.mock()
    adapter = GpioDevices(devices or ALL, ControlConfig(lease_s=lease_s), site, clock, plants, pulse, pins, logger)
    it = Bench(adapter, site, pins, clock)
    it.lines = lines
    task = asyncio.create_task(adapter.run())
    try:
        await until(lambda: len(site.came) == len(devices or ALL) or task.done())
        if task.done():
            task.result()
        yield it
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_all_begin_in_their_safe_state() -> None:
    async with bench() as b:
        assert b.levels(4, 18) == [1, 1]  # on, undimmed
        assert b.levels(5) == [0]  # closed: active low
        assert b.levels(6, 7, 8, 9) == [1, 0, 0, 0]  # free
        assert b.levels(10, 11, 12) == [0, 0, 0]  # idle
        assert b.levels(13, 19) == [1, 0.1]  # 6 A
        assert [r.name for r in b.site.came] == ["lamp", "heater", "sun", "ess", "car"]
        assert [b.site.last(n).power_w for n in (1, 2, 3, 4, 5)] == [60.0, 2000.0, 0.0, 0.0, 1380.0]


@pytest.mark.parametrize(
    ("setting", "levels", "power"),
    [
        (Setting(on=False), [0, 0], 0.0),
        (Setting(level=4), [1, 0.5], 30.0),
        (Setting(level=0), [1, 0.1], 6.0),
        (Setting(on=True, level=9), [1, 1], 60.0),
    ],
)
async def test_a_lamp_confirms_at_once(setting: Setting, levels: list[float], power: float) -> None:
    async with bench(LAMP) as b:
        await b.tell(7, 1, setting)
        assert b.levels(4, 18) == levels
        assert (b.site.last(1).done, b.site.last(1).power_w) == (7, power)


async def test_its_dimming_outlives_its_being_off() -> None:
    async with bench(LAMP) as b:
        await b.tell(1, 1, Setting(level=2))
        await b.tell(2, 1, Setting(on=False))
        await b.tell(3, 1, Setting(on=True))
        assert b.levels(4, 18) == [1, 0.3]


@pytest.mark.parametrize(
    ("watts", "closed"),
    [(-1000, 0), (-999, 1), (-600, 1), (-599, 2), (-300, 2), (-100, 3), (0, 3)],
)
async def test_a_panel_gives_at_most_what_it_is_told(watts: float, closed: int) -> None:
    async with bench(SUN) as b:
        await b.tell(1, 3, Setting(setpoint_w=watts))
        assert b.levels(6, 7, 8, 9) == [float(i == closed) for i in range(4)]
        await b.tell(2, 3, Setting(free=True))
        assert b.levels(6, 7, 8, 9) == [1, 0, 0, 0]


async def test_a_panel_is_never_without_a_relay_between_two_steps() -> None:
    async with bench(SUN) as b:
        b.pin(6).clear_states()
        b.pin(7).clear_states()
        await b.tell(1, 3, Setting(setpoint_w=-600.0))
        closes = next(s.timestamp for s in b.pin(7).states if s.state)
        opens = [s.timestamp for s in b.pin(6).states if not s.state][-1]
        assert closes <= opens


async def test_a_battery_never_charges_and_discharges() -> None:
    async with bench(ESS) as b:
        charge, discharge = b.pin(11), b.pin(12)
        both: list[str] = []

        def look() -> None:
            if charge.state and discharge.state:
                both.append("both")

        for pin in (charge, discharge):
            before = pin._change_state

            def change(value: float, before: Any = before) -> Any:
                done = before(value)
                look()
                return done

            pin._change_state = change
        await b.tell(1, 4, Setting(setpoint_w=-500.0))
        assert (b.levels(10, 11, 12), b.site.last(4).power_w, b.site.last(4).done) == ([1, 0, 1], -500.0, 1)
        await b.tell(2, 4, Setting(setpoint_w=400.0))
        assert b.levels(10, 11, 12) == [0, 0, 0]
        assert b.site.last(4).done == 1
        await b.clock.advance(0.4)
        assert b.levels(10, 11, 12) == [0, 0, 0]
        await b.clock.advance(0.2)
        assert (b.levels(10, 11, 12), b.site.last(4).power_w, b.site.last(4).done) == ([1, 1, 0], 400.0, 2)
        await b.tell(3, 4, Setting(setpoint_w=-500.0))
        await b.tell(4, 4, Setting(setpoint_w=0.0))
        await b.clock.advance(1.0)
        assert (b.levels(10, 11, 12), b.site.last(4).done) == ([0, 0, 0], 4)
        assert not both


async def test_a_battery_on_relays_knows_no_half() -> None:
    async with bench(ESS) as b:
        point = b.site.came[0].setpoint
        assert point is not None
        assert (point.min_w, point.max_w, point.step_w) == (-500.0, 400.0, 500.0)


@pytest.mark.parametrize(
    ("watts", "contactor", "duty"),
    [(1380, 1, 0.1), (2300, 1, round(10 / 60, 4)), (7360, 1, round(32 / 60, 4)), (3000, 1, round(13 / 60, 4))],
)
async def test_a_charging_point_offers_by_duty_cycle(watts: float, contactor: int, duty: float) -> None:
    async with bench(EV) as b:
        await b.tell(1, 5, Setting(setpoint_w=float(watts)))
        assert b.levels(13, 19) == [contactor, duty]
        assert b.pin(19).frequency == 1000
        assert b.site.last(5).done == 1


@pytest.mark.parametrize("setting", [Setting(on=False), Setting(setpoint_w=0.0), Setting(setpoint_w=1379.0)])
async def test_below_six_amps_the_car_stops_and_then_the_contactor_opens(setting: Setting) -> None:
    async with bench(EV) as b:
        await b.tell(1, 5, setting)
        assert b.levels(13, 19) == [1, 1]
        assert b.site.last(5).done == 0
        await b.clock.advance(2.9)
        assert b.levels(13) == [1]
        await b.clock.advance(0.2)
        assert b.levels(13, 19) == [0, 1]
        assert (b.site.last(5).done, b.site.last(5).power_w, b.site.last(5).on) == (1, 0.0, False)
        assert b.site.came[0].latency_s > 3.1
        await b.tell(2, 5, Setting(on=True))
        assert b.levels(13)[0] == 1


async def test_a_car_that_may_again_before_the_contactor_opened_keeps_it() -> None:
    async with bench(EV) as b:
        await b.tell(1, 5, Setting(on=False))
        await b.clock.advance(1.0)
        await b.tell(2, 5, Setting(on=True, free=True))
        await b.clock.advance(5.0)
        assert b.levels(13, 19) == [1, round(32 / 60, 4)]
        assert b.site.last(5).done == 2


async def test_a_button_asks_back_what_is_missing() -> None:
    async with bench() as b:
        b.site.answer = RdrAnswer(RdrResult.PENDING, "asked upwards")
        await b.tell(1, 1, Setting(level=3))
        b.pin(17).drive_low()
        await until(lambda: b.site.asked == [(1, 36.0, 600.0)])
        b.pin(17).drive_high()
        await b.adapter.answer_rdr(1, RdrAnswer(RdrResult.DENIED, "silence"))
        await b.tell(2, 1, Setting(on=True, level=9))
        b.pin(17).drive_low()
        await until(lambda: b.adapter.presses == 2)
        assert len(b.site.asked) == 1
        b.pin(16).drive_low()
        await until(lambda: b.site.asked[1:] == [(5, 5980.0, 600.0)])


async def test_readings_come_by_themselves() -> None:
    async with bench(LAMP) as b:
        assert len(b.site.readings) == 1
        for _ in range(11):
            await b.clock.advance(1.0)
        assert [r.taken_at for _, r in b.site.readings] == pytest.approx([1000.0, 1006.0, 1011.0], abs=1.0)


async def test_twins_say_what_is_drawn() -> None:
    clock = ManualClock(wall=1_760_000_000.0)
    lamp = Lamp(clock, 50.0)
    battery = Battery(clock, 1000.0, 400.0, 500.0, soc=50.0)
    car = Car(clock, visits=[Visit(clock.now().wall, clock.now().wall + 36_000, 20.0)])
    panel = Panel(clock, 1000.0)
    plants = {1: TwinLamp(lamp), 3: TwinPanel(panel), 4: TwinBattery(battery), 5: TwinCar(car)}
    async with bench(LAMP, SUN, ESS, EV, clock=clock, plants=plants) as b:
        assert b.site.last(1).power_w == 50.0
        await b.tell(1, 4, Setting(setpoint_w=-500.0))
        assert (b.site.last(4).power_w, b.site.last(4).soc) == (-500.0, 50.0)
        await b.tell(2, 5, Setting(setpoint_w=2300.0))
        seen = b.site.last(5)
        assert seen.power_w == pytest.approx(car.power_w)
        assert (seen.plugged, seen.power_w is not None and seen.power_w > 1000) == (True, True)
        assert seen.need_wh is not None
        assert seen.depart_at == pytest.approx(1000.0 + 36_000, abs=2)
        await b.tell(3, 3, Setting(setpoint_w=0.0))
        assert b.site.last(3).power_w == 0.0
        await b.tell(4, 1, Setting(level=4))
        assert b.site.last(1).power_w == 25.0


async def test_with_a_twin_for_each_the_pins_are_mock_ones() -> None:
    clock = ManualClock()
    site = RememberingSite()
    adapter = GpioDevices((LAMP,), ControlConfig(), site, clock, {1: TwinLamp(Lamp(clock, 50.0))})
    task = asyncio.create_task(adapter.run())
    await until(lambda: site.readings)
    assert adapter.status()["pins"] == "gpiozero MockFactory"
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize(
    ("exit", "lamp", "heater", "sun", "ess", "car"),
    [
        ("safe", [1, 0.5], [0], [1, 0, 0, 0], [0, 0, 0], [1, 0.1]),
        ("off", [0, 0], [1], [0, 0, 0, 0], [0, 0, 0], [0, 1]),
        ("keep", [0, 0], [1], [0, 0, 0, 1], [1, 0, 1], [1, round(20 / 60, 4)]),
    ],
)
async def test_exit_states(
    exit: str, lamp: list[float], heater: list[float], sun: list[float], ess: list[float], car: list[float]
) -> None:
    async with bench(*(replace(d, exit=exit) for d in ALL)) as b:
        await b.tell(1, 1, Setting(on=False, level=4))
        await b.tell(2, 2, Setting(on=False))
        await b.tell(3, 3, Setting(setpoint_w=0.0))
        await b.tell(4, 4, Setting(setpoint_w=-500.0))
        await b.tell(5, 5, Setting(setpoint_w=4600.0))
        await b.adapter.close()
        got = [b.levels(4, 18), b.levels(5), b.levels(6, 7, 8, 9), b.levels(10, 11, 12), b.levels(13, 19)]
        assert got == [lamp, heater, sun, ess, car]
        with pytest.raises(TransientError):
            await b.tell(9, 1, Setting(on=True))
    got = [b.levels(4, 18), b.levels(5), b.levels(6, 7, 8, 9), b.levels(10, 11, 12), b.levels(13, 19)]
    assert got == [lamp, heater, sun, ess, car]
    assert all(b.pin(n).function == "output" for n in (4, 18, 5, 6, 10, 13, 19))


async def test_cancelled_without_close_it_leaves_all_the_same() -> None:
    async with bench(LAMP) as b:
        await b.tell(1, 1, Setting(on=False))
    assert b.levels(4, 18) == [1, 1]


async def test_kept_outputs_are_taken_up_as_they_are() -> None:
    pins = ZeroPins.mock()
    heater = replace(RELAY, exit="keep", safe="on")
    async with bench(heater, pins=pins) as b:
        await b.tell(1, 2, Setting(on=False))
    async with bench(heater, pins=pins) as b:
        assert b.levels(5) == [1]
        assert b.site.last(2).on is False


async def test_a_pulse_that_stands_still_ends_the_lease() -> None:
    turns = [0]
    async with bench(LAMP, ESS, pulse=lambda: turns[0], lease_s=30.0) as b:
        await b.tell(1, 1, Setting(on=False))
        await b.tell(2, 4, Setting(setpoint_w=-500.0))
        for _ in range(40):
            turns[0] += 1
            await b.clock.advance(1.0)
        assert b.levels(4, 10, 11, 12) == [0, 1, 0, 1]
        for _ in range(35):
            await b.clock.advance(1.0)
        assert b.levels(4, 10, 11, 12) == [1, 0, 0, 0]
        assert b.adapter.status()["lease_ran_out"] is True
        assert not b.site.went
        turns[0] += 1
        for _ in range(4):
            await b.clock.advance(1.0)
        assert [n for n, _ in b.site.went] == [1, 4]
        assert [r.number for r in b.site.came] == [1, 4, 1, 4]
        assert b.adapter.status()["lease_ran_out"] is False


async def test_a_hanging_loop_ends_the_lease_too() -> None:
    clock = SystemClock()
    states: list[str] = []
    deadman = Deadman(0.2, clock, None, lambda: states.append("safe"), least_real_s=0.0)
    deadman.start()
    end = time.monotonic() + 5.0
    while not states and time.monotonic() < end:  # the loop of this test hangs here
        time.sleep(0.01)
    assert states == ["safe"]
    assert deadman.tripped
    assert deadman.look()
    assert not deadman.tripped
    deadman.stop()
    assert states == ["safe"]


@pytest.mark.parametrize(
    ("device", "said"),
    [
        (DeviceConfig(number=1, link="gpio"), "led-1: neither pin nor pwm_pin"),
        (DeviceConfig(number=1, link="gpio", pin="99"), "gpio pin 99"),
        (DeviceConfig(number=1, link="gpio", type="pv", pins=("1",)), "pv-1: pins has to name"),
        (DeviceConfig(number=1, link="gpio", type="ess", pin="1"), "ess-1: pin has to name"),
        (DeviceConfig(number=1, link="gpio", type="ev", pin="1"), "ev-1: pin has to name"),
        (DeviceConfig(number=1, link="gpio", type="ev", pin="1", pwm_pin="2", max_w=40_000), "ev-1: max_w"),
    ],
)
async def test_mistakes_are_named(device: DeviceConfig, said: str) -> None:
    with pytest.raises(OperatorError, match=said):
        async with bench(device):
            pass
