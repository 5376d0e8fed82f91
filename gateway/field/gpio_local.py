"""One local device each: what control says, in the words of its plant, and what its plant says, in ours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

from gateway.config.model import DeviceConfig
from gateway.errors import OperatorError
from gateway.site.resource import DIMMING_STEPS, Kind, Reading, Resource, Setting
from hardware.gpio import Output, Pins, Pwm
from hardware.gpio_plants import (
    LAMP_HERTZ,
    MOST_A,
    PILOT_HERTZ,
    GpioBattery,
    GpioCar,
    GpioLamp,
    GpioPanel,
)

# What an ampere is on one phase; a charging point of ours has one phase unless its max_w says more than 32 A.
AMP_W = 230.0
ONE_PHASE_MOST_W = 32 * AMP_W


@dataclass(slots=True)
class Local:
    """A device on our own pins. Not safe for two threads: the adapter holds a lock."""

    resource: Resource
    config: DeviceConfig
    plant: Any
    outputs: list[Output] = field(default_factory=list)
    pwms: list[Pwm] = field(default_factory=list)
    has_twin: bool = False
    done: int = 0
    doing: int = 0

    # Can its outputs be taken up as they are found (``exit = "keep"``), or do they begin in the safe state.
    readable: ClassVar[bool] = False

    @property
    def number(self) -> int:
        return self.resource.number

    def apply(self, setting: Setting) -> None:
        """Do it; ``plant.due`` tells when it has to be gone on with."""
        raise NotImplementedError

    def reading(self, now: float) -> Reading:
        """What it is now."""
        raise NotImplementedError

    def missing_w(self) -> float:
        """What its button asks back."""
        return 0.0

    def to_safe(self) -> None:
        """To its safe state without waiting for anything: nobody may be there to go on with it."""
        self.apply(self.resource.safe)

    def leave(self) -> None:
        """To the exit state that its configuration declares; at once, whatever that costs a contact."""
        if self.config.exit == "safe":
            self.to_safe()
        elif self.config.exit == "off":
            for output in self.outputs:
                output.write(False)
            for pwm in self.pwms:
                pwm.write(0.0)

    def watts(self) -> float | None:
        """Its power; None where neither a twin nor ``rated_w`` tells."""
        if not self.has_twin and not self.resource.rated_w and self.resource.kind is Kind.LED:
            return 0.0 if not self.plant.on else None
        return float(self.plant.mw()) / 1000


class LocalLamp(Local):
    """LED or any load behind a relay."""

    readable: ClassVar[bool] = True

    def apply(self, setting: Setting) -> None:
        on = self.plant.on if setting.on is None else setting.on
        level = self.plant.dimming if setting.level is None else setting.level
        self.plant.set(on, min(max(level, 0), DIMMING_STEPS - 1))

    def reading(self, now: float) -> Reading:
        level = self.plant.dimming if self.resource.levels else None
        return Reading(taken_at=now, power_w=self.watts(), on=self.plant.on, level=level, done=self.done)

    def missing_w(self) -> float:
        return max(self.resource.rated_w - (self.watts() or 0.0), 0.0)


class LocalPanel(Local):
    """PV behind its curtailment relays."""

    def apply(self, setting: Setting) -> None:
        if setting.on is False:
            self.plant.set(False, 0)
        elif setting.free or (setting.on and setting.setpoint_w is None):
            self.plant.set(True, None)
        elif setting.setpoint_w is not None:
            self.plant.set(True, round(max(-setting.setpoint_w, 0.0) * 1000))

    def reading(self, now: float) -> Reading:
        return Reading(taken_at=now, power_w=self.watts(), done=self.done)


class LocalBattery(Local):
    """ESS behind enable, charge, discharge."""

    def apply(self, setting: Setting) -> None:
        if setting.on is False or setting.free:
            self.plant.set(0)
        elif setting.setpoint_w is not None:
            self.plant.set(round(setting.setpoint_w * 1000))

    def reading(self, now: float) -> Reading:
        if not self.has_twin:
            return Reading(taken_at=now, power_w=self.watts(), done=self.done)
        plant = self.plant
        return Reading(
            taken_at=now,
            power_w=self.watts(),
            soc=plant.soc() / 10,
            voltage=plant.mv() / 1000,
            hertz=plant.mhz() / 1000,
            done=self.done,
        )


class LocalCar(Local):
    """EV behind contactor and control pilot. ``most``: watts that it may take when it is on."""

    most: float = 0.0

    def apply(self, setting: Setting) -> None:
        if setting.free:
            self.most = self._range()[1]
        elif setting.setpoint_w is not None:
            self.most = setting.setpoint_w
        elif setting.on:
            self.most = max(self.most, self._range()[0])
        self.plant.offer(0 if setting.on is False else int((self.most + 0.5) / self.amp_w))

    @property
    def amp_w(self) -> float:
        """W for each ampere of the pilot."""
        return amp_w(self.resource)

    def _range(self) -> tuple[float, float]:
        point = self.resource.setpoint
        return (point.min_w, point.max_w) if point is not None else (6 * AMP_W, ONE_PHASE_MOST_W)

    def reading(self, now: float) -> Reading:
        plant = self.plant
        if not self.has_twin:
            return Reading(taken_at=now, power_w=self.watts(), on=plant.amps > 0, done=self.done)
        soc, need, depart = plant.soc(), plant.need_mwh(), plant.depart_s()
        return Reading(
            taken_at=now,
            power_w=self.watts(),
            on=plant.amps > 0,
            soc=None if soc is None else soc / 10,
            plugged=plant.plugged(),
            need_wh=None if need is None else need / 1000,
            depart_at=None if depart is None else now + depart,
            done=self.done,
        )

    def missing_w(self) -> float:
        return max(self._range()[1] - (self.watts() or 0.0), 0.0)

    def to_safe(self) -> None:
        self.apply(self.resource.safe)
        if not self.plant.amps:
            self.plant.stop_now()

    def leave(self) -> None:
        if self.config.exit == "off":
            self.plant.stop_now()
        else:
            Local.leave(self)


def amp_w(resource: Resource) -> float:
    """W for each ampere: one phase, or three where its most is more than one phase carries."""
    most = resource.setpoint.max_w if resource.setpoint is not None else 0.0
    return AMP_W * (3 if most > ONE_PHASE_MOST_W else 1)


def open_local(
    config: DeviceConfig, resource: Resource, pins: Pins, now: Callable[[], float], twin: object | None
) -> Local:
    """Take a device's pins. Raise ``OperatorError`` that names the one which is not to be had."""
    made: dict[Kind, Callable[[DeviceConfig, Resource, Pins, Callable[[], float], Any], Local]] = {
        Kind.PV: _panel,
        Kind.ESS: _battery,
        Kind.EV: _car,
    }
    local = made.get(resource.kind, _lamp)(config, resource, pins, now, twin)
    local.has_twin = twin is not None
    if config.exit != "keep" or not local.readable:
        local.apply(resource.safe)
    return local


def _lamp(config: DeviceConfig, resource: Resource, pins: Pins, now: Callable[[], float], twin: Any) -> Local:
    # As it is found: a lamp that burns when the daemon starts again does not blink.
    relay = pins.output(config.pin, config.active_low, None) if config.pin else None
    pwm = pins.pwm(config.pwm_pin, LAMP_HERTZ) if config.pwm_pin else None
    if relay is None and pwm is None:
        raise OperatorError(f"{resource.name}: neither pin nor pwm_pin is configured")
    plant = GpioLamp(relay, pwm, round(resource.rated_w * 1000), twin)
    return LocalLamp(resource, config, plant, [o for o in (relay,) if o], [p for p in (pwm,) if p])


def _panel(config: DeviceConfig, resource: Resource, pins: Pins, now: Callable[[], float], twin: Any) -> Local:
    if not config.pins or len(config.pins) != len(config.curtail_percent):
        raise OperatorError(f"{resource.name}: pins has to name one relay for each step of curtail_percent")
    relays = [pins.output(pin, config.active_low, False) for pin in config.pins]
    peak = -resource.setpoint.min_w if resource.setpoint is not None else resource.rated_w
    return LocalPanel(
        resource, config, GpioPanel(relays, config.curtail_percent, round(peak * 1000), twin), list(relays)
    )


def _battery(config: DeviceConfig, resource: Resource, pins: Pins, now: Callable[[], float], twin: Any) -> Local:
    if not config.pin or len(config.pins) != 2:
        raise OperatorError(f"{resource.name}: pin has to name the enable output, pins those for charge and discharge")
    outputs = [pins.output(pin, config.active_low, False) for pin in (config.pin, *config.pins)]
    point = resource.setpoint
    charge, discharge = (point.max_w, -point.min_w) if point is not None else (0.0, 0.0)
    plant = GpioBattery(outputs[0], outputs[1], outputs[2], round(charge * 1000), round(discharge * 1000), now, twin)
    return LocalBattery(resource, config, plant, outputs)


def _car(config: DeviceConfig, resource: Resource, pins: Pins, now: Callable[[], float], twin: Any) -> Local:
    if not config.pin or not config.pwm_pin:
        raise OperatorError(f"{resource.name}: pin has to name the contactor, pwm_pin the control pilot")
    if resource.setpoint is not None and resource.setpoint.max_w > MOST_A * amp_w(resource):
        raise OperatorError(f"{resource.name}: max_w {resource.setpoint.max_w:.0f} is more than {MOST_A} A")
    contactor = pins.output(config.pin, config.active_low, False)
    pilot = pins.pwm(config.pwm_pin, PILOT_HERTZ)
    plant = GpioCar(contactor, pilot, round(amp_w(resource) * 1000), now, twin)
    return LocalCar(resource, config, plant, [contactor], [pilot])
