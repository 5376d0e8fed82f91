"""A disk that does not come back from a write: the daemon ends in time all the same, and control goes on before."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from gateway.clock import SystemClock
from gateway.config.model import JournalConfig
from gateway.journal import Connection, Connector, Journal
from gateway.journal.essential import MOST_WAITING_DECISIONS
from tests.gateway.journal.samples import decision
from tests.support.mosquitto import Mosquitto
from tests.support.process import Agents, Ema, EmsBeside, closing, lamps
from tests.support.wait import until

# The issue's own bound for a clean end.
GONE_S = 2.0

# Commits block while the file named by HANG is there; so a child gets a disk that hangs at the test's word.
SITECUSTOMIZE = """
import os, pathlib, time
from gateway.journal import store
from gateway.journal.essential import MOST_WAITING_DECISIONS

class Hanging:
    def __init__(self, inner):
        self._inner = inner
        self.executemany, self.close = inner.executemany, inner.close
    def execute(self, sql, parameters=(), /):
        while sql == "COMMIT" and os.path.exists(os.environ["HANG"]):
            pathlib.Path(os.environ["HANG"] + "s").touch()
            time.sleep(0.01)
        return self._inner.execute(sql, parameters)

write = store.Connector.write
store.Connector.write = lambda self, path: Hanging(write(self, path))
"""


async def test_sigterm_on_a_hanging_disk(tmp_path: Path, mosquitto: Mosquitto) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(SITECUSTOMIZE)
    here = {"host": "127.0.0.1", "port": mosquitto.port}
    hang = tmp_path / "hang"
    ema = Ema(
        tmp_path / "ema",
        {
            "control": {"restore_delay_s": 0},
            "reports": {"period_s": 0.5},
            "site_broker": here,
            "upstream": [{"name": "ems", "timezone": "UTC", **here}],
            "device": lamps(1, 2),
        },
        {"PYTHONPATH": f"{tmp_path / 'site'}:{Path.cwd()}", "HANG": str(hang)},
    )
    ems, agents = EmsBeside(tmp_path / "ems", mosquitto.port), Agents()
    async with closing(agents, ema, ems):
        await ems.start()
        await ema.start()
        boot = (await ema.status())["boot"]
        for number in (1, 2):
            agents.mqtt(mosquitto.port, agents.lamp(number, 100.0), period_s=0.3)
        await ema.present(1, 2)
        await ema.registered()
        hang.touch()
        await ema.ask("device", number=1, on=False)
        await until(lambda: agents.draws(1) == 0, 20, "control does not wait for the disk")
        await until(lambda: (tmp_path / "hangs").exists(), 20, "a commit hangs")
        event = await ems.event(50)
        await until(lambda: agents.watts <= 50, 20, "nor does an event")
        await ema.ask("why", last=200)  # reads the file; answers without it
        code, took = await ema.terminate()
        assert code == 0
        assert took < GONE_S
        assert "the disk does not answer" in ema.log()
        assert "Traceback" not in ema.log()

        # As after a kill: what was said is said again, and carried out anew.
        hang.unlink()
        await ema.start()
        assert (await ema.status())["boot"] > boot
        await ema.registered()
        await ems.answered(event)
        await until(lambda: agents.watts <= 50, 20, "the limit holds")


class Slow(Connector):
    """Each commit of the essential file waits for ``seconds``."""

    seconds = 0.0

    def write(self, path: Path) -> Connection:
        inner = super().write(path)
        outer = self

        class Waits:
            executemany, close = inner.executemany, inner.close

            def execute(self, sql: str, parameters: tuple[object, ...] = (), /) -> object:
                if sql == "COMMIT" and path.name == "essential.db":
                    time.sleep(outer.seconds)
                return inner.execute(sql, parameters)

        return Waits()  # type: ignore[return-value]


@pytest.mark.parametrize(("seconds", "kept"), [(0.05, True), (1.5, False)], ids=["slow", "hanging"])
async def test_close_waits_for_a_slow_disk_and_not_for_a_hanging_one(
    tmp_path: Path, seconds: float, kept: bool, caplog: pytest.LogCaptureFixture
) -> None:
    disk = Slow()
    journal = Journal.open(tmp_path, tmp_path, JournalConfig(), SystemClock(), connector=disk)
    disk.seconds = seconds
    journal.save_value("x", "1")
    await journal.close()
    assert ("the disk does not answer" in caplog.text) is not kept
    thread = journal._writer._thread
    assert thread is not None
    await until(lambda: not thread.is_alive(), 10, "it ends when the disk comes back")
    if kept:
        again = Journal.open(tmp_path, tmp_path, JournalConfig(), SystemClock())
        assert again.value("x") == "1"
        await again.close()


async def test_old_decisions_are_not_waited_for(tmp_path: Path) -> None:
    disk = Slow()
    journal = Journal.open(tmp_path, tmp_path, JournalConfig(), SystemClock(), connector=disk)
    for number in range(100):
        journal.save_decision(decision(number, "lamp-1"))
    await journal.durable()
    assert len(journal.decisions(100)) == 100
    disk.seconds = 1.0
    journal.save_decision(decision(100, "lamp-1"))
    await until(lambda: journal._essential._file.locked(), what="the commit hangs")
    assert [d.id for d in journal.decisions(100)] == list(range(69, 101)), "those in memory"
    disk.seconds = 0.0
    await journal.durable()
    assert len(journal.decisions(1_000)) == 101
    await journal.close()


async def test_decisions_that_wait_for_a_hanging_disk_are_bounded(tmp_path: Path) -> None:
    disk = Slow()
    journal = Journal.open(tmp_path, tmp_path, JournalConfig(), SystemClock(), connector=disk)
    disk.seconds = 3.0
    journal.save_decision(decision(0, "lamp-1"))
    await until(lambda: journal._essential._file.locked(), what="the commit hangs")
    for number in range(1, 2 * MOST_WAITING_DECISIONS):
        journal.save_decision(decision(number, "lamp-1"))
    assert len(journal._essential._decisions) == MOST_WAITING_DECISIONS
    disk.seconds = 0.0
    await journal.durable()
    kept = [d.id for d in journal.decisions(10_000)]
    assert kept == [0, *range(MOST_WAITING_DECISIONS + 1, 2 * MOST_WAITING_DECISIONS)]
    assert journal.status()["dropped_decisions"] == MOST_WAITING_DECISIONS
    await journal.close()
