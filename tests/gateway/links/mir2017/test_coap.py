"""The CoAP form of mir2017: bytes of the wire reference (section 3), and both ends against each other."""

from __future__ import annotations

import json
import random
from collections import deque
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import PeerError
from gateway.links.mir2017 import client_happenings as c
from gateway.links.mir2017 import happenings as h
from gateway.links.mir2017 import messages as wire
from gateway.links.mir2017.coap import messages as coap
from gateway.links.mir2017.coap.client import Client
from gateway.links.mir2017.coap.server import Answer, Server

POLL = b'{ "Service": "Poll", "VENID": "VEN_MIR1", "RequestID": 1, "Version": 2, "GW": "gw/1" }'
START = datetime(2026, 5, 1, 9, 5, tzinfo=UTC).timestamp()
EVENT = wire.DistributeEvent(17, 0, START, START + 600, 800, request_id=1)


def wired() -> tuple[Client, Server]:
    """A client whose session stands."""
    client, server = Client(1, "MIR_VEN1", UTC), Server(UTC)
    outputs = deque(client.connected())
    while outputs:
        output = outputs.popleft()
        if isinstance(output, coap.Ask):
            _, answers = server.requested(output.topic, output.body)
            (answer,) = [a for a in answers if isinstance(a, Answer)]
            outputs.extend(client.answered(output, answer.body))
    return client, server


def ask(client: Client, server: Server, question: wire.Send) -> tuple[object, list[object]]:
    assert isinstance(question, coap.Ask)
    return server.requested(question.topic, question.body)


def test_the_poll_is_the_slides_frame_to_the_byte() -> None:
    client, _ = wired()
    (poll,) = client.poll()
    assert (poll.topic, poll.body) == ("Poll", POLL)
    assert len(poll.body) == 86  # with path, format and marker a frame of 139 bytes


def test_the_answers_have_the_length_of_the_slides_frames() -> None:
    """Frames of 123 and 121 bytes: 42 of Ethernet, IP and UDP, 4 + 1 + 1 of CoAP without token."""
    client, server = wired()
    ask(client, server, client.poll()[0])
    assert len(server.answer_poll(1).body) == 123 - 48
    assert server.answer_poll(1).body == b'DR_P {"Service":"Response","VENID":"VEN_MIR1","Response":200,"RequestID":1}'
    ask(client, server, client.created_event(1, 1, True)[0])
    answer = server.acknowledge_opt(1)
    assert answer is not None
    assert len(answer.body) == 121 - 48


SETUP = [
    (
        "QueryRegistration",
        {"Service": "QueryRegistration", "VENID": "VEN_MIR1", "RequestID": 1, "GW": "gw/1"},
        {"Service": "CreatedPartyRegistration", "Duration": 2000},
    ),
    (
        "CreatePartyRegistration",
        {
            "Service": "CreatePartyRegistrationRequest",
            "VENID": "VEN_MIR1",
            "RequestID": 1,
            "Version": 2,
            "oadrVenName": "VEN_MIR1",
        },
        {"Service": "CreatedPartyRegistration2", "Response": 200, "Duration": 2000},
    ),
    (
        "RegisterReport",
        {"Service": "RegisterReport", "VENID": "VEN_MIR1", "RequestID": 1},
        {"Service": "RegisteredReport", "Response": 200},
    ),
    (
        "Poll",
        {"Service": "Poll", "VENID": "VEN_MIR1", "RequestID": 1, "Version": 2, "GW": "gw/1"},
        {"Service": "RegisterReport", "Response": "ACK_SUCCESS", "Duration": 2000},
    ),
    (
        "RegisteredReport",
        {"Service": "RegisteredReport", "VENID": "VEN_MIR1", "RequestID": 1, "Version": 2},
        {"Service": "Response", "Response": 200},
    ),
    (
        "RequestEvent",
        {"Service": "RequestEvent", "VENID": "VEN_MIR1", "RequestID": 1},
        {"Service": "DistributeEvent", "Response": "ACK_SUCCESS"},
    ),
]


def test_the_whole_set_up() -> None:
    client, server = Client(1, "MIR_VEN1", UTC), Server(UTC)
    outputs = client.connected()
    for path, question, answer in SETUP:
        (sent,) = [o for o in outputs if isinstance(o, coap.Ask)]
        assert (sent.topic, json.loads(sent.body)) == (path, question)
        _, answers = server.requested(sent.topic, sent.body)
        body = next(a.body for a in answers if isinstance(a, Answer))
        assert body.startswith(b"DR {")
        keys = json.loads(body[3:])
        assert keys | answer == keys
        assert {"RequestID", "RegistrationID", "Version", "VENID"} <= set(keys)
        outputs = client.answered(sent, body)
    assert outputs == [c.SessionUp(2000)]
    assert client.up
    assert server.emas[1].registered


def test_a_refused_step_does_not_go_on() -> None:
    client = Client(1, "", UTC)
    (first,) = client.connected()
    (output,) = client.answered(first, b'DR {"Service":"CreatedPartyRegistration","Response":403}')
    assert isinstance(output, c.Refused)
    assert client.step == "QueryRegistration"


def test_a_pulled_event_has_numbers_for_times() -> None:
    client, server = wired()
    question = client.poll()[0]
    assert ask(client, server, question) == (("poll", 1), [h.Polled(1, "VEN_MIR1")])
    answer = server.answer_poll(1, EVENT)
    assert answer.key == ("poll", 1)
    assert answer.body == (
        b'DR_E {"Service":"oadrDistributeEvent","StartYMD":"20260501","StartTime":90511,"EndYMD":"20260501",'
        b'"EndTime":91511,"Value":800,"Response":2,"RequestID":1,"EventID":17,"ModificationNumber":0,'
        b'"TargetVEN":"VEN_MIR1","Responsedescription":"OK","OptType":"optIn"}'
    )
    (output,) = client.answered(question, answer.body)
    assert isinstance(output, c.EventReceived)
    event = output.event
    assert (event.start, event.end, event.value, event.pulled) == (START, START + 600, 800, True)


@pytest.mark.parametrize(("observed", "path", "code"), [(False, "oadrDistributeEvent", 200), (True, "", 100)])
def test_pushed_and_notified_events(observed: bool, path: str, code: int) -> None:
    client, server = wired()
    write = server.distribute(1, EVENT, observed)
    assert (write.ema, write.path) == (1, path)
    assert json.loads(write.body)["Response"] == code
    outputs = client.notified(write.body) if observed else client.requested(write.path, write.body)[1]
    (output,) = outputs
    assert isinstance(output, c.EventReceived)
    assert (output.event.event_id, output.event.start, output.event.pulled) == (17, START, False)


def test_the_first_notification_is_no_event() -> None:
    assert Client(1, "").notified(b"Initial_Success") == []


@pytest.mark.parametrize("text", ["EMA1", "gw/1", "1"])
def test_who_observes(text: str) -> None:
    assert Server().observed(text) == 1


@pytest.mark.parametrize("text", ["", "0", "EMA", "gw/x", "EMA123456", "EMA1/x"])
def test_who_cannot_observe(text: str) -> None:
    with pytest.raises(PeerError):
        Server().observed(text)


def test_a_report_waits_for_its_answer() -> None:
    client, server = wired()
    report = wire.UpdateReport(1, "x", 1 << 30 | 5, power=700)
    (question,) = client.report(report)
    assert question.body.startswith(b'{ "Service": "UpdateReport", "VENID": "VEN_MIR1", "GW": "gw/1", "RequestID": ')
    key, outputs = ask(client, server, question)
    (reported,) = outputs
    assert isinstance(reported, h.Reported)
    assert reported.report.power == 700
    answer = server.acknowledge_report(1, report.request_id)
    assert answer.key == key
    keys = json.loads(answer.body[3:])
    assert "Service" not in keys
    assert keys["Responsedescription"] == "MIR"
    assert client.answered(question, answer.body) == [c.ReportAcknowledged(report.request_id)]
    # The lab's EMS says 1 whatever the report's number was.
    lab = b'DR {"RequestID":1,"VENID":"VEN_MIR1","Response":200,"Responsedescription":"MIR"}'
    assert client.answered(question, lab) == [c.ReportAcknowledged(report.request_id)]
    refused = server.acknowledge_report(1, report.request_id, 400, "too large").body
    assert client.answered(question, refused) == [c.ReportRejected(report.request_id, "400 too large")]
    busy = server.acknowledge_report(1, report.request_id, 503, "later").body
    assert client.answered(question, busy) == [c.ReportPostponed(report.request_id, "503 later")]


def test_the_opt_is_answered_when_it_is_kept() -> None:
    client, server = wired()
    first, second = client.created_event(17, 1, True)[0], client.created_event(18, 2, False)[0]
    assert ask(client, server, first)[1] == [h.EventAnswered(1, 17, 1, True)]
    key, outputs = ask(client, server, second)
    assert outputs == [h.EventAnswered(1, 18, 2, False)]
    answer = server.acknowledge_opt(1)
    assert answer is not None
    assert client.answered(first, answer.body) == [c.EventAcknowledged(17)]
    answer = server.acknowledge_opt(1, 400)
    assert answer is not None
    assert answer.key == key
    assert client.answered(second, answer.body) == [c.EventAnswerRejected(18, "400")]
    assert server.acknowledge_opt(1) is None


def test_a_report_that_can_be_named_is_refused_by_its_number() -> None:
    client, server = wired()
    (question,) = client.report(wire.UpdateReport(1, "x", 7, power=1))
    bad = question.body.replace(b'"Power": 1', b'"Power": "much"')
    _, outputs = server.requested(question.topic, bad)
    assert isinstance(outputs[0], Answer)
    assert isinstance(outputs[1], h.ReportRefused)
    (output,) = client.answered(question, outputs[0].body)
    assert isinstance(output, c.ReportRejected)
    assert output.request_id == 7


def test_devices_come_and_go() -> None:
    client, server = wired()
    device = wire.DeviceText(1, 4, True, 9, 100, 2)
    (question,) = client.device_connect(device)
    assert (question.topic, question.body) == ("DeviceConnect", b"gw/1/dev/4/1/9/100/2")
    key, outputs = ask(client, server, question)
    assert outputs == [h.DeviceConnected(1, device)]
    answer = server.acknowledge_device(1, 4, True)
    assert answer.key == key
    assert client.answered(question, answer.body) == [c.DeviceAcknowledged(4, True)]
    (question,) = client.device_disconnect(device)
    key, outputs = ask(client, server, question)
    assert (key, outputs) == (("device", 1, 4, False), [h.DeviceDisconnected(1, device)])
    (question,) = client.device_info(device)
    assert ask(client, server, question) == (None, [h.DeviceInfo(1, device), Answer(None, b"info")])


@pytest.mark.parametrize("text", [b"x/1/700/800", b"x/gw/1/700/800"])
def test_the_margin_says_the_threshold(text: bytes) -> None:
    _, outputs = Server().requested("powermargin", text)
    assert outputs[0] == h.MarginReported(1, wire.PowerMargin(700, 100))
    (question,) = Client(1, "").margin(wire.PowerMargin(700, 100))
    assert question.body == b"x/1/700/800"


def test_rdr_is_answered_without_a_word() -> None:
    client, server = wired()
    (question,) = client.rdr(4, 50)
    assert (question.topic, question.body) == ("oadrRDR", b'{"SrcEMA":"gw/1","devnumber":"dev/4","value":50}')
    key, outputs = ask(client, server, question)
    assert (key, outputs) == (("rdr", 1, 4), [h.RdrAsked(1, 4, 50)])
    granted = server.answer_rdr(1, 4, True)
    assert json.loads(granted.body) == {
        "SrcEMA": "gw/1",
        "devnumber": "dev/4",
        "responseDescription": "OK",
        "responseCode": 200,
    }
    assert client.answered(question, granted.body) == [c.RdrAnswered(4, True, "OK")]
    assert client.answered(question, server.answer_rdr(1, 4, False, "Deny: no").body) == [
        c.RdrAnswered(4, False, "Deny: no")
    ]


def test_what_the_ems_writes_to_an_ema() -> None:
    client, server = wired()
    on, up, threshold = server.control(1, 3, True), server.dim(1, 3, True), server.threshold(1, 900)
    assert (on.path, on.body) == ("gw/1/dev/3/control", b"\x11\x1f")
    assert (up.path, up.body) == ("gw/1/dev/3/dimming", b"\x31\x1a\x01")
    assert (threshold.path, threshold.body) == ("threshold", b"900")
    assert client.requested(on.path, on.body) == (True, [c.DeviceControl(3, True)])
    assert client.requested(up.path, up.body) == (True, [c.Dimming(3, 1)])
    assert client.requested(threshold.path, threshold.body) == (True, [c.ThresholdReceived(900)])
    assert client.requested("gw/2/dev/3/control", b"\x11\x1f")[0] is False
    assert client.requested("threshold", b"x")[0] is False


def test_modules_are_answered_by_a_word() -> None:
    body = b'{"GW":"gw/1","ESSID":"e1","Power":-300,"Mode":"x","priority":1}'
    _, outputs = Server().requested("ESS", body)
    assert isinstance(outputs[0], h.FieldModuleReported)
    assert outputs[1] == Answer(None, b"ESSACK")


def test_an_ema_that_registered_before_the_ems_started_is_served() -> None:
    server = Server()
    assert server.requested("Poll", POLL) == (("poll", 1), [h.Polled(1, "VEN_MIR1")])


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("Poll", POLL.replace(b"VEN_MIR1", b"somebody")),
        ("Poll", POLL.replace(b"gw/1", b"gw/2")),
        ("Poll", POLL[:-3]),
        ("nothing", b"{}"),
        ("powermargin", b"x/1/700"),
        ("powermargin", b"x/1/700/8e5"),
        ("oadrRDR", b"[]"),
        ("UpdateReport", b"\xff\x00"),
    ],
)
def test_what_is_refused(path: str, body: bytes) -> None:
    server = Server()
    _, outputs = server.requested(path, body)
    (output,) = outputs
    assert isinstance(output, c.Refused)
    assert server.refused == 1
    assert not server.emas


PATHS = [*Server().paths, "oadrDistributeEvent", "threshold", "gw/1/dev/1/control"]


@given(st.sampled_from(PATHS), st.binary(max_size=200))
def test_no_bytes_raise(path: str, body: bytes) -> None:
    client, server = wired()
    server.requested(path, body)
    client.requested(path, body)
    client.notified(body)
    client.answered(coap.Ask(path, b""), body)


@given(
    st.integers(0, 2**40),
    st.integers(0, 1000),
    st.integers(0, 2_000_000),
    st.integers(1, 100_000),
    st.integers(0, 10**9),
    st.sampled_from([2, 100, 200]),
)
def test_events_come_back_as_they_went(
    number: int, modification: int, start: int, minutes: int, value: int, code: int
) -> None:
    begin = START + start * 60
    event = wire.DistributeEvent(number, modification, begin, begin + minutes * 60, value, pulled=code == 2)
    assert coap.read_event(coap.write_event(event, UTC, code), UTC) == event


@pytest.mark.parametrize("seed", range(5))
def test_the_set_up_gets_through_losses_and_doubles(seed: int) -> None:
    rng = random.Random(seed)
    client, server = Client(1, "", UTC), Server(UTC)
    for _ in range(200):
        outputs = deque(client.connected())
        while outputs:
            output = outputs.popleft()
            if not isinstance(output, coap.Ask) or rng.random() < 0.2:
                continue
            for _ in range(rng.choice((1, 1, 2))):
                _, answers = server.requested(output.topic, output.body)
                for answer in answers:
                    if isinstance(answer, Answer) and rng.random() > 0.2:
                        outputs.extend(client.answered(output, answer.body))
        if client.up:
            break
    assert client.up
