"""Announcement and configuration make a resource."""

from __future__ import annotations

import pytest

from device_agents.protocol import Connected, LabHello
from gateway.config.model import ControlConfig, DeviceConfig
from gateway.field.describe import describe
from gateway.site.resource import Kind, Setpoint, Setting

CONTROL = ControlConfig(lease_s=45.0, latency_s=1.5, min_on_led_s=1.0, min_on_ev_s=60.0, min_on_relay_s=10.0)


def said(type: str, *caps: str, **more: int) -> Connected:
    return Connected(7, type, 4, 1, None, None, caps, **more)


@pytest.mark.parametrize(
    ("type", "safe", "expected"),
    [
        ("led", "", Setting(on=True)),
        ("led", "off", Setting(on=False)),
        ("ess", "", Setting(setpoint_w=0.0)),
        ("pv", "", Setting(free=True)),
        ("ev", "", Setting(setpoint_w=1380.0)),
        ("ev", "off", Setting(on=False)),
        ("ev", "free", Setting(free=True)),
        ("virtual", "", Setting(on=True)),
    ],
)
def test_the_safe_state_by_type(type: str, safe: str, expected: Setting) -> None:
    config = DeviceConfig(number=7, type=type, safe=safe)
    assert describe(config, CONTROL, said(type, "switch", "setpoint")).safe == expected


@pytest.mark.parametrize(
    ("config", "announced", "expected"),
    [
        # what the device says, where the configuration says nothing
        (None, said("ess", "setpoint", min_mw=-800_000, max_mw=500_000), Setpoint(-800.0, 500.0)),
        (DeviceConfig(number=7), said("ess", "setpoint", min_mw=-800_000, max_mw=500_000), Setpoint(-800.0, 500.0)),
        # the configuration wins
        (
            DeviceConfig(number=7, min_w=-300.0, max_w=200.0),
            said("ess", "setpoint", min_mw=-9),
            Setpoint(-300.0, 200.0),
        ),
        # nobody says
        (None, said("ev", "switch", "setpoint"), Setpoint(1380.0, 7360.0, 230.0)),
        (None, said("ess", "setpoint"), Setpoint(-1000.0, 1000.0)),
        (None, said("pv", "setpoint"), Setpoint(-5000.0, 0.0)),
        (DeviceConfig(number=7, rated_w=900.0), said("pv", "setpoint"), Setpoint(-900.0, 0.0)),
        # a lamp has none; a device without the capability has none
        (None, said("led", "switch", "level"), None),
        (None, said("ess", "switch"), None),
        # a form of the lab only switches
        (DeviceConfig(number=7, type="ess"), LabHello("10.0.0.1", None, 3), None),
    ],
)
def test_the_set_point(config: DeviceConfig | None, announced: Connected | LabHello, expected: Setpoint | None) -> None:
    assert describe(config, CONTROL, announced).setpoint == expected


def test_names_priorities_times() -> None:
    plain = describe(None, CONTROL, said("led", "switch", "level"))
    assert (plain.name, plain.number, plain.priority) == ("led-7", 7, 4)
    assert (plain.switch, plain.levels, plain.gives) == (True, True, False)
    assert (plain.lease_s, plain.latency_s, plain.min_on_s, plain.min_off_s) == (45.0, 1.5, 1.0, 1.0)
    config = DeviceConfig(number=7, name="hall", priority=0, latency_s=0.2, min_on_s=5.0, never_shed=True)
    named = describe(config, CONTROL, said("led", "switch"))
    assert (named.name, named.priority, named.latency_s, named.min_on_s) == ("hall", 0, 0.2, 5.0)
    assert named.never_shed


@pytest.mark.parametrize(
    ("config", "minimum"),
    [
        (DeviceConfig(number=1, type="ev"), 60.0),
        (DeviceConfig(number=1, type="pv"), 0.0),
        (DeviceConfig(number=1, link="gpio", pin="4"), 10.0),
        (DeviceConfig(number=1, link="gpio", pwm_pin="4"), 1.0),
        (DeviceConfig(number=1, link="gpio", type="ess"), 10.0),
        (DeviceConfig(number=1, link="gpio", type="ev"), 60.0),
    ],
)
def test_minimum_times_by_type(config: DeviceConfig, minimum: float) -> None:
    announced = None if config.link == "gpio" else Connected(1, config.type, 0, 1, None, None, ())
    assert describe(config, CONTROL, announced).min_off_s == minimum


def test_the_reserve_is_the_narrower_of_the_two() -> None:
    config = DeviceConfig(number=7, type="ess", floor_soc=10.0, ceiling_soc=99.0)
    ess = describe(config, CONTROL, said("ess", "setpoint", min_soc=150, max_soc=900))
    assert (ess.floor_soc, ess.ceiling_soc) == (15.0, 90.0)
    assert ess.gives


def test_the_devices_own_word_on_its_type() -> None:
    assert describe(DeviceConfig(number=7), CONTROL, said("ev", "setpoint")).kind is Kind.EV
    assert describe(DeviceConfig(number=7, type="pv"), CONTROL, LabHello("10.0.0.1", None, 3)).kind is Kind.PV
    assert describe(None, CONTROL, LabHello(None, 9, 3, "ess")).name == "ess-9"


def test_what_pins_can_do() -> None:
    lamp = describe(DeviceConfig(number=1, link="gpio", pin="4"), CONTROL, None)
    assert (lamp.switch, lamp.levels) == (True, False)
    ess = describe(DeviceConfig(number=1, link="gpio", type="ess", min_w=-500, max_w=300), CONTROL, None)
    assert (ess.switch, ess.setpoint) == (False, Setpoint(-500.0, 300.0, 500.0))
    assert describe(DeviceConfig(number=1, link="gpio", type="ev"), CONTROL, None).latency_s == 5.0
