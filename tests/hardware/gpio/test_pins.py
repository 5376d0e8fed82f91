"""The two backends of pins: gpiozero's mock, and gpiod by both of its APIs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.errors import OperatorError
from hardware import gpio
from hardware.gpio_lines import LinePins
from tests.hardware.gpio.fake_gpiod import Chips, v1, v2

apis = pytest.mark.parametrize("api", [v1, v2], ids=["v1", "v2"])


@apis
def test_the_api_is_chosen_by_what_is_there(api: Callable[[Chips], Any]) -> None:
    assert LinePins(api(Chips())).name == f"gpiod {api.__name__}"


@apis
@pytest.mark.parametrize("active_low", [False, True])
def test_an_output(api: Callable[[Chips], Any], active_low: bool) -> None:
    chips = Chips()
    pins = LinePins(api(chips))
    relay = pins.output("gpiochip0:5", active_low, False)
    relay.write(True)
    assert relay.read()
    relay.write(False)
    assert not relay.read()
    assert [level for _, _, level in chips.outputs] == [active_low, not active_low, active_low]


@apis
def test_an_output_as_it_is_found(api: Callable[[Chips], Any]) -> None:
    chips = Chips()
    chips.levels[("gpiochip0", 5)] = 1
    assert LinePins(api(chips)).output("gpiochip0:5", False, None).read()
    assert chips.outputs == [("gpiochip0", 5, 1)]


@apis
def test_a_line_is_taken_once_and_kept(api: Callable[[Chips], Any]) -> None:
    chips = Chips()
    pins = LinePins(api(chips))
    pins.output("gpiochip0:5", False, True)
    assert pins.output("gpiochip0:5", False, None).read()
    pins.quiet()
    assert chips.held == {("gpiochip0", 5)}
    with pytest.raises(OperatorError, match="gpio pin gpiochip0:5: Device or resource busy"):
        LinePins(api(chips)).output("gpiochip0:5", False, True)
    with pytest.raises(OperatorError, match="gpio pin gpiochip7:5: No such file"):
        pins.output("gpiochip7:5", False, True)


@apis
def test_a_button(api: Callable[[Chips], Any]) -> None:
    chips = Chips()
    pins = LinePins(api(chips))
    pressed = threading.Semaphore(0)
    calls: list[str] = []

    def call() -> None:
        calls.append(threading.current_thread().name)
        pressed.release()

    pins.button("gpiochip0:7", call)
    pins.button("gpiochip0:8", call)
    chips.press(7, at=10.0)
    assert pressed.acquire(timeout=5)
    chips.press(8, at=11.0)
    assert pressed.acquire(timeout=5)
    assert calls == ["gpio buttons"] * 2
    pins.quiet()
    assert not [t for t in threading.enumerate() if t.name == "gpio buttons"]
    pins.button("gpiochip0:7", call)
    chips.press(7, at=12.0)
    assert pressed.acquire(timeout=5)
    pins.quiet()


def test_v1_filters_a_bouncing_contact_itself() -> None:
    chips = Chips()
    pins = LinePins(v1(chips))
    pressed = threading.Semaphore(0)
    pins.button("gpiochip0:7", pressed.release)
    chips.press(7, at=10.0)
    assert pressed.acquire(timeout=5)
    chips.press(7, at=10.002)
    chips.press(7, at=12.0)
    assert pressed.acquire(timeout=5)
    pins.quiet()
    assert not pressed.acquire(blocking=False)


def test_pwm_of_the_kernel(tmp_path: Path) -> None:
    channel = tmp_path / "pwmchip0" / "pwm1"
    channel.mkdir(parents=True)
    (tmp_path / "pwmchip0" / "export").write_text("")
    pwm = LinePins(v2(Chips()), tmp_path).pwm("pwmchip0:1", 1000)
    pwm.write(0.1)
    assert (channel / "period").read_text() == "1000000"
    assert (channel / "duty_cycle").read_text() == "100000"
    assert (channel / "enable").read_text() == "1"
    assert pwm.read() == 0.1


def test_a_line_has_no_pwm(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match="a line has no PWM"):
        LinePins(v2(Chips())).pwm("gpiochip0:5", 1000)
    with pytest.raises(OperatorError, match="gpio pwm_pin pwmchip3:0"):
        LinePins(v2(Chips()), tmp_path).pwm("pwmchip3:0", 1000)


def test_what_to_install_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setattr(gpio, "_opened", {})
    monkeypatch.setitem(sys.modules, "gpiod", None)
    with pytest.raises(OperatorError, match="opkg install python3-gpiod"):
        gpio.open_pins(["gpiochip0:5"])
    monkeypatch.setitem(sys.modules, "hardware.gpio_zero", None)
    with pytest.raises(OperatorError, match=r"pip install 'smartema\[gpio\]'"):
        gpio.open_pins(["18"])


def test_a_machine_without_pins_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    zero = pytest.importorskip("hardware.gpio_zero")
    monkeypatch.setattr(gpio, "_opened", {})
    monkeypatch.setenv("GPIOZERO_PIN_FACTORY", "native")
    monkeypatch.setattr(zero.Device, "_default_pin_factory", staticmethod(_no_factory))
    with pytest.raises(OperatorError, match="no pins on this machine"):
        gpio.open_pins(["18"])


def _no_factory() -> None:
    from gpiozero.exc import BadPinFactory

    raise BadPinFactory("Unable to load any default pin factory!")


def test_gpiozero_mock() -> None:
    pytest.importorskip("gpiozero")
    pins = gpio.simulated_pins()
    relay = pins.output("5", True, False)
    assert not relay.read()
    pwm = pins.pwm("18", 1000)
    pwm.write(1.7)
    assert pwm.read() == 1.0
    pressed: list[int] = []
    pins.button("17", lambda: pressed.append(1))
    button: Any = pins.factory.pin("GPIO17")  # type: ignore[attr-defined]
    button.drive_low()
    button.drive_high()
    button.drive_low()
    pins.quiet()
    button.drive_high()
    button.drive_low()
    assert pressed == [1, 1]
    with pytest.raises(OperatorError, match="gpio pin 99"):
        pins.output("99", False, False)
