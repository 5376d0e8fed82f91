"""Pins through gpiod: "chip:line" by libgpiod's v1 API (OpenWrt 23.05) or v2 API (OpenWrt 24.10, PyPI), and PWM
channels of the kernel ("pwmchip0:1", sysfs). A line itself has no PWM."""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gateway.errors import OperatorError
from hardware.gpio import BOUNCE_S, number_of

CONSUMER = "smartema"
SYSFS_PWM = Path("/sys/class/pwm")


class LineOutput:
    """A driven line; ``put`` and ``get`` are its API's."""

    def __init__(self, put: Callable[[bool], None], get: Callable[[], bool], active_low: bool) -> None:
        self._put = put
        self._get = get
        self._active_low = active_low

    def write(self, on: bool) -> None:
        self._put(on != self._active_low)

    def read(self) -> bool:
        return self._get() != self._active_low


class KernelPwm:
    """A PWM channel of the kernel: exact, without any load."""

    def __init__(self, pin: str, hertz: int, root: Path) -> None:
        chip, _, channel = pin.partition(":")
        base = root / chip
        self._channel = base / f"pwm{channel}"
        self._period = 1_000_000_000 // hertz
        try:
            if not self._channel.exists():
                (base / "export").write_text(channel)
            # The kernel refuses a period below the duty that is set.
            (self._channel / "duty_cycle").write_text("0")
            (self._channel / "period").write_text(str(self._period))
            (self._channel / "enable").write_text("1")
        except OSError as err:
            raise OperatorError(f"gpio pwm_pin {pin}: {err.strerror}; is there such a channel in {root}?") from err

    def write(self, duty: float) -> None:
        (self._channel / "duty_cycle").write_text(str(round(min(max(duty, 0.0), 1.0) * self._period)))

    def read(self) -> float:
        return int((self._channel / "duty_cycle").read_text()) / self._period


class LinePins:
    """``gpiod``: the module, of either API."""

    def __init__(self, gpiod: Any, pwm_root: Path = SYSFS_PWM) -> None:
        self._api: _V1 | _V2 = _V2(gpiod) if hasattr(gpiod, "request_lines") else _V1(gpiod)
        self.name = f"gpiod {'v2' if isinstance(self._api, _V2) else 'v1'}"
        self._pwm_root = pwm_root
        self._outputs: dict[str, LineOutput] = {}
        self._buttons: dict[str, Any] = {}
        self._watcher: _Watcher | None = None

    def output(self, pin: str, active_low: bool, initial: bool | None) -> LineOutput:
        chip, line = _place(pin)
        held = self._outputs.get(pin)
        if held is not None:
            if initial is not None:
                held.write(initial)
            return held
        try:
            level = None if initial is None else initial != active_low
            put, get = self._api.output(chip, line, level)
        except OSError as err:
            raise OperatorError(f"gpio pin {pin}: {err.strerror or err}") from err
        made = self._outputs[pin] = LineOutput(put, get, active_low)
        return made

    def pwm(self, pin: str, hertz: int) -> KernelPwm:
        if not pin.startswith("pwmchip"):
            raise OperatorError(
                f"gpio pwm_pin {pin}: a line has no PWM; name a channel of the kernel such as pwmchip0:1"
            )
        return KernelPwm(pin, hertz, self._pwm_root)

    def button(self, pin: str, pressed: Callable[[], None]) -> None:
        try:
            if pin not in self._buttons:
                self._buttons[pin] = self._api.button(*_place(pin))
        except OSError as err:
            raise OperatorError(f"gpio button_pin {pin}: {err.strerror or err}") from err
        if self._watcher is None:
            self._watcher = _Watcher()
        descriptor, drain = self._buttons[pin]
        self._watcher.add(descriptor, drain, pressed)

    def quiet(self) -> None:
        if self._watcher is not None:
            self._watcher.stop()
            self._watcher = None


class _Watcher:
    """One thread that sleeps until a button's line has an edge."""

    def __init__(self) -> None:
        self._poll = select.poll()
        self._calls: dict[int, tuple[Callable[[], int], Callable[[], None]]] = {}
        self._stop_read, self._stop_write = os.pipe()
        self._poll.register(self._stop_read, select.POLLIN)
        self._thread = threading.Thread(target=self._run, name="gpio buttons", daemon=True)
        self._thread.start()

    def add(self, descriptor: int, drain: Callable[[], int], pressed: Callable[[], None]) -> None:
        self._calls[descriptor] = (drain, pressed)
        self._poll.register(descriptor, select.POLLIN)
        # poll() looks at what was registered when it began.
        os.write(self._stop_write, b"+")

    def stop(self) -> None:
        os.write(self._stop_write, b"x")
        self._thread.join(1.0)
        os.close(self._stop_read)
        os.close(self._stop_write)

    def _run(self) -> None:
        while True:
            for descriptor, _ in self._poll.poll():
                if descriptor == self._stop_read:
                    if b"x" in os.read(self._stop_read, 64):
                        return
                    continue
                drain, pressed = self._calls[descriptor]
                if drain():
                    pressed()


class _V1:
    """libgpiod 1.x: a line is got from its chip and requested."""

    def __init__(self, gpiod: Any) -> None:
        self._gpiod = gpiod
        self._chips: dict[str, Any] = {}

    def _line(self, chip: str, line: int) -> Any:
        if chip not in self._chips:
            self._chips[chip] = self._gpiod.Chip(chip)
        return self._chips[chip].get_line(line)

    def output(self, chip: str, line: int, level: bool | None) -> tuple[Callable[[bool], None], Callable[[], bool]]:
        gpiod = self._gpiod
        found = self._line(chip, line)
        if level is None:
            found.request(consumer=CONSUMER, type=gpiod.LINE_REQ_DIR_AS_IS)
            level = bool(found.get_value())
            found.release()
        found.request(consumer=CONSUMER, type=gpiod.LINE_REQ_DIR_OUT, default_val=int(level))
        return (lambda on: found.set_value(int(on))), (lambda: bool(found.get_value()))

    def button(self, chip: str, line: int) -> tuple[int, Callable[[], int]]:
        gpiod = self._gpiod
        found = self._line(chip, line)
        # Bias came with libgpiod 1.5; before it the button needs a resistor of its own.
        flags = getattr(gpiod, "LINE_REQ_FLAG_BIAS_PULL_UP", 0)
        found.request(consumer=CONSUMER, type=gpiod.LINE_REQ_EV_FALLING_EDGE, flags=flags)
        last = [float("-inf")]

        def drain() -> int:
            event = found.event_read()
            at = float(event.sec) + float(event.nsec) / 1e9
            bounced = at - last[0] < BOUNCE_S
            last[0] = at
            return 0 if bounced else 1

        return found.event_get_fd(), drain


class _V2:
    """libgpiod 2.x: lines are requested from a chip's path with their settings."""

    def __init__(self, gpiod: Any) -> None:
        self._gpiod = gpiod

    def _request(self, chip: str, line: int, **settings: Any) -> Any:
        path = chip if chip.startswith("/") else f"/dev/{chip}"
        config = {line: self._gpiod.LineSettings(**settings)}
        return self._gpiod.request_lines(path, consumer=CONSUMER, config=config)

    def output(self, chip: str, line: int, level: bool | None) -> tuple[Callable[[bool], None], Callable[[], bool]]:
        kinds = self._gpiod.line
        if level is None:
            found = self._request(chip, line, direction=kinds.Direction.AS_IS)
            level = found.get_value(line) == kinds.Value.ACTIVE
            found.release()
        request = self._request(chip, line, direction=kinds.Direction.OUTPUT, output_value=self._value(level))
        return (
            lambda on: request.set_value(line, self._value(on)),
            lambda: bool(request.get_value(line) == kinds.Value.ACTIVE),
        )

    def _value(self, on: bool) -> Any:
        value = self._gpiod.line.Value
        return value.ACTIVE if on else value.INACTIVE

    def button(self, chip: str, line: int) -> tuple[int, Callable[[], int]]:
        from datetime import timedelta

        kinds = self._gpiod.line
        request = self._request(
            chip,
            line,
            edge_detection=kinds.Edge.FALLING,
            bias=kinds.Bias.PULL_UP,
            debounce_period=timedelta(seconds=BOUNCE_S),
        )
        return request.fd, lambda: len(request.read_edge_events())


def _place(pin: str) -> tuple[str, int]:
    chip, colon, _ = pin.rpartition(":")
    return (chip if colon else "gpiochip0"), number_of(pin)
