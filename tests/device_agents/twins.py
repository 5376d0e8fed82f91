"""Devices with their twins, as the tests want them."""

from __future__ import annotations

from collections.abc import Callable

from device_agents.battery import Battery
from device_agents.car import Car
from device_agents.lamp import Lamp
from device_agents.panel import Panel
from hardware.simulated.battery import Battery as BatteryTwin
from hardware.simulated.car import Car as CarTwin
from hardware.simulated.car import Visit
from hardware.simulated.lamp import Lamp as LampTwin
from hardware.simulated.panel import Panel as PanelTwin
from hardware.simulated.plants import TwinBattery, TwinCar, TwinLamp, TwinPanel

Seconds = Callable[[], float]
# 2026-06-21 12:30 in Seoul: the sun is high.
NOON = 1_782_012_600.0


class Time:
    """Seconds moved by hand."""

    def __init__(self, start: float = NOON) -> None:
        self.now = start

    def __call__(self) -> float:
        return self.now


def lamp(time: Seconds, dev: int = 4, watts: float = 60.0, **more: object) -> Lamp:
    plant = TwinLamp(LampTwin(time, watts))
    return Lamp(dev, 3, 7, plant, int(watts * 1000), **more)  # type: ignore[arg-type]


def panel(time: Seconds, dev: int = 5, watts: float = 3000.0) -> Panel:
    return Panel(dev, 1, 7, TwinPanel(PanelTwin(time, watts)), int(watts * 1000))


def battery(time: Seconds, dev: int = 6, soc: float = 50.0) -> Battery:
    twin = BatteryTwin(time, 5000.0, 2000.0, 2500.0, soc=soc)
    return Battery(dev, 5, 7, TwinBattery(twin), 2_000_000, 2_500_000, 5_000_000)


def car(time: Seconds, dev: int = 7, arrive: float = 0.0, stay: float = 8 * 3600.0, **more: object) -> Car:
    twin = CarTwin(time, visits=[Visit(time() + arrive, time() + arrive + stay, 40.0)])
    return Car(dev, 2, 7, TwinCar(twin), **more)  # type: ignore[arg-type]
