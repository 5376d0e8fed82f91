"""A lamp on a Raspberry Pi: PWM output and button through gpiozero (extra ``gpio``)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from device_agents.plant import LampPlant
from gateway.clock import Clock
from gateway.errors import OperatorError
from hardware.simulated.lamp import STEPS, Lamp


class PiLamp(LampPlant):
    """A PWM output; the power is reckoned from the rated one, for the Pi cannot measure it.

    ``pin`` and ``button_pin``: BCM numbers. ``factory``: gpiozero's, for tests.
    """

    def __init__(
        self, clock: Clock, rated_w: float, pin: str, button_pin: str | None = None, factory: Any = None
    ) -> None:
        try:
            from gpiozero import PWMLED, Button  # type: ignore[import-untyped,unused-ignore]
            from gpiozero.exc import GPIOZeroError  # type: ignore[import-untyped,unused-ignore]
        except ImportError as err:
            raise OperatorError("gpiozero is not installed; pip install 'smartema[gpio]'") from err
        self._model = Lamp(clock, rated_w)
        try:
            self._led = PWMLED(pin, pin_factory=factory)
            self._button = Button(button_pin, pin_factory=factory) if button_pin else None
        except (GPIOZeroError, ValueError) as err:
            raise OperatorError(f"pin {pin}, button {button_pin}: {err}; give BCM numbers of free pins") from err

    def set(self, on: bool, dimming: int) -> None:
        self._model.set(on, dimming)
        self._led.value = (dimming + 1) / STEPS if on else 0

    def mw(self) -> int:
        return round(self._model.power_w * 1000)

    def mwh(self) -> int:
        return round(self._model.energy_wh * 1000)

    def on_press(self, call: Callable[[], object]) -> None:
        """``call`` is made in gpiozero's thread."""
        if self._button is not None:
            self._button.when_pressed = call

    async def keep_time(self, clock: Clock) -> None:
        """A lamp has nothing that waits."""

    def close(self) -> None:
        """Let the pins go."""
        self._led.close()
        if self._button is not None:
            self._button.close()
