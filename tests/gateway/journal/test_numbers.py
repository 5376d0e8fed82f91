"""No number comes twice: journals that were wiped, brought back, or lived on a full disk; with and without a clock."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import pytest

from gateway.clock import ManualClock
from gateway.config.model import JournalConfig
from gateway.journal import Connector, Journal, numbers
from gateway.links.mir2017.messages.requests import MOST_BOOT, MOST_SEQ, request_id
from tests.gateway.journal.disk import Disk
from tests.gateway.journal.samples import report

CONFIG = JournalConfig()
WALL = 1_760_000_000.0
UNSET = 100.0  # 1970


class Used:
    """Every number that was ever given; the second time is a failure."""

    def __init__(self) -> None:
        self.commands: set[int] = set()
        self.decisions: set[int] = set()
        self.requests: set[int] = set()

    def by(self, journal: Journal, many: int = 3) -> None:
        for _ in range(many):
            record = journal.append(report(1.0))
            for number, known in (
                (journal.next_command_id(), self.commands),
                (journal.next_decision_id(), self.decisions),
                (request_id(record.boot, record.seq), self.requests),
            ):
                assert number not in known
                known.add(number)


# A process that was killed closes nothing.
_killed: list[Journal] = []


def open_on(connector: Connector, clock: ManualClock) -> Journal:
    home = Path("/virtual")
    journal = Journal.open(home, home, CONFIG, clock, connector=connector, threaded=False)
    journal.reader("ems")
    _killed.append(journal)
    return journal


@pytest.fixture(autouse=True)
def _no_directories(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.journal.store.make_directory", lambda directory: None)


def test_wiped_again_and_again() -> None:
    """Each life starts three times, a third of a second apart; then somebody deletes it, all within minutes."""
    clock, used = ManualClock(wall=WALL), Used()
    for _ in range(40):
        disk = Disk()
        for _ in range(3):
            clock.jump_wall(0.3)
            used.by(open_on(disk.kill(), clock), many=20)
    last = max(used.commands)
    clock.jump_wall(86_400.0)
    used.by(open_on(Disk().boot(), clock))
    assert max(used.commands) > last


def test_only_one_file_wiped() -> None:
    """The other one tells, though the clock is not set."""
    for name in ("essential", "outbox"):
        clock, used, disk = ManualClock(wall=UNSET), Used(), Disk()
        used.by(open_on(disk.boot(), clock))
        connector = disk.kill()
        for path in [path for path in disk.files if name in path]:
            del disk.files[path]
        used.by(open_on(connector, clock))


def test_brought_back_from_a_backup() -> None:
    clock, used, disk = ManualClock(wall=WALL), Used(), Disk()
    used.by(open_on(disk.boot(), clock))
    disk.kill()
    backup = {name: bytes(file.current) for name, file in disk.files.items()}
    for _ in range(5):
        clock.jump_wall(120.0)
        used.by(open_on(disk.kill(), clock))
    connector = disk.kill()
    for name, content in backup.items():
        disk.files[name].current = bytearray(content)
    clock.jump_wall(120.0)
    used.by(open_on(connector, clock))


def test_a_full_disk_that_outlasts_the_reserve_and_a_kill(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(numbers, "BLOCK", 8)
    clock, used, disk = ManualClock(wall=WALL), Used(), Disk()
    connector = disk.boot()
    for _ in range(6):
        journal = open_on(connector, clock)
        disk.room = 0
        for _ in range(50):
            clock.jump_wall(0.001)
            used.by(journal, many=1)
        assert "go on beyond" not in caplog.text
        connector = disk.kill()
        disk.room = None
        clock.jump_wall(0.3)


def test_a_full_disk_without_a_clock_says_what_may_happen(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(numbers, "BLOCK", 8)
    clock, used, disk = ManualClock(wall=UNSET), Used(), Disk()
    journal = open_on(disk.boot(), clock)
    disk.room = 0
    used.by(journal, many=50)
    assert caplog.text.count("numbers go on beyond those reserved on disk") == 2, "once for each kind"
    disk.room = None
    used.by(journal)
    assert caplog.text.count("numbers are reserved on disk again") == 2
    used.by(open_on(disk.kill(), clock))


def test_without_a_clock_they_begin_anew_and_take_it_up_when_it_is_set(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    clock, disk = ManualClock(wall=UNSET), Disk()
    journal = open_on(disk.boot(), clock)
    assert (journal.boot, journal.next_command_id()) == (1, 1)
    assert "numbers begin anew" in caplog.text
    clock.jump_wall(WALL - UNSET)
    told = numbers.number_of(clock.now())
    assert journal.next_command_id() == told
    assert journal.next_decision_id() == told
    again = open_on(disk.kill(), ManualClock(wall=UNSET))
    assert again.next_command_id() > told
    assert again.boot == 2


def test_a_device_that_knows_a_greater_number_moves_them_on() -> None:
    clock, disk = ManualClock(wall=UNSET), Disk()
    journal = open_on(disk.boot(), clock)
    journal.used_command_id(90_000)
    journal.used_command_id(17)
    assert journal.next_command_id() == 90_001
    journal.used_command_id(2**53 - 1)  # nobody was given that: it would leave no numbers
    assert journal.next_command_id() == 90_002
    assert open_on(disk.kill(), clock).next_command_id() > 90_002


@pytest.mark.parametrize("years", [12, 60, 300])
def test_a_clock_far_in_the_future_leaves_numbers(years: int) -> None:
    disk = Disk()
    clock = ManualClock(wall=WALL + years * 31_557_600.0)
    for _ in range(2):
        journal = open_on(disk.kill(), clock)
        assert journal.boot < MOST_BOOT - 100_000
        assert journal.next_command_id() < 2**53 - 2**40
        record = journal.append(report(1.0))
        assert record.seq < MOST_SEQ - 2**29
        clock.jump_wall(-years * 31_557_600.0)  # somebody set it right


async def test_what_a_damaged_file_says_does_not_use_them_up(tmp_path: Path) -> None:
    from gateway.journal.opening import _salvage

    journal = Journal.open(tmp_path, tmp_path, CONFIG, ManualClock())
    command = journal.next_command_id()
    await journal.close()
    connection = Connector().write(tmp_path / "essential.db")
    connection.execute("UPDATE counter SET value = ? WHERE name = 'boot'", (2**60,))
    connection.execute("UPDATE counter SET value = ? WHERE name = 'decision'", (-5,))
    connection.close()
    shutil.copy(tmp_path / "essential.db", tmp_path / "damaged.db")
    found = _salvage(Connector(), tmp_path / "damaged.db")
    assert "boot" not in found
    assert "decision" not in found
    assert found["command"] > command
