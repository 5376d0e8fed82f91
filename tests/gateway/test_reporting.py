"""When a report is due and what stands in it, by a table of readings."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.config.model import ReportsConfig
from gateway.reporting import Reporter
from gateway.site.picture import ResourceState
from gateway.site.report import DeviceNotice, NoticeKind, OutboxBody, SiteReport
from gateway.site.resource import Kind, Reading, Resource


class Log(list[OutboxBody]):
    def append(self, body: OutboxBody) -> None:  # type: ignore[override]
        super().append(body)

    @property
    def reports(self) -> list[SiteReport]:
        return [b for b in self if isinstance(b, SiteReport)]

    @property
    def notices(self) -> list[NoticeKind]:
        return [b.kind for b in self if isinstance(b, DeviceNotice)]


class Bench:
    def __init__(self, **config: object) -> None:
        self.log = Log()
        self.states = {
            n: ResourceState(Resource(f"led-{n}", n, Kind.LED, priority=n), reading=Reading(0.0, 60.0, True, 9))
            for n in (1, 2)
        }
        self.reporter = Reporter(
            ReportsConfig(**config),
            self.log,
            self.states,
            lambda: (120.0, 500.0, 380.0),
            lambda: None,
        )
        self.reporter.has_readers = True
        self.reporter.tick(0.0, 1000.0)
        self.log.clear()

    def reads(self, number: int, watts: float, on: bool = True, level: int = 9, at: float = 1.0) -> None:
        before = self.states[number]
        after = replace(before, reading=Reading(at, watts, on, level))
        self.states[number] = after
        self.reporter.changed(before, after, at, 1000.0 + at)


@pytest.mark.parametrize(
    ("watts", "on", "level", "notices", "due"),
    [
        (60.0, True, 9, [], 10.0),  # nothing new: the period
        (64.9, True, 9, [], 10.0),  # below change_w
        (65.0, True, 9, [], 2.0),  # one second after the change
        (0.0, False, 9, [NoticeKind.CHANGED], 2.0),
        (60.0, True, 3, [NoticeKind.CHANGED], 2.0),
    ],
)
def test_what_a_reading_brings(watts: float, on: bool, level: int, notices: list[NoticeKind], due: float) -> None:
    bench = Bench()
    bench.reads(1, watts, on, level)
    assert bench.log.notices == notices
    assert bench.reporter.next_due() == due


def test_changes_within_a_second_share_one_report_of_the_changed_devices() -> None:
    bench = Bench()
    bench.reads(1, 0.0, on=False, at=1.0)
    bench.reads(2, 30.0, level=4, at=1.5)
    bench.reporter.tick(1.9, 1001.9)
    assert bench.log.reports == []
    bench.reporter.tick(2.0, 1002.0)
    (report,) = bench.log.reports
    assert [line.number for line in report.devices] == [1, 2]
    assert (report.power_w, report.threshold_w, report.margin_w) == (120.0, 500.0, 380.0)


def test_mode_4_reports_at_once() -> None:
    bench = Bench()
    bench.reporter.at_once = True
    bench.reads(2, 0.0, on=False, at=1.0)
    (report,) = bench.log.reports
    assert [(d.number, d.on) for d in report.devices] == [(2, False)]


def test_the_period_brings_all_devices() -> None:
    bench = Bench()
    bench.reporter.tick(10.0, 1010.0)
    (report,) = bench.log.reports
    assert [line.number for line in report.devices] == [1, 2]
    assert bench.reporter.next_due() == 20.0


def test_implicit_reports_have_no_devices() -> None:
    bench = Bench(explicit=False)
    bench.reporter.tick(10.0, 1010.0)
    assert bench.log.reports[0].devices == ()


def test_generation_and_storage_stand_apart_with_our_signs() -> None:
    bench = Bench()
    bench.states[3] = ResourceState(Resource("pv-3", 3, Kind.PV), reading=Reading(0.0, -500.0))
    bench.states[4] = ResourceState(Resource("ess-4", 4, Kind.ESS), reading=Reading(0.0, 200.0))
    bench.states[5] = ResourceState(Resource("pv-5", 5, Kind.PV), present=False, reading=Reading(0.0, -900.0))
    report = bench.reporter.build(1.0, None)
    assert (report.generate_w, report.storage_w) == (-500.0, 200.0)
    assert [line.number for line in report.devices] == [1, 2, 3, 4]


def test_without_anybody_above_nothing_is_written() -> None:
    bench = Bench()
    bench.reporter.has_readers = False
    bench.reads(1, 0.0, on=False)
    bench.reporter.tick(100.0, 1100.0)
    bench.reporter.connected(bench.states[1], 1.0)
    assert bench.log == []
    assert bench.reporter.next_due() is None
