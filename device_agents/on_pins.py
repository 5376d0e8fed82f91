"""PV, ESS and EV of ``smartema device`` on pins: what the EMA's own local devices use (``hardware/gpio_plants.py``).

Pins measure nothing: power, energy and state of charge are reckoned by the twin that a simulated device has.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from device_agents import simulated
from device_agents.agent import Agent
from gateway.clock import Clock
from gateway.errors import OperatorError
from hardware.gpio import Pins
from hardware.gpio_plants import PILOT_HERTZ, GpioBattery, GpioCar, GpioPanel
from hardware.simulated.car import Visit

# Contacts need half a second between two directions, a car three to stop; a tenth of the first is exact enough.
LOOK_S = 0.05


@dataclass(frozen=True, slots=True)
class Wiring:
    """Which pins: "18" (BCM) or "gpiochip0:17". ``pins``: PV, a relay a step of ``curtail``; ESS, charge, discharge."""

    pin: str = ""
    pins: tuple[str, ...] = ()
    pwm_pin: str = ""
    button_pin: str = ""
    active_low: bool = False
    curtail: tuple[float, ...] = (100.0, 60.0, 30.0, 0.0)

    def named(self) -> list[str]:
        """All of them."""
        return [pin for pin in (self.pin, *self.pins, self.pwm_pin, self.button_pin) if pin]


class OnPins:
    """An agent and its outputs. ``leave`` brings them to where they are safe without anybody."""

    def __init__(self, agent: Agent, pins: Pins, wiring: Wiring, leave: Callable[[], None]) -> None:
        self.agent = agent
        self._plant: Any = agent.plant
        self._pins = pins
        self._wiring = wiring
        self._leave = leave

    def on_press(self, call: Callable[[], object]) -> None:
        """``call`` is made in a thread of the pins' own."""

        def pressed() -> None:
            call()

        if self._wiring.button_pin:
            self._pins.button(self._wiring.button_pin, pressed)

    async def keep_time(self, clock: Clock) -> None:
        """Close what had to wait for another contact; until cancelled."""
        while True:
            await clock.sleep(LOOK_S)
            if self._plant.due is not None:
                self._plant.advance(clock.monotonic())

    def close(self) -> None:
        """The lines stay outputs: given back they would float."""
        self._pins.quiet()
        self._leave()


def check(kind: str, wiring: Wiring) -> None:
    """Raise ``OperatorError`` that names the option which is missing or too much."""
    if kind == "pv" and len(wiring.pins) != len(wiring.curtail):
        percents = ",".join(f"{percent:g}" for percent in wiring.curtail)
        raise OperatorError(f"--pins: name {len(wiring.curtail)} relays, one for each of --curtail {percents}")
    if kind == "ess" and (not wiring.pin or len(wiring.pins) != 2):
        raise OperatorError("--pin: name the enable output, and with --pins A,B those for charge and discharge")
    if kind == "ev" and not (wiring.pin and wiring.pwm_pin):
        raise OperatorError("--pin: name the contactor, and with --pwm-pin the control pilot")
    if kind in ("pv", "ess") and wiring.button_pin:
        raise OperatorError("--button-pin: it asks power back; PV and ESS have none to ask")
    named = wiring.named()
    for pin in named:
        if named.count(pin) > 1:
            raise OperatorError(f"pin {pin} is named twice; each output and button has its own")


def panel(
    who: tuple[int, int, int], clock: Clock, watts: float, place: Sequence[float], pins: Pins, wiring: Wiring
) -> OnPins:
    """Curtailed by a set of relays; left free."""
    relays = [pins.output(pin, wiring.active_low, False) for pin in wiring.pins]
    agent = simulated.simulated_panel(
        *who,
        clock,
        watts,
        latitude=place[0],
        longitude=place[1],
        around=lambda twin: GpioPanel(relays, wiring.curtail, round(watts * 1000), twin),
    )
    return OnPins(agent, pins, wiring, lambda: agent.panel.set(True, None))


def battery(
    who: tuple[int, int, int],
    clock: Clock,
    watts: float,
    capacity_wh: float | None,
    soc: float,
    pins: Pins,
    wiring: Wiring,
) -> OnPins:
    """Relays know no half: it charges or discharges with ``watts``, or idles. Left idle."""
    enable, charge, discharge = (pins.output(pin, wiring.active_low, False) for pin in (wiring.pin, *wiring.pins))
    rated = round(watts * 1000)
    agent = simulated.simulated_battery(
        *who,
        clock,
        watts,
        capacity_wh,
        soc,
        around=lambda twin: GpioBattery(enable, charge, discharge, rated, rated, clock.monotonic, twin),
        step_w=watts,
    )
    return OnPins(agent, pins, wiring, lambda: agent.battery.set(0))


def car(
    who: tuple[int, int, int],
    clock: Clock,
    phases: int,
    capacity_wh: float,
    visit: Visit,
    safe_pause: bool,
    pins: Pins,
    wiring: Wiring,
) -> OnPins:
    """Contactor and control pilot (IEC 61851). Left with an open contactor: nobody would watch it."""
    contactor = pins.output(wiring.pin, wiring.active_low, False)
    pilot = pins.pwm(wiring.pwm_pin, PILOT_HERTZ)
    made: list[GpioCar] = []

    def around(twin: Any) -> GpioCar:
        made.append(GpioCar(contactor, pilot, phases * 230_000, clock.monotonic, twin))
        return made[0]

    agent = simulated.simulated_car(
        *who,
        clock,
        phases,
        battery_wh=capacity_wh,
        visits=(visit,),
        safe_pause=safe_pause,
        around=around,
    )
    return OnPins(agent, pins, wiring, made[0].stop_now)
