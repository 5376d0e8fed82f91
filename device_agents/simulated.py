"""The four kinds of device with a physical twin each, ready for a runner. ``agent.plant.twin`` is the twin.

``around`` puts something between behaviour and twin: outputs on pins, which get the same orders.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from device_agents.agent import LEASE_S
from device_agents.battery import Battery
from device_agents.car import Car
from device_agents.lamp import Lamp
from device_agents.panel import Panel
from device_agents.plant import BatteryPlant, CarPlant, PanelPlant
from hardware.simulated import battery, car, lamp, panel, plants
from hardware.simulated.car import Visit
from hardware.simulated.twin import TimeSource

LAMP_W = 60.0
PANEL_W = 3000.0
BATTERY_W = 2000.0
BATTERY_HOURS = 2.5
CAR_WH = 60_000.0
# The lab's: Seoul, degrees north and east.
PLACE = (37.56, 127.04)


def _milli(value: float) -> int:
    return round(value * 1000)


def simulated_lamp(
    dev: int,
    priority: int,
    boot: int,
    clock: TimeSource,
    rated_w: float = LAMP_W,
    lease_s: int = LEASE_S,
    rdr_for_s: int = 600,
    safe_on: bool = True,
    on: bool = True,
) -> Lamp:
    """A lamp of so many watts."""
    plant = plants.TwinLamp(lamp.Lamp(clock, rated_w))
    return Lamp(dev, priority, boot, plant, _milli(rated_w), lease_s, rdr_for_s, safe_on=safe_on, on=on)


def simulated_panel(
    dev: int,
    priority: int,
    boot: int,
    clock: TimeSource,
    rated_w: float = PANEL_W,
    lease_s: int = LEASE_S,
    latitude: float = PLACE[0],
    longitude: float = PLACE[1],
    sky: Callable[[float], float] = lambda wall: 1.0,
    around: Callable[[PanelPlant], PanelPlant] = lambda plant: plant,
) -> Panel:
    """A panel of so many watts peak; the place is the lab's unless told."""
    plant = plants.TwinPanel(panel.Panel(clock, rated_w, latitude, longitude, sky=sky))
    return Panel(dev, priority, boot, around(plant), _milli(rated_w), lease_s)


def simulated_battery(
    dev: int,
    priority: int,
    boot: int,
    clock: TimeSource,
    rated_w: float = BATTERY_W,
    capacity_wh: float | None = None,
    soc: float = 50.0,
    floor_soc: float = 20.0,
    ceiling_soc: float = 95.0,
    lease_s: int = LEASE_S,
    around: Callable[[BatteryPlant], BatteryPlant] = lambda plant: plant,
    step_w: float = 0.0,
) -> Battery:
    """A battery of so many watts either way; SoC in per cent. ``step_w``: of its set point; 0: continuous."""
    capacity = capacity_wh or rated_w * BATTERY_HOURS
    twin = battery.Battery(clock, capacity, rated_w, rated_w, soc, floor_soc, ceiling_soc)
    return Battery(
        dev,
        priority,
        boot,
        around(plants.TwinBattery(twin)),
        _milli(rated_w),
        _milli(rated_w),
        _milli(capacity),
        round(floor_soc * 10),
        round(ceiling_soc * 10),
        lease_s,
        _milli(step_w),
    )


def simulated_car(
    dev: int,
    priority: int,
    boot: int,
    clock: TimeSource,
    phases: int = 1,
    most_a: int = car.MOST_A,
    battery_wh: float = CAR_WH,
    visits: Sequence[Visit] = (),
    lease_s: int = LEASE_S,
    rdr_for_s: int = 600,
    safe_pause: bool = False,
    around: Callable[[CarPlant], CarPlant] = lambda plant: plant,
) -> Car:
    """A charging point where cars come by ``visits`` (wall seconds)."""
    plant = plants.TwinCar(car.Car(clock, battery_wh, phases, most_a, visits=visits))
    return Car(
        dev,
        priority,
        boot,
        around(plant),
        phases,
        most_a=most_a,
        lease_s=lease_s,
        rdr_for_s=rdr_for_s,
        safe_pause=safe_pause,
    )
