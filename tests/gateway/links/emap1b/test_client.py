"""The EMA's end alone, fed the hand-written bytes (wire reference, section 8)."""

from __future__ import annotations

import json

import pytest

from gateway.errors import OperatorError
from gateway.links.emap1b import messages as emap
from gateway.links.emap1b.client import Client
from gateway.links.mir2017 import client_happenings as told
from gateway.links.mir2017 import messages as neutral
from gateway.links.mir2017.client import Step
from gateway.links.mir2017.client_happenings import ClientOutput
from gateway.links.mir2017.messages import Send
from gateway.record import changed
from tests.gateway.links.emap1b.vectors import (
    CANCEL,
    EMA,
    ENTRIES,
    EVENT,
    EVENT_REQUEST,
    INDEX,
    PRICE,
    REQUEST,
    SEOUL,
    START,
    START_MS,
    body,
    down,
    limit,
)

# what the EMS says, and what the EMA says to that
DIALOGUE = [
    ("ConnectedRegistration.json", "CreatePartyRegistration.json"),
    ("CreatedPartyRegistration.json", "RegisterReport.json"),
    ("RegisteredReport.json", "SetupPoll.json"),
]


def new(run: int = 7) -> Client:
    return Client(1, EMA, SEOUL, wall=lambda: START, run=run)


def sent(name: str) -> Send:
    return Send(INDEX[name], body(name))


def feed(client: Client, name: str) -> list[ClientOutput]:
    return client.received(INDEX[name], body(name))


def tell(client: Client, message: emap.Message, channel: emap.Channel | None = None) -> list[ClientOutput]:
    return client.received(emap.topic(EMA, channel or message.channel), message.encode())


def registered() -> Client:
    client = new()
    client.connected()
    for heard, _ in DIALOGUE:
        feed(client, heard)
    feed(client, "SetupResponse.json")
    assert client.up
    return client


def report(number: int, devices: tuple[neutral.DeviceEntry, ...] | None = None) -> neutral.UpdateReport:
    return neutral.UpdateReport(1, EMA, number, START_MS, 612, None, None, 0, 0, devices)


def test_the_set_up_to_the_byte() -> None:
    client = new()
    assert client.connected() == [sent("ConnectRegistration.json")]
    for heard, said in DIALOGUE:
        assert not client.up
        assert feed(client, heard) == [sent(said)]
    assert feed(client, "SetupResponse.json") == [told.SessionUp(2000)]
    assert client.up
    assert client.subscriptions == ("/EMAP/MIR_VEN1/1.0b/#",)


def test_a_set_up_that_ends_with_an_event() -> None:
    client = new()
    client.connected()
    for heard, _ in DIALOGUE:
        feed(client, heard)
    pulled = client.received(INDEX["SetupResponse.json"], body("DistributeEvent_pulled.json"))
    assert pulled == [told.SessionUp(2000), told.EventReceived(limit())]


def test_the_set_up_of_the_public_ems_has_a_step_more() -> None:
    client = new()
    client.connected()
    for heard, _ in DIALOGUE:
        feed(client, heard)
    assert feed(client, "EmsRegisterReport.json") == [sent("EmaRegisteredReport.json")]
    assert not client.up
    assert feed(client, "SetupResponse.json") == [told.SessionUp(2000)]


ANSWERS = [*(heard for heard, _ in DIALOGUE), "SetupResponse.json"]


@pytest.mark.parametrize("step", range(len(ANSWERS)))
def test_no_step_of_the_set_up_goes_on_by_another_answer(step: int) -> None:
    client = new()
    client.connected()
    for heard in ANSWERS[:step]:
        feed(client, heard)
    here = client.step
    for other in ANSWERS:
        if other != ANSWERS[step]:
            assert feed(client, other) == []
            assert client.step is here
    assert client.stale == len(ANSWERS) - 1


@pytest.mark.parametrize("step", range(len(ANSWERS)))
def test_a_refused_step_stays_and_is_said(step: int) -> None:
    client = new()
    client.connected()
    for heard in ANSWERS[:step]:
        feed(client, heard)
    here = client.step
    keys = json.loads(body(ANSWERS[step])) | {"responseCode": 400, "responseDescription": "Bad Request"}
    [refused] = client.received(INDEX[ANSWERS[step]], json.dumps(keys).encode())
    assert isinstance(refused, told.Refused)
    assert "400 Bad Request" in refused.reason
    assert client.step is here


@pytest.mark.parametrize(("asked", "duration_ms"), [("PT5S", 5000), ("PT0.1S", 100), ("P1D", 86_400_000)])
def test_the_poll_interval_asked_for(asked: str, duration_ms: int) -> None:
    client = new()
    client.connected()
    feed(client, ANSWERS[0])
    keys = json.loads(body(ANSWERS[1])) | {"duration": asked}
    client.received(INDEX[ANSWERS[1]], json.dumps(keys).encode())
    feed(client, ANSWERS[2])
    assert feed(client, ANSWERS[3]) == [told.SessionUp(duration_ms)]


@pytest.mark.parametrize("asked", ["PT0S", "P2D", "duration", 2000])
def test_a_poll_interval_that_is_none(asked: str | int) -> None:
    client = new()
    client.connected()
    feed(client, ANSWERS[0])
    keys = json.loads(body(ANSWERS[1])) | {"duration": asked}
    [refused] = client.received(INDEX[ANSWERS[1]], json.dumps(keys).encode())
    assert isinstance(refused, told.Refused)
    assert "duration" in refused.reason


def test_connecting_again_begins_anew_with_another_number() -> None:
    client = registered()
    [again] = client.connected()
    assert isinstance(again, Send)
    assert client.step is Step.CONNECT_REGISTRATION
    assert emap.ConnectRegistration.decode(again.body).request_id == "7-5"


def test_no_request_id_is_ever_used_twice() -> None:
    numbers: list[str] = []
    for run in (7, 8):
        client = new(run)
        for _ in range(3):
            says = [*client.connected(), *client.poll(), *client.rdr(4, 60), *client.farewell()]
            says += client.device_connect(neutral.DeviceText(1, 4, True, 9, 60, 1))
            numbers += [json.loads(send.body)["requestID"] for send in says if isinstance(send, Send)]
    assert len(set(numbers)) == len(numbers) == 30


@pytest.mark.parametrize("name", ["DistributeEvent.json", "DistributeEvent_pulled.json"])
def test_events_pushed_and_pulled(name: str) -> None:
    client = registered()
    assert feed(client, name) == [told.EventReceived(limit())]
    assert client.created_event(17, EVENT_REQUEST, True) == [sent("CreatedEvent.json")]
    assert feed(client, "EventResponse.json") == [told.EventAcknowledged(17)]
    assert feed(client, "EventResponse.json") == []
    assert client.stale == 1


def test_a_cancel_and_its_opt_out() -> None:
    client = registered()
    [received] = feed(client, "DistributeEvent_cancel.json")
    assert isinstance(received, told.EventReceived)
    assert received.event.cancelled
    assert client.created_event(17, received.event.request_id, False) == [sent("CreatedEvent_out.json")]


def test_each_change_is_answered_as_what_it_was() -> None:
    client = registered()
    first = emap.DistributeEvent(*down("same"), (EVENT,))
    changed_event = emap.DistributeEvent(*down("same"), (changed(EVENT, modification=1),))
    requests = []
    for message in (first, changed_event):
        [received] = tell(client, message)
        assert isinstance(received, told.EventReceived)
        requests.append(received.event.request_id)
    for modification, request in enumerate(requests):
        [answer] = client.created_event(17, request, True)
        read = emap.CreatedEvent.decode(answer.body)
        assert (read.request_id, read.event_id, read.modification) == ("same", "17", modification)


def test_an_event_of_a_peer_that_names_it_by_a_word() -> None:
    client = registered()
    named = changed(EVENT, event_id="event-a", modification=1)
    [received] = tell(client, emap.DistributeEvent(*down("requestID"), (named,)))
    assert isinstance(received, told.EventReceived)
    [answer] = client.created_event(received.event.event_id, received.event.request_id, True)
    read = emap.CreatedEvent.decode(answer.body)
    assert (read.request_id, read.event_id, read.modification) == ("requestID", "event-a", 1)


def test_an_event_survives_a_reconnection_and_is_answered_in_the_next_session() -> None:
    client = registered()
    feed(client, "DistributeEvent_cancel.json")
    client.connected()
    [answer] = client.created_event(17, EVENT_REQUEST + 1, False)
    assert emap.CreatedEvent.decode(answer.body).modification == 1


# dtStart, duration, status, interval → start, end after the message was written (s); None: refused
TIMES = [
    ("2017-10-17T02:00:00Z", "PT10M", "", "", 180, 780),
    ("2017-10-17T11:00:00+09:00", "PT10M", "", "", 180, 780),
    ("2017-10-17 11:00:00", "PT1H", "", "", 180, 3780),  # local, without an offset
    ("", "PT10M", "", "", 0, 600),  # section 8 names no start: from when it was said
    ("", "", "", "PT15M", 0, 900),
    ("2017-10-17T02:00:00Z", "PT10M", "cancelled", "", 180, 180),
    ("Tue Oct 17 11:00:00 KST 2017", "PT10M", "", "", None, None),
    ("2017-10-17T02:00:00Z", "ten minutes", "", "", None, None),
]


@pytest.mark.parametrize(("start", "duration", "status", "interval", "begins", "ends"), TIMES)
def test_when_an_event_holds(
    start: str, duration: str, status: str, interval: str, begins: int | None, ends: int | None
) -> None:
    signal = emap.Signal(threshold=800, intervals=(emap.Interval(interval, "0", 0),) if interval else ())
    event = emap.Event("17", 0, start, duration, (signal,), status)
    [output] = tell(registered(), emap.DistributeEvent(*down("1"), (event,)))
    if begins is None:
        assert isinstance(output, told.Refused)
        assert "17" in output.reason
    else:
        assert isinstance(output, told.EventReceived)
        assert (output.event.start - START, output.event.end - START) == (begins, ends)


@pytest.mark.parametrize(
    ("threshold", "value", "watts"),
    [(800, 0, 800), (800.9, 0, 800), (None, 700, 700), (0, 700, 0), (-1, 0, None), (2e9, 0, None)],
)
def test_how_much_an_event_allows(threshold: float | None, value: int, watts: int | None) -> None:
    signal = emap.Signal(threshold=threshold, intervals=(emap.Interval("PT600S", "0", value),))
    event = changed(EVENT, signals=(signal,))
    [output] = tell(registered(), emap.DistributeEvent(*down("1"), (event,)))
    assert (output.event.value if isinstance(output, told.EventReceived) else None) == watts


def test_an_event_that_cannot_be_read_holds_up_no_other() -> None:
    client = registered()
    outputs = tell(client, emap.DistributeEvent(*down("1"), (changed(EVENT, start="soon"), CANCEL)))
    assert [type(output) for output in outputs] == [told.Refused, told.EventReceived]
    assert client.refused == 1


def test_prices() -> None:
    client = registered()
    price = told.PriceReceived(0, "Initial", 1000.0, "KW", 612.0, 800.0, 188.0)
    assert feed(client, "DistributeEvent_price.json") == [price]
    for name in ("Incentive", "Negotiation"):
        event = emap.Event("18", 0, "", "", (changed(PRICE, name=name),))
        [received] = tell(client, emap.DistributeEvent(*down("1"), (event,)))
        assert received == changed(price, event_id=18, budget=name)


def test_a_control_event_may_say_its_incentive_and_says_it_first() -> None:
    event = changed(EVENT, signals=(changed(EVENT.signals[0], price=12.5),))
    outputs = tell(registered(), emap.DistributeEvent(*down(str(EVENT_REQUEST)), (event,)))
    assert outputs == [
        told.PriceReceived(17, "", 12.5, "KW", 0.0, 800.0, 0.0),
        told.EventReceived(limit()),
    ]


def test_polls() -> None:
    client = registered()
    assert client.poll() == [sent("Poll.json")]
    assert feed(client, "PollResponse.json") == [told.PollAnswered()]
    assert feed(client, "PollResponse_report_wanted.json") == [told.ReportRequested()]


def test_reports_to_the_byte() -> None:
    client = registered()
    assert client.report(report(REQUEST)) == [sent("UpdateReport_implicit.json")]
    devices = (
        emap.TypedEntry(4, True, 9, 60, 1, "led"),
        neutral.DeviceEntry(5, False, 0, None, 2),
        emap.TypedEntry(6, True, 0, -2100, 3, "pv"),
        emap.TypedEntry(7, True, 0, 400, 4, "ess"),
    )
    explicit = neutral.UpdateReport(1, EMA, REQUEST, START_MS, 612, 800, 188, -2100, 400, devices)
    assert client.report(explicit) == [sent("UpdateReport_explicit.json")]
    assert emap.UpdateReport.decode(body("UpdateReport_explicit.json")).entries == ENTRIES


def test_a_report_is_answered_by_its_own_request_id() -> None:
    client = registered()
    client.report(report(REQUEST))
    client.report(report(REQUEST + 1))
    client.report(report(REQUEST))  # again
    assert tell(client, emap.UpdatedReport(*down(str(REQUEST + 1)))) == [told.ReportAcknowledged(REQUEST + 1)]
    assert client.echoes
    assert feed(client, "UpdatedReport.json") == [told.ReportAcknowledged(REQUEST)]
    assert feed(client, "UpdatedReport.json") == []


def test_an_ems_that_repeats_no_request_id_answers_the_oldest() -> None:
    client = registered()
    for number in (1, 2):
        client.report(report(REQUEST + number))
    for number in (1, 2):
        assert tell(client, emap.UpdatedReport(*down(""))) == [told.ReportAcknowledged(REQUEST + number)]
    assert tell(client, emap.UpdatedReport(*down(""))) == []
    assert not client.echoes


def test_an_ems_that_repeats_it_is_not_believed_without() -> None:
    client = registered()
    client.report(report(REQUEST))
    feed(client, "UpdatedReport.json")
    client.report(report(REQUEST + 1))
    assert tell(client, emap.UpdatedReport(*down(""))) == []


def test_refused_reports() -> None:
    client = registered()
    client.report(report(REQUEST))
    later = tell(client, emap.UpdatedReport(*down(str(REQUEST)), 503, "busy"))
    assert later == [told.ReportPostponed(REQUEST, "503 busy")]
    never = feed(client, "UpdatedReport_refused.json")
    assert never == [told.ReportRejected(REQUEST, "400 power is no number")]
    assert feed(client, "UpdatedReport.json") == []


def test_devices_come_go_and_change() -> None:
    client = registered()
    client.poll()
    assert client.device_connect(neutral.DeviceText(1, 4, True, 9, 60, 1)) == [sent("UpdateReport_connected.json")]
    assert client.device_disconnect(neutral.DeviceText(1, 4, False, 0, 0, 1)) == [
        sent("UpdateReport_disconnected.json")
    ]
    assert client.device_info(neutral.DeviceText(1, 4, True, 3, -20, 1)) == [sent("UpdateReport_changed.json")]
    assert tell(client, emap.UpdatedReport(*down("7-7"))) == [told.DeviceAcknowledged(4, False)]
    assert tell(client, emap.UpdatedReport(*down("7-6"), 503, "busy")) == []
    assert tell(client, emap.UpdatedReport(*down("7-6"))) == [told.DeviceAcknowledged(4, True)]
    assert tell(client, emap.UpdatedReport(*down("7-8"))) == []
    assert client.stale == 0
    assert tell(client, emap.UpdatedReport(*down("7-6"))) == []
    assert client.stale == 1


def test_a_device_that_is_never_taken_is_said_and_blocks_nothing() -> None:
    client = registered()
    client.device_connect(neutral.DeviceText(1, 4, True, 9, 60, 1))
    refused, acknowledged = tell(client, emap.UpdatedReport(*down("7-5"), 400, "too many devices"))
    assert isinstance(refused, told.Refused)
    assert "dev/4" in refused.reason
    assert "too many devices" in refused.reason
    assert acknowledged == told.DeviceAcknowledged(4, True)
    assert client.refused == 1


def test_rdr() -> None:
    client = registered()
    client.poll(), client.poll(), client.poll(), client.poll()
    assert client.rdr(4, 60) == [sent("CreateOpt.json")]
    assert feed(client, "CreatedOpt.json") == [told.RdrAnswered(4, True, "OK")]
    assert feed(client, "CreatedOpt.json") == []


def test_an_rdr_that_is_denied() -> None:
    client = registered()
    client.poll(), client.poll(), client.poll(), client.poll()
    client.rdr(4, 60)
    assert feed(client, "CreatedOpt_denied.json") == [told.RdrAnswered(4, False, "Deny")]


def test_a_late_answer_to_an_rdr_is_not_that_to_the_next() -> None:
    client = registered()
    client.rdr(4, 60)
    client.rdr(4, 90)
    assert tell(client, emap.CreatedOpt(*down("7-5"), 200, "OK", "7-5")) == []
    assert tell(client, emap.CreatedOpt(*down("7-6"), 400, "no", "7-6", False)) == [told.RdrAnswered(4, False, "no")]


def test_an_answer_of_the_session_before_answers_nothing() -> None:
    client = registered()
    client.report(report(REQUEST))
    client.created_event(17, EVENT_REQUEST, True)
    client.rdr(4, 60)
    client.connected()
    for name in ("UpdatedReport.json", "EventResponse.json"):
        assert feed(client, name) == []
    assert tell(client, emap.CreatedOpt(*down("7-5"), 200, "OK", "7-5")) == []


def test_the_end() -> None:
    client = new()
    client.connected()
    feed(client, "ConnectedRegistration.json")
    feed(client, "CreatedPartyRegistration.json")
    for _ in range(6):
        client.poll()
    assert client.farewell() == [sent("CancelPartyRegistration.json")]
    assert client.will == sent("CancelPartyRegistration_will.json")
    assert feed(client, "CanceledPartyRegistration.json") == [told.EmaAcknowledged(False)]
    assert client.margin(neutral.PowerMargin(612, 188)) == []


def test_what_an_upper_ema_hears_from_below_is_not_the_clients() -> None:
    client = registered()
    for service in emap.TO_EMS.keys() - emap.TO_EMA.keys():
        text = json.dumps({"SrcEMA": "MIR_VEN2", "DestEMA": EMA, "service": service}).encode()
        assert client.received(f"/EMAP/{EMA}/1.0b/Report", text) == []
    assert client.refused == 0


@pytest.mark.parametrize(
    "topic",
    [
        "EMAP/MIR_VEN1/1.0b/Event",
        "/EMAP/MIR_VEN2/1.0b/Event",
        "/EMAP/MIR_VEN1/1.0b/event",
        "/EMAP/MIR_VEN1/2.0b/Event",
        "/EMAP/MIR_VEN1/1.0b/Event/",
        "/EMAP//1.0b/Event",
        "/EMAP/" + "x" * 200 + "/1.0b/Event",
        "gw/1/oadr/DistributeEvent",
        "",
    ],
)
def test_a_topic_that_is_not_in_the_profile_is_one_refusal(topic: str) -> None:
    client = registered()
    [refused] = client.received(topic, body("DistributeEvent.json"))
    assert isinstance(refused, told.Refused)
    assert refused.topic == topic[:128]
    assert client.refused == 1


@pytest.mark.parametrize("ven_id", ["gw/1", "MIR_VEN2", "MIR_VEN", "", "VEN 1"])
def test_a_name_that_cannot_be_this_emas(ven_id: str) -> None:
    with pytest.raises(OperatorError, match=r"ven_id.*MIR_VEN1"):
        Client(1, ven_id, wall=lambda: START, run=1)


def test_a_name_that_cannot_be_the_ems() -> None:
    with pytest.raises(OperatorError, match="ems_name"):
        Client(1, EMA, wall=lambda: START, run=1, ems_name="a/b")
