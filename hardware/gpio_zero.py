"""Pins through gpiozero's pin factories (lgpio, rpigpio, pigpio, native, mock), below its devices.

gpiozero's devices turn their pins into inputs when they close or are forgotten; its pins do not unless told to.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gpiozero import Device  # type: ignore[import-untyped,unused-ignore]
from gpiozero.exc import BadPinFactory, GPIOZeroError  # type: ignore[import-untyped,unused-ignore]

from gateway.errors import OperatorError
from hardware.gpio import BOUNCE_S, number_of


class ZeroOutput:
    """A driven pin."""

    def __init__(self, pin: Any, active_low: bool) -> None:
        self._pin = pin
        self._active_low = active_low

    def write(self, on: bool) -> None:
        self._pin.state = on != self._active_low

    def read(self) -> bool:
        return bool(self._pin.state) != self._active_low


class ZeroPwm:
    """A pin with a duty cycle. On a Pi's lgpio it is timed by software: good for a lamp; for a control pilot within
    IEC 61851's half per cent take pigpio, or a PWM channel of the kernel through gpiod."""

    def __init__(self, pin: Any) -> None:
        self._pin = pin

    def write(self, duty: float) -> None:
        self._pin.state = min(max(duty, 0.0), 1.0)

    def read(self) -> float:
        return float(self._pin.state)


class ZeroPins:
    """``factory``: gpiozero's."""

    def __init__(self, factory: Any) -> None:
        self.factory = factory
        self.name = f"gpiozero {type(factory).__name__}"
        # gpiozero holds callbacks weakly.
        self._watched: list[tuple[Any, Callable[..., None]]] = []

    @classmethod
    def real(cls) -> ZeroPins:
        """What this machine has. Raise ``OperatorError`` when there is none."""
        import warnings

        with warnings.catch_warnings():
            # One line for each factory that did not load; the last word is the error's.
            warnings.simplefilter("ignore")
            try:
                return cls(Device._default_pin_factory())
            except (BadPinFactory, GPIOZeroError, OSError) as err:
                raise OperatorError(
                    f"gpio: no pins on this machine ({err}); on a Raspberry Pi: apt install python3-lgpio"
                ) from err

    @classmethod
    def mock(cls) -> ZeroPins:
        """Pins with nothing on them."""
        from gpiozero.pins.mock import MockFactory, MockPWMPin  # type: ignore[import-untyped,unused-ignore]

        return cls(MockFactory(pin_class=MockPWMPin))

    def output(self, pin: str, active_low: bool, initial: bool | None) -> ZeroOutput:
        found = self._pin(pin)
        try:
            level = bool(found.state) if initial is None else initial != active_low
            found.output_with_state(level)
        except (GPIOZeroError, OSError) as err:
            raise OperatorError(f"gpio pin {pin}: {err}") from err
        return ZeroOutput(found, active_low)

    def pwm(self, pin: str, hertz: int) -> ZeroPwm:
        found = self._pin(pin)
        try:
            if found.function != "output":
                found.output_with_state(0)
            found.frequency = hertz
        except (GPIOZeroError, OSError) as err:
            raise OperatorError(f"gpio pwm_pin {pin}: {err}") from err
        return ZeroPwm(found)

    def button(self, pin: str, pressed: Callable[[], None]) -> None:
        found = self._pin(pin)

        def changed(ticks: object, state: object) -> None:
            if not state:
                pressed()

        try:
            found.input_with_pull("up")
            found.bounce = BOUNCE_S
            found.edges = "falling"
            found.when_changed = changed
        except (GPIOZeroError, OSError) as err:
            raise OperatorError(f"gpio button_pin {pin}: {err}") from err
        self._watched.append((found, changed))

    def quiet(self) -> None:
        for pin, _ in self._watched:
            pin.when_changed = None
        self._watched.clear()

    def _pin(self, pin: str) -> Any:
        try:
            return self.factory.pin(f"GPIO{number_of(pin)}")
        except (GPIOZeroError, OSError) as err:
            raise OperatorError(f"gpio pin {pin}: {err}") from err
