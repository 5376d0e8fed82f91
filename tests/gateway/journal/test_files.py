"""Files that are damaged, full, not ours, or of another version."""

from __future__ import annotations

import logging
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.clock import ManualClock
from gateway.config.model import JournalConfig
from gateway.errors import OperatorError
from gateway.journal import Journal, JournalError
from gateway.journal.store import newest
from gateway.upstream.base import OutboxReader
from tests.gateway.journal.samples import command, decision, lamp, report
from tests.support.wait import until

CONFIG = JournalConfig()
# A minute after ``start``'s clock.
LATER = 1_760_000_060.0


def start(state: Path, outbox: Path | None = None, config: JournalConfig = CONFIG) -> Journal:
    return Journal.open(state, outbox or state, config, ManualClock())


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB."""
    place = tmp_path / "small"
    place.mkdir()
    mount = shutil.which("mount")
    if (
        mount is None
        or subprocess.run(
            [mount, "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)], capture_output=True, check=False
        ).returncode
    ):
        pytest.skip("no right to mount a small file system; test_power_cut.py fills a simulated disk")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


# --- damage ---


@pytest.mark.parametrize("damage", ["garbage", "truncated", "header"])
async def test_a_damaged_outbox_is_set_aside_and_counted(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    journal = start(tmp_path)
    journal.reader("ems")
    for n in range(300):
        journal.append(report(float(n), 10))
    journal.save_value("x", "1")
    boot = journal.boot
    await journal.close()
    spoil(tmp_path / "outbox.db", damage)

    journal = start(tmp_path)
    assert journal.boot == boot + 1
    assert "outbox.db is damaged and set aside" in caplog.text
    assert "lost about 300 reports for ems" in caplog.text
    reader = journal.reader("ems")
    assert (reader.waiting(), reader.lost()) == (0, 300)
    assert (tmp_path / "outbox.db.damaged").exists()
    record = journal.append(report(1.0))
    assert reader.unacknowledged(None, 10) == [record]
    await journal.close()


async def test_an_outbox_damaged_in_its_midst_gives_what_can_be_read(tmp_path: Path) -> None:
    journal = start(tmp_path)
    journal.reader("ems")
    for n in range(2_000):
        journal.append(report(float(n), 10))
    await journal.close()
    journal = start(tmp_path)
    with (tmp_path / "outbox.db").open("r+b") as file:
        file.seek(4096 * 40)
        file.write(b"\xff" * 4096 * 60)
    reader = journal.reader("ems")
    await until(lambda: acknowledge_some(reader) or reader.lost() > 0, what="the damage is met")
    lost = reader.lost()
    assert 0 < lost < 2_000
    newest = journal.append(report(-1.0))
    await until(lambda: acknowledge_some(reader) or reader.unacknowledged(None, 50) == [newest])
    assert reader.waiting() == 1
    await journal.close()
    journal = start(tmp_path)
    assert journal.reader("ems").lost() >= lost
    await journal.close()


def acknowledge_some(reader: OutboxReader) -> bool:
    records = reader.unacknowledged(None, 50)
    if records and records[-1].body.power_w >= 0:
        reader.acknowledge(records[-1].boot, records[-1].seq)
    return False


@pytest.mark.parametrize("outbox_too", [False, True])
@pytest.mark.parametrize("damage", ["garbage", "truncated", "header"])
async def test_a_damaged_essential_file_is_set_aside_and_said(
    tmp_path: Path, damage: str, outbox_too: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """No number comes twice, whatever is left: the other file, or the clock, tells where to go on."""
    journal = start(tmp_path)
    journal.reader("ems")
    for n in range(400):
        decided = journal.next_decision_id()
        journal.save_decision(decision(decided, "lamp-1"))
        journal.save_device(lamp(n), "mqtt", "")
    used = [journal.next_command_id() for _ in range(100)]
    boot = journal.boot
    await journal.close()
    spoil(tmp_path / "essential.db", damage)
    if outbox_too:
        spoil(tmp_path / "outbox.db", damage)

    journal = Journal.open(tmp_path, tmp_path, CONFIG, ManualClock(wall=LATER))
    assert journal.boot > boot
    assert journal.next_command_id() > max(used)
    assert journal.next_decision_id() > decided
    assert journal.devices() == []
    said = [r for r in caplog.records if "essential.db is damaged and set aside" in r.getMessage()]
    assert [r.levelno for r in said] == [logging.ERROR]
    await journal.close()


def spoil(path: Path, damage: str) -> None:
    size = path.stat().st_size
    with path.open("r+b") as file:
        if damage == "garbage":
            file.write(os.urandom(size))
        elif damage == "truncated":
            file.truncate(4096 * (size // 4096 // 2))
        else:
            file.write(b"not a database, you see")


# --- rights, locks, versions ---


async def test_a_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OperatorError, match=r"file/state: .*; create it"):
        start(tmp_path / "file" / "state")


async def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "essential.db").mkdir()
    with pytest.raises(OperatorError, match=r"essential.db: cannot be written"):
        start(tmp_path)


@pytest.mark.skipif(os.geteuid() != 0 or not hasattr(os, "fork"), reason="takes root to become somebody else")
def test_a_directory_of_somebody_else(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    for parent in tmp_path.parents:
        if parent.stat().st_uid == os.geteuid() and parent != Path("/") and parent.name.startswith(("pytest", "popen")):
            parent.chmod(0o755)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.setgid(65534)
        os.setuid(65534)
        try:
            start(tmp_path)
            said = "nothing"
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"
        os.write(write, said.encode())
        os._exit(0)
    os.close(write)
    said = os.read(read, 1000).decode()
    os.close(read)
    os.waitpid(child, 0)
    assert said.startswith(f"OperatorError: {tmp_path}/essential.db: cannot be written")


async def test_two_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.journal.store.LOCK_WAIT_S", 0.05)
    journal = start(tmp_path)
    with pytest.raises(OperatorError, match=r"essential.db: in use by another smartema"):
        start(tmp_path)
    await journal.close()
    await start(tmp_path).close()


@pytest.mark.parametrize("name", ["essential", "outbox"])
async def test_a_newer_schema_is_left_alone(tmp_path: Path, name: str) -> None:
    await start(tmp_path).close()
    path = tmp_path / f"{name}.db"
    change(path, f"PRAGMA user_version={newest(name) + 1}")
    before = path.read_bytes()
    known = newest(name)
    said = rf"{name}.db: written by a newer smartema \(schema {known + 1}, this one knows {known}\)"
    with pytest.raises(OperatorError, match=said):
        start(tmp_path)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("essential", "outbox"),
    [
        *((version, newest("outbox")) for version in range(1, newest("essential") + 1)),
        *((newest("essential"), version) for version in range(1, newest("outbox"))),
    ],
)
async def test_each_older_schema_is_taken_up(tmp_path: Path, essential: int, outbox: int) -> None:
    """Fixtures are SQL dumps of files that each version wrote."""
    for name, version in (("essential", essential), ("outbox", outbox)):
        dump = Path(__file__).parent / "old" / f"{name}_{version:04}.sql"
        connection = sqlite3.connect(tmp_path / f"{name}.db")
        connection.executescript(dump.read_text("utf-8"))
        connection.close()
    journal = start(tmp_path)
    assert journal.boot > 2
    assert [d.resource.name for d in journal.devices()] == ["lamp-1", "ess-2"]
    assert journal.devices()[0].state is not None
    assert [e.event.event_id for e in journal.events(0.0)] == [17]
    assert [d.id for d in journal.decisions(10)] == [1, 2]
    assert [c.number for c in journal.open_commands()] == [1]
    assert journal.value("last_threshold_w") == "800.000"
    reader = journal.reader("ems")
    assert [(r.boot, r.seq, r.body.power_w) for r in reader.unacknowledged(None, 10)] == [(2, 3, 3.0), (2, 4, 4.0)]
    await journal.close()


async def test_a_migration_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scripts = tmp_path / "schema"
    shutil.copytree(Path("gateway/journal/schema"), scripts)
    await start(tmp_path).close()
    monkeypatch.setattr("gateway.journal.store.SCHEMA_DIR", scripts)
    (scripts / "essential_0002.sql").write_text("ALTER TABLE value ADD COLUMN note TEXT;\nSELECT * FROM nowhere;\n")
    with pytest.raises(OperatorError, match=r"essential.db: no such table: nowhere"):
        start(tmp_path)
    (scripts / "essential_0002.sql").write_text("-- More; of it.\nALTER TABLE value ADD COLUMN note TEXT;\n")
    journal = start(tmp_path)
    journal.save_value("x", "1")
    await journal.durable()
    await journal.close()
    change(tmp_path / "essential.db", "SELECT note FROM value")


def change(path: Path, sql: str) -> None:
    connection = sqlite3.connect(path)
    connection.execute(sql)
    connection.commit()
    connection.close()


# --- a full disk ---


async def test_a_full_disk_holds_back_and_recovers(small_disk: Path, caplog: pytest.LogCaptureFixture) -> None:
    journal = start(small_disk)
    reader = journal.reader("ems")
    journal.save_value("before", "1")
    await journal.durable()
    filler = small_disk / "filler"
    fill(filler)
    journal.save_value("x", "1" * 10_000)
    numbers = [journal.next_command_id() for _ in range(200)]
    for number in numbers:
        journal.save_command(command(number, number % 20), 0.0)
    records = [journal.append(report(float(n), 30)) for n in range(100)]
    for _ in range(3):
        with pytest.raises(JournalError, match="the essential journal cannot be written"):
            await journal.durable()
    assert journal.status()["problems"]
    warned = [r for r in caplog.records if r.levelno == logging.WARNING and "cannot be written" in r.getMessage()]
    assert 1 <= len(warned) <= 2  # once a file
    assert reader.unacknowledged(None, 100) == records

    filler.unlink()
    journal.save_value("y", "2")
    await journal.durable()
    await until(lambda: not journal.status()["problems"], what="both files are written again")
    await journal.close()
    journal = start(small_disk)
    assert (journal.value("before"), journal.value("x"), journal.value("y")) == ("1", "1" * 10_000, "2")
    assert {c.id for c in journal.open_commands()} == set(numbers[-20:])
    assert journal.reader("ems").waiting() == 100
    await journal.close()


async def test_an_outbox_on_a_full_disk_drops_its_oldest(small_disk: Path, tmp_path: Path) -> None:
    journal = start(tmp_path, small_disk)
    reader = journal.reader("ems")
    first = journal.append(report(0.0))
    await until(lambda: journal.status()["outbox"]["not_written"] == 0)
    fill(small_disk / "filler")
    for n in range(3_000):
        newest = journal.append(report(float(n), 20))
    await until(lambda: "the outbox" in journal.status()["problems"], what="the full disk is met")
    newest = journal.append(report(-1.0))
    assert reader.lost() > 0
    assert reader.lost() + reader.waiting() == newest.seq - first.seq + 1
    kept = reader.unacknowledged((first.boot, first.seq), 10_000)
    assert [r.seq for r in kept] == sorted(r.seq for r in kept)
    await journal.durable()
    (small_disk / "filler").unlink()
    await until(lambda: not journal.status()["problems"])
    lost = reader.lost()
    await journal.close()
    journal = start(tmp_path, small_disk)
    assert journal.reader("ems").lost() >= lost
    await journal.close()


def test_no_room_to_begin(small_disk: Path) -> None:
    fill(small_disk / "filler")
    with pytest.raises(OperatorError, match=r"small/essential.db: .*(full|failing)"):
        start(small_disk)


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        for size in (65_536, 4_096, 512, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue
