"""The lamp on a Pi, with gpiozero's mock pins."""

from __future__ import annotations

import pytest

pytest.importorskip("gpiozero", reason="pip install 'smartema[gpio]'")
from gpiozero.pins.mock import MockFactory, MockPWMPin

from device_agents.lamp import Lamp
from device_agents.pi import PiLamp
from device_agents.protocol import Setpoint, Status
from gateway.clock import ManualClock
from gateway.errors import OperatorError


async def test_led_and_button() -> None:
    clock = ManualClock()
    factory = MockFactory(pin_class=MockPWMPin)
    pi = PiLamp(clock, 60.0, "18", "23", factory)
    agent = Lamp(4, 3, 7, pi, 60_000)
    led = factory.pin(18)
    assert led.state == 1.0
    agent.received(Setpoint(1, 60, dimming=4).encode())
    assert led.state == pytest.approx(0.5)
    assert Status.decode(agent.status()).mw == 30_000
    await clock.advance(3600)
    assert pi.mwh() == 30_000
    agent.received(Setpoint(2, 60, on=False).encode())
    assert led.state == 0
    pressed = []
    pi.on_press(lambda: pressed.append(agent.press()))
    factory.pin(23).drive_low()
    assert pressed == [True]
    pi.close()


def test_a_pin_that_is_none() -> None:
    with pytest.raises(OperatorError, match="pin 99"):
        PiLamp(ManualClock(), 60.0, "99", None, MockFactory(pin_class=MockPWMPin))
