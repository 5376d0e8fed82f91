"""Another configuration for devices on pins: what is wired as before keeps its outputs, its state and its lease."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.config.model import ControlConfig, DeviceConfig
from gateway.errors import OperatorError
from gateway.site.resource import Setting
from tests.gateway.field.test_gpio import ESS, EV, LAMP, RELAY, SUN, Bench, bench
from tests.support.wait import until

CONTROL = ControlConfig(lease_s=60.0)


def watch(b: Bench, *pins: int) -> None:
    for pin in pins:
        b.pin(pin).clear_states()


def moves(b: Bench, pin: int) -> int:
    """How often its level was written since ``watch``."""
    return len(b.pin(pin).states) - 1


async def test_a_new_lamp_leaves_the_others_alone() -> None:
    async with bench(LAMP, RELAY) as b:
        await b.tell(1, 2, Setting(on=False))
        before = len(b.site.readings)
        watch(b, 4, 5, 18)
        b.adapter.configure((LAMP, RELAY, EV), CONTROL)
        assert [moves(b, pin) for pin in (4, 5, 18)] == [0, 0, 0]
        assert b.levels(4, 18, 5, 13) == [1, 1, 1, 1]
        assert b.site.went == []
        assert [r.name for r in b.site.came[2:]] == ["car"]
        assert len(b.site.readings) == before + 1
        await b.tell(2, 5, Setting(setpoint_w=8 * 230.0))
        assert b.site.last(5).power_w == 8 * 230.0


@pytest.mark.parametrize(
    ("after", "exits", "left"),
    [
        (replace(RELAY, pin="22"), "safe", 0),  # closed (active low): its safe state is on
        (replace(RELAY, pin="22"), "off", 1),
        (replace(RELAY, pin="22"), "keep", 1),
    ],
)
async def test_another_pin(after: DeviceConfig, exits: str, left: int) -> None:
    relay = replace(RELAY, exit=exits)
    async with bench(LAMP, relay) as b:
        await b.tell(1, 2, Setting(on=False))
        watch(b, 4, 18)
        b.adapter.configure((LAMP, replace(after, exit=exits)), CONTROL)
        assert [moves(b, pin) for pin in (4, 18)] == [0, 0]
        assert b.levels(5) == [left]  # its exit state
        assert b.site.went == [(2, "its wiring changed")]
        assert b.site.came[-1].name == "heater"
        await b.tell(2, 2, Setting(on=True))
        assert b.levels(22) == [0]


async def test_one_that_is_taken_out() -> None:
    async with bench(LAMP, SUN, ESS) as b:
        await b.tell(1, 4, Setting(setpoint_w=-500.0))
        await until(lambda: b.levels(12) == [1])
        b.adapter.configure((LAMP, SUN), CONTROL)
        assert b.site.went == [(4, "taken out of the configuration")]
        assert b.levels(10, 11, 12) == [0, 0, 0]
        assert b.adapter.status()["here"] == 2


async def test_another_priority_is_told_and_moves_no_pin() -> None:
    async with bench(LAMP, RELAY) as b:
        await b.tell(1, 2, Setting(on=False))
        watch(b, 4, 5, 18)
        b.adapter.configure((LAMP, replace(RELAY, priority=9, exit="off")), CONTROL)
        assert [moves(b, pin) for pin in (4, 5, 18)] == [0, 0, 0]
        assert b.site.came[-1].priority == 9
        assert b.site.went == []
        assert b.adapter.status()["outputs"] == {
            "lamp": {"exit": "safe", "without_power": "off"},
            "heater": {"exit": "off", "without_power": "off"},
        }


async def test_pins_that_change_places() -> None:
    """Each takes what the other held: the old ones let go first."""
    one, other = replace(RELAY, number=6, pin="20"), replace(RELAY, number=7, pin="21")
    async with bench(LAMP, one, other) as b:
        b.adapter.configure((LAMP, replace(one, pin="21"), replace(other, pin="20")), CONTROL)
        await b.tell(1, 6, Setting(on=False))
        assert b.levels(20, 21) == [0, 1]


async def test_a_pin_that_is_not_to_be_had_changes_nothing() -> None:
    async with bench(LAMP, RELAY) as b:
        await b.tell(1, 2, Setting(on=False))
        watch(b, 4, 5, 18)
        with pytest.raises(OperatorError, match="pin 99"):
            b.adapter.configure((LAMP, replace(RELAY, pin="22"), replace(ESS, pin="99")), CONTROL)
        assert [moves(b, pin) for pin in (4, 5, 18)] == [0, 0, 0]
        assert b.site.went == []
        await b.tell(2, 2, Setting(on=True))
        assert b.levels(5) == [0]


async def test_a_button_that_moved() -> None:
    async with bench(LAMP, RELAY) as b:
        b.adapter.configure((replace(LAMP, button_pin="23"), RELAY), CONTROL)
        await b.tell(1, 1, Setting(on=False))
        b.pin(23).drive_low()
        await until(lambda: b.site.asked, what="its RDR")
        b.pin(17).drive_low()
        b.pin(23).drive_high()
        b.pin(23).drive_low()
        await until(lambda: len(b.site.asked) == 2)
        assert b.adapter.presses == 2


async def test_another_lease_holds_from_then_on() -> None:
    async with bench(RELAY, pulse=lambda: 7) as b:
        await b.tell(1, 2, Setting(on=False))
        b.adapter.configure((RELAY,), replace(CONTROL, lease_s=10.0))
        for _ in range(12):
            await b.clock.advance(1.0)
        assert b.levels(5) == [0]
