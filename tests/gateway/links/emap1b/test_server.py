"""The EMS's end alone, fed the hand-written bytes (wire reference, section 8)."""

from __future__ import annotations

import json

import pytest

from gateway.errors import OperatorError
from gateway.links.emap1b import messages as emap
from gateway.links.emap1b.server import Reply, Server
from gateway.links.mir2017 import happenings as told
from gateway.links.mir2017 import messages as neutral
from gateway.links.mir2017.client_happenings import Refused
from gateway.links.mir2017.happenings import ServerOutput
from gateway.links.mir2017.messages import Send
from gateway.record import changed
from tests.gateway.links.emap1b.vectors import (
    EMA,
    EMS,
    EVENT_REQUEST,
    INDEX,
    MESSAGES,
    PRICE,
    REQUEST,
    START,
    START_MS,
    body,
    limit,
    up,
)


def new(**options: object) -> Server:
    return Server(wall=lambda: START, run=8, **options)  # type: ignore[arg-type]


def sent(name: str) -> Send:
    return Send(INDEX[name], body(name))


def reply(name: str) -> Reply:
    return Reply(INDEX[name], body(name))


def feed(server: Server, name: str) -> list[ServerOutput]:
    return server.received(INDEX[name], body(name))


def tell(server: Server, message: emap.Message, channel: emap.Channel | None = None) -> list[ServerOutput]:
    return server.received(emap.topic(EMS, channel or message.channel), message.encode())


def registered() -> Server:
    server = new()
    for name in ("ConnectRegistration.json", "CreatePartyRegistration.json", "RegisterReport.json", "SetupPoll.json"):
        feed(server, name)
    assert server.emas[1].registered
    return server


def test_the_set_up_to_the_byte() -> None:
    server = new()
    assert server.subscriptions == ("/EMAP/MIR_EMS/1.0b/#",)
    assert feed(server, "ConnectRegistration.json") == [
        reply("ConnectedRegistration.json"),
        told.EmaRegistering(1, EMA),
    ]
    assert feed(server, "CreatePartyRegistration.json") == [reply("CreatedPartyRegistration.json")]
    assert feed(server, "RegisterReport.json") == [reply("RegisteredReport.json")]
    assert not server.emas[1].registered
    assert feed(server, "SetupPoll.json") == [
        reply("SetupResponse.json"),
        told.EmaRegistered(1, EMA),
        told.EmaConnected(1),
    ]
    assert server.emas[1].registered
    assert not server.emas[1].pull


def test_a_doubled_registration_is_answered_alike() -> None:
    server = new()
    feed(server, "ConnectRegistration.json")
    assert feed(server, "CreatePartyRegistration.json") == feed(server, "CreatePartyRegistration.json")


def test_it_is_known_who_polls() -> None:
    server = new()
    feed(server, "CreatePartyRegistration_coap.json")
    assert server.emas[1].pull


@pytest.mark.parametrize(("version", "code"), [("EMAP1.0b", 200), ("1.0b", 200), ("EMAP1.0a", 400), ("", 400)])
def test_only_this_version_is_spoken(version: str, code: int) -> None:
    outputs = tell(new(), emap.ConnectRegistration(*up("7-1"), version))
    assert isinstance(outputs[0], Reply)
    assert emap.ConnectedRegistration.decode(outputs[0].body).code == code
    assert len(outputs) == (2 if code == 200 else 1)


def test_the_steps_that_a_public_ema_has_more() -> None:
    server = registered()
    response = Reply(INDEX["SetupResponse.json"], body("SetupResponse.json"))
    assert feed(server, "EmaRegisteredReport.json") == [response]
    assert feed(server, "RequestEvent.json") == [reply("DistributeEvent_none.json")]


def test_a_poll_without_an_event() -> None:
    server = registered()
    assert feed(server, "Poll.json") == [told.Polled(1, EMA)]
    assert server.answer_poll(1) == [reply("PollResponse.json")]


def test_a_poll_with_an_event_and_its_answer() -> None:
    server = registered()
    feed(server, "Poll.json")
    assert server.answer_poll(1, limit()) == [reply("DistributeEvent_pulled.json")]
    assert feed(server, "CreatedEvent.json") == [
        told.EventAnswered(1, 17, EVENT_REQUEST, True),
        reply("EventResponse.json"),
    ]


def test_a_report_is_wanted_once_there_is_no_event() -> None:
    server = registered()
    feed(server, "Poll.json")
    server.answer_poll(1, limit(), want_report=True)
    feed(server, "Poll.json")
    assert server.answer_poll(1) == [reply("PollResponse_report_wanted.json")]
    feed(server, "Poll.json")
    assert server.answer_poll(1) == [reply("PollResponse.json")]


def test_events_pushed_to_one_to_several_and_to_all() -> None:
    server = registered()
    assert server.distribute(1, limit()) == [sent("DistributeEvent.json")]
    assert server.distribute(1, limit(1, 0, EVENT_REQUEST + 1)) == [sent("DistributeEvent_cancel.json")]
    tell(server, changed(emap.Poll(*up("1")), source="MIR_VEN2"))
    topics = ["/EMAP/MIR_VEN1/1.0b/Event", "/EMAP/MIR_VEN2/1.0b/Event"]
    assert [send.topic for send in server.multicast((1, 2), limit())] == topics
    assert [send.topic for send in server.broadcast(limit())] == topics
    feed(server, "CancelPartyRegistration.json")
    assert [send.topic for send in server.broadcast(limit())] == topics[1:]


def test_an_answer_means_the_event_as_it_was_sent() -> None:
    """Whatever requestID it carries: eventID and modificationNumber say which."""
    server = registered()
    for modification in (0, 1):
        server.distribute(1, limit(modification, 600, 1000 + modification))
    for modification in (1, 0):
        outputs = tell(server, emap.CreatedEvent(*up("requestID"), 200, "OK", True, "17", modification))
        assert outputs[0] == told.EventAnswered(1, 17, 1000 + modification, True)


def test_an_answer_after_a_restart_means_its_own_request_id() -> None:
    assert feed(new(), "CreatedEvent.json")[0] == told.EventAnswered(1, 17, EVENT_REQUEST, True)


def test_an_opt_may_wait_until_it_is_stored() -> None:
    server = new(opts_at_once=False)
    assert feed(server, "CreatedEvent.json") == [told.EventAnswered(1, 17, EVENT_REQUEST, True)]
    assert server.acknowledge_opt(1) == [reply("EventResponse.json")]
    assert server.acknowledge_opt(1) == []
    feed(server, "CreatedEvent_out.json")
    [refused] = server.acknowledge_opt(1, 400)
    assert emap.Response.decode(refused.body).code == 400


def test_reports_implicit_and_explicit() -> None:
    server = registered()
    implicit = neutral.UpdateReport(1, EMA, REQUEST, START_MS, 612, None, None, 0, 0)
    assert feed(server, "UpdateReport_implicit.json") == [told.Reported(1, REQUEST, implicit)]
    devices = (
        emap.TypedEntry(4, True, 9, 60, 1, "led"),
        emap.TypedEntry(5, False, 0, None, 2),
        emap.TypedEntry(6, True, 0, -2100, 3, "pv"),
        emap.TypedEntry(7, True, 0, 400, 4, "ess"),
    )
    explicit = neutral.UpdateReport(1, EMA, REQUEST, START_MS, 612, 800, 188, -2100, 400, devices)
    assert feed(server, "UpdateReport_explicit.json") == [told.Reported(1, REQUEST, explicit)]
    assert server.acknowledge_report(1, REQUEST) == [reply("UpdatedReport.json")]
    assert server.refuse_report(1, REQUEST, 400, "power is no number") == [reply("UpdatedReport_refused.json")]


def test_an_explicit_report_of_devices_alone_is_summed_up() -> None:
    entries = (emap.Entry("LED1", "LED", power=60), emap.Entry("PV2", "PV", power=-200, generate=-200))
    [reported] = tell(registered(), emap.UpdateReport(*up("5"), True, entries))
    assert isinstance(reported, told.Reported)
    assert (reported.report.power, reported.report.generate, reported.report.storage) == (-140, -200, 0)
    assert [device.device for device in reported.report.devices or ()] == [1, 2]


def test_a_report_with_a_word_for_a_number_is_answered_by_that_word() -> None:
    server = registered()
    message = changed(MESSAGES["UpdateReport_implicit.json"], request_id="requestID")
    [reported] = tell(server, message)
    assert isinstance(reported, told.Reported)
    for _ in range(2):
        [answer] = server.acknowledge_report(1, reported.request_id)
        assert emap.UpdatedReport.decode(answer.body).request_id == "requestID"


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"type": "both"}, "type"),
        ({"report": []}, "report"),
        ({"report": [{"reportDescription": [{"rID": "lamp", "deviceType": "LED"}]}]}, "rID"),
    ],
)
def test_a_report_that_cannot_be_taken_is_refused_so_that_it_blocks_nothing(wrong: dict, reason: str) -> None:
    server = registered()
    keys = json.loads(body("UpdateReport_explicit.json")) | wrong
    answer, refused = server.received(INDEX["UpdateReport_explicit.json"], json.dumps(keys).encode())
    assert isinstance(answer, Reply)
    read = emap.UpdatedReport.decode(answer.body)
    assert (read.request_id, read.code) == (str(REQUEST), 400)
    assert isinstance(refused, told.ReportRefused)
    assert (refused.ema, refused.request_id) == (1, REQUEST)
    assert reason in refused.reason
    assert server.refused == 1


def test_the_report_of_an_ema_too_many_is_refused() -> None:
    server = new(admit=lambda number: number == 2)
    answer, _ = feed(server, "UpdateReport_implicit.json")
    assert isinstance(answer, Reply)
    assert emap.UpdatedReport.decode(answer.body).code == 503
    assert server.emas == {}


def test_devices_come_go_and_change() -> None:
    server = registered()
    assert feed(server, "UpdateReport_connected.json") == [
        told.DeviceConnected(1, neutral.DeviceText(1, 4, True, 9, 60, 1))
    ]
    feed(server, "UpdateReport_connected.json")
    tell(server, changed(MESSAGES["UpdateReport_connected.json"], request_id="7-9"))
    answers = [emap.UpdatedReport.decode(send.body).request_id for send in server.acknowledge_device(1, 4, True)]
    assert answers == ["7-6", "7-9"]
    assert server.acknowledge_device(1, 4, True) == []
    assert feed(server, "UpdateReport_disconnected.json") == [
        told.DeviceDisconnected(1, neutral.DeviceText(1, 4, False, 0, 0, 1))
    ]
    [gone] = server.acknowledge_device(1, 4, False)
    assert emap.UpdatedReport.decode(gone.body).request_id == "7-7"
    info, answer = feed(server, "UpdateReport_changed.json")
    assert info == told.DeviceInfo(1, neutral.DeviceText(1, 4, True, 3, -20, 1))
    assert isinstance(answer, Reply)
    assert emap.UpdatedReport.decode(answer.body).request_id == "7-8"


def test_rdr() -> None:
    server = registered()
    assert feed(server, "CreateOpt.json") == [told.RdrAsked(1, 4, 60)]
    assert server.answer_rdr(1, 4, True) == [reply("CreatedOpt.json")]
    feed(server, "CreateOpt.json")
    assert server.answer_rdr(1, 4, False) == []


def test_an_rdr_that_is_denied_and_its_double() -> None:
    server = registered()
    feed(server, "CreateOpt.json")
    assert server.answer_rdr(1, 4, False) == [reply("CreatedOpt_denied.json")]
    assert feed(server, "CreateOpt.json") == [reply("CreatedOpt_denied.json")]


def test_an_rdr_as_section_8_writes_it() -> None:
    """Without our ``resourceID`` the EMA asks for itself."""
    keys = json.loads(body("CreateOpt.json"))
    del keys["resourceID"]
    assert registered().received(INDEX["CreateOpt.json"], json.dumps(keys).encode()) == [told.RdrAsked(1, 0, 60)]


def test_prices() -> None:
    assert registered().budget(1, PRICE) == [sent("DistributeEvent_price.json")]


def test_the_end() -> None:
    server = registered()
    assert feed(server, "CancelPartyRegistration.json") == [
        told.EmaDisconnected(1),
        reply("CanceledPartyRegistration.json"),
    ]
    assert not server.emas[1].connected
    assert feed(server, "CancelPartyRegistration_will.json") == [told.EmaDisconnected(1)]


def test_two_emas_with_one_number_show_up() -> None:
    server = registered()
    other = changed(emap.Poll(*up("1")), source="OTHER_1")
    [refused] = tell(server, other)
    assert isinstance(refused, Refused)
    assert "OTHER_1 has the number of MIR_VEN1" in refused.reason
    tell(server, changed(emap.ConnectRegistration(*up("2")), source="OTHER_1"))  # one that was renamed
    assert tell(server, other) == [told.Polled(1, "OTHER_1")]


def test_a_server_that_restarted_serves_what_it_does_not_know() -> None:
    server = new()
    assert feed(server, "Poll.json") == [told.Polled(1, EMA)]
    assert isinstance(feed(server, "UpdateReport_implicit.json")[0], told.Reported)
    assert server.distribute(2, limit())[0].topic == "/EMAP/MIR_VEN2/1.0b/Event"


def test_no_more_emas_than_may_be() -> None:
    server = new(most_emas=1)
    feed(server, "Poll.json")
    [refused] = tell(server, changed(emap.Poll(*up("1")), source="MIR_VEN2"))
    assert isinstance(refused, Refused)


def test_the_profile_has_no_word_for_a_command_to_a_device() -> None:
    server = registered()
    assert server.control(1, 4, True) == server.dim(1, 4, True) == []
    assert not server.controls_devices


def test_what_an_upper_ema_hears_from_above_is_not_the_servers() -> None:
    server = new(ems_name="MIR_VEN9")
    for service in emap.TO_EMA.keys() - emap.TO_EMS.keys():
        text = json.dumps({"SrcEMA": EMS, "DestEMA": "MIR_VEN9", "service": service}).encode()
        assert server.received("/EMAP/MIR_VEN9/1.0b/Report", text) == []
    assert server.refused == 0


@pytest.mark.parametrize("source", ["MIR_VEN", "gw/1", "", "MIR_VEN0"])
def test_who_has_no_number_is_refused(source: str) -> None:
    keys = json.loads(body("Poll.json")) | {"SrcEMA": source}
    [refused] = new().received(INDEX["Poll.json"], json.dumps(keys).encode())
    assert isinstance(refused, Refused)
    assert "SrcEMA" in refused.reason


def test_a_topic_for_another_ems_is_refused() -> None:
    [refused] = new().received("/EMAP/OTHER/1.0b/Poll", body("Poll.json"))
    assert isinstance(refused, Refused)


def test_a_name_that_cannot_be() -> None:
    with pytest.raises(OperatorError, match="ems_name"):
        new(ems_name="a b")
