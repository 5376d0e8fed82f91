"""What was acknowledged is there: after kill -9, after a failing database, and once only."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
import sqlalchemy as sql

from gateway.errors import OperatorError
from headend.ems import history
from headend.ems.models import AuditRow, ReportRow, SampleRow
from headend.ems.records import NewReport
from headend.ems.state import Delivery, Device, Ema, Event, Mode, ReportCount
from headend.ems.store import Store
from tests.headend.support import LOG, sqlite_url
from tests.support.wait import until


@pytest_asyncio.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    made = Store(sqlite_url(tmp_path), LOG)
    await made.open()
    yield made
    await made.close()


def _report(request_id: str, ema: str = "gw/1", at: float = 0.0, power: float | None = 1.0) -> NewReport:
    sample = {
        "ema": ema,
        "at": at,
        "power_w": power,
        "threshold_w": 100.0,
        "margin_w": None,
        "generate_w": None,
        "storage_w": None,
    }
    return NewReport(ema, request_id, 0, at, at, "[]", sample if power is not None else None)


async def _add(store: Store, *reports: NewReport) -> list[bool | None]:
    results: list[bool | None] = []
    for report in reports:
        assert store.add_report(report, lambda fresh, _: results.append(fresh))
    await until(lambda: len(results) == len(reports))
    return results


@pytest.mark.parametrize("kill_after", [1, 700, 3000])
async def test_nothing_acknowledged_is_missing_after_kill_9(tmp_path: Path, kill_after: int) -> None:
    url = sqlite_url(tmp_path)
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.headend.store_child", url, stdout=asyncio.subprocess.PIPE
    )
    assert child.stdout is not None
    acknowledged = [tuple((await child.stdout.readline()).decode().split()) for _ in range(kill_after)]
    child.kill()
    rest = (await child.stdout.read()).decode().split("\n")
    acknowledged += [tuple(line.split()) for line in rest[:-1]]
    await child.wait()

    store = Store(url, LOG)
    await store.open()
    try:
        query = sql.select(ReportRow.ema, ReportRow.request_id)
        found = [tuple(row) for row in await store.read(lambda c: c.execute(query).all())]
        assert set(acknowledged) <= set(found)
        assert len(found) == len(set(found))
        # Counted and in the series in the same transaction.
        assert sum(count.stored for count in (await store.counts()).values()) == len(found)
        samples = await store.read(lambda c: c.scalar(sql.select(sql.func.count()).select_from(SampleRow)))
        assert samples == len(found)
        # And all of them are known when they come again.
        assert not any(await _add(store, *(_report(number, ema) for ema, number in acknowledged[-50:])))
    finally:
        await store.close()


async def test_each_report_once_by_ema_and_request_id(store: Store) -> None:
    reports = [_report("1", "gw/1"), _report("1", "gw/1"), _report("1", "gw/2")]
    assert await _add(store, *reports) == [True, False, True]
    assert await _add(store, _report("1")) == [False]
    assert await store.counts() == {"gw/1": ReportCount(1, 2), "gw/2": ReportCount(1, 0)}


async def test_many_share_a_commit(store: Store) -> None:
    before = store.writer.commits
    await _add(store, *(_report(str(number)) for number in range(2000)))
    assert store.writer.commits - before < 50


async def test_a_job_that_fails_takes_no_other_along(store: Store) -> None:
    errors: list[Exception | None] = []

    def broken(_: sql.Connection) -> None:
        raise ValueError("broken")

    for work in (broken, lambda c: c.execute(sql.insert(AuditRow), _line("kept")) and None, broken):
        store.writer.submit(work, lambda _, error: errors.append(error))
    await _add(store, _report("1"))
    assert [type(error) for error in errors] == [ValueError, type(None), ValueError]
    assert [line["action"] for line in await history.audit(store, None, 10)] == ["kept"]


def _line(action: str) -> dict[str, object]:
    return {"at": 1.0, "account": "a", "source": "b", "action": action, "detail": ""}


async def test_a_locked_database_acknowledges_nothing_and_works_again(tmp_path: Path) -> None:
    store = Store(sqlite_url(tmp_path) + "?timeout=0.05", LOG)
    await store.open()
    other = sqlite3.connect(tmp_path / "ems.db", isolation_level=None)
    try:
        other.execute("BEGIN IMMEDIATE")
        results: list[tuple[bool | None, bool]] = []
        store.add_report(_report("1"), lambda fresh, error: results.append((fresh, error is not None)))
        await until(lambda: results, 30)
        assert results == [(None, True)]
        other.execute("ROLLBACK")
        assert await _add(store, _report("1")) == [True]
    finally:
        other.close()
        await store.close()


async def test_everything_is_there_after_a_restart(tmp_path: Path) -> None:
    store = Store(sqlite_url(tmp_path), LOG)
    await store.open()
    event = Event(3, 2, 60.0, 120.0, 800.0, True, False, 1.0, "kim", 2.0, 120.0)
    event.deliveries = {"gw/1": Delivery("gw/1", sent=2, attempts=1, answered=2, opt="in")}
    ema = Ema("gw/1", "MIR_VEN1", "mqtt", connected=True, mode=Mode.POLL, power_w=5.0, measured_at=9.0)
    device = Device("gw/1", "ESS/1", "ess", on=True, watt=-5.0, details={"soc": 50})
    await store.save_now(event, ema, device)
    await store.save_now(event, ema, device)  # again: replaced, not doubled
    await store.set_limit("total", 5000.0)
    await store.set_meta("rdr_policy", "deny")
    await store.close()

    store = Store(sqlite_url(tmp_path), LOG)
    await store.open()
    loaded = await store.load(since=0.0)
    assert loaded.events == {3: event}
    assert loaded.emas["gw/1"].mode is Mode.POLL
    assert not loaded.emas["gw/1"].connected  # not before it says something
    assert loaded.devices == {("gw/1", "ESS/1"): device}
    assert (loaded.limits, loaded.meta["rdr_policy"], loaded.last_event) == ({"total": 5000.0}, "deny", 3)
    await store.close()


async def test_many_are_saved_by_one_statement(store: Store) -> None:
    """Each statement costs the loop its turn: a save of 200 EMAs would keep polls waiting."""
    emas = [Ema(f"gw/{number}", power_w=1.0) for number in range(200)]
    await store.save_now(*emas)
    ran: list[int] = []
    assert store._engine is not None
    sql.event.listen(
        store._engine, "before_cursor_execute", lambda _c, _cur, _words, rows, _ctx, many: ran.append(len(rows) * many)
    )
    for ema in emas:
        ema.power_w = 2.0
    await store.save_now(*emas)
    assert ran == [200]
    loaded = await store.load(since=0.0)
    assert {ema.power_w for ema in loaded.emas.values()} == {2.0}


async def test_known_and_new_ones_are_saved_together(store: Store) -> None:
    await store.save_now(Ema("gw/1", power_w=1.0), Ema("gw/3", power_w=1.0))
    await store.save_now(*(Ema(f"gw/{number}", power_w=2.0) for number in (1, 2, 3, 4)), Ema("gw/2", power_w=3.0))
    loaded = await store.load(since=0.0)
    powers = {"gw/1": 2.0, "gw/2": 3.0, "gw/3": 2.0, "gw/4": 2.0}
    assert {ema.name: ema.power_w for ema in loaded.emas.values()} == powers


async def test_the_series_and_the_energy_of_a_day(store: Store) -> None:
    reports = [_report(str(i), at=i * 60.0, power=100.0 if i < 60 else -60.0) for i in range(120)]
    await _add(store, *reports)
    points = await history.series(store, "gw/1", 0.0, 7200.0, 4)
    assert [(point["at"], point["power_w"], point["limit_w"]) for point in points] == [
        (0.0, 100.0, 100.0),
        (1800.0, 100.0, 100.0),
        (3600.0, -60.0, 100.0),
        (5400.0, -60.0, 100.0),
    ]
    hours = await history.energy(store, "gw/1", 0.0, 10_800.0, 3600.0)
    assert [(round(h["import_wh"]), round(h["export_wh"]), round(h["known_s"])) for h in hours] == [
        (100, 0, 3600),
        (0, 60, 3600),
        (0, 1, 60),  # the last reading counts for the gap that is allowed, then nothing is known
    ]


async def test_old_rows_go_and_young_ones_stay(store: Store) -> None:
    await _add(store, *(_report(str(i), at=float(i)) for i in range(100)))
    while await store.prune(50.0, 80.0):
        pass
    left = await store.read(
        lambda c: (
            c.scalar(sql.select(sql.func.count()).select_from(ReportRow)),
            c.scalar(sql.select(sql.func.count()).select_from(SampleRow)),
        )
    )
    assert left == (50, 20)
    assert (await store.counts())["gw/1"].stored == 100  # how many there ever were


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("nonsense", "db: not a database URL"),
        ("sqlite:////proc/nowhere/ems.db", "db: "),
        ("nosuchdb://x:secret@y/z", "db: nosuchdb://x:***@y/z"),
    ],
)
async def test_a_wrong_database_is_one_line_without_its_password(url: str, words: str) -> None:
    with pytest.raises(OperatorError) as caught:
        await Store(url, LOG).open()
    assert str(caught.value).startswith(words)
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


async def test_a_database_of_a_later_version_is_refused(store: Store, tmp_path: Path) -> None:
    await store.set_meta("schema", "99")
    with pytest.raises(OperatorError, match="later smartema"):
        await Store(sqlite_url(tmp_path), LOG).open()
