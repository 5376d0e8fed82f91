"""`ack` follows control: it stops when control stands still, and what the devices forgot meanwhile is said again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from device_agents import protocol as wire
from gateway.clock import ManualClock
from gateway.config.model import ControlConfig, DeviceConfig
from gateway.field.leases import LOOKS_MISSED, SPREAD, Leases, turns_of
from gateway.field.presence import Entry, Presence
from tests.gateway.field.site import Lines, RememberingSite, listening_logger
from tests.support.site import Site

LEASE_S = 30.0
LOOK_S = LEASE_S / 3 / SPREAD


class Link:
    name = "mqtt"


class Engine(RememberingSite):
    """Control that turns when it is woken, until it hangs."""

    def __init__(self) -> None:
        super().__init__()
        self.turns = 0
        self.hangs = False

    def wake(self) -> None:
        if not self.hangs:
            self.turns += 1


class Bench:
    def __init__(self) -> None:
        logger, self.lines = listening_logger("leases")
        self.clock, self.site = ManualClock(), Engine()
        devices = (DeviceConfig(number=1), DeviceConfig(number=2))
        link: object = Link()
        self.presence = Presence(link, devices, ControlConfig(lease_s=LEASE_S), self.site, self.clock, False, logger)  # type: ignore[arg-type]
        self.acks: list[tuple[float, int]] = []
        self.leases = Leases(self.presence, self.clock, self._ack, turns_of(self.site), logger)
        self.lines: Lines
        self._seq = 0

    def _ack(self, entry: Entry) -> None:
        self.acks.append((self.clock.monotonic(), entry.number))

    def connect(self, number: int = 1, boot: int = 1) -> None:
        self.presence.came(wire.Connected(number, "led", 3, boot, None, None, ("switch",)), number)

    def state(self, number: int = 1, safe: bool = False) -> None:
        self._seq += 1
        self.presence.state(number, wire.Status(number, 1, self._seq, mw=0, on=True, safe=safe or None))


@asynccontextmanager
async def bench() -> AsyncIterator[Bench]:
    b = Bench()
    task = asyncio.create_task(b.leases.keep())
    try:
        yield b
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_ack_each_third_of_the_lease_though_idle_control_would_sleep() -> None:
    async with bench() as b:
        b.connect()
        for _ in range(9):
            await b.clock.advance(10.0)
            b.state()
        assert len(b.acks) == 9


async def test_no_ack_while_control_stands_still() -> None:
    async with bench() as b:
        b.connect(1)
        b.connect(2)
        await b.clock.advance(20.0)
        b.site.hangs = True
        hung, before = b.clock.monotonic(), len(b.acks)
        assert before == 4
        for _ in range(6):
            await b.clock.advance(10.0)
            b.state(1)
            b.state(2)
        assert all(at <= hung + (LOOKS_MISSED + 1) * LOOK_S for at, _ in b.acks[before:])
        assert b.lines.at(logging.WARNING) == [
            "mqtt: control stands still; without ack the devices go to their safe states"
        ]
        b.site.hangs = False
        stood = len(b.acks)
        await b.clock.advance(12.0)
        assert len(b.acks) >= stood + 2
        assert b.lines.at(logging.INFO) == ["mqtt: control goes on; the devices hear of us again"]
        assert not b.site.went


async def test_a_device_of_the_lab_is_asked_all_the_same() -> None:
    """It has no lease and no safe state, and is there only as long as it answers."""
    async with bench() as b:
        b.presence.came(wire.LabHello("127.0.0.1", 1, 3), 1)
        b.site.hangs = True
        for _ in range(6):
            await b.clock.advance(10.0)
            b.presence.heard(b.presence.entries[1])
        assert len(b.acks) == 6


@pytest.mark.parametrize(
    ("said", "again"),
    [
        # its own word of its lease, state by state     how often control has to say again what it wants
        ([False, True], 1),
        ([False, True, True, True], 1),
        ([False, True, False, True], 2),
        ([True, True], 0),  # it came so: what it is held to was said again when it came
        ([False, False], 0),
    ],
)
async def test_what_a_device_forgot_is_said_again(said: list[bool], again: int) -> None:
    async with bench() as b:
        b.connect()
        for safe in said:
            b.state(safe=safe)
            await b.clock.advance(2.0)
        assert b.site.lost == [1] * again
        assert len(b.site.came) == 1 + again


async def test_it_is_said_again_by_a_control_that_lives() -> None:
    async with bench() as b:
        b.connect()
        b.state()
        b.site.hangs = True
        await b.clock.advance(10.0)
        b.state(safe=True)
        await b.clock.advance(10.0)
        b.state(safe=True)
        assert len(b.site.came) == 1
        b.site.hangs = False
        await b.clock.advance(3.0)
        assert len(b.site.came) == 2


async def test_who_was_away_and_comes_in_its_safe_state_is_told_once() -> None:
    async with bench() as b:
        b.connect()
        b.state()
        await b.clock.advance(LEASE_S + 2.0)
        assert b.site.lost == [1]
        b.connect()
        b.state(safe=True)
        await b.clock.advance(5.0)
        assert (b.site.lost, len(b.site.came)) == ([1], 2)


async def test_a_control_that_fails_at_each_start_does_not_count_as_alive(
    make: Callable[..., Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = make(60.0).engine
    count = turns_of(engine)
    assert count is not None
    await asyncio.sleep(0)
    before = count()

    def fails(mono: float, wall: float) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(engine.reporter, "tick", fails)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            await engine.run()
    assert count() == before
