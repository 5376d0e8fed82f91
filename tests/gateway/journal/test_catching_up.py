"""After a long outage: what only the file has comes back in order, by few queries, and never much of it at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

from gateway.clock import ManualClock
from gateway.config.model import JournalConfig
from gateway.journal import Connection, Connector, Journal, reader, tail
from gateway.site.report import Record
from gateway.upstream.base import OutboxReader
from tests.gateway.journal.samples import notice, report


class Counting(Connector):
    """Counts what the reading connection is asked."""

    def __init__(self) -> None:
        self.queries = 0

    def read(self, path: Path, writer: Connection) -> Connection:
        return Counted(super().read(path, writer), self)


class Counted:
    def __init__(self, inner: Connection, counter: Counting) -> None:
        self._inner = inner
        self._counter = counter
        self.executemany = inner.executemany
        self.close = inner.close

    def execute(self, sql: str, parameters: Sequence[Any] = (), /) -> Iterable[Any]:
        self._counter.queries += 1
        return self._inner.execute(sql, parameters)


@pytest.fixture(autouse=True)
def little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tail, "RECENT_RECORDS", 20)


async def outage(home: Path, many: int, devices: int = 1, connector: Connector | None = None) -> list[Record]:
    """Reports and notices that nobody took; the journal is closed."""
    journal = Journal.open(home, home, JournalConfig(), ManualClock(), connector=connector)
    journal.reader("ems")
    records = []
    for n in range(many):
        records.append(journal.append(notice(n) if n % 10 == 9 else report(float(n), devices)))
        if n % 50 == 0:
            await journal.outbox_written()
    await journal.close()
    return records


def drain(reader: OutboxReader, window: int) -> list[Record]:
    """As an upstream does: a few under way, the oldest acknowledged, the next asked for behind the newest."""
    got: list[Record] = []
    under_way: list[Record] = []
    while True:
        last = got[-1] if got else None
        new = reader.unacknowledged((last.boot, last.seq) if last else None, window - len(under_way))
        got += new
        under_way += new
        if not under_way:
            return got
        oldest = under_way.pop(0)
        reader.acknowledge(oldest.boot, oldest.seq)


@pytest.mark.parametrize("window", [1, 8])
async def test_one_query_serves_many_calls(tmp_path: Path, window: int) -> None:
    records = await outage(tmp_path, 3_000)
    connector = Counting()
    journal = Journal.open(tmp_path, tmp_path, JournalConfig(), ManualClock(), connector=connector)
    connector.queries = 0
    ems = journal.reader("ems")
    assert drain(ems, window) == records
    assert (ems.waiting(), ems.lost()) == (0, 0)
    assert connector.queries <= 3_000 / reader.AHEAD_RECORDS + 2
    await journal.close()


@pytest.mark.parametrize("devices", [1, 300])
async def test_memory_does_not_grow_with_the_outage(tmp_path: Path, devices: int) -> None:
    records = await outage(tmp_path, 700, devices)
    journal = Journal.open(tmp_path, tmp_path, JournalConfig(), ManualClock())
    ems = journal.reader("ems")
    got: list[Record] = []
    most = 0
    while len(got) < 700:
        got += (piece := ems.unacknowledged(None, 10_000))
        ems.acknowledge(piece[-1].boot, piece[-1].seq)
        size = sum(len(row[4]) for row in ems.ahead._rows)
        most = max(most, size)
        assert len(piece) <= reader.AHEAD_RECORDS
    assert got == records
    assert 0 < most < reader.AHEAD_BYTES + 10_000
    newest = journal.append(report(0.0))
    assert ems.unacknowledged(None, 10) == [newest]
    assert ems.ahead._rows == []  # given back once the outage is over
    await journal.close()


async def test_a_new_session_begins_again_at_the_cursor(tmp_path: Path) -> None:
    records = await outage(tmp_path, 600)
    journal = Journal.open(tmp_path, tmp_path, JournalConfig(), ManualClock())
    ems = journal.reader("ems")
    far = records[399]
    assert ems.unacknowledged((far.boot, far.seq), 5) == records[400:405]
    ems.acknowledge(records[9].boot, records[9].seq)
    assert ems.unacknowledged(None, 5) == records[10:15]
    assert ems.unacknowledged((records[11].boot, records[11].seq), 5) == records[12:17]
    assert ems.unacknowledged(None, 5) == records[10:15]
    assert ems.unacknowledged((far.boot, far.seq), 0) == []
    await journal.close()


async def test_what_is_dropped_meanwhile_is_not_read_again(tmp_path: Path) -> None:
    """The rows read ahead are older than what the bound on age has left."""
    records = await outage(tmp_path, 600)
    clock = ManualClock()
    journal = Journal.open(tmp_path, tmp_path, JournalConfig(outbox_max_age_s=100.0), clock)
    ems = journal.reader("ems")
    assert ems.unacknowledged(None, 5) == records[:5]
    newest = journal.append(report(1.0, at=clock.now().wall + 1_000.0))
    assert (ems.waiting(), ems.lost()) == (1, 600)
    assert ems.unacknowledged(None, 5) == [newest]
    await journal.close()


@pytest.mark.parametrize("window", [1, 8])
async def test_a_record_that_cannot_be_read_is_passed_over_and_counted_once(tmp_path: Path, window: int) -> None:
    records = await outage(tmp_path, 300)
    bad = {3, 5, 6, 7, 299}
    connection = Connector().write(tmp_path / "outbox.db")
    for index in bad:
        place = (records[index].boot << 40) | records[index].seq
        connection.execute("UPDATE record SET body = X'07' WHERE position = ?", (place,))
    connection.close()
    journal = Journal.open(tmp_path, tmp_path, JournalConfig(), ManualClock())
    ems = journal.reader("ems")
    good = [record for index, record in enumerate(records) if index not in bad]
    for _ in range(2):  # a second session meets them again
        got: list[Record] = []
        while piece := ems.unacknowledged((got[-1].boot, got[-1].seq) if got else None, window):
            got += piece
        assert got == good
        assert (ems.waiting(), ems.lost()) == (295, 5)
    assert drain(ems, window) == good
    assert (ems.waiting(), ems.lost()) == (0, 5)
    await journal.close()
