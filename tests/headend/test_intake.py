"""What EMAs report: in any order, refused so that nobody waits for ever, and kept out where there is no room."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
import sqlalchemy as sql

from headend.ems.intake import STATED_S
from headend.ems.models import EmaRow
from headend.ems.state import Device, ReportCount
from headend.ems.store import Store
from tests.headend.support import LOG, Bench, sqlite_url
from tests.support.wait import until


class Disk:
    """A bench on a database that somebody else can lock."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "ems.db"
        self.url = sqlite_url(directory) + "?timeout=0.05"
        self.bench = Bench(Store(self.url, LOG))

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """No write works: as on a full disk."""
        with contextlib.closing(sqlite3.connect(self.path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            yield

    async def restart(self) -> Bench:
        """The process is killed: what it had not written is gone."""
        self.bench.service.book.closed = True
        await self.bench.store.close()
        now = self.bench.clock
        self.bench = Bench(Store(self.url, LOG))
        self.bench.clock = self.bench.service.book.clock = now
        return await self.bench.start()


@pytest_asyncio.fixture
async def disk(tmp_path: Path) -> AsyncIterator[Disk]:
    made = Disk(tmp_path)
    await made.bench.start()
    yield made
    await made.bench.stop()


def _explicit(bench: Bench, request_id: str, at: float, *devices: Device, order: tuple[int, int] | None = None) -> None:
    power: dict[str, float | None] = {"power_w": at % 1000}
    power |= dict.fromkeys(("threshold_w", "margin_w", "generate_w", "storage_w"))
    bench.service.intake.reported("gw/1", "mqtt", request_id, at, power, devices, order)


def _lamp(on: bool, dimming: int = 5) -> Device:
    return Device("gw/1", "dev/4", number=4, on=on, dimming=dimming, watt=60.0 if on else 0.0, priority=2)


@pytest.mark.parametrize("order", ["1234", "4321", "2413", "4231"])
async def test_the_newest_report_is_the_state_in_whatever_order_they_come(bench: Bench, order: str) -> None:
    bench.register("gw/1")
    await bench.clock.advance(100)
    start = bench.now - 50
    for step in map(int, order):
        _explicit(bench, str(step), start + step, _lamp(on=step % 2 == 1, dimming=step))
    ema, lamp = bench.service.book.emas["gw/1"], bench.service.book.devices["gw/1", "dev/4"]
    assert (ema.measured_at, lamp.dimming, lamp.on) == (start + 4, 4, False)
    await until(lambda: len(bench.head.sent) == 4, what="all are acknowledged")
    assert await bench.store.counts() == {"gw/1": ReportCount(4, 0)}


async def test_within_a_session_the_number_says_which_is_newer_and_not_a_clock_that_was_set_back(bench: Bench) -> None:
    bench.register("gw/1")
    _explicit(bench, "10", bench.now + 1800, _lamp(True), order=(7, 10))
    ema = bench.service.book.emas["gw/1"]
    assert ema.measured_at == bench.now, "never later than it came"
    await bench.clock.advance(1)
    _explicit(bench, "11", bench.now - 1800, _lamp(False), order=(7, 11))
    assert bench.service.book.devices["gw/1", "dev/4"].on is False
    _explicit(bench, "9", bench.now, _lamp(True), order=(7, 9))
    assert bench.service.book.devices["gw/1", "dev/4"].on is False
    # Another router in its place counts from one again.
    bench.register("gw/1")
    await bench.clock.advance(1)
    _explicit(bench, "1", bench.now, _lamp(True), order=(1, 0))
    assert bench.service.book.devices["gw/1", "dev/4"].on is True


async def test_a_notice_that_comes_again_late_does_not_undo_the_report(bench: Bench) -> None:
    """A changed device has no time and no answer on the wire: behind a restarted EMS it may come after newer reports,
    or never."""
    bench.register("gw/1")
    bench.device("gw/1", 4, acknowledge=True, on=True, dimming=9, watt=60.0, priority=2)
    lamp = bench.service.book.devices["gw/1", "dev/4"]
    assert lamp.on is True
    _explicit(bench, "1", bench.now, _lamp(False))  # the notice of this change was lost
    assert (lamp.on, lamp.watt) == (False, 0)
    bench.device("gw/1", 4, on=True, dimming=9, watt=60.0, priority=3)
    assert (lamp.on, lamp.watt, lamp.priority) == (False, 0, 3)
    await bench.clock.advance(STATED_S + 1)  # of an EMA that tells no devices in its reports any more
    bench.device("gw/1", 4, on=True, dimming=9, watt=60.0, priority=3)
    assert lamp.on is True


async def test_a_report_of_the_time_before_it_went_does_not_bring_a_device_back(bench: Bench) -> None:
    bench.register("gw/1")
    _explicit(bench, "1", bench.now, _lamp(True))
    await bench.clock.advance(10)
    bench.device("gw/1", 4, acknowledge=True, connected=False)
    lamp = bench.service.book.devices["gw/1", "dev/4"]
    _explicit(bench, "2", bench.now - 5, _lamp(True))  # it was under way when the EMS was restarted
    assert not lamp.connected
    await bench.clock.advance(1)
    _explicit(bench, "3", bench.now, _lamp(True))
    assert lamp.connected


async def test_a_margin_of_a_report_that_waited_is_not_the_power_of_now(bench: Bench) -> None:
    bench.register("gw/1", "gw/2")
    bench.report("gw/1", "2", 200, at=bench.now)
    bench.report("gw/1", "1", 900, at=bench.now - 3000)
    bench.service.intake.margin("gw/1", "mqtt", 900, 100)
    assert bench.service.book.emas["gw/1"].power_w == 200
    bench.report("gw/2", "1", None)  # type: ignore[arg-type]  # the lab's reports say nothing, its margins do
    bench.service.intake.margin("gw/2", "mqtt", 900, 100)
    assert bench.service.book.emas["gw/2"].threshold_w == 1000


async def test_after_kill_9_the_newest_report_on_disk_is_the_state(disk: Disk) -> None:
    bench = disk.bench
    bench.register("gw/1")
    bench.service.book.flush()
    await bench.clock.advance(5)
    bench.report("gw/1", "1", 111, at=bench.now)
    await until(lambda: bench.head.sent, what="acknowledged")
    row = sql.select(EmaRow.power_w).where(EmaRow.name == "gw/1")
    assert await bench.store.read(lambda c: c.scalar(row)) is None, "its row was not written yet"
    again = await disk.restart()
    ema = again.service.book.emas["gw/1"]
    assert (ema.power_w, ema.measured_at) == (111, again.now)
    again.report("gw/1", "0", 5, at=again.now - 60)
    assert ema.power_w == 111


async def test_what_cannot_be_written_now_is_asked_for_again(disk: Disk) -> None:
    bench = disk.bench
    bench.register("gw/1")
    with disk.locked():
        bench.report("gw/1", "1", 100, at=bench.now)
        bench.device("gw/1", 4, acknowledge=True, on=True)
        await until(lambda: bench.head.sent, what="an answer")
        assert bench.head.take() == ["refuse gw/1 1 503"]
        assert bench.service.intake.deferred == 1
        assert bench.service.book.emas["gw/1"].rejected == 0
    bench.report("gw/1", "1", 100, at=bench.now)
    bench.device("gw/1", 4, acknowledge=True, on=True)
    await until(lambda: len(bench.head.sent) == 2)
    assert sorted(bench.head.take()) == ["device gw/1 4 came", "report gw/1 1"]


async def test_changes_that_could_not_be_written_are_written_when_it_works_again(disk: Disk) -> None:
    bench = disk.bench
    with disk.locked():
        bench.register("gw/1")
        bench.service.book.flush()
        await until(lambda: bench.store.writer.failing, what="it failed")
    await until(lambda: not bench.store.writer.failing, what="and works again")
    again = await disk.restart()
    assert "gw/1" in again.service.book.emas


async def test_a_value_that_no_database_takes_is_refused_for_good(bench: Bench) -> None:
    bench.register("gw/1")
    bench.service.intake.reported("gw/1", "mqtt", "1", 2.0**70, {"power_w": None}, ())
    await until(lambda: bench.head.sent)
    assert bench.head.take() == ["refuse gw/1 1 400"]
    assert bench.service.book.emas["gw/1"].rejected == 1
    bench.report("gw/1", "2", 5)
    await until(lambda: bench.head.sent)
    assert bench.head.take() == ["report gw/1 2"]


async def test_who_is_one_too_many_does_not_wait_for_an_answer() -> None:
    bench = await Bench(most_emas=1, most_devices=2, most_devices_all=3).start()
    try:
        bench.register("gw/1")
        bench.report("gw/2", "7", 5)
        assert bench.head.take() == ["refuse gw/2 7 503"]
        for number in range(1, 5):
            bench.device("gw/1", number, acknowledge=True)
        await until(lambda: len(bench.head.sent) == 4, what="all four are answered")
        assert {key[1] for key in bench.service.book.devices} == {"dev/1", "dev/2"}
        [refusal] = [r for r in bench.service.book.refusals.shown() if r.who == "gw/1"]
        assert (refusal.count, refusal.why) == (2, "dev/4: most_devices: it has 2 devices already")
    finally:
        await bench.stop()


async def test_devices_are_bounded_over_all_emas() -> None:
    bench = await Bench(most_devices=2, most_devices_all=3).start()
    try:
        bench.register("gw/1", "gw/2")
        for name in ("gw/1", "gw/2"):
            for number in (1, 2):
                bench.device(name, number)
        assert len(bench.service.book.devices) == 3
        assert "most_devices_all: 3" in bench.service.book.refusals.shown()[0].why
    finally:
        await bench.stop()
