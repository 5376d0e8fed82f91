"""The parts of the EMS upstream by themselves: deadlines, the window over the outbox, settings, opts said again."""

from __future__ import annotations

import asyncio
import logging
import random
from pathlib import Path

import pytest

from gateway.clock import ManualClock
from gateway.config.model import EmaConfig, UpstreamConfig
from gateway.errors import OperatorError
from gateway.links.mir2017.client import Client
from gateway.links.mir2017.messages import DistributeEvent, Send, request_id
from gateway.site.report import NoticeKind
from gateway.transport.mqtt import Will
from gateway.upstream.ems_deadlines import Deadlines
from gateway.upstream.ems_dropped import Dropped
from gateway.upstream.ems_events import MOST_EVENTS, MOST_TRIES, EventDesk
from gateway.upstream.ems_outbox import MOST_NOTICES, MOST_PASSED, Window
from gateway.upstream.ems_translate import device_text, margin_of, settings_of, update_report
from tests.gateway.upstream.peers import MemoryOutbox, SiteBelow, notice, site_report

CONNECTED, DISCONNECTED, CHANGED = NoticeKind.CONNECTED, NoticeKind.DISCONNECTED, NoticeKind.CHANGED


async def test_deadlines_come_in_their_order_and_once() -> None:
    clock = ManualClock()
    deadlines = Deadlines(clock)
    came: list[tuple[str, float]] = []
    start = clock.monotonic()
    watching = asyncio.ensure_future(deadlines.run())
    for name, seconds in (("late", 30.0), ("soon", 5.0), ("moved", 1.0), ("cancelled", 2.0)):
        deadlines.after(name, seconds, lambda name=name: came.append((name, clock.monotonic() - start)))  # type: ignore[misc]
    await clock.advance(0)
    deadlines.after("moved", 10.0, lambda: came.append(("moved", clock.monotonic() - start)))
    deadlines.cancel("cancelled", "never set")
    await clock.advance(7.0)
    deadlines.after("sooner than what is slept for", 0.5, lambda: deadlines.after("again", 1.0, lambda: came.clear()))
    await clock.advance(0.6)
    assert came == [("soon", 5.0)]
    await clock.advance(1.0)
    assert came == []
    await clock.advance(60.0)
    assert came == [("moved", 10.0), ("late", 30.0)]
    watching.cancel()


def filled(*bodies: object) -> tuple[MemoryOutbox, Window]:
    outbox = MemoryOutbox()
    for body in bodies:
        outbox.append(body)  # type: ignore[arg-type]
    return outbox, Window(outbox)


def test_the_cursor_moves_without_a_gap() -> None:
    outbox, window = filled(*(site_report(float(n)) for n in range(3)))
    assert [r.seq for r in window.take(2)] == [1, 2]
    assert window.take(2) == []
    assert not window.drained
    assert [r.seq for r in window.take(3)] == [3]
    assert window.take(4) == []
    assert window.drained
    assert window.report_acknowledged(request_id(1, 2))
    assert outbox.cursor == (0, 0)
    assert [r.seq for r in window.again(window.reports)] == [1, 3]
    assert window.report_acknowledged(request_id(1, 1))
    assert outbox.cursor == (1, 2)
    assert not window.report_acknowledged(request_id(1, 1))
    assert not window.report_acknowledged(request_id(9, 9))
    assert (window.waiting, window.acknowledged) == (1, 2)


def test_after_a_restart_all_that_is_not_acknowledged_comes_again() -> None:
    outbox, window = filled(*(site_report(float(n)) for n in range(3)))
    window.take(3)
    window.report_acknowledged(request_id(1, 1))
    window.report_acknowledged(request_id(1, 3))
    window.restart()
    assert [r.seq for r in window.take(9)] == [2, 3]
    assert outbox.cursor == (1, 1)


def test_a_changed_device_counts_with_what_comes_after_it() -> None:
    outbox, window = filled(notice(CHANGED), site_report(1.0), notice(CHANGED), notice(DISCONNECTED), notice(CHANGED))
    window.take(9)
    assert window.waiting == 2
    assert window.device_acknowledged(4, False)
    assert outbox.cursor == (1, 1)
    assert window.report_acknowledged(request_id(1, 2))
    assert outbox.cursor == (1, 4)
    assert window.waiting == 0
    assert len(window.again(window.reports)) == 1


def test_a_notice_is_answered_by_number_and_kind_the_oldest_first() -> None:
    outbox, window = filled(notice(CONNECTED), notice(DISCONNECTED), notice(CONNECTED), notice(CONNECTED, 5))
    window.take(9)
    assert not window.device_acknowledged(6, True)
    assert not window.device_acknowledged(5, False)
    for number, connected, cursor in ((5, True, 0), (4, True, 1), (4, False, 2), (4, True, 4)):
        assert window.device_acknowledged(number, connected)
        assert outbox.cursor[1] == cursor


def test_a_rejected_report_is_out_of_the_outbox() -> None:
    outbox, window = filled(*(site_report(float(n)) for n in range(3)))
    window.take(3)
    assert window.report_rejected(request_id(1, 2)) is outbox.records[1]
    assert outbox.cursor == (0, 0)
    assert window.report_rejected(request_id(1, 2)) is None
    assert window.report_rejected(request_id(1, 1)) is outbox.records[0]
    assert outbox.cursor == (1, 2)
    assert (window.waiting, window.acknowledged) == (1, 0)


def test_a_postponed_report_stays_however_often() -> None:
    outbox, window = filled(*(site_report(float(n)) for n in range(40)))
    window.take(1)
    for number in range(2, 40):
        window.take(2)
        assert window.report_postponed(request_id(1, 1))
        assert window.report_acknowledged(request_id(1, number))
        assert window.give_up(window.reports) == []
        assert [r.seq for r in window.again(window.reports)] == [1]
    assert outbox.cursor == (0, 0)
    assert window.report_acknowledged(request_id(1, 1))
    assert outbox.cursor == (1, 39)


@pytest.mark.parametrize("body", [notice(CONNECTED), notice(DISCONNECTED), site_report(0.0)])
def test_what_is_passed_for_ever_is_given_up(body: object) -> None:
    outbox, window = filled(body, *(site_report(float(n)) for n in range(40)))
    window.take(1)
    lane = window.reports if window.reports.open else window.notices
    for number in range(2, 2 + MOST_PASSED):
        assert not lane.passing
        assert window.give_up(lane) == []  # nothing newer was answered: it may be the EMS that is away
        assert [r.seq for r in window.again(lane)] == [1]
        window.take(1 + len(window.reports.open))
        assert window.report_acknowledged(request_id(1, number))
        assert lane.passing
        assert outbox.cursor == (0, 0)
        given_up = window.give_up(lane)
        assert given_up == ([outbox.records[0]] if number == 1 + MOST_PASSED else [])
    assert outbox.cursor == (1, 1 + MOST_PASSED)
    assert window.waiting == 0


def test_notices_that_nobody_answers_leave_the_reports_their_room() -> None:
    outbox, window = filled(*(notice(CONNECTED, n) for n in range(MOST_NOTICES - 1)), site_report(1.0))
    taken = []
    while records := window.take(1):
        taken += records
    assert taken == outbox.records
    assert (len(window.notices.open), len(window.reports.open)) == (MOST_NOTICES - 1, 1)
    # And those that are answered again and again cost no memory behind one that is not.
    for number in range(1000):
        window.report_acknowledged(request_id(1, MOST_NOTICES + number))
        outbox.append(site_report(2.0))
        window.take(1)
    assert window.waiting == MOST_NOTICES


def test_what_a_device_did_before_is_not_said_after_what_it_did_last() -> None:
    outbox, window = filled(notice(CONNECTED), notice(CONNECTED, 5), notice(DISCONNECTED))
    window.take(9)
    assert window.device_acknowledged(4, False)
    assert [r.seq for r in window.again(window.notices)] == [2]
    assert outbox.cursor == (1, 1)


class Kept(dict[str, str]):
    """Notes of an upstream, as the journal keeps them."""

    saved = 0

    def value(self, key: str) -> str | None:
        return self.get(key)

    def save_value(self, key: str, value: str) -> None:
        self.saved += 1
        self[key] = value


def test_what_was_dropped_is_counted_over_restarts_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    notes = Kept()
    dropped = Dropped("ems", ManualClock(), logging.getLogger("test"), notes)
    assert (dropped.count, dropped.last) == (0, "")
    for number in range(1000):
        dropped.add(f"report 1.{number}: 422 Power")
    assert notes.saved == 10
    again = Dropped("ems", ManualClock(), logging.getLogger("test"), notes)
    assert (again.count, again.last) == (512, "report 1.511: 422 Power")
    assert Dropped("other", ManualClock(), logging.getLogger("test"), notes).count == 0
    assert [r.getMessage() for r in caplog.records if r.levelname == "WARNING"] == [
        "ems: the EMS does not take report 1.0: 422 Power; dropped"
    ]


@pytest.mark.parametrize(
    ("given", "wire"), [(60.4, 60), (-20.6, -21), (5e12, 1_000_000_000), (float("inf"), 1_000_000_000)]
)
def test_watts_are_whole_on_the_wire(given: float, wire: int) -> None:
    ema = EmaConfig(number=3, ven_id="VEN-3")
    report = update_report(ema, 7, site_report(given), explicit=True)
    assert (report.ema, report.ven_id, report.request_id, report.power) == (3, "VEN-3", 7, wire)
    assert report.devices is not None
    assert report.devices[0].watt == wire
    assert (report.threshold, report.margin) == (None, None)
    assert margin_of(site_report(given)) is None


def test_a_device_fits_its_eight_parts() -> None:
    line = notice(CHANGED).device
    assert device_text(1, line).encode() == b"gw/1/dev/4/1/9/60/1"


def test_settings() -> None:
    config = UpstreamConfig(host="ems.example", port=8883, username="gw1", name="upper")
    client = Client(12, "MIR_VEN12")
    settings = settings_of(config, EmaConfig(number=12), "word", client.will, client.subscriptions)
    assert settings.address == "ems.example:8883"
    assert settings.client_id == "smartema-gw12-upper"
    assert (settings.username, settings.password, settings.tls) == ("gw1", "word", None)
    assert "word" not in repr(settings)
    assert settings.will == Will("EMS/disconnected", b"gw/12/x")
    assert settings.subscriptions == (("gw/12/#", 1), ("gw/pushall/#", 1))


def test_tls_files_that_are_not_there_are_named(tmp_path: Path) -> None:
    config = UpstreamConfig(host="ems.example", tls=True, ca_file=str(tmp_path / "ca.pem"))
    with pytest.raises(OperatorError, match=r"ca\.pem"):
        settings_of(config, EmaConfig(), None, Send("t", b"x"), ())


class Desk:
    """An EventDesk whose answers are kept."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.site = SiteBelow()
        self.said: list[bytes] = []
        self.deadlines = Deadlines(self.clock)
        self.desk = EventDesk(
            "ems",
            self.site,
            Client(1, "MIR_VEN1"),
            self.deadlines,
            random.Random(1),
            lambda sends: self.said.extend(send.body for send in sends if isinstance(send, Send)),
            logging.getLogger("test"),
        )


def event(number: int, modification: int = 0) -> DistributeEvent:
    return DistributeEvent(number, modification, 60.0, 120.0, 800, request_id=number + modification)


async def test_an_opt_is_said_again_until_it_is_acknowledged() -> None:
    d = Desk()
    watching = asyncio.ensure_future(d.deadlines.run())
    await d.desk.take(event(17))
    assert len(d.said) == 1
    await d.clock.advance(5.0)
    assert len(d.said) == 2
    d.desk.acknowledged(17)
    await d.clock.advance(1000.0)
    assert len(d.said) == 2
    watching.cancel()


async def test_an_opt_that_nobody_acknowledges_is_not_said_for_ever() -> None:
    d = Desk()
    watching = asyncio.ensure_future(d.deadlines.run())
    await d.desk.take(event(17))
    await d.clock.advance(10_000.0)
    assert len(d.said) == MOST_TRIES
    d.desk.session_up()
    assert len(d.said) == MOST_TRIES + 1
    watching.cancel()


async def test_the_later_modification_stays_in_force() -> None:
    d = Desk()
    for given in (event(17, 1), event(17, 0), event(17, 2), event(17, 2)):
        await d.desk.take(given)
    assert [e.modification for e in d.site.events] == [1, 2]
    assert len(d.said) == 4


async def test_an_older_modification_after_a_restart_is_not_applied() -> None:
    d = Desk()
    d.site.answered[17] = 3
    await d.desk.take(event(17, 2))
    assert d.site.events == []
    assert d.said == []


async def test_memory_stays_flat_over_many_events() -> None:
    d = Desk()
    for number in range(MOST_EVENTS + 50):
        await d.desk.take(event(number))
    assert len(d.desk._opts) == MOST_EVENTS
