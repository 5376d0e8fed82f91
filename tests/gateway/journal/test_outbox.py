"""The outbox: cursors, order, bounds, and what is lost is counted."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gateway.clock import ManualClock
from gateway.config.model import JournalConfig
from gateway.journal import Journal
from gateway.journal import tail as module
from tests.gateway.journal.samples import notice, report
from tests.support.wait import until

CONFIG = JournalConfig()


def start(home: Path, config: JournalConfig = CONFIG, clock: ManualClock | None = None, outbox: Path | None = None):
    return Journal.open(home, outbox or home, config, clock or ManualClock())


async def test_each_upstream_has_its_own_cursor(tmp_path: Path) -> None:
    journal = start(tmp_path)
    ems = journal.reader("ems")
    one = journal.append(report(1.0))
    vtn = journal.reader("vtn")  # begins behind what is there
    two, three = journal.append(notice(2)), journal.append(report(3.0))
    assert ems.unacknowledged(None, 10) == [one, two, three]
    assert ems.unacknowledged(None, 2) == [one, two]
    assert ems.unacknowledged((one.boot, one.seq), 1) == [two]
    assert vtn.unacknowledged(None, 10) == [two, three]
    ems.acknowledge(two.boot, two.seq)
    ems.acknowledge(one.boot, one.seq)  # late, says nothing new
    assert (ems.waiting(), vtn.waiting()) == (1, 2)
    assert ems.unacknowledged(None, 10) == [three]
    assert ems.unacknowledged((one.boot, one.seq), 10) == [three]
    vtn.acknowledge(three.boot, three.seq + 1000)  # beyond the end
    four = journal.append(report(4.0))
    assert vtn.unacknowledged(None, 10) == [four]
    assert journal.reader("ems") is ems
    await journal.close()

    journal = start(tmp_path)
    assert set(journal.readers()) == {"ems", "vtn"}
    assert journal.reader("ems").unacknowledged(None, 10) == [three, four]
    assert journal.reader("vtn").unacknowledged(None, 10) == [four]
    five = journal.append(report(5.0))
    assert (five.boot, five.seq) == (one.boot + 1, one.seq)
    ems = journal.reader("ems")
    assert ems.unacknowledged((four.boot, four.seq), 10) == [five]
    journal.drop_reader("vtn")
    journal.drop_reader("vtn")
    ems.acknowledge(five.boot, five.seq)
    await journal.close()
    journal = start(tmp_path)
    assert journal.readers() == ("ems",)
    assert journal.status()["outbox"]["records"] == 0
    await journal.close()


async def test_nothing_grows_without_an_upstream(tmp_path: Path) -> None:
    journal = start(tmp_path)
    seqs = [journal.append(report(1.0, 100)).seq for _ in range(2_000)]
    assert seqs == list(range(seqs[0], seqs[0] + 2_000))
    assert journal.status()["outbox"] == {"records": 0, "bytes": 0, "not_written": 0, "upstreams": {}}
    reader = journal.reader("ems")
    assert reader.waiting() == 0
    record = journal.append(report(2.0))
    assert reader.unacknowledged(None, 10) == [record]
    journal.drop_reader("ems")
    assert journal.status()["outbox"]["records"] == 0
    await journal.close()
    assert (tmp_path / "outbox.db").stat().st_size < 50_000


async def test_older_records_come_from_the_file_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RECENT_RECORDS", 50)
    journal = start(tmp_path)
    ems, slow = journal.reader("ems"), journal.reader("slow")
    records = []
    for n in range(1_200):
        records.append(journal.append(report(float(n), 2)))
        if n % 100 == 0:
            await journal.outbox_written()
    await journal.outbox_written()
    journal.append(report(-1.0))
    assert len(journal._outbox._tail.recent) <= 51
    got: list[object] = []
    while len(got) < 1_200:
        piece = ems.unacknowledged(None, 400)
        assert 0 < len(piece) <= 400
        ems.acknowledge(piece[-1].boot, piece[-1].seq)
        got += piece
    assert got[:1_200] == records
    assert slow.waiting() == 1_201
    assert slow.unacknowledged(None, 10) == records[:10]
    await journal.close()


@pytest.mark.parametrize(
    ("most", "devices"), [(100_000, 0), (100_000, 1), (100_000, 25), (300_000, 1), (300_000, 33), (300_000, 300)]
)
async def test_bounded_by_bytes_on_disk(tmp_path: Path, most: int, devices: int) -> None:
    config = JournalConfig(outbox_max_bytes=most)
    journal = start(tmp_path, config)
    reader = journal.reader("ems")
    body = report(1.0, devices)
    total = 0
    most_on_disk = 0
    for _ in range(12):
        for _ in range(max(most // 4 // (150 + 17 * devices), 1)):
            newest = journal.append(body)
            total += 1
        await journal.outbox_written()
        assert reader.waiting() + reader.lost() == total
        most_on_disk = max(most_on_disk, sum((tmp_path / f"outbox.db{s}").stat().st_size for s in ("", "-wal")))
    assert reader.lost() > 0
    assert reader.waiting() > 0
    assert most_on_disk <= most
    lost = reader.lost()
    first = reader.unacknowledged(None, 1)[0]
    assert newest.seq - first.seq == total - lost - 1
    await journal.close()
    journal = start(tmp_path, config)
    reader = journal.reader("ems")
    assert (reader.lost(), reader.waiting()) == (lost, total - lost)
    assert reader.unacknowledged(None, 1) == [first]
    await journal.close()


async def test_bounded_by_age(tmp_path: Path) -> None:
    clock = ManualClock()
    journal = start(tmp_path, JournalConfig(outbox_max_age_s=1_000.0), clock)
    reader, quick = journal.reader("ems"), journal.reader("quick")
    for _ in range(200):
        record = journal.append(report(1.0, at=clock.now().wall))
        await clock.advance(10.0)
    quick.acknowledge(record.boot, record.seq)
    assert 98 <= reader.waiting() <= 102
    assert reader.waiting() + reader.lost() == 200
    assert quick.lost() == reader.lost()  # it had not acknowledged them either when they were dropped
    await journal.outbox_written()
    clock.jump_wall(5_000.0)
    newest = journal.append(report(2.0, at=clock.now().wall))
    assert reader.unacknowledged(None, 500) == [newest]
    await journal.close()


async def test_a_clock_that_becomes_right_drops_nothing(tmp_path: Path) -> None:
    clock = ManualClock(wall=100.0)
    journal = start(tmp_path, JournalConfig(outbox_max_age_s=1_000.0), clock)
    reader = journal.reader("ems")
    for _ in range(10):
        journal.append(report(1.0, at=clock.now().wall))
    clock.jump_wall(1_760_000_000.0)
    journal.append(report(2.0, at=clock.now().wall))
    assert (reader.waiting(), reader.lost()) == (11, 0)
    await clock.advance(2_000.0)
    journal.append(report(2.0, at=clock.now().wall))
    assert (reader.waiting(), reader.lost()) == (1, 11)
    await journal.close()


async def test_an_outbox_in_ram_that_is_gone_is_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What is known is what waited at the last essential commit: here, all of it."""
    flash, ram = tmp_path / "flash", tmp_path / "ram"
    journal = start(flash, outbox=ram)
    journal.reader("ems")
    done = journal.reader("done")
    for n in range(10):
        record = journal.append(report(float(n)))
    boot, seq = record.boot, record.seq - 10
    done.acknowledge(record.boot, record.seq)
    journal.save_value("x", "1")
    await journal.durable()
    await journal.close()
    for file in ram.iterdir():
        file.unlink()
    for _ in range(2):  # counted once
        journal = start(flash, outbox=ram)
        assert (journal.reader("ems").waiting(), journal.reader("ems").lost()) == (0, 10)
        assert journal.reader("done").lost() == 0
        await journal.close()
    assert caplog.text.count("lost about 10 reports for ems") == 1
    journal = start(flash, outbox=ram)
    record = journal.append(report(0.0))
    assert (record.boot, record.seq) == (boot + 3, seq + 1)
    assert journal.reader("ems").unacknowledged(None, 9) == [record]
    await journal.close()


async def test_what_is_known_of_the_outbox_is_noted_now_and_then(tmp_path: Path) -> None:
    """Also when nothing essential happens for long."""
    flash, ram = tmp_path / "flash", tmp_path / "ram"
    clock = ManualClock()
    journal = start(flash, clock=clock, outbox=ram)
    journal.reader("ems")
    for _ in range(5):
        journal.append(report(1.0))
    await clock.advance(700.0)
    journal.append(report(1.0))
    await until(lambda: not journal.status()["not_written"])
    journal._essential.connection.close()  # no clean end
    for file in ram.iterdir():
        file.unlink()
    again = start(flash, outbox=ram)
    assert again.reader("ems").lost() >= 5
    await again.close()


async def test_a_record_that_cannot_be_read_is_lost_and_counted(tmp_path: Path) -> None:
    journal = start(tmp_path)
    journal.reader("ems")
    records = [journal.append(report(float(n))) for n in range(5)]
    await journal.close()
    from gateway.journal import Connector

    connection = Connector().write(tmp_path / "outbox.db")
    connection.execute("UPDATE record SET body = '{' WHERE position % 1024 = 3")
    connection.execute("UPDATE record SET kind = 'song' WHERE position % 1024 = 5")
    connection.close()
    journal = start(tmp_path)
    reader = journal.reader("ems")
    assert reader.unacknowledged(None, 10) == [records[0], records[1], records[3]]
    assert (reader.waiting(), reader.lost()) == (3, 2)
    reader.acknowledge(records[3].boot, records[3].seq)
    assert (reader.waiting(), reader.unacknowledged(None, 10)) == (0, [])
    await journal.close()


@pytest.mark.parametrize("threaded", [True, False])
async def test_more_than_one_transaction_takes_is_written_at_once(
    tmp_path: Path, threaded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever waits does not wait for more to be gathered between two of them."""
    monkeypatch.setattr("gateway.journal.writer.LINGER_S", 3_600.0)
    monkeypatch.setattr("gateway.journal.writer.INLINE_EVERY", 1_000_000)
    monkeypatch.setattr(module, "BATCH_RECORDS", 20)
    journal = Journal.open(tmp_path, tmp_path, CONFIG, ManualClock(), threaded=threaded)
    journal.reader("ems")
    for n in range(90):
        journal.append(report(float(n)))
    async with asyncio.timeout(30.0):
        await journal.outbox_written()
    assert journal.status()["outbox"]["not_written"] == 0
    await journal.close()
