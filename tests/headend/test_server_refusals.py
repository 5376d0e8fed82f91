"""What the EMS's end of the link can never take is answered, so that its EMA goes on to the next."""

from __future__ import annotations

import json

import pytest

from gateway.links.mir2017 import client_happenings as up
from gateway.links.mir2017 import messages as wire
from gateway.links.mir2017 import server as mir
from gateway.links.mir2017.client import Client, Step

REPORT = {"GW": "gw/1", "VENID": "MIR_VEN1", "RequestID": 77, "Power": 100}


@pytest.mark.parametrize(
    "wrong",
    [
        {"Power": "much"},
        {"Power": 10**10},
        {"Time": -1},
        {"VENID": "a\nb"},
        {"VENID": None},
        {"Devices": [{"dev": 4, "state": 7, "dimming": 0, "watt": 1, "priority": 1}]},
        {"Devices": [{}] * 2001},
    ],
)
def test_a_report_that_says_whose_it_is_is_refused_by_its_number(wrong: dict[str, object]) -> None:
    server = mir.Server()
    outputs = server.received("EMS/UpdateReport", json.dumps({**REPORT, **wrong}).encode())
    [send, refused] = outputs
    assert isinstance(send, wire.Send)
    assert isinstance(refused, mir.ReportRefused)
    assert (refused.ema, refused.request_id, server.refused) == (1, 77, 1)
    assert send.topic == "gw/1/oadrUpdatedReport"
    answer = wire.UpdatedReport.decode(send.body)
    assert (answer.request_id, answer.response) == (77, 400)
    assert next(iter(wrong)) in answer.description
    # And its EMA understands.
    client = Client(1, "MIR_VEN1")
    client.step = Step.UP
    client.report(wire.UpdateReport(1, "MIR_VEN1", 77))
    assert client.received(send.topic, send.body) == [up.ReportRejected(77, f"400 {answer.description}")]


def test_a_report_that_does_not_say_whose_it_is_has_no_answer() -> None:
    for body in ({"GW": "gw/1"}, {"RequestID": 7}, {"GW": "gw/0", "RequestID": 7}, []):
        [refused] = mir.Server().received("EMS/UpdateReport", json.dumps(body).encode())
        assert isinstance(refused, mir.Refused)


def test_not_now_is_not_never() -> None:
    [send] = mir.Server().refuse_report(1, 77, 503, "the disk\nis full")
    client = Client(1, "MIR_VEN1")
    client.step = Step.UP
    client.report(wire.UpdateReport(1, "MIR_VEN1", 77))
    [postponed] = client.received(send.topic, send.body)
    assert isinstance(postponed, up.ReportPostponed)
    assert postponed.request_id == 77


@pytest.mark.parametrize("body", [b"gw/1/dev/4/1/99/60/1", b"gw/1/dev/4/on", b'{"gw":"gw/1","dev":"dev/4","onoff":3}'])
@pytest.mark.parametrize(("topic", "word"), [("EMS/DeviceConnect", "Connect"), ("EMS/DeviceDisconnect", "Disconnect")])
def test_a_device_that_cannot_be_taken_is_answered(topic: str, word: str, body: bytes) -> None:
    server = mir.Server()
    [send, refused] = server.received(topic, body)
    assert isinstance(send, wire.Send)
    assert isinstance(refused, mir.Refused)
    assert send.topic == f"gw/1/dev/4/Device{word}ACK"
    assert refused.topic == topic


def test_whom_the_ems_does_not_admit_is_told_with_its_report_and_costs_no_memory() -> None:
    server = mir.Server(admit=lambda number: number == 1)
    body = json.dumps({**REPORT, "GW": "gw/2"}).encode()
    [send, refused] = server.received("EMS/UpdateReport", body)
    assert isinstance(send, wire.Send)
    assert isinstance(refused, mir.ReportRefused)
    assert wire.UpdatedReport.decode(send.body).response == 503
    [_] = server.received("EMS/UpdateReport", json.dumps(REPORT).encode())
    assert list(server.emas) == [1]


def test_an_opt_is_acknowledged_when_it_is_kept() -> None:
    server = mir.Server(opts_at_once=False)
    created = wire.CreatedEvent(1, "MIR_VEN1", 5, 9, True)
    assert server.received(created.topic, created.encode()) == [mir.EventAnswered(1, 5, 9, True)]
    client = Client(1, "MIR_VEN1")
    for code, happened in ((200, up.EventAcknowledged(5)), (400, up.EventAnswerRejected(5, "400"))):
        client.created_event(5, 9, True)
        [send] = server.acknowledge_opt(1, code)
        assert client.received(send.topic, send.body) == [happened]
