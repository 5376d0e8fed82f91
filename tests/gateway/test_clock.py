"""The machine's clock: time in which it was suspended counts, so that nothing looks fresh after it."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from gateway import clock as clock_module
from gateway.clock import Clock, ScaledClock, SystemClock, systemd_monotonic
from gateway.config.model import ControlConfig, DeviceConfig
from gateway.field.presence import Presence
from tests.gateway.field.site import RememberingSite, listening_logger

needs_boottime = pytest.mark.skipif(not hasattr(time, "CLOCK_BOOTTIME"), reason="this kernel does not count suspend")


class Machine:
    """Its suspended seconds, seen by CLOCK_BOOTTIME alone."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.suspended = 0.0
        real: Callable[[int], float] = time.clock_gettime
        monkeypatch.setattr(clock_module.time, "clock_gettime", lambda clock: real(clock) + self.suspended)


@needs_boottime
@pytest.mark.parametrize(("make", "speed"), [(SystemClock, 1.0), (lambda: ScaledClock(60.0), 60.0)])
def test_suspend_counts(monkeypatch: pytest.MonkeyPatch, make: Callable[[], Clock], speed: float) -> None:
    machine, clock = Machine(monkeypatch), make()
    before, instant, of_systemd = clock.monotonic(), clock.now(), systemd_monotonic()
    machine.suspended = 3600.0
    assert clock.monotonic() - before >= 3600.0 * speed
    assert clock.now().mono - instant.mono >= 3600.0 * speed
    assert systemd_monotonic() - of_systemd < 3600.0


@needs_boottime
def test_a_device_is_not_taken_for_fresh_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from device_agents.protocol import Connected

    class Link:
        name = "mqtt"

    machine, site = Machine(monkeypatch), RememberingSite()
    logger, _ = listening_logger("suspend")
    link: object = Link()
    presence = Presence(link, (DeviceConfig(number=1),), ControlConfig(), site, SystemClock(), False, logger)  # type: ignore[arg-type]
    presence.came(Connected(1, "led", 3, 1, None, None, ("switch",)), 1)
    assert presence.overdue() == []
    machine.suspended = 120.0
    assert [entry.number for entry in presence.overdue()] == [1]


def test_where_the_kernel_cannot_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock_module, "_COUNTS_SUSPEND", None)
    before = time.monotonic()
    assert before <= SystemClock().monotonic() <= time.monotonic()
