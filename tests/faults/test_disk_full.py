"""The disk runs full under a running daemon: control goes on, it is said, and it ends when there is room again."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.mosquitto import Mosquitto
from tests.support.process import Agents, Ema, EmsBeside, closing, lamps
from tests.support.wait import until

DEVICES = range(1, 6)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of 2 MB."""
    where = tmp_path / "disk"
    where.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(where)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"a file system of its own needs root: {mounted.stderr.strip()}")
    yield where
    subprocess.run(["umount", "-l", str(where)], check=True)


def fill(path: Path) -> None:
    """Take all the room there is."""
    with path.open("wb", buffering=0) as file:
        for size in (65_536, 512):
            while True:
                try:
                    if file.write(b"\0" * size) < size:
                        break
                except OSError:
                    break
        os.fsync(file.fileno())


async def test_disk_full(tmp_path: Path, small_disk: Path, mosquitto: Mosquitto) -> None:
    here = {"host": "127.0.0.1", "port": mosquitto.port}
    ema = Ema(
        tmp_path / "ema",
        {
            "ema": {"state_dir": str(small_disk), "socket": str(tmp_path / "ema.sock")},
            "control": {"threshold_w": 1000, "restore_delay_s": 0},
            "reports": {"period_s": 0.5, "change_w": 0, "change_s": 0},
            "site_broker": here,
            "upstream": [{"name": "ems", "timezone": "UTC", **here}],
            "device": lamps(*DEVICES),
        },
    )
    ems, agents = EmsBeside(tmp_path / "ems", mosquitto.port), Agents()
    async with closing(agents, ema, ems):
        await ems.start()
        await ema.start()
        for number in DEVICES:
            agents.mqtt(mosquitto.port, agents.lamp(number, 100.0), period_s=0.3)
        await ema.present(*DEVICES)
        await ema.registered()
        await ems.stop()  # what is reported from now on has to be kept
        fill(small_disk / "filler")
        status = await ema.shows(lambda s: s["journal"]["problems"], "it says so")
        problems = str(status["journal"]["problems"])
        assert "full" in problems

        # Control does not wait for the disk: what an operator takes away is taken away, and so is what is over.
        await ema.ask("device", number=1, on=False)
        await until(lambda: agents.draws(1) == 0, 20, "carried out all the same")
        ema.write({**ema.tables, "control": {"threshold_w": 250, "restore_delay_s": 0}})
        ema.hangup()
        await until(lambda: agents.watts <= 250, 20, "the limit holds all the same")
        assert (await ema.status())["power_w"] <= 400

        (small_disk / "filler").unlink()
        await ema.shows(lambda s: not s["journal"]["problems"], "it is over")
        again = EmsBeside(tmp_path / "ems", mosquitto.port)
        async with closing(again):
            await again.start()
            status = await ema.shows(lambda s: s["outbox"]["waiting"] < 10, "what was kept is sent")
            assert status["outbox"]["lost"] == 0
            stored = again.stored()
            assert len(stored) == len(set(stored))
        complaints = [line for line in ema.log().splitlines() if "full" in line and "journal" in line]
        assert 1 <= len(complaints) <= 4, ema.log()
        assert "Traceback" not in ema.log()
        assert (await ema.status())["restarts"] == {}
