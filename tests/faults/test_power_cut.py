"""The power goes at the moment somebody was told: what was acknowledged is there at the next start.

The daemon in one process, on the journal's disk that loses unsynced sectors; EMS, broker and devices outside of it.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.clock import SystemClock
from gateway.config.load import load
from gateway.daemon import Daemon
from gateway.journal import Journal
from tests.support.mosquitto import Mosquitto
from tests.support.process import Agents, EmsBeside, lamps, toml
from tests.support.tap import Tap
from tests.support.wait import until

pytest.importorskip("apsw")
from tests.gateway.journal.disk import Disk


class Machine:
    """A daemon on a disk; ``cut`` takes the power from both."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
        self.path, self.disk, self.rng = path, Disk(), random.Random(seed)
        self.connector = self.disk.boot()

        def opened(*arguments: Any, **more: Any) -> Journal:
            return Journal.open(*arguments, connector=self.connector, **more)

        monkeypatch.setattr("gateway.daemon.Journal", SimpleNamespace(open=opened))
        self.daemon: Daemon | None = None

    async def start(self) -> Daemon:
        self.daemon = Daemon(load(self.path), SystemClock(), random.Random(1), serve_socket=False)
        self.running = asyncio.create_task(self.daemon.run())
        await asyncio.wait_for(self.daemon.ready.wait(), 20)
        return self.daemon

    def cut(self) -> None:
        self.connector = self.disk.cut(lambda: self.rng.random() < 0.5)

    async def gone(self) -> None:
        self.running.cancel()
        await asyncio.gather(self.running, return_exceptions=True)

    async def at(self, condition: Callable[[], object], what: str) -> None:
        """Cut the power as soon as the condition is seen to hold; then bury the process."""
        await until(condition, 20, what)
        self.cut()
        await self.gone()


@pytest.mark.parametrize("seed", range(8))
async def test_what_was_acknowledged(
    tmp_path: Path, mosquitto: Mosquitto, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    here = {"host": "127.0.0.1", "port": mosquitto.port}
    path = tmp_path / "gateway.toml"
    path.write_text(
        toml(
            {
                "ema": {"state_dir": str(tmp_path / "state")},
                "control": {"restore_delay_s": 0, "lease_s": 6},
                "reports": {"period_s": 0.5, "change_s": 0.1},
                "site_broker": here,
                "upstream": [{"name": "ems", "mode": 1, "timezone": "UTC", **here}],
                "device": lamps(1, 2, 3),
            }
        )
    )
    ems, agents = EmsBeside(tmp_path / "ems", mosquitto.port, rdr_policy="grant"), Agents()
    tap = Tap(mosquitto.port)
    machine = Machine(path, monkeypatch, seed)
    await ems.start()
    await tap.start()
    daemon = await machine.start()
    boot = daemon.journal.boot
    try:
        # A device was told "ack", and the EMS acknowledged that it came.
        for number in (1, 2, 3):
            agents.mqtt(mosquitto.port, agents.lamp(number, 100.0), period_s=0.5)
        await machine.at(lambda: all(tap.on(f"gw/1/dev/{n}/DeviceConnectACK") for n in (1, 2, 3)), "DeviceConnectACK")
        daemon = await machine.start()
        assert set(daemon.engine.states) == {1, 2, 3}

        # The EMS was told CreatedEvent.
        await until(lambda: daemon.engine.power().watts == 300, 20, "all are heard")
        event = await ems.event(150)
        await machine.at(lambda: tap.on("EMS/oadrPoll/CreatedEvent"), "CreatedEvent")
        daemon = await machine.start()
        assert daemon.engine.opted("ems", event.id) == event.modification
        assert daemon.engine.limit(daemon.clock.now()).import_w == 150

        # A device was told that its wish is granted.
        await until(lambda: not daemon.engine.awaited() and 0 < agents.watts <= 150, 20, "held, all heard")
        await until(lambda: daemon.engine.upstreams[0].status()["state"] == "up", 20, "registered")
        assert agents.runners[1].press_button()
        await machine.at(lambda: (a := agents.runners[1].agent.rdr) is not None and a.rdr == "granted", "granted")
        used = {
            int(b.split(b'"id":')[1].split(b",")[0]) for t, b in tap.heard if t.startswith("dev/") and b'"id":' in b
        }
        daemon = await machine.start()
        assert [(g.resource, g.upstream) for g in daemon.engine.grants] == [("led-1", "ems")]
        assert daemon.journal.next_command_id() > max(used)

        # And reports: each once at the EMS, whatever was cut off in between; boots never repeat.
        await until(lambda: daemon.outbox_status()["waiting"] == 0, 30, "all is acknowledged")
        stored = ems.stored()
        assert stored == sorted(set(stored))
        assert daemon.journal.boot == boot + 3
        known = ems.ems.counts()["gw/1"].stored
        await machine.at(lambda: ems.ems.counts()["gw/1"].stored > known + 2, "further reports")
        daemon = await machine.start()
        await until(lambda: daemon.outbox_status()["waiting"] == 0, 30, "all is acknowledged again")
        assert ems.stored() == sorted(set(ems.stored()))
        daemon.stop()
        await asyncio.wait_for(machine.running, 20)
    finally:
        await machine.gone()
        await agents.stop()
        await tap.stop()
        await ems.stop()
