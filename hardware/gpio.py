"""Pins behind one small interface: gpiozero on a Raspberry Pi, gpiod on OpenWrt, gpiozero's mock for tests and demo.

A pin is a BCM number ("18") or "chip:line" ("gpiochip0:17"); a PWM channel of the kernel is "pwmchip0:1".

When a process ends the kernel takes its lines back, and whether a line then keeps its level is the chip driver's
choice. So an output's exit level is written before the end and the line is never turned into an input by us; a relay
board with its own pull decides the rest. Without power every relay is open: wire so that this state is a safe one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from gateway.errors import OperatorError


class Output(Protocol):
    """A line that is driven. ``active_low`` was told when it was made: True is always the closed relay."""

    def write(self, on: bool) -> None: ...

    def read(self) -> bool:
        """The level it is driven to."""


class Pwm(Protocol):
    """A line with a duty cycle, 0 to 1."""

    def write(self, duty: float) -> None: ...

    def read(self) -> float: ...


class Pins(Protocol):
    """One backend. Raise ``OperatorError`` that names the pin which is not to be had."""

    name: str

    def output(self, pin: str, active_low: bool, initial: bool | None) -> Output:
        """Drive a pin. ``initial`` None: as it is found."""

    def pwm(self, pin: str, hertz: int) -> Pwm:
        """A pin with a duty cycle, 0 at first."""

    def button(self, pin: str, pressed: Callable[[], None]) -> None:
        """A button to ground with the chip's pull-up. ``pressed`` is called in a thread of the backend's own."""

    def quiet(self) -> None:
        """No call of ``pressed`` from now on. Outputs keep their levels."""


# Contacts bounce for a few milliseconds; a finger stays for a tenth of a second.
BOUNCE_S = 0.03

# A process has one set of pins. What one adapter has opened the next one (after SIGHUP) takes over as it is: to give
# a line back first would turn it into an input in between.
_opened: dict[str, Pins] = {}


def open_pins(pins: Iterable[str]) -> Pins:
    """The backend that fits these pins and this machine. Raise ``OperatorError`` that says what to install."""
    kind = "gpiod" if any(":" in pin for pin in pins) else "gpiozero"
    if kind not in _opened:
        _opened[kind] = _open_gpiod() if kind == "gpiod" else _open_gpiozero()
    return _opened[kind]


def simulated_pins() -> Pins:
    """gpiozero's mock: every pin is there, nothing hangs on it."""
    from hardware.gpio_zero import ZeroPins

    return ZeroPins.mock()


def _open_gpiozero() -> Pins:
    try:
        from hardware.gpio_zero import ZeroPins
    except ImportError as err:
        raise OperatorError(
            "gpio: gpiozero is not installed; pip install 'smartema[gpio]', or name pins as chip:line for gpiod"
        ) from err
    return ZeroPins.real()


def _open_gpiod() -> Pins:
    try:
        import gpiod  # type: ignore[import-not-found,unused-ignore]
    except ImportError as err:
        raise OperatorError(
            "gpio: pins written chip:line need gpiod; opkg install python3-gpiod, or pip install gpiod"
        ) from err
    from hardware.gpio_lines import LinePins

    return LinePins(gpiod)


def number_of(pin: str) -> int:
    """The number in "18" or in "gpiochip0:18"."""
    return int(pin.rsplit(":", 1)[-1])
