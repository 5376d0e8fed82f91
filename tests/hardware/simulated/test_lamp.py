"""A lamp's energy is what it drew, for as long as it drew it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardware.simulated.lamp import Lamp
from tests.device_agents.twins import Time


@given(steps=st.lists(st.tuples(st.booleans(), st.integers(0, 9), st.floats(0, 1e5)), max_size=20))
def test_energy_is_power_times_time(steps: list[tuple[bool, int, float]]) -> None:
    time = Time(0.0)
    lamp = Lamp(time, 60.0)
    expected = 0.0
    for on, level, seconds in steps:
        lamp.set(on, level)
        assert lamp.power_w == pytest.approx(6.0 * (level + 1) if on else 0.0)
        time.now += seconds
        expected += lamp.power_w * seconds / 3600
    assert lamp.energy_wh == pytest.approx(expected)


@pytest.mark.parametrize("level", [-1, 10])
def test_no_other_levels(level: int) -> None:
    with pytest.raises(ValueError, match="level"):
        Lamp(Time(), 60.0).set(True, level)
