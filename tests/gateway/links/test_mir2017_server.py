"""The EMS's end alone, fed the hand-written bytes (wire reference, sections 1, 2 and 4)."""

from __future__ import annotations

import pytest

from gateway.links.mir2017 import messages as wire
from gateway.links.mir2017 import server as mir
from gateway.links.mir2017.messages import Module, Phase, Send, modules
from gateway.links.mir2017.server import Server
from tests.gateway.links.test_mir2017_vectors import (
    ESS,
    EVENT,
    INDEX,
    PULLED,
    PV,
    RECLOSER,
    REQUEST,
    RESOURCE,
    SEOUL,
    TO_ALL,
    VECTORS,
)

V = "MIR_VEN1"


def body(name: str) -> bytes:
    return (VECTORS / name).read_bytes()


def sent(name: str) -> Send:
    return Send(INDEX[name], body(name))


def feed(server: Server, name: str) -> list[mir.ServerOutput]:
    return server.received(INDEX[name], body(name))


@pytest.fixture
def server() -> Server:
    return Server(SEOUL)


@pytest.mark.parametrize(
    ("heard", "said"),
    [
        ("QueryRegistration.json", [sent("CreatedPartyRegistration_1.json"), mir.EmaRegistering(1, V)]),
        ("CreatePartyRegistration.json", [sent("CreatedPartyRegistration_2.json")]),
        ("EmaRegisterReport.json", [sent("EmsRegisteredReport.json")]),
        ("SetupPoll.json", [sent("EmsRegisterReport.json")]),
        ("EmaRegisteredReport.json", [sent("SetupResponse.json")]),
        ("RequestEvent.json", [sent("SetupDistributeEvent.json"), mir.EmaRegistered(1, V)]),
        ("Poll.json", [mir.Polled(1, V)]),
        ("CreatedEvent.json", [mir.EventAnswered(1, 17, 5, True), sent("EventResponse.json")]),
        ("CreatedEvent_out.json", [mir.EventAnswered(1, 17, 5, False), sent("EventResponse.json")]),
        ("PowerMargin.json", [mir.MarginReported(1, wire.PowerMargin(612, 188)), sent("PowerMarginACK.txt")]),
        ("connected.txt", [mir.EmaConnected(1), sent("connectACK.txt")]),
        ("disconnected.txt", [mir.EmaDisconnected(1), sent("disconnectACK.txt")]),
        ("DeviceConnect.txt", [mir.DeviceConnected(1, wire.DeviceText(1, 4, True, 9, 60, 1))]),
        ("DeviceDisconnect.txt", [mir.DeviceDisconnected(1, wire.DeviceText(1, 4, False, 0, 0, 1))]),
        ("info.txt", [mir.DeviceInfo(1, wire.DeviceText(1, 4, True, 3, -20, 1))]),
        ("RDRrequest.json", [mir.RdrAsked(1, 4, 60)]),
        ("active_energy.json", [mir.MeterReported(1, modules.ActiveEnergy(1, "meter-1", 12345, 1))]),
        ("load_profile.json", [mir.MeterReported(1, modules.LoadProfile(1, "meter-1", (10, 20, 30.5), 1))]),
    ],
)
def test_each_row(server: Server, heard: str, said: list[mir.ServerOutput]) -> None:
    assert feed(server, heard) == said


@pytest.mark.parametrize("module", Module)
@pytest.mark.parametrize(
    ("phase", "ack"),
    [(Phase.CONNECT, "ConnectACK"), (Phase.INIT, "ACK"), (Phase.REPORT, "ACK"), (Phase.DISCONNECT, "DisconnectACK")],
)
def test_openfmb_is_echoed(server: Server, module: Module, phase: Phase, ack: str) -> None:
    report = {Module.ESS: ESS, Module.PV: PV, Module.RECLOSER: RECLOSER, Module.RESOURCE: RESOURCE}[module]
    outputs = feed(server, f"{module}{phase}.json")
    assert outputs == [mir.FieldModuleReported(1, phase, report), sent(f"{module}{ack}.json")]


def test_a_report_is_acknowledged_when_the_caller_says_so(server: Server) -> None:
    [reported] = feed(server, "UpdateReport_explicit.json")
    assert isinstance(reported, mir.Reported)
    assert (reported.ema, reported.request_id, reported.report.power) == (1, REQUEST, 612)
    assert server.acknowledge_report(1, REQUEST) == [sent("oadrUpdatedReport.json")]


def test_a_device_is_acknowledged_when_the_caller_says_so(server: Server) -> None:
    assert server.acknowledge_device(1, 4, True) == [sent("DeviceConnectACK.json")]
    assert server.acknowledge_device(1, 4, False) == [sent("DeviceDisconnectACK.json")]


def test_events_to_one_to_several_to_all_and_pulled(server: Server) -> None:
    bare = wire.DistributeEvent(17, 0, EVENT.start, EVENT.end, 800, 5)
    assert server.distribute(1, bare) == [sent("DistributeEvent.json")]
    assert [send.topic for send in server.multicast([1, 3], bare)] == [
        "gw/1/oadr/DistributeEvent",
        "gw/3/oadr/DistributeEvent",
    ]
    assert b'"TargetVEN":"MIR_VEN3"' in server.multicast([3], bare)[0].body
    assert server.broadcast(TO_ALL) == [sent("DistributeEvent_all.json")]
    assert server.answer_poll(1, bare) == [sent("oadrDistributeEvent.json")]
    assert PULLED.pulled


def test_a_poll_without_an_event_may_ask_for_a_report(server: Server) -> None:
    feed(server, "Poll.json")
    assert server.answer_poll(1) == [sent("PollResponse.json")]
    assert server.answer_poll(1, want_report=True) == [sent("PollResponse_report_wanted.json")]
    assert server.answer_poll(1) == [sent("PollResponse.json")]
    assert server.answer_poll(1, EVENT, want_report=True) == [sent("oadrDistributeEvent.json")]
    assert server.answer_poll(1) == [sent("PollResponse_report_wanted.json")]


def test_commands_and_rdr(server: Server) -> None:
    assert server.control(1, 4, True) == [sent("control_on.bin")]
    assert server.control(1, 4, False) == [sent("control_off.bin")]
    assert server.dim(1, 4, True) == [sent("dimming_up.bin")]
    assert server.dim(1, 4, False) == [sent("dimming_down.bin")]
    assert server.answer_rdr(1, 4, True) == [sent("RDRresponse_granted.json")]
    assert server.answer_rdr(1, 4, False) == [sent("RDRresponse_refused.json")]


def test_many_emas_are_kept_apart(server: Server) -> None:
    for number in range(1, 101):
        hello = wire.QueryRegistration(number, f"VEN-{number}")
        server.received(hello.topic, hello.encode())
    closing = wire.RequestEvent(7, "VEN-7")
    server.received(closing.topic, closing.encode())
    assert [number for number, ema in server.emas.items() if ema.registered] == [7]
    assert b'"VENID":"VEN-8"' in server.acknowledge_report(8, REQUEST)[0].body


def test_a_new_session_forgets_the_one_before(server: Server) -> None:
    for name in ("QueryRegistration.json", "RequestEvent.json", "connected.txt"):
        feed(server, name)
    assert (server.emas[1].registered, server.emas[1].connected) == (True, True)
    feed(server, "QueryRegistration.json")
    assert (server.emas[1].registered, server.emas[1].connected) == (False, False)


def test_no_more_emas_than_it_can_hold() -> None:
    server = Server(most_emas=2)
    outputs = [server.received("EMS/connected", f"gw/{n}/x".encode())[0] for n in (1, 2, 3, 1)]
    assert [type(output) for output in outputs] == [mir.EmaConnected, mir.EmaConnected, mir.Refused, mir.EmaConnected]


@pytest.mark.parametrize(
    ("topic", "payload"),
    [
        ("EMS/UpdateReport", b"["),
        ("EMS/UpdateReport", b"[" * 100_000),
        ("EMS/UpdateReport", b" " * 300_000),
        ("EMS/connected", b'{"GW":"gw/1"}'),
        ("EMS/PowerMargin/gw/x", b'{"Power":1,"Margin":2}'),
        ("EMS/PowerMargin", b'{"Power":1,"Margin":2}'),
        ("EMS/PowerMargin/gw/1/2", b'{"Power":1,"Margin":2}'),
        ("EMS/RDRrequest", b'{"SrcEMA":"gw/1","devnumber":"dev/4","value":-1}'),
        ("EMS/ESS", b'{"GW":"gw/1","Power":1}'),
        ("EMS/what", b"{}"),
        ("gw/1/connectACK", b"gw/1#"),
        ("", b""),
    ],
)
def test_what_is_not_in_the_profile_is_one_refusal(server: Server, topic: str, payload: bytes) -> None:
    [refused] = server.received(topic, payload)
    assert isinstance(refused, mir.Refused)
    assert refused.topic == topic
    assert server.refused == 1
    assert server.emas == {}
