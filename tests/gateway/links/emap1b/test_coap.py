"""Both ends over CoAP: the same bodies by PUT, the answer in the answer, events pushed or observed (section 8)."""

from __future__ import annotations

import pytest

from gateway.errors import PeerError
from gateway.links.emap1b import messages as emap
from gateway.links.emap1b.coap import CoapClient
from gateway.links.emap1b.coap_server import CoapServer
from gateway.links.emap1b.server import Server
from gateway.links.mir2017 import client_happenings as told
from gateway.links.mir2017 import happenings as heard
from gateway.links.mir2017 import messages as neutral
from gateway.links.mir2017.client_happenings import ClientOutput
from gateway.links.mir2017.coap.server import Answer, Write
from gateway.links.mir2017.messages import Send
from gateway.record import changed
from tests.gateway.links.emap1b.vectors import EMA, EMS, EVENT_REQUEST, INDEX, PRICE, REQUEST, SEOUL, START, body, limit


def new() -> CoapClient:
    return CoapClient(1, EMA, SEOUL, wall=lambda: START, run=7, pull=True)


def serve(**options: bool) -> CoapServer:
    return CoapServer(Server(wall=lambda: START, run=8, **options))


def path(name: str) -> str:
    return INDEX[name].removeprefix("/")


def asks(outputs: list[Send] | list[ClientOutput]) -> list[tuple[str, bytes]]:
    return [(output.topic, output.body) for output in outputs if isinstance(output, Send)]


def put(name: str) -> tuple[str, bytes]:
    return path(name), body(name)


def test_the_set_up_to_the_byte() -> None:
    client = new()
    said = client.connected()
    assert asks(said) == [put("ConnectRegistration.json")]
    for answer, asked in (
        ("ConnectedRegistration.json", "CreatePartyRegistration_coap.json"),
        ("CreatedPartyRegistration.json", "RegisterReport.json"),
        ("RegisteredReport.json", "SetupPoll.json"),
    ):
        [ask] = said
        assert isinstance(ask, Send)
        said = client.answered(ask, body(answer))
        assert asks(said) == [put(asked)]
    [ask] = said
    assert isinstance(ask, Send)
    assert client.answered(ask, body("SetupResponse.json")) == [told.SessionUp(2000)]
    assert client.observes == "EMAP1.0b/MIR_VEN1"
    assert client.serves == ("EMAP/MIR_VEN1/1.0b/Event",)


def test_an_answer_is_that_to_its_question_whatever_request_id_it_repeats() -> None:
    client = new()
    nothing = ("MIR_EMS", EMA, "", None)
    report = neutral.UpdateReport(1, EMA, REQUEST)
    [first], [second] = client.report(report), client.report(changed(report, request_id=REQUEST + 1))
    answer = emap.UpdatedReport(*nothing).encode()
    assert client.answered(second, answer) == [told.ReportAcknowledged(REQUEST + 1)]
    assert client.answered(first, answer) == [told.ReportAcknowledged(REQUEST)]
    client.requested("EMAP/MIR_VEN1/1.0b/Event", body("DistributeEvent.json"))
    [opt] = client.created_event(17, EVENT_REQUEST, True)
    assert client.answered(opt, emap.Response(*nothing).encode()) == [told.EventAcknowledged(17)]
    [lamp], [heater] = client.rdr(4, 60), client.rdr(5, 90)
    denied = emap.CreatedOpt(*nothing, 400, "Deny", "", False).encode()
    assert client.answered(heater, denied) == [told.RdrAnswered(5, False, "Deny")]
    assert client.answered(lamp, denied) == [told.RdrAnswered(4, False, "Deny")]


def test_an_event_in_the_answer_to_a_poll() -> None:
    client = new()
    [ask] = client.poll()
    assert client.answered(ask, body("PollResponse.json")) == [told.PollAnswered()]
    assert client.answered(ask, body("DistributeEvent_pulled.json")) == [told.EventReceived(limit())]
    assert client.answered(ask, b"") == []


def test_events_pushed_and_observed() -> None:
    client = new()
    received = [told.EventReceived(limit())]
    assert client.requested(*put("DistributeEvent.json")) == (True, received)
    assert client.notified(body("DistributeEvent.json")) == received
    assert client.notified(b"Initial_Success") == client.notified(b"") == []
    assert client.refused == 0


def test_what_goes_wrong_is_one_refusal() -> None:
    client = new()
    [ask] = client.poll()
    for outputs in (
        client.answered(ask, b"", "4.04 Not Found"),
        client.answered(ask, b"what"),
        client.notified(b"what"),
        client.requested("EMAP/MIR_VEN1/1.0b/Poll", body("PollResponse.json"))[1],
        client.requested(client.serves[0], b"{}")[1],
    ):
        assert [type(output) for output in outputs] == [told.Refused]
    assert not client.requested(client.serves[0], b"{}")[0]
    assert client.refused == 6


def test_the_server_answers_at_once_what_needs_no_disk() -> None:
    server = serve()
    assert set(server.paths) == {
        f"EMAP/{EMS}/1.0b/{last}" for last in ("SessionSetup", "Report", "Event", "Poll", "Opt")
    }
    for asked, answer in (
        ("ConnectRegistration.json", "ConnectedRegistration.json"),
        ("CreatePartyRegistration_coap.json", "CreatedPartyRegistration.json"),
        ("RegisterReport.json", "RegisteredReport.json"),
        ("SetupPoll.json", "SetupResponse.json"),
        ("CreatedEvent.json", "EventResponse.json"),
        ("CancelPartyRegistration.json", "CanceledPartyRegistration.json"),
    ):
        _, outputs = server.requested(*put(asked))
        assert Answer(None, body(answer)) in outputs
    assert server.emas[1].pull


def test_the_server_answers_later_what_does() -> None:
    server = serve(opts_at_once=False)
    key, outputs = server.requested(*put("Poll.json"))
    assert outputs == [heard.Polled(1, EMA)]
    assert server.answer_poll(1) == Answer(key, body("PollResponse.json"))
    server.requested(*put("Poll.json"))
    assert server.answer_poll(1, limit()) == Answer(key, body("DistributeEvent_pulled.json"))
    key, outputs = server.requested(*put("UpdateReport_implicit.json"))
    assert isinstance(outputs[0], heard.Reported)
    assert server.acknowledge_report(1, REQUEST) == Answer(key, body("UpdatedReport.json"))
    refused = server.acknowledge_report(1, REQUEST, 400, "power is no number")
    assert refused == Answer(key, body("UpdatedReport_refused.json"))
    key, _ = server.requested(*put("CreatedEvent.json"))
    assert server.acknowledge_opt(1) == Answer(key, body("EventResponse.json"))
    key, _ = server.requested(*put("CreateOpt.json"))
    assert server.answer_rdr(1, 4, True) == Answer(key, body("CreatedOpt.json"))
    _, double = server.requested(*put("CreateOpt.json"))
    assert double == [Answer(None, body("CreatedOpt.json"))]
    for name, came in (("UpdateReport_connected.json", True), ("UpdateReport_disconnected.json", False)):
        key, _ = server.requested(*put(name))
        answer = server.acknowledge_device(1, 4, came)
        assert answer.key == key
        assert emap.UpdatedReport.decode(answer.body).ok


def test_the_server_writes_to_an_ema_or_notifies_it() -> None:
    server = serve()
    assert server.distribute(1, limit()) == Write(1, *put("DistributeEvent.json"))
    assert server.distribute(1, limit(), observed=True) == Write(1, "", body("DistributeEvent.json"))
    assert server.budget(1, PRICE) == Write(1, *put("DistributeEvent_price.json"))


def test_who_observes() -> None:
    assert serve().observed(EMA) == 1
    for wrong in ("", "EMS", "gw/1", "MIR_VEN0"):
        with pytest.raises(PeerError, match=r"EMAP1\.0b/<EMA>"):
            serve().observed(wrong)


def test_one_too_many_does_not_observe() -> None:
    server = CoapServer(Server(wall=lambda: START, run=8, admit=lambda number: number < 3))
    assert server.observed("MIR_VEN2") == 2
    with pytest.raises(PeerError, match="as many EMAs as may be"):
        server.observed("MIR_VEN3")


def test_a_put_that_is_not_in_the_profile_has_no_answer() -> None:
    server = serve()
    for wrong in (("Poll", body("Poll.json")), ("EMAP/MIR_EMS/1.0b/Poll", b"{}")):
        key, outputs = server.requested(*wrong)
        assert key is None
        assert [type(output) for output in outputs] == [told.Refused]
    assert server.refused == 2
