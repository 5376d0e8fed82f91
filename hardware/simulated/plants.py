"""The twins as the device agents see real hardware: integers in milli-units (device_agents/plant.py)."""

from __future__ import annotations

from device_agents.plant import BatteryPlant, CarPlant, LampPlant, PanelPlant
from hardware.simulated.battery import Battery
from hardware.simulated.car import Car
from hardware.simulated.lamp import Lamp
from hardware.simulated.panel import Panel


def _milli(value: float) -> int:
    return round(value * 1000)


class TwinLamp(LampPlant):
    """A simulated lamp."""

    def __init__(self, twin: Lamp) -> None:
        self.twin = twin

    def mw(self) -> int:
        return _milli(self.twin.power_w)

    def mwh(self) -> int:
        return _milli(self.twin.energy_wh)

    def set(self, on: bool, dimming: int) -> None:
        self.twin.set(on, dimming)


class TwinPanel(PanelPlant):
    """A simulated panel."""

    def __init__(self, twin: Panel) -> None:
        self.twin = twin

    def mw(self) -> int:
        return _milli(self.twin.power_w)

    def mwh(self) -> int:
        return _milli(self.twin.energy_wh)

    def set(self, on: bool, most_mw: int | None) -> None:
        self.twin.set(on, None if most_mw is None else most_mw / 1000)

    def mv(self) -> int:
        return _milli(self.twin.volts)


class TwinBattery(BatteryPlant):
    """A simulated battery."""

    def __init__(self, twin: Battery) -> None:
        self.twin = twin

    def mw(self) -> int:
        return _milli(self.twin.power_w)

    def mwh(self) -> int:
        return _milli(self.twin.energy_wh)

    def set(self, mw: int) -> None:
        self.twin.set(mw / 1000)

    def soc(self) -> int:
        return round(self.twin.soc * 10)

    def mv(self) -> int:
        return _milli(self.twin.volts)

    def mhz(self) -> int:
        return _milli(self.twin.hertz)


class TwinCar(CarPlant):
    """A simulated charging point, with or without a car."""

    def __init__(self, twin: Car) -> None:
        self.twin = twin

    def mw(self) -> int:
        return _milli(self.twin.power_w)

    def mwh(self) -> int:
        return _milli(self.twin.energy_wh)

    def offer(self, amps: int) -> None:
        self.twin.offer(amps)

    def plugged(self) -> bool:
        return self.twin.plugged

    def soc(self) -> int | None:
        soc = self.twin.soc
        return None if soc is None else round(soc * 10)

    def need_mwh(self) -> int | None:
        need = self.twin.need_wh
        return None if need is None else _milli(need)

    def depart_s(self) -> int | None:
        left = self.twin.depart_in_s
        return None if left is None else int(left)
