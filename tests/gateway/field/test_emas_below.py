"""The adapter of EMAs below over a link that is a list: what is told to the site, and what is said and when."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from gateway.clock import ManualClock
from gateway.config.model import ControlConfig, EmaBelowConfig, EmasBelowConfig
from gateway.errors import TransientError
from gateway.field.emas_below import EmasBelow
from gateway.field.emas_below_roll import Skew
from gateway.journal import JournalError
from gateway.links.mir2017 import happenings as h
from gateway.links.mir2017 import messages as wire
from gateway.site.command import Command, Source
from gateway.site.event import RdrAnswer, RdrResult
from gateway.site.resource import Reading, Resource, Setting
from tests.gateway.field.test_emas_below_holds import Values


class Journal(Values):
    """Durable when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.disk = asyncio.Event()
        self.disk.set()
        self.full = False

    def values(self, start: str) -> dict[str, str]:
        return {}

    async def durable(self) -> None:
        await self.disk.wait()
        if self.full:
            raise JournalError("the disk is full")


class Wire:
    """A head whose wire is a list."""

    name = "mqtt"
    up = True

    def __init__(self) -> None:
        self.said: list[tuple[Any, ...]] = []
        self.events: list[wire.DistributeEvent] = []

    async def run(self) -> None:
        await asyncio.Event().wait()

    def push(self, ema: int, event: wire.DistributeEvent) -> None:
        self.events.append(event)

    def answer_poll(self, ema: int, event: wire.DistributeEvent | None, want_report: bool) -> None:
        self.said.append(("poll", ema, None if event is None else event.value, want_report))

    def acknowledge_report(self, ema: int, request_id: int) -> None:
        self.said.append(("report", ema, 200))

    def refuse_report(self, ema: int, request_id: int, code: int, why: str) -> None:
        self.said.append(("report", ema, code))

    def acknowledge_opt(self, ema: int, code: int) -> None:
        self.said.append(("opt", ema, code))

    def acknowledge_device(self, ema: int, device: int, connected: bool) -> None:
        self.said.append(("device", ema, device, connected))

    def answer_rdr(self, ema: int, device: int, granted: bool, why: str) -> None:
        self.said.append(("rdr", ema, device, granted, why))

    def status(self) -> dict[str, object]:
        return {}


class Site:
    """What the adapter tells the site."""

    def __init__(self) -> None:
        self.resources: dict[int, Resource] = {}
        self.readings: list[Reading] = []
        self.went: list[tuple[int, bool]] = []
        self.took: list[tuple[int, int]] = []
        self.refusals: list[tuple[int, int, str]] = []
        self.asked: list[tuple[int, float, float]] = []
        self.given_back: list[tuple[int, float, str]] = []
        self.answer = RdrAnswer(RdrResult.GRANTED, "100 W of margin")
        self.want = Setting()

    def appeared(self, adapter: object, resource: Resource) -> None:
        self.resources[resource.number] = resource

    def gone(self, number: int, why: str, lost: bool = False) -> None:
        self.went.append((number, lost))

    def reported(self, number: int, reading: Reading) -> None:
        self.readings.append(reading)

    def asked_back(self, number: int, watts: float, for_s: float) -> RdrAnswer:
        raise AssertionError("an EMA waits for so long only")

    def confirmed(self, number: int, command_id: int) -> None:
        self.took.append((number, command_id))

    def refused(self, number: int, command_id: int, why: str) -> None:
        self.refusals.append((number, command_id, why))

    def asked_by_ema(self, number: int, watts: float, for_s: float, within_s: float) -> RdrAnswer:
        self.asked.append((number, watts, within_s))
        return self.answer if within_s > 0 else RdrAnswer(RdrResult.DENIED, "its time is over")

    def give_back(self, number: int, watts: float, why: str) -> None:
        self.given_back.append((number, watts, why))

    def wanted(self, number: int) -> Setting:
        return self.want


class Bench:
    """The adapter with gw/2 (max 300 W) and gw/3 below."""

    def __init__(self, site: Site | None = None, **table: Any) -> None:
        self.clock = ManualClock()
        self.site, self.journal, self.wire = site or Site(), Journal(), Wire()
        configs = (EmaBelowConfig(number=2, max_w=300.0, priority=4), EmaBelowConfig(number=3))
        self.emas = EmasBelow(
            EmasBelowConfig(mqtt=True, **table), configs, ControlConfig(), self.site, self.journal, self.clock
        )
        self.emas.add(self.wire)
        self.task = asyncio.get_running_loop().create_task(self.emas.run())
        self.seq = 0

    def report(self, power: int | None, ema: int = 2, ago: float = 0.0, seq: int | None = None, **more: Any) -> None:
        self.seq = self.seq + 1 if seq is None else seq
        time_ms = round((self.clock.now().wall - ago) * 1000)
        number = wire.request_id(1, self.seq)
        report = wire.UpdateReport(ema, f"VEN{ema}", number, time_ms, power, **more)
        self.emas.happened("mqtt", h.Reported(ema, number, report))

    def command(self, number: int, setting: Setting, command_id: int) -> Command:
        command = Command(command_id, f"gw/{number}", 90_000 + number, setting, Source.SHED, 60.0, 0.0)
        coroutine: Any = self.emas.send(command)
        coroutine.close()
        return command

    def opt(self, event: wire.DistributeEvent, opt_in: bool = True) -> None:
        self.emas.happened("mqtt", h.EventAnswered(2, event.event_id, event.request_id, opt_in))


@pytest_asyncio.fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench()
    await made.clock.advance(0)
    yield made
    made.task.cancel()
    await asyncio.gather(made.task, return_exceptions=True)


async def test_a_report_makes_it_a_resource_with_a_reading(bench: Bench) -> None:
    bench.report(120, threshold=500)
    resource = bench.site.resources[90_002]
    assert (resource.name, resource.kind.value, resource.priority) == ("gw/2", "ema", 4)
    assert resource.setpoint is not None
    assert resource.setpoint.max_w == 300, "as configured"
    assert [(r.power_w, r.on) for r in bench.site.readings] == [(120, True)]
    bench.report(1234, ema=3, threshold=2000)
    bench.report(2310, ema=3)
    learnt = bench.site.resources[90_003].setpoint
    assert learnt is not None
    assert learnt.max_w == 2400, "the most that it reported, rounded up"


async def test_a_report_is_acknowledged_once_it_is_on_disk(bench: Bench) -> None:
    bench.journal.disk.clear()
    bench.report(120)
    await bench.clock.advance(0)
    assert bench.wire.said == []
    assert len(bench.site.readings) == 1, "control does not wait for the disk"
    bench.journal.disk.set()
    await bench.clock.advance(0)
    assert bench.wire.said == [("report", 2, 200)]
    bench.journal.full = True
    bench.report(130)
    await bench.clock.advance(0)
    assert bench.wire.said[-1] == ("report", 2, 503), "it keeps it and says it again"


async def test_doubles_and_late_reports_are_acknowledged_and_no_reading(bench: Bench) -> None:
    bench.report(120, seq=5)
    bench.report(120, seq=5)
    bench.report(999, seq=4)
    await bench.clock.advance(0)
    assert [r.power_w for r in bench.site.readings] == [120]
    assert bench.wire.said == [("report", 2, 200)] * 3


async def test_what_was_held_up_is_as_old_as_it_is(bench: Bench) -> None:
    bench.report(120, ago=7.0)  # its clock is 7 s behind: the quickest report so far
    await bench.clock.advance(60)
    bench.report(300, ago=47.0)
    bench.report(250, ago=17.0)
    now = bench.clock.monotonic()
    assert [round(now - r.taken_at) for r in bench.site.readings] == [60, 40, 10]


@pytest.mark.parametrize(
    ("reports", "delays"),
    [
        # (arrives at, written at by its clock), how long it was under way beyond the quickest
        ([(0, 0), (10, 10)], [0, 0]),
        ([(0, -100), (10, -90), (20, -90)], [40, 0, 10]),  # its clock is 100 s behind: known from the second on
        ([(0, -3600), (1, -2600), (2, -1600), (3, 3), (9, 9)], [3540, 2541, 1542, 0, 0]),  # an hour was held up
        ([(0, 100), (10, 110)], [0, 0]),  # its clock is ahead
        ([(0, 0), (400, 400), (800, 300), (1500, 1000), (2000, 1500)], [0, 0, 500, 0, 0]),  # its clock went back
    ],
)
def test_skew(reports: list[tuple[float, float]], delays: list[float]) -> None:
    skew = Skew()
    assert [skew.delay(at, arrived, arrived) for arrived, at in reports] == delays


async def test_a_command_is_an_event_said_again_until_it_is_answered(bench: Bench) -> None:
    bench.report(280)
    bench.command(2, Setting(setpoint_w=150.0), 7)
    assert [(e.value, e.modification) for e in bench.wire.events] == [(150, 0)]
    await bench.clock.advance(4)
    assert len(bench.wire.events) >= 2
    assert {(e.event_id, e.modification) for e in bench.wire.events} == {(bench.wire.events[0].event_id, 0)}
    bench.emas.happened("mqtt", h.Polled(2, "VEN2"))
    assert bench.wire.said[-1][:3] == ("poll", 2, 150)
    bench.opt(bench.wire.events[0])
    assert bench.site.took == [(90_002, 7)]
    bench.emas.happened("mqtt", h.Polled(2, "VEN2"))
    assert bench.wire.said[-1] == ("poll", 2, None, True), "nothing waits, but what it draws now is not known yet"
    said = len(bench.wire.events)
    await bench.clock.advance(10)
    assert len(bench.wire.events) == said
    assert ("opt", 2, 200) in bench.wire.said
    bench.report(140)
    assert bench.site.readings[-1].done == 7


async def test_a_report_from_before_the_answer_does_not_show_the_command(bench: Bench) -> None:
    bench.report(280)
    bench.command(2, Setting(setpoint_w=150.0), 7)
    await bench.clock.advance(2)
    bench.opt(bench.wire.events[0])
    bench.report(270, ago=1.5)
    assert bench.site.readings[-1].done == 0
    bench.report(140)
    assert bench.site.readings[-1].done == 7


async def test_an_opt_out_is_told_at_once(bench: Bench) -> None:
    bench.report(280)
    bench.command(2, Setting(setpoint_w=150.0), 7)
    bench.opt(bench.wire.events[0], opt_in=False)
    assert bench.site.took == []
    number, command_id, why = bench.site.refusals[0]
    assert (number, command_id) == (90_002, 7)
    assert why == f"opted out of event {bench.wire.events[0].event_id} (150 W)"


async def test_free_is_a_cancel_and_where_nothing_was_said_nothing_is(bench: Bench) -> None:
    bench.report(280)
    bench.command(2, Setting(free=True), 1)
    await bench.clock.advance(0)
    assert bench.wire.events == []
    assert bench.site.took == [(90_002, 1)]
    bench.command(2, Setting(setpoint_w=150.0), 2)
    bench.command(2, Setting(free=True), 3)
    assert [e.cancelled for e in bench.wire.events] == [False, True]
    assert bench.wire.events[0].event_id == bench.wire.events[1].event_id


async def test_what_it_is_held_to_is_renewed_while_it_is_there(bench: Bench) -> None:
    bench.report(280)
    bench.command(2, Setting(setpoint_w=150.0), 7)
    bench.opt(bench.wire.events[0])
    for _ in range(50):
        await bench.clock.advance(10)
        bench.report(140)
    last = bench.wire.events[-1]
    assert (last.event_id, last.modification, last.value) == (bench.wire.events[0].event_id, 1, 150)
    assert last.end > bench.wire.events[0].end


async def test_nothing_is_renewed_while_control_stands_still(bench: Bench) -> None:
    bench.site.turns = 0
    stands = Bench(site=bench.site)
    stands.report(280)
    stands.command(2, Setting(setpoint_w=150.0), 7)
    stands.opt(stands.wire.events[0])
    await stands.clock.advance(0)
    for _ in range(60):
        await stands.clock.advance(10)
        stands.report(140)
    assert {e.modification for e in stands.wire.events} == {0}
    stands.site.turns += 1
    await stands.clock.advance(2)
    assert stands.wire.events[-1].modification == 1, "it goes on"
    stands.task.cancel()


async def test_who_falls_silent_is_lost_and_comes_back(bench: Bench) -> None:
    bench.report(280)
    await bench.clock.advance(30)
    bench.emas.happened("mqtt", h.Polled(2, "VEN2"))
    await bench.clock.advance(59)
    assert bench.site.went == []
    await bench.clock.advance(3)
    assert bench.site.went == [(90_002, True)], "it may draw on"
    with pytest.raises(TransientError, match="is not there"):
        bench.command(2, Setting(setpoint_w=150.0), 7)
    bench.site.resources.clear()
    bench.report(200)
    assert 90_002 in bench.site.resources
    bench.emas.happened("mqtt", h.EmaDisconnected(2))
    assert bench.site.went[-1] == (90_002, True), "its good-bye does not switch off its devices"


async def test_given_back_just_before_a_kill_is_given_back(bench: Bench) -> None:
    """The event stands in the journal, but control holds it to nothing any more."""
    bench.report(280)
    bench.command(2, Setting(setpoint_w=150.0), 7)
    again = Bench()
    again.journal.kept = dict(bench.journal.kept)
    again.report(140)
    assert [e.cancelled for e in again.wire.events] == [True]
    held = Bench()
    held.site.want = Setting(setpoint_w=150.0)
    held.journal.kept = dict(bench.journal.kept)
    held.report(140)
    assert held.wire.events == [], "control says itself what it wants"
    for made in (again, held):
        made.task.cancel()


async def test_strangers_are_not_served_unless_they_may_come(bench: Bench) -> None:
    assert [n for n in (1, 2, 3, 4, 9999, 10_000) if bench.emas.admits(n)] == [2, 3]
    bench.report(100, ema=4)
    assert bench.site.resources == {}
    bench.emas.table = EmasBelowConfig(mqtt=True, open=True)
    bench.emas.configure(bench.emas.table, (), ControlConfig())
    assert [n for n in (2, 4, 9999, 10_000) if bench.emas.admits(n)] == [2, 4, 9999]
    bench.report(100, ema=4)
    assert bench.site.resources[90_004].name == "gw/4"


async def test_their_devices_are_acknowledged(bench: Bench) -> None:
    text = wire.DeviceText(2, 7, True, 9, 60, 1)
    bench.emas.happened("mqtt", h.DeviceConnected(2, text))
    bench.emas.happened("mqtt", h.DeviceDisconnected(2, text))
    assert bench.wire.said == [("device", 2, 7, True), ("device", 2, 7, False)]


# --- RDR -----------------------------------------------------------------------------------------------------


async def test_rdr_within_the_margin(bench: Bench) -> None:
    bench.report(100)
    bench.emas.happened("mqtt", h.RdrAsked(2, 4, 100))
    assert bench.site.asked == [(90_002, 100.0, pytest.approx(1.6))]
    await bench.clock.advance(0)
    assert bench.wire.said[-1][:4] == ("rdr", 2, 4, True)
    assert bench.emas.holds.granted_w(2, bench.clock.now().wall) == 100


async def test_a_grant_counts_once_it_is_on_disk(bench: Bench) -> None:
    bench.report(100)
    await bench.clock.advance(0)
    bench.journal.full = True
    bench.emas.happened("mqtt", h.RdrAsked(2, 4, 100))
    await bench.clock.advance(0)
    assert bench.wire.said[-1][:4] == ("rdr", 2, 4, False)
    assert bench.emas.holds.granted_w(2, bench.clock.now().wall) == 0
    assert bench.site.given_back == [(90_002, 100.0, "it cannot be written")]


async def test_one_at_a_time_and_each_in_its_time(bench: Bench) -> None:
    bench.report(100)
    bench.site.answer = RdrAnswer(RdrResult.PENDING, "the one above is asked")
    for device in (4, 4, 5, 6):
        bench.emas.happened("mqtt", h.RdrAsked(2, device, 50))
    bench.emas.happened("mqtt", h.RdrAsked(3, 4, 70))
    assert [(n, w) for n, w, _ in bench.site.asked] == [(90_002, 50), (90_003, 70)], "the others wait"
    await bench.clock.advance(1)
    await bench.emas.answer_rdr(90_002, RdrAnswer(RdrResult.DENIED, "nothing to give"))
    await bench.clock.advance(0)
    assert bench.wire.said[-1] == ("rdr", 2, 4, False, "nothing to give")
    assert bench.site.asked[-1] == (90_002, 50, pytest.approx(0.6)), "what is left of its time"
    await bench.clock.advance(1)
    await bench.emas.answer_rdr(90_002, RdrAnswer(RdrResult.GRANTED, "OK"))
    await bench.clock.advance(0)
    late = [said for said in bench.wire.said if said[0] == "rdr" and said[2] in (5, 6)]
    assert [said[2:4] for said in late] == [(5, False), (6, False)]
    assert late[0][4] == "the answer came too late for it"
    assert bench.site.given_back == [(90_002, 50, "the answer came too late for it")]
