"""A router without a battery clock starts in 1970: the last threshold holds until NTP has spoken."""

from __future__ import annotations

import asyncio
import random
import time
from pathlib import Path

from gateway.clock import EARLIEST_TRUSTED_WALL, Instant, SystemClock
from gateway.config.load import load
from gateway.daemon import Daemon
from tests.support.mosquitto import Mosquitto, free_port
from tests.support.process import Agents, EmsBeside, lamps, toml
from tests.support.wait import until


class WrongClock(SystemClock):
    """The machine's clock, ``off`` seconds beside it until NTP steps it."""

    def __init__(self, off: float = 0.0) -> None:
        self.off = off

    def now(self) -> Instant:
        wall = time.time() + self.off
        return Instant(self.monotonic(), wall, wall >= EARLIEST_TRUSTED_WALL)


async def started(path: Path, clock: WrongClock) -> tuple[Daemon, asyncio.Task[None]]:
    daemon = Daemon(load(path), clock, random.Random(1), serve_socket=False)
    running = asyncio.create_task(daemon.run())
    await asyncio.wait_for(daemon.ready.wait(), 20)
    return daemon, running


async def ended(daemon: Daemon, running: asyncio.Task[None]) -> None:
    daemon.stop()
    await asyncio.wait_for(running, 20)


async def test_start_in_1970(tmp_path: Path, mosquitto: Mosquitto) -> None:
    path = tmp_path / "gateway.toml"
    site = {"host": "127.0.0.1", "port": mosquitto.port}
    path.write_text(
        toml(
            {
                "ema": {"state_dir": str(tmp_path / "state")},
                "control": {"threshold_w": 1000, "restore_delay_s": 0},
                "reports": {"period_s": 0.5},
                "site_broker": site,
                "upstream": [{"name": "ems", "timezone": "UTC", **site}],
                "device": lamps(1, 2, 3),
            }
        )
    )
    ems, agents, clock = EmsBeside(tmp_path / "ems", mosquitto.port), Agents(), WrongClock()
    await ems.start()
    for number in (1, 2, 3):
        agents.mqtt(mosquitto.port, agents.lamp(number, 100.0))
    daemon, running = await started(path, clock)
    try:
        await until(lambda: "gw/1" in ems.book.emas and agents.watts == 300, 20, "registered")
        await until(lambda: daemon.engine.power().watts == 300, 20, "all are seen")
        first = await ems.event(200)
        await ems.answered(first)
        await until(lambda: agents.watts <= 200, 20, "shed")
        await ended(daemon, running)

        clock.off = -time.time() + 1000.0
        daemon, running = await started(path, clock)
        assert daemon.engine.clock.now().trusted is False
        # The event's times say nothing now; what held when the daemon ended holds.
        assert daemon.engine.limit(clock.now()).import_w == 200
        agents.runners[1].key(11)
        await until(lambda: daemon.engine.power().watts > 0, 20, "devices came")
        await until(lambda: agents.watts <= 200, 20, "the last threshold holds")
        # An event that comes now is taken; it can be judged only when the clock is.
        second = await ems.ems.change_event(first.id, value_w=120)
        await ems.answered(second)
        assert daemon.engine.limit(clock.now()).import_w == 200

        clock.off = 0.0
        await until(lambda: daemon.engine.limit(clock.now()).import_w == 120, 20, "judged once the clock is right")
        await until(lambda: agents.watts <= 120, 20, "and carried out")
        await ems.ems.cancel_event(first.id)
        await until(lambda: agents.watts == 300, 30, "its end is its end")
        stored = ems.stored()
        assert len(stored) == len(set(stored))
        boots = sorted({boot for boot, _ in stored})
        assert boots == [boots[0], boots[0] + 1], "a start by a wrong clock is the next one all the same"
        await until(lambda: daemon.outbox_status()["waiting"] == 0, 20, "all is acknowledged")
        assert daemon.outbox_status()["lost"] == 0
    finally:
        await ended(daemon, running)
        await agents.stop()
        await ems.stop()


async def test_the_wall_clock_jumps(tmp_path: Path) -> None:
    """NTP steps by hours either way: devices are not lost over it, no lease ends, and control goes on."""
    path = tmp_path / "gateway.toml"
    port = free_port()
    path.write_text(
        toml(
            {
                "ema": {"state_dir": str(tmp_path / "state")},
                "control": {"threshold_w": 250, "restore_delay_s": 0},
                "site_broker": {"port": port, "anonymous": True},
                "device": lamps(1, 2, 3),
            }
        )
    )
    agents, clock = Agents(), WrongClock()
    daemon, running = await started(path, clock)
    try:
        for number in (1, 2, 3):
            agents.mqtt(port, agents.lamp(number, 100.0), period_s=0.3)
        await until(lambda: 0 < agents.watts <= 250 and len(daemon.engine.states) == 3, 20, "the limit holds")
        for jump in (7200.0, -7200.0):
            clock.off += jump
            decisions = daemon.engine.journal.decisions(1000)
            turns = daemon.engine.turns
            await until(lambda turns=turns: daemon.engine.turns > turns + 5, 20, "control goes on")
            assert agents.watts <= 250
            assert all(s.present for s in daemon.engine.states.values())
            rules = [d.rule.value for d in daemon.engine.journal.decisions(1000)[len(decisions) :]]
            assert not {"failsafe", "futility", "alarm"} & set(rules)
    finally:
        await ended(daemon, running)
        await agents.stop()
