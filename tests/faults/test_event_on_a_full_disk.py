"""An event of the EMS arrives while the disk is full: shed at once, said as an alarm, answered once it is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.cli.status import status_lines
from gateway.verbs import Verbs
from tests.faults.test_disk_full import fill, small_disk
from tests.support.mosquitto import Mosquitto
from tests.support.process import Agents, Ema, EmsBeside, closing, lamps, toml
from tests.support.wait import until

__all__ = ["small_disk"]

DEVICES = range(1, 6)


def tables(mosquitto: Mosquitto) -> dict:
    here = {"host": "127.0.0.1", "port": mosquitto.port}
    return {
        "control": {"restore_delay_s": 0},
        "reports": {"period_s": 0.5},
        "site_broker": here,
        "upstream": [{"name": "ems", "mode": 1, "timezone": "UTC", **here}],
        "device": lamps(*DEVICES),
    }


def ems_beside(tmp_path: Path, mosquitto: Mosquitto) -> EmsBeside:
    # Says an event again until it is answered.
    return EmsBeside(tmp_path / "ems", mosquitto.port, resend_s=0.2, resend_most=1000)


async def not_answered(ems: EmsBeside, event_id: int) -> None:
    """However often it is said."""
    said = "SELECT attempts, answered FROM deliveries WHERE event_id = ?"
    await until(lambda: (rows := ems.rows(said, event_id)) and rows[0][0] >= 3, 20, "it is said again")
    assert ems.rows(said, event_id)[0][1] is None


async def test_as_a_process_on_a_small_file_system(tmp_path: Path, small_disk: Path, mosquitto: Mosquitto) -> None:
    socket = {"state_dir": str(small_disk), "socket": str(tmp_path / "ema.sock")}
    ema = Ema(tmp_path / "ema", {"ema": socket, **tables(mosquitto)})
    ems, agents = ems_beside(tmp_path, mosquitto), Agents()
    async with closing(agents, ema, ems):
        await ems.start()
        await ema.start()
        for number in DEVICES:
            agents.mqtt(mosquitto.port, agents.lamp(number, 100.0), period_s=0.3)
        await ema.present(*DEVICES)
        await ema.registered()
        fill(small_disk / "filler")
        event = await ems.event(250)
        await until(lambda: agents.watts <= 250, 20, "shed at once")
        status = await ema.shows(lambda s: "the essential journal" in s["journal"]["problems"], "it is said")
        alarms = [line for line in status_lines(status) if line.startswith("ALARM: the essential journal cannot be")]
        assert len(alarms) == 1
        assert "full" in alarms[0]
        assert status["limit"]["import_w"] == 250
        await not_answered(ems, event.id)

        (small_disk / "filler").unlink()
        await ems.answered(event)
        status = await ema.shows(lambda s: not s["journal"]["problems"], "it is over")
        assert not [line for line in status_lines(status) if "cannot be written" in line]
        ema.kill()
        await ema.start()
        status = await ema.status()
        assert [(e["event_id"], e["opt"]) for e in status["events"]] == [(event.id, "in")]
        assert agents.watts <= 250
        assert "Traceback" not in ema.log()


async def test_in_one_process_on_a_simulated_disk(
    tmp_path: Path, mosquitto: Mosquitto, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same where nobody may mount anything."""
    pytest.importorskip("apsw")
    from tests.faults.test_power_cut import Machine

    path = tmp_path / "gateway.toml"
    path.write_text(toml({"ema": {"state_dir": str(tmp_path / "state")}, **tables(mosquitto)}))
    ems, agents = ems_beside(tmp_path, mosquitto), Agents()
    machine = Machine(path, monkeypatch, 1)
    await ems.start()
    daemon = await machine.start()
    try:
        for number in DEVICES:
            agents.mqtt(mosquitto.port, agents.lamp(number, 100.0), period_s=0.3)
        await until(lambda: daemon.engine.power().watts == 500, 20, "all are heard")
        await until(lambda: daemon.engine.upstreams[0].status()["state"] == "up", 20, "registered")
        await daemon.journal.durable()
        machine.disk.room = 0
        event = await ems.event(250)
        await until(lambda: agents.watts <= 250, 20, "shed at once")
        problems = lambda: daemon.journal.status()["problems"]  # noqa: E731
        await until(lambda: "the essential journal" in problems(), 20, "it is said")
        status = await Verbs(daemon).handle({"do": "status"})
        assert [line for line in status_lines(status) if line.startswith("ALARM: the essential journal cannot be")]
        await not_answered(ems, event.id)
        used = daemon.journal.newest_command_id

        machine.disk.room = None
        await ems.answered(event)
        await until(lambda: not problems(), 20, "it is over")
        # What was acknowledged is there, though the power goes now.
        machine.cut()
        await machine.gone()
        daemon = await machine.start()
        assert daemon.engine.opted("ems", event.id) == event.modification
        assert daemon.engine.limit(daemon.clock.now()).import_w == 250
        assert daemon.journal.next_command_id() > used
    finally:
        await machine.gone()
        await agents.stop()
        await ems.stop()
