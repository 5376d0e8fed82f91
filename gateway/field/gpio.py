"""Local devices: lamp, panel, battery and charging point on this machine's own pins, resources like all others.

A command is carried out at once and confirmed by the device's own reading. Each output has its exit state
(``exit``); without power every relay is open and every PWM low, which is what the wiring has to make safe. Against a
control that hangs the outputs hold a lease (``Deadman``). Cannot do: measure; a power is the rated one.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Mapping, Sequence

from gateway.clock import Clock, wait
from gateway.config.model import ControlConfig, DeviceConfig
from gateway.errors import TransientError
from gateway.field.base import SiteInputs
from gateway.field.deadman import Deadman
from gateway.field.gpio_local import Local
from gateway.field.gpio_set import Changes, GpioSet
from gateway.field.leases import turns_of
from gateway.field.once import Once
from gateway.site.command import Command
from gateway.site.event import RdrAnswer
from hardware.gpio import Pins

# As often as a device on the wire: well below the age at which a reading is stale.
REPORT_EVERY_S = 5.0
# For how long a pressed button asks the power back, as our devices on the wire do.
BUTTON_FOR_S = 600.0


class GpioDevices:
    """All devices with ``link = "gpio"``.

    ``plants``: twins by device number (``device_agents/plant.py``), for a demo; with one for each device the pins
    are mock ones. ``pulse``: a number that changes while control lives, else the engine's own count of its turns
    (without either, life shows by commands and by a loop that turns). ``pins``: a backend, else this machine's.
    """

    name = "gpio"

    def __init__(
        self,
        devices: Sequence[DeviceConfig],
        control: ControlConfig,
        inputs: SiteInputs,
        clock: Clock,
        plants: Mapping[int, object] | None = None,
        pulse: Callable[[], int] | None = None,
        pins: Pins | None = None,
        logger: logging.Logger | None = None,
    ) -> None:
        self._configs = _on_pins(devices)
        self._control = control
        self._inputs = inputs
        self._clock = clock
        self._log = logger or logging.getLogger(__name__)
        self._once = Once(self._log, clock.monotonic)
        self._set = GpioSet(plants or {}, pins, clock.monotonic, self._log)
        # The output lease may act from its own thread.
        self._lock = threading.RLock()
        self._deadman = Deadman(control.lease_s, clock, pulse or turns_of(inputs), self._to_safe)
        self._wake = asyncio.Event()
        self._left = False
        self.opened = asyncio.Event()
        self.commands = 0
        self.presses = 0

    # --- the daemon's side -----------------------------------------------------------------------------------

    async def run(self) -> None:
        """Take the pins and serve until cancelled. Raise ``OperatorError`` for a pin that is not to be had."""
        self._left = False
        pins = self._set.open(self._configs, self._control)
        self.opened.set()
        self._watch_buttons(pins)
        for local in self._set.locals.values():
            self._appear(local)
        self._deadman.start()
        reported = self._clock.monotonic()
        try:
            while True:
                if self._deadman.look():
                    self._come_back()
                now = self._clock.monotonic()
                self._go_on(now)
                if now - reported >= REPORT_EVERY_S:
                    reported = now
                    for local in self._set.locals.values():
                        self._report(local)
                await wait(self._clock, self._wake, self._until_due(now, reported))
        finally:
            self.opened.clear()
            self._deadman.stop()
            if self._set.pins is not None:
                self._set.pins.quiet()
            self._leave()

    async def send(self, command: Command) -> None:
        """Carry it out; its reading follows at once, or when contacts had their time."""
        local = self._local(command.number)
        self._deadman.alive()
        self.commands += 1
        with self._lock:
            local.apply(command.setting)
            local.doing = command.id
        if local.plant.due is None:
            self._finish(local)
        else:
            self._wake.set()

    async def answer_rdr(self, number: int, answer: RdrAnswer) -> None:
        """Its button has no lamp: the log tells."""
        local = self._local(number)
        self._log.info("%s: its button: %s, %s", local.resource.name, answer.result.value, answer.why)

    def configure(self, devices: Sequence[DeviceConfig], control: ControlConfig) -> None:
        """Other ``[[device]]`` tables: pins whose wiring changed go through their exit state, all others keep state
        and lease. Raise ``OperatorError`` for a pin that is not to be had: all is as before."""
        configs = _on_pins(devices)
        if self.opened.is_set():
            with self._lock:
                changes = self._set.renew(configs, control)
        else:
            changes = Changes()
        self._configs, self._control = configs, control
        self._deadman.set_lease(control.lease_s)
        for number in changes.gone:
            self._inputs.gone(number, "taken out of the configuration")
        for number in changes.rewired:
            self._inputs.gone(number, "its wiring changed")
        for number in changes.told:
            self._inputs.appeared(self, self._set.locals[number].resource)
        for number in (*changes.rewired, *changes.added):
            self._appear(self._set.locals[number])
        if self.opened.is_set() and self._set.pins is not None:
            self._set.pins.quiet()
            self._watch_buttons(self._set.pins)
        self._wake.set()

    async def close(self) -> None:
        """Every output to its exit state. The lines stay outputs: they are not given back."""
        self._leave()

    def status(self) -> dict[str, object]:
        """For `smartema status`: with each output's state at exit and without power."""
        return {
            "pins": self._set.pins.name if self._set.pins is not None else "",
            "here": len(self._set.locals),
            "configured": len(self._configs),
            "commands": self.commands,
            "presses": self.presses,
            "lease_ran_out": self._deadman.tripped,
            "outputs": {
                local.resource.name: {"exit": local.config.exit, "without_power": "off"}
                for local in self._set.locals.values()
            },
        }

    # --- pins ------------------------------------------------------------------------------------------------

    def _watch_buttons(self, pins: Pins) -> None:
        loop = asyncio.get_running_loop()
        for local in self._set.locals.values():
            if local.config.button_pin:
                pins.button(local.config.button_pin, self._press_of(local.number, loop))

    def _press_of(self, number: int, loop: asyncio.AbstractEventLoop) -> Callable[[], None]:
        def pressed() -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(self._pressed, number)

        return pressed

    def _pressed(self, number: int) -> None:
        local = self._set.locals.get(number)
        if local is None or self._left:
            return
        self.presses += 1
        watts = local.missing_w()
        if watts <= 0:
            unknown = not local.resource.rated_w
            why = "its rated_w is not configured" if unknown else "it has all it can take"
            self._once.say("button", number, f"{local.resource.name}: its button asks for nothing: {why}")
            return
        answer = self._inputs.asked_back(number, watts, BUTTON_FOR_S)
        self._log.info(
            "%s: its button asks %.0f W back: %s, %s", local.resource.name, watts, answer.result.value, answer.why
        )

    # --- time ------------------------------------------------------------------------------------------------

    def _until_due(self, now: float, reported: float) -> float:
        due = min(reported + REPORT_EVERY_S, now + self._deadman.step_s)
        for local in self._set.locals.values():
            if local.plant.due is not None:
                due = min(due, float(local.plant.due))
        return max(due - now, 0.001)

    def _go_on(self, now: float) -> None:
        for local in self._set.locals.values():
            if local.plant.due is None:
                continue
            with self._lock:
                local.plant.advance(now)
            if local.plant.due is None:
                self._finish(local)

    def _finish(self, local: Local) -> None:
        local.done = max(local.done, local.doing)
        self._report(local)

    def _appear(self, local: Local) -> None:
        self._inputs.appeared(self, local.resource)
        self._report(local)

    def _report(self, local: Local) -> None:
        with self._lock:
            reading = local.reading(self._clock.monotonic())
        self._inputs.reported(local.number, reading)

    # --- lease and exit --------------------------------------------------------------------------------------

    def _to_safe(self) -> None:
        """Control stands still. May be called in the lease's thread, while the loop hangs."""
        with self._lock:
            if self._left:
                return
            for local in self._set.locals.values():
                local.to_safe()
        self._log.warning("gpio: control stood still for its lease of %g s; outputs are safe", self._deadman.lease_s)

    def _come_back(self) -> None:
        """Control lives again: it has to say again what it wants."""
        for local in self._set.locals.values():
            self._inputs.gone(local.number, "control stood still; its output went to its safe state")
            self._appear(local)

    def _leave(self) -> None:
        with self._lock:
            if self._left:
                return
            self._left = True
            self._set.leave()

    def _local(self, number: int) -> Local:
        local = self._set.locals.get(number)
        if local is None or self._left:
            raise TransientError(f"device {number} is not there")
        return local


def _on_pins(devices: Sequence[DeviceConfig]) -> list[DeviceConfig]:
    return [d for d in devices if d.link == "gpio"]
