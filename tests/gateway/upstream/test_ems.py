"""The EMS upstream against a real broker, with the Server half as its EMS (wire reference, sections 1, 2 and 4)."""

from __future__ import annotations

import asyncio

import aiomqtt
import pytest

from gateway.errors import TransientError
from gateway.links.mir2017 import server as mir
from gateway.links.mir2017.messages import DistributeEvent, RdrResponse, request_id
from gateway.site.report import NoticeKind
from gateway.site.resource import Setting
from tests.gateway.upstream.peers import HurriedClock, Rig, notice, site_report
from tests.support.mosquitto import Mosquitto
from tests.support.wait import until

SETUP = [
    "EMS/oadrinit/QueryRegistration",
    "EMS/oadrinit/CreatePartyRegistration",
    "EMS/oadrinit/RegisterReport",
    "EMS/oadrinit/Poll",
    "EMS/oadrinit/RegisteredReport",
    "EMS/oadrinit/RequestEvent",
    "EMS/connected",
]
EVENT = DistributeEvent(17, 0, 1_700_000_040.0, 1_700_000_640.0, 800, request_id=5)


def up(rig: Rig) -> bool:
    return rig.upstream.status()["state"] == "up"


async def test_the_session_is_set_up_in_the_documented_order(mosquitto: Mosquitto) -> None:
    async with Rig(mosquitto.port) as rig:
        await until(lambda: rig.ems.of(mir.EmaConnected), what="EMS/connected")
        assert rig.ems.topics == SETUP
        assert rig.ems.of(mir.EmaRegistered) == [mir.EmaRegistered(1, "MIR_VEN1")]
        assert up(rig)


async def test_close_says_disconnected_once_and_nothing_after(mosquitto: Mosquitto) -> None:
    async with Rig(mosquitto.port) as rig:
        await until(lambda: rig.ems.of(mir.EmaConnected))
        await rig.upstream.close()
        await until(lambda: rig.ems.of(mir.EmaDisconnected), what="EMS/disconnected")
        rig.report(site_report(1.0))
        await rig.end(rig.upstream)
        assert len(rig.ems.of(mir.EmaDisconnected)) == 1
        assert not rig.ems.stored


async def test_an_abrupt_end_is_told_by_the_last_will(mosquitto: Mosquitto) -> None:
    async with Rig(mosquitto.port) as rig:
        await until(lambda: rig.ems.of(mir.EmaConnected))
        async with aiomqtt.Client("127.0.0.1", mosquitto.port, identifier="smartema-gw1-ems"):
            await until(lambda: rig.ems.of(mir.EmaDisconnected), what="the last will")
        await until(lambda: len(rig.ems.of(mir.EmaConnected)) == 2, 20, "a new session")


@pytest.mark.parametrize("opt_in", [True, False])
async def test_a_pushed_event_is_applied_before_it_is_answered(mosquitto: Mosquitto, opt_in: bool) -> None:
    async with Rig(mosquitto.port) as rig:
        await until(lambda: up(rig))
        rig.site.opt = lambda event: opt_in
        rig.site.may_answer.clear()
        rig.ems.publish(rig.ems.server.distribute(1, EVENT))
        await until(lambda: rig.site.events, what="take_event")
        assert not rig.ems.of(mir.EventAnswered)
        rig.site.may_answer.set()
        await until(lambda: rig.ems.of(mir.EventAnswered), what="CreatedEvent")
        assert rig.ems.of(mir.EventAnswered) == [mir.EventAnswered(1, 17, 5, opt_in)]
        event = rig.site.events[0]
        assert (event.upstream, event.event_id, event.modification) == ("ems", 17, 0)
        assert (event.start, event.end, event.limit_w) == (EVENT.start, EVENT.end, 800.0)


@pytest.mark.parametrize("mode", [1, 2, 3, 4])
async def test_events_pushed_to_one_and_to_all_are_taken_in_every_mode(mosquitto: Mosquitto, mode: int) -> None:
    async with Rig(mosquitto.port, mode) as rig:
        await until(lambda: up(rig))
        rig.ems.publish(rig.ems.server.distribute(1, EVENT))
        rig.ems.publish(rig.ems.server.broadcast(DistributeEvent(18, 0, EVENT.start, EVENT.end, 500)))
        await until(lambda: len(rig.ems.of(mir.EventAnswered)) == 2, what="two answers")
        assert [event.event_id for event in rig.site.events] == [17, 18]


async def test_an_event_is_applied_once_a_modification_and_answered_each_time(mosquitto: Mosquitto) -> None:
    async with Rig(mosquitto.port) as rig:
        await until(lambda: up(rig))
        rig.site.opt = lambda event: False
        cancel = DistributeEvent(17, 1, EVENT.start, EVENT.start, 800, request_id=6)
        for event in (EVENT, EVENT, cancel, cancel, EVENT):
            rig.ems.publish(rig.ems.server.distribute(1, event))
        await until(lambda: len(rig.ems.of(mir.EventAnswered)) == 5, what="five answers")
        assert [event.modification for event in rig.site.events] == [0, 1]
        assert rig.site.events[1].cancelled
        assert {answer.opt_in for answer in rig.ems.of(mir.EventAnswered)} == {False}


async def test_poll_modes_poll_at_the_duration_and_pull_events(mosquitto: Mosquitto) -> None:
    async with Rig(mosquitto.port, mode=2) as rig:
        await until(lambda: len(rig.ems.of(mir.Polled)) >= 3, what="three polls")
        assert rig.upstream.status()["poll_s"] == 0.1
        rig.ems.event = EVENT
        await until(lambda: rig.ems.of(mir.EventAnswered), what="CreatedEvent")
        assert [event.event_id for event in rig.site.events] == [17]


async def test_push_modes_do_not_poll(mosquitto: Mosquitto) -> None:
    async with Rig(mosquitto.port, mode=4) as rig:
        await until(lambda: up(rig))
        rig.report(*(site_report(float(n)) for n in range(100)))
        await until(lambda: len(rig.ems.stored) == 100)
        assert not rig.ems.of(mir.Polled)


async def test_mode_2_reports_with_each_poll(mosquitto: Mosquitto) -> None:
    async with Rig(mosquitto.port, mode=2) as rig:
        rig.ems.server.duration_ms = 86_400_000
        await until(lambda: rig.ems.of(mir.Polled))
        rig.report(site_report(1.0))
        await asyncio.sleep(0)
        assert rig.upstream.status()["sent"] == 0
        rig.upstream._poll()
        await until(lambda: rig.ems.stored == [request_id(1, 1)], what="the report")


async def test_mode_3_reports_on_request_alone(mosquitto: Mosquitto) -> None:
    async with Rig(mosquitto.port, mode=3) as rig:
        await until(lambda: len(rig.ems.of(mir.Polled)) >= 2)
        rig.report(site_report(1.0), site_report(2.0))
        polls = len(rig.ems.of(mir.Polled))
        await until(lambda: len(rig.ems.of(mir.Polled)) >= polls + 2)
        assert not rig.ems.of(mir.Reported)
        rig.ems.want_report = True
        await until(lambda: rig.ems.stored == [request_id(1, 1), request_id(1, 2)], what="both reports")
        await until(lambda: rig.outbox.waiting() == 0)
        rig.ems.want_report = True
        await until(lambda: len(rig.ems.stored) == 3, what="a report of now")
        assert rig.ems.of(mir.Reported)[-1].report.power == 77


async def test_reports_carry_the_site_and_leave_the_outbox_on_the_answer(mosquitto: Mosquitto) -> None:
    async with Rig(mosquitto.port) as rig:
        rig.report(site_report(60.4, 39.6))
        await until(lambda: rig.outbox.waiting() == 0, what="acknowledged")
        reported = rig.ems.of(mir.Reported)[0]
        report = reported.report
        assert reported.request_id == request_id(1, 1)
        assert (report.power, report.threshold, report.margin) == (60, 100, 40)
        assert (report.generate, report.storage, report.time_ms) == (-100, 50, 1_700_000_000_000)
        assert [(d.device, d.on, d.dimming, d.watt, d.priority) for d in report.devices] == [(4, True, 9, 60, 1)]
        await until(lambda: rig.ems.of(mir.MarginReported), what="the margin")
        margin = rig.ems.of(mir.MarginReported)[0]
        assert (margin.ema, margin.margin.power, margin.margin.margin) == (1, 60, 40)


async def test_an_implicit_report_names_no_device(mosquitto: Mosquitto) -> None:
    async with Rig(mosquitto.port, explicit=False) as rig:
        rig.report(site_report(60.0))
        await until(lambda: rig.ems.of(mir.Reported))
        assert rig.ems.of(mir.Reported)[0].report.devices is None
        assert not rig.ems.of(mir.MarginReported)


async def test_only_the_ems_answer_removes_a_report(mosquitto: Mosquitto) -> None:
    async with Rig(mosquitto.port) as rig:
        rig.ems.mute = {mir.Reported}
        rig.report(site_report(1.0))
        await until(lambda: rig.ems.of(mir.Reported))
        assert rig.outbox.waiting() == 1
        rig.ems.publish(rig.ems.server.acknowledge_report(1, request_id(1, 1)))
        await until(lambda: rig.outbox.waiting() == 0)


async def test_device_notices_go_in_order_among_the_reports(mosquitto: Mosquitto) -> None:
    async with Rig(mosquitto.port) as rig:
        rig.report(
            notice(NoticeKind.CONNECTED),
            site_report(1.0),
            notice(NoticeKind.CHANGED),
            notice(NoticeKind.DISCONNECTED),
            notice(NoticeKind.CHANGED),
        )
        await until(lambda: rig.ems.of(mir.DeviceDisconnected))
        await until(lambda: rig.outbox.cursor == (1, 4), what="all but the last info acknowledged")
        wanted = (mir.DeviceConnected, mir.Reported, mir.DeviceInfo, mir.DeviceDisconnected)
        await until(lambda: len(rig.ems.of(mir.DeviceInfo)) == 2)
        came = [type(h) for h in rig.ems.happened if isinstance(h, wanted)]
        assert came == [*wanted, mir.DeviceInfo]
        assert rig.outbox.waiting() == 1
        rig.report(site_report(2.0))
        await until(lambda: rig.outbox.waiting() == 0, what="the info counts with the report after it")


async def test_device_control_and_dimming_by_bytes(mosquitto: Mosquitto) -> None:
    async with Rig(mosquitto.port) as rig:
        await until(lambda: up(rig))
        server = rig.ems.server
        rig.ems.publish(server.control(1, 4, True) + server.control(1, 5, False) + server.dim(1, 4, True))
        rig.ems.publish(server.dim(1, 4, False))
        await until(lambda: len(rig.site.steps) == 2)
        assert rig.site.settings == [(4, Setting(on=True)), (5, Setting(on=False))]
        assert rig.site.steps == [(4, 1), (4, -1)]


@pytest.mark.parametrize(("grant", "answer"), [(True, (True, "OK")), (False, (False, "Deny"))])
async def test_rdr_is_asked_and_answered(mosquitto: Mosquitto, grant: bool, answer: tuple[bool, str]) -> None:
    async with Rig(mosquitto.port) as rig:
        await until(lambda: up(rig))
        rig.ems.grant = grant
        assert await rig.upstream.ask_rdr(4, 59.2, 600) == answer
        assert rig.ems.of(mir.RdrAsked) == [mir.RdrAsked(1, 4, 60)]


async def test_one_rdr_a_device_and_none_without_a_session(mosquitto: Mosquitto) -> None:
    async with Rig(mosquitto.port) as rig:
        rig.ems.grant = None
        await until(lambda: up(rig))
        first = asyncio.ensure_future(rig.upstream.ask_rdr(4, 60, 600))
        other = asyncio.ensure_future(rig.upstream.ask_rdr(5, 60, 600))
        await until(lambda: len(rig.ems.of(mir.RdrAsked)) == 2)
        with pytest.raises(TransientError, match="dev/4 asks already"):
            await rig.upstream.ask_rdr(4, 60, 600)
        mosquitto.kill()
        for asking in (first, other):
            with pytest.raises(TransientError, match="broke"):
                await asking
        with pytest.raises(TransientError, match="no session"):
            await rig.upstream.ask_rdr(4, 60, 600)


async def test_a_late_answer_is_not_taken_for_that_of_the_next_question(mosquitto: Mosquitto) -> None:
    async with Rig(mosquitto.port) as rig:
        rig.ems.grant = None
        await until(lambda: up(rig))
        asked = asyncio.ensure_future(rig.upstream.ask_rdr(4, 60, 600))
        await until(lambda: len(rig.ems.of(mir.RdrAsked)) == 1)
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)
        with pytest.raises(TransientError, match="was not answered before"):
            await rig.upstream.ask_rdr(4, 5000, 600)
        assert len(rig.ems.of(mir.RdrAsked)) == 1
        rig.upstream._carrier._received("gw/1/RDRresponse", RdrResponse(4, True, "EMS").encode())  # the late one
        rig.ems.grant = False
        granted, _ = await rig.upstream.ask_rdr(4, 5000, 600)
        assert not granted


async def test_the_labs_eternal_request_id_1_answers_the_oldest(mosquitto: Mosquitto) -> None:
    async with Rig(mosquitto.port) as rig:
        rig.ems.lab = True
        rig.report(*(site_report(float(n)) for n in range(40)))
        await until(lambda: rig.outbox.waiting() == 0)
        assert rig.outbox.moves == [(1, n) for n in range(1, 41)]
        assert rig.ems.stored == [request_id(1, n) for n in range(1, 41)]
        assert rig.ems.doubles == 0


async def test_a_report_lost_on_its_way_to_a_lab_ems_is_not_taken_for_acknowledged(mosquitto: Mosquitto) -> None:
    async with Rig(mosquitto.port, clock=HurriedClock(40)) as rig:
        rig.ems.lab = True
        rig.ems.lose = 1
        rig.report(*(site_report(float(n)) for n in range(5)))
        await until(lambda: rig.outbox.waiting() == 0)
        assert rig.ems.stored == [request_id(1, n) for n in range(1, 6)]
        assert rig.ems.doubles == 0


@pytest.mark.parametrize("lab", [False, True])
async def test_a_report_that_the_ems_rejects_blocks_nothing(
    mosquitto: Mosquitto, lab: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async with Rig(mosquitto.port) as rig:
        rig.ems.lab = lab
        rig.ems.refusals = {request_id(1, n): 422 for n in (1, 5, 6)}
        rig.report(*(site_report(float(n)) for n in range(9)))
        await until(lambda: rig.outbox.waiting() == 0)
        assert rig.ems.stored == [request_id(1, n) for n in (2, 3, 4, 7, 8, 9)]
        status = rig.upstream.status()
        assert (status["rejected"], status["acknowledged"], status["refused"], status["resent"]) == (3, 6, 0, 0)
        assert status["last_rejected"] == "report 1.6: 422 no such key"
    said = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert said == ["ems: the EMS does not take report 1.1: 422 no such key; dropped"]


@pytest.mark.parametrize("lab", [False, True])
async def test_a_report_that_the_ems_cannot_take_now_is_sent_again(
    mosquitto: Mosquitto, lab: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    async with Rig(mosquitto.port, clock=HurriedClock(100)) as rig:
        rig.ems.lab = lab
        rig.ems.refusals = {request_id(1, 1): 503, request_id(1, 2): 500}
        rig.report(*(site_report(float(n)) for n in range(4)))
        await until(lambda: len(rig.ems.of(mir.Reported)) > 8, what="said again and again")
        assert rig.outbox.waiting() == 4
        rig.ems.refusals.clear()
        await until(lambda: rig.outbox.waiting() == 0)
        assert set(rig.ems.stored) == {request_id(1, n) for n in range(1, 5)}
        assert rig.upstream.status()["rejected"] == 0
    said = [r.getMessage() for r in caplog.records if "cannot take reports now" in r.getMessage()]
    assert len(said) == 1
    assert "503 no such key" in said[0] or "500 no such key" in said[0]
    assert any("answers again" in r.getMessage() for r in caplog.records)


@pytest.mark.parametrize("lab", [False, True])
async def test_a_device_that_is_never_acknowledged_blocks_no_report(mosquitto: Mosquitto, lab: bool) -> None:
    async with Rig(mosquitto.port, clock=HurriedClock(40)) as rig:
        rig.ems.lab = lab
        rig.ems.mute = {mir.DeviceConnected}
        rig.report(*(notice(NoticeKind.CONNECTED, n) for n in range(1, 41)), site_report(0.0))
        await until(lambda: rig.ems.stored == [request_id(1, 41)], what="the report behind forty devices")
        sent = 0

        def more() -> bool:
            nonlocal sent
            if len(rig.ems.stored) > sent:
                sent += 1
                rig.report(site_report(float(sent)))
            return rig.upstream.status()["rejected"] == 40

        await until(more, 20, "given up")
        await until(lambda: rig.outbox.waiting() == 0, what="the cursor goes on")
        assert rig.ems.stored == [request_id(1, n) for n in range(41, 42 + sent)]
        assert rig.upstream.status()["last_rejected"].startswith("dev/40 connected 1.40: never answered")
        assert rig.upstream.status()["sessions"] == 1
        # One that comes when the EMS answers again is no different from before.
        rig.ems.mute = set()
        rig.report(notice(NoticeKind.CONNECTED, 7))
        await until(lambda: rig.outbox.waiting() == 0)
        assert rig.upstream.status()["rejected"] == 40


async def test_what_was_requested_and_under_way_when_the_link_broke_goes_again_without_a_request(
    mosquitto: Mosquitto,
) -> None:
    async with Rig(mosquitto.port, mode=3) as rig:
        rig.ems.want_report = True
        await until(lambda: rig.ems.stored, what="a first report, so that its answers are known to be numbered")
        rig.ems.stored.clear()
        rig.report(site_report(1.0), site_report(2.0))
        rig.ems.answers_lost = True
        rig.ems.want_report = True
        await until(lambda: len(rig.ems.stored) == 2, what="both reports")
        mosquitto.kill()
        await until(lambda: not up(rig))
        rig.ems.answers_lost = False
        await mosquitto.start()
        await until(lambda: rig.outbox.waiting() == 0, 20, "both acknowledged")
        assert rig.ems.stored == [request_id(1, 1), request_id(1, 2)]
        assert rig.ems.doubles == 2


@pytest.mark.parametrize("lab", [False, True])
async def test_what_an_ems_did_not_answer_is_sent_again_in_order(mosquitto: Mosquitto, lab: bool) -> None:
    async with Rig(mosquitto.port, clock=HurriedClock(40)) as rig:
        rig.ems.lab = lab
        rig.report(site_report(0.0))
        await until(lambda: rig.outbox.waiting() == 0)
        rig.ems.deaf = True
        rig.report(*(site_report(float(n)) for n in range(1, 30)))
        await until(lambda: rig.upstream.status()["resent"] or not up(rig), what="a second try")
        rig.ems.deaf = False
        await until(lambda: rig.outbox.waiting() == 0, what="all acknowledged")
        assert set(rig.ems.stored) == {request_id(1, n) for n in range(1, 31)}


async def test_an_ems_that_comes_later_is_asked_again_until_it_answers(
    mosquitto: Mosquitto, caplog: pytest.LogCaptureFixture
) -> None:
    async with Rig(mosquitto.port, clock=HurriedClock(100)) as rig:
        rig.ems.deaf = True
        asked = rig.upstream._setup_wait
        await until(lambda: "set-up" in rig.upstream._silent and asked._next > 5, what="a second QueryRegistration")
        assert not up(rig)
        said = [r for r in caplog.records if r.levelname == "WARNING" and "does not answer" in r.message]
        assert len(said) == 1
        assert "QueryRegistration" in said[0].message
        rig.ems.deaf = False
        await until(lambda: up(rig), what="the session")


async def test_malformed_messages_are_counted_and_logged_once_a_topic(
    mosquitto: Mosquitto, caplog: pytest.LogCaptureFixture
) -> None:
    async with Rig(mosquitto.port) as rig:
        await until(lambda: up(rig))
        for body in (b"\xff\x00", b"[" * 50_000, b"{}", b'{"RequestID":true}', b""):
            rig.ems.link.post("gw/1/oadrUpdatedReport", body)
            rig.ems.link.post("gw/1/nothing/known", body)
        await until(lambda: rig.upstream.status()["refused"] == 10, what="ten refusals")
        said = [r for r in caplog.records if r.levelname == "WARNING" and "refused" in r.message]
        assert len(said) == 2
        rig.report(site_report(1.0))
        await until(lambda: rig.outbox.waiting() == 0)


async def test_a_restarted_ems_serves_a_session_it_does_not_know(mosquitto: Mosquitto) -> None:
    async with Rig(mosquitto.port, mode=2) as rig:
        await until(lambda: rig.ems.of(mir.Polled))
        rig.ems.server = mir.Server(rig.ems.server.zone, 100)
        rig.ems.happened.clear()
        rig.ems.event = EVENT
        rig.report(site_report(1.0))
        await until(lambda: rig.outbox.waiting() == 0)
        await until(lambda: rig.ems.of(mir.EventAnswered))
        assert not rig.ems.of(mir.EmaRegistering)


async def test_no_report_is_lost_doubled_or_out_of_order_over_broker_kills(mosquitto: Mosquitto) -> None:
    async with Rig(mosquitto.port, clock=HurriedClock(5)) as rig:
        sent = 0
        for _ in range(3):
            await until(lambda: up(rig) and rig.ems.link.up, 20, "both sides are back")
            stored = len(rig.ems.stored)
            for _ in range(200):
                rig.report(site_report(float(sent)))
                sent += 1
                await asyncio.sleep(0)
            await until(lambda: len(rig.ems.stored) > stored + 20, what="reports flow")  # noqa: B023
            rig.ems.answers_lost = True
            rig.report(site_report(float(sent)))
            sent += 1
            await until(lambda: rig.outbox.waiting() and rig.upstream.status()["in_flight"])
            await until(lambda: rig.ems.stored[-1] > request_id(*rig.outbox.cursor), what="stored, not answered")
            mosquitto.kill()
            await until(lambda: not up(rig))
            rig.report(*(site_report(float(n)) for n in range(sent, sent + 20)))
            sent += 20
            rig.ems.answers_lost = False
            await mosquitto.start()
        await until(lambda: rig.outbox.waiting() == 0, 30, "all acknowledged")
        assert rig.ems.stored == [request_id(1, n) for n in range(1, sent + 1)]
        assert rig.ems.doubles >= 3
        assert rig.outbox.moves == sorted(set(rig.outbox.moves))
        assert rig.upstream.status()["reconnects"] == 3


async def test_a_restarted_ema_sends_what_was_not_answered_under_the_same_request_id(mosquitto: Mosquitto) -> None:
    async with Rig(mosquitto.port) as rig:
        rig.ems.mute = {mir.Reported}
        rig.report(site_report(1.0), site_report(2.0))
        await until(lambda: rig.ems.of(mir.Reported))
        await rig.end(rig.upstream)
        rig.ems.mute = set()
        rig.ems.happened.clear()
        rig.upstream = rig.new_upstream()
        rig.start(rig.upstream, rig.upstream.run)
        await until(lambda: rig.outbox.waiting() == 0)
        assert rig.ems.stored == [request_id(1, 1), request_id(1, 2)]


async def test_an_opt_that_the_ems_did_not_get_is_said_again(mosquitto: Mosquitto) -> None:
    async with Rig(mosquitto.port, clock=HurriedClock(5)) as rig:
        await until(lambda: up(rig))
        rig.site.may_answer.clear()
        rig.ems.publish(rig.ems.server.distribute(1, EVENT))
        await until(lambda: rig.site.events)
        mosquitto.kill()
        await until(lambda: not up(rig))
        rig.site.may_answer.set()
        await mosquitto.start()
        await until(lambda: rig.ems.of(mir.EventAnswered), 20, "the answer, after the link is back")
        assert len(rig.site.events) == 1
