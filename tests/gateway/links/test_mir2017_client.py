"""The EMA's end alone, fed the hand-written bytes (wire reference, sections 1, 2 and 4)."""

from __future__ import annotations

from zoneinfo import ZoneInfo

import pytest

from gateway.links.mir2017 import client as mir
from gateway.links.mir2017 import messages as wire
from gateway.links.mir2017.client import Client, Step
from gateway.links.mir2017.messages import Send, request_id
from tests.gateway.links.test_mir2017_vectors import INDEX, SEOUL, VECTORS


def body(name: str) -> bytes:
    return (VECTORS / name).read_bytes()


def sent(name: str) -> Send:
    return Send(INDEX[name], body(name))


def feed(client: Client, name: str) -> list[mir.ClientOutput]:
    return client.received(INDEX[name], body(name))


# what the EMS says, and what the EMA says to that
DIALOGUE = [
    ("CreatedPartyRegistration_1.json", "CreatePartyRegistration.json"),
    ("CreatedPartyRegistration_2.json", "EmaRegisterReport.json"),
    ("EmsRegisteredReport.json", "SetupPoll.json"),
    ("EmsRegisterReport.json", "EmaRegisteredReport.json"),
    ("SetupResponse.json", "RequestEvent.json"),
    ("SetupDistributeEvent.json", "connected.txt"),
]


def new(zone: ZoneInfo = SEOUL) -> Client:
    return Client(1, "MIR_VEN1", zone)


def registered() -> Client:
    client = new()
    client.connected()
    for heard, _ in DIALOGUE:
        feed(client, heard)
    assert client.up
    return client


def report(number: int) -> wire.UpdateReport:
    return wire.UpdateReport(1, "MIR_VEN1", number)


def updated(client: Client, number: int, response: int = 200) -> list[mir.ClientOutput]:
    return client.received("gw/1/oadrUpdatedReport", wire.UpdatedReport("MIR_VEN1", number, response).encode())


def test_the_set_up_to_the_byte() -> None:
    client = new()
    assert client.connected() == [sent("QueryRegistration.json")]
    for heard, said in DIALOGUE[:-1]:
        assert not client.up
        assert feed(client, heard) == [sent(said)]
    assert feed(client, DIALOGUE[-1][0]) == [sent("connected.txt"), mir.SessionUp(2000)]
    assert client.up


@pytest.mark.parametrize("step", range(len(DIALOGUE)))
def test_no_step_of_the_set_up_goes_on_by_another_answer(step: int) -> None:
    client = new()
    client.connected()
    for heard, _ in DIALOGUE[:step]:
        feed(client, heard)
    here = client.step
    for other, _ in DIALOGUE:
        if other == DIALOGUE[step][0] or (step == 0 and other == "CreatedPartyRegistration_2.json"):
            continue  # the first registration may be answered by the second form
        assert feed(client, other) == []
        assert client.step is here


def test_a_doubled_answer_does_not_go_on_twice() -> None:
    client = new()
    client.connected()
    for index, (heard, _) in enumerate(DIALOGUE):
        feed(client, heard)
        step = client.step
        assert feed(client, heard) == []
        assert client.step is step
        assert client.stale == index + 1


@pytest.mark.parametrize(
    ("step", "answer"),
    [
        (1, wire.CreatedPartyRegistration("v", response=452)),
        (2, wire.EmsRegisteredReport("v", response=500)),
        (3, wire.EmsRegisterReport("v", response="ACK_FAIL")),
        (4, wire.Response("v", 403)),
        (5, wire.Response("v", "NO")),
    ],
)
def test_a_refused_step_stays_and_is_said(step: int, answer: wire.Response) -> None:
    client = new()
    client.connected()
    for heard, _ in DIALOGUE[:step]:
        feed(client, heard)
    here = client.step
    outputs = client.received(INDEX[DIALOGUE[step][0]], answer.encode())
    assert [type(output) for output in outputs] == [mir.Refused]
    assert str(answer.response) in outputs[0].reason  # type: ignore[union-attr]
    assert client.step is here


def test_the_duration_asked_for_last_counts() -> None:
    client = new()
    client.connected()
    for heard, _ in DIALOGUE[:3]:
        feed(client, heard)
    client.received("gw/1/oadrinit/RegisterReport", wire.EmsRegisterReport("v", duration_ms=5000).encode())
    feed(client, "SetupResponse.json")
    assert feed(client, "SetupDistributeEvent.json")[-1] == mir.SessionUp(5000)


def test_connecting_again_begins_anew() -> None:
    client = registered()
    assert client.connected() == [sent("QueryRegistration.json")]
    assert client.step is Step.QUERY_REGISTRATION


@pytest.mark.parametrize("name", ["DistributeEvent.json", "DistributeEvent_all.json", "oadrDistributeEvent.json"])
def test_events_pushed_to_one_to_all_and_pulled(name: str) -> None:
    client = registered()
    [received] = feed(client, name)
    assert isinstance(received, mir.EventReceived)
    assert received.event == wire.DistributeEvent.decode(body(name), SEOUL)
    assert client.created_event(17, 5, True) == [sent("CreatedEvent.json")]
    assert client.created_event(18, 5, False)[0].body.endswith(b'"OptType":"optOut"}')
    assert feed(client, "EventResponse.json") == [mir.EventAcknowledged(17)]
    assert feed(client, "EventResponse.json") == [mir.EventAcknowledged(18)]
    assert feed(client, "EventResponse.json") == []


def test_an_event_is_taken_while_the_session_is_set_up() -> None:
    client = new()
    client.connected()
    assert isinstance(feed(client, "DistributeEvent.json")[0], mir.EventReceived)


def test_polls() -> None:
    client = registered()
    assert client.poll() == [sent("Poll.json")]
    assert feed(client, "PollResponse.json") == [mir.PollAnswered()]
    assert feed(client, "PollResponse_report_wanted.json") == [mir.ReportRequested()]


def test_a_report_is_answered_by_its_own_request_id() -> None:
    client = registered()
    first, second = request_id(1, 1), request_id(1, 2)
    client.report(report(first))
    client.report(report(second))
    client.report(report(first))  # again
    assert updated(client, second) == [mir.ReportAcknowledged(second)]
    assert client.echoes
    assert updated(client, first) == [mir.ReportAcknowledged(first)]
    assert updated(client, first) == []
    assert updated(client, request_id(1, 3)) == []


def test_the_labs_eternal_1_answers_the_oldest_transmission() -> None:
    client = registered()
    numbers = [request_id(1, n) for n in (1, 1, 2)]  # the first was sent twice
    for number in numbers:
        client.report(report(number))
    assert [updated(client, 1) for _ in numbers] == [[mir.ReportAcknowledged(number)] for number in numbers]
    assert updated(client, 1) == []
    assert not client.echoes


def test_an_ems_that_echoes_is_not_believed_a_1() -> None:
    client = registered()
    client.report(report(request_id(1, 1)))
    updated(client, request_id(1, 1))
    client.report(report(request_id(1, 2)))
    assert updated(client, 1) == []


@pytest.mark.parametrize("numbered", [True, False], ids=["by_its_number", "by_the_labs_1"])
@pytest.mark.parametrize(
    ("response", "happening"), [(400, mir.ReportRejected), (499, mir.ReportRejected), (503, mir.ReportPostponed)]
)
def test_a_report_is_refused_for_good_or_for_now(response: int, happening: type, numbered: bool) -> None:
    client = registered()
    number = request_id(1, 1)
    client.report(report(number))
    assert updated(client, number if numbered else 1, response) == [happening(number, f"{response} OK")]
    assert client.refused == 0
    if happening is mir.ReportPostponed:
        client.report(report(number))
        assert updated(client, number if numbered else 1) == [mir.ReportAcknowledged(number)]
    else:
        assert updated(client, number) == []


@pytest.mark.parametrize("response", [2, 300, 600, "NACK"])
def test_an_answer_that_says_neither_yes_nor_no_answers_nothing(response: int | str) -> None:
    client = registered()
    client.report(report(request_id(1, 1)))
    assert isinstance(updated(client, request_id(1, 1), response)[0], mir.Refused)
    assert updated(client, request_id(1, 1)) == [mir.ReportAcknowledged(request_id(1, 1))]


def test_a_refused_opt_answers_its_event_and_leaves_the_next_its_own() -> None:
    client = registered()
    for event_id in (17, 18, 19):
        client.created_event(event_id, 5, True)
    answers = [client.received("gw/1/drevent/Response", wire.Response("v", code).encode()) for code in (404, 500, 200)]
    assert answers[0] == [mir.EventAnswerRejected(17, "404")]
    assert isinstance(answers[1][0], mir.Refused)
    assert answers[2] == [mir.EventAcknowledged(19)]


def test_an_answer_of_the_session_before_answers_nothing() -> None:
    client = registered()
    client.report(report(request_id(1, 1)))
    client.created_event(17, 5, True)
    client.connected()
    assert updated(client, 1) == []
    assert feed(client, "EventResponse.json") == []


def test_the_rest_of_both_tables() -> None:
    client = registered()
    assert client.margin(wire.PowerMargin(612, 188)) == [sent("PowerMargin.json")]
    assert feed(client, "PowerMarginACK.txt") == [mir.MarginAcknowledged()]
    assert client.device_connect(wire.DeviceText(1, 4, True, 9, 60, 1)) == [sent("DeviceConnect.txt")]
    assert feed(client, "DeviceConnectACK.json") == [mir.DeviceAcknowledged(4, True)]
    assert client.device_disconnect(wire.DeviceText(1, 4, False, 0, 0, 1)) == [sent("DeviceDisconnect.txt")]
    assert feed(client, "DeviceDisconnectACK.json") == [mir.DeviceAcknowledged(4, False)]
    assert client.device_info(wire.DeviceText(1, 4, True, 3, -20, 1)) == [sent("info.txt")]
    assert client.rdr(4, 60) == [sent("RDRrequest.json")]
    assert feed(client, "RDRresponse_granted.json") == [mir.RdrAnswered(4, True, "OK")]
    assert feed(client, "RDRresponse_refused.json") == [mir.RdrAnswered(4, False, "Deny")]
    assert feed(client, "control_on.bin") == [mir.DeviceControl(4, True)]
    assert feed(client, "control_off.bin") == [mir.DeviceControl(4, False)]
    assert feed(client, "dimming_up.bin") == [mir.Dimming(4, 1)]
    assert feed(client, "dimming_down.bin") == [mir.Dimming(4, -1)]
    assert feed(client, "dimming_down_other_links.bin") == [mir.Dimming(4, -1)]
    assert feed(client, "connectACK.txt") == [mir.EmaAcknowledged(True)]
    assert feed(client, "disconnectACK.txt") == [mir.EmaAcknowledged(False)]
    assert feed(client, "ESSConnectACK.json") == []
    assert client.farewell() == [client.will] == [sent("disconnected.txt")]
    assert client.subscriptions == ("gw/1/#", "gw/pushall/#")
    assert client.refused == 0


@pytest.mark.parametrize(
    ("topic", "payload"),
    [
        ("gw/1/oadrUpdatedReport", b"["),
        ("gw/1/oadrUpdatedReport", b"[" * 100_000),
        ("gw/1/oadrUpdatedReport", b" " * 300_000),
        ("gw/1/oadrUpdatedReport", b'{"RequestID":true,"VENID":"v","Response":200}'),
        ("gw/1/dev/4/control", b"on"),
        ("gw/1/what/is/this", b"{}"),
        ("gw/2/connectACK", b"gw/2#"),
        ("EMS/connected", b"gw/1/x"),
        ("", b""),
    ],
)
def test_what_is_not_in_the_profile_is_one_refusal(topic: str, payload: bytes) -> None:
    client = registered()
    [refused] = client.received(topic, payload)
    assert isinstance(refused, mir.Refused)
    assert refused.topic == topic
    assert client.refused == 1
    assert client.up
