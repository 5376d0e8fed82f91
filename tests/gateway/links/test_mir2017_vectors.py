"""Every message against its bytes in tests/vectors/mir2017, written by hand from the wire reference."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from gateway.errors import PeerError
from gateway.links.mir2017 import messages as wire
from gateway.links.mir2017.messages import DeviceDown, Down, Module, Phase, modules

VECTORS = Path(__file__).parents[2] / "vectors" / "mir2017"
SEOUL = ZoneInfo("Asia/Seoul")
INDEX = dict(
    (line.split("\t")[0], line.split("\t")[2]) for line in (VECTORS / "index.tsv").read_text().splitlines()[1:]
)
START = 1_508_205_420.0  # 2017-10-17 10:57 KST
REQUEST = 1_073_741_831  # boot 1, sequence 7

V, N = "MIR_VEN1", 1
EVENT = wire.DistributeEvent(17, 0, START, START + 600, 800, 5, V)
PULLED = wire.DistributeEvent(17, 0, START, START + 600, 800, 5, V, pulled=True)
CANCEL = wire.DistributeEvent(17, 1, START, START, 800, 5, V)
TO_ALL = wire.DistributeEvent(17, 0, START, START + 600, 800, 5)
DEVICES = (wire.DeviceEntry(4, True, 9, 60, 1), wire.DeviceEntry(5, False, 0, None, 2))
ESS = modules.ModuleReport(Module.ESS, N, "ess-1", 150, "charge", "on", 12.5, 2000, 55.5, 220.1, 60.0, 3)
PV = modules.ModuleReport(Module.PV, N, 1, -2100, 1, priority=3)
RECLOSER = modules.ModuleReport(Module.RECLOSER, N, 1, 612, 0, priority=0)
RESOURCE = modules.ModuleReport(Module.RESOURCE, N, "load-1", 3300, 1, priority=9)

# topic, message, its encode, its decode
Vector = tuple[str, object, Callable[[], bytes], Callable[[bytes], object]]


def plain(topic: str, message: object) -> Vector:
    return topic, message, message.encode, type(message).decode  # type: ignore[attr-defined]


def event(topic: str, message: wire.DistributeEvent) -> Vector:
    return topic, message, lambda: message.encode(SEOUL), lambda body: wire.DistributeEvent.decode(body, SEOUL)


def module(topic: str, message: modules.ModuleReport) -> Vector:
    return topic, message, message.encode, lambda body: modules.ModuleReport.decode(message.module, body)


def down(what: Down) -> str:
    return wire.down(N, what)


def dev(what: DeviceDown) -> str:
    return wire.device_down(N, 4, what)


MESSAGES = {
    "QueryRegistration.json": plain(wire.QueryRegistration.topic, wire.QueryRegistration(N, V)),
    "CreatePartyRegistration.json": plain(wire.CreatePartyRegistration.topic, wire.CreatePartyRegistration(N, V)),
    "EmaRegisterReport.json": plain(wire.EmaRegisterReport.topic, wire.EmaRegisterReport(N, V)),
    "SetupPoll.json": plain(wire.SetupPoll.topic, wire.SetupPoll(N, V)),
    "EmaRegisteredReport.json": plain(wire.EmaRegisteredReport.topic, wire.EmaRegisteredReport(N, V)),
    "RequestEvent.json": plain(wire.RequestEvent.topic, wire.RequestEvent(N, V)),
    "Poll.json": plain(wire.Poll.topic, wire.Poll(N, V)),
    "CreatedEvent.json": plain(wire.CreatedEvent.topic, wire.CreatedEvent(N, V, 17, 5, True)),
    "CreatedEvent_out.json": plain(wire.CreatedEvent.topic, wire.CreatedEvent(N, V, 17, 5, False)),
    "UpdateReport_explicit.json": plain(
        wire.UpdateReport.topic,
        wire.UpdateReport(N, V, REQUEST, 1_508_205_420_000, 612, 800, 188, -2100, 400, DEVICES),
    ),
    "UpdateReport_implicit.json": plain(
        wire.UpdateReport.topic, wire.UpdateReport(N, V, REQUEST, 1_508_205_420_000, 612, None, None, 0, 0)
    ),
    "PowerMargin.json": plain(wire.margin_topic(N), wire.PowerMargin(612, 188)),
    "connected.txt": plain(wire.Up.CONNECTED, wire.Presence(N)),
    "disconnected.txt": plain(wire.Up.DISCONNECTED, wire.Presence(N)),
    "DeviceConnect.txt": plain(wire.Up.DEVICE_CONNECT, wire.DeviceText(N, 4, True, 9, 60, 1)),
    "DeviceDisconnect.txt": plain(wire.Up.DEVICE_DISCONNECT, wire.DeviceText(N, 4, False, 0, 0, 1)),
    "info.txt": plain(wire.Up.DEVICE_INFO, wire.DeviceText(N, 4, True, 3, -20, 1)),
    "RDRrequest.json": plain(wire.RdrRequest.topic, wire.RdrRequest(N, 4, 60)),
    "active_energy.json": plain(modules.ActiveEnergy.topic, modules.ActiveEnergy(N, "meter-1", 12345, 1)),
    "load_profile.json": plain(modules.LoadProfile.topic, modules.LoadProfile(N, "meter-1", (10, 20, 30.5), 1)),
    "connectACK.txt": plain(down(Down.CONNECT_ACK), wire.EmaAck(N)),
    "disconnectACK.txt": plain(down(Down.DISCONNECT_ACK), wire.EmaAck(N)),
    "PowerMarginACK.txt": plain(down(Down.POWER_MARGIN_ACK), wire.EmaAck(N)),
    "DeviceConnectACK.json": plain(dev(DeviceDown.CONNECT_ACK), wire.DeviceAck(N, 4)),
    "DeviceDisconnectACK.json": plain(dev(DeviceDown.DISCONNECT_ACK), wire.DeviceAck(N, 4)),
    "CreatedPartyRegistration_1.json": plain(down(Down.CREATED_PARTY_REGISTRATION), wire.CreatedPartyRegistration(V)),
    "CreatedPartyRegistration_2.json": plain(
        down(Down.CREATED_PARTY_REGISTRATION), wire.CreatedPartyRegistration(V, response=200)
    ),
    "EmsRegisteredReport.json": plain(down(Down.REGISTERED_REPORT), wire.EmsRegisteredReport(V)),
    "EmsRegisterReport.json": plain(down(Down.REGISTER_REPORT), wire.EmsRegisterReport(V)),
    "SetupResponse.json": plain(down(Down.SETUP_RESPONSE), wire.Response(V)),
    "SetupDistributeEvent.json": plain(down(Down.SETUP_EVENT), wire.Response(V, "ACK_SUCCESS")),
    "PollResponse.json": plain(down(Down.POLL_RESPONSE), wire.Response(V)),
    "PollResponse_report_wanted.json": plain(down(Down.POLL_RESPONSE), wire.Response(V, 200, wire.REPORT_WANTED)),
    "oadrDistributeEvent.json": event(down(Down.PULLED_EVENT), PULLED),
    "EventResponse.json": plain(down(Down.EVENT_RESPONSE), wire.Response(V)),
    "oadrUpdatedReport.json": plain(down(Down.UPDATED_REPORT), wire.UpdatedReport(V, REQUEST)),
    "oadrUpdatedReport_lab.json": plain(down(Down.UPDATED_REPORT), wire.UpdatedReport(V, wire.LAB_REQUEST_ID)),
    "DistributeEvent.json": event(down(Down.PUSHED_EVENT), EVENT),
    "DistributeEvent_cancel.json": event(down(Down.PUSHED_EVENT), CANCEL),
    "DistributeEvent_all.json": event(wire.PUSH_ALL, TO_ALL),
    "control_on.bin": plain(dev(DeviceDown.CONTROL), wire.Control(True)),
    "control_off.bin": plain(dev(DeviceDown.CONTROL), wire.Control(False)),
    "dimming_up.bin": plain(dev(DeviceDown.DIMMING), wire.Dimming(True)),
    "dimming_down.bin": plain(dev(DeviceDown.DIMMING), wire.Dimming(False)),
    "RDRresponse_granted.json": plain(down(Down.RDR_RESPONSE), wire.RdrResponse(4, True, description="OK")),
    "RDRresponse_refused.json": plain(down(Down.RDR_RESPONSE), wire.RdrResponse(4, False, description="Deny")),
    **{
        f"{report.module}{phase}.json": module(f"EMS/{report.module}{phase}", report)
        for report in (ESS, PV, RECLOSER, RESOURCE)
        for phase in Phase
    },
    **{
        f"{report.module}{ack}.json": module(wire.module_ack(N, report.module, phase), report)
        for report in (ESS, PV, RECLOSER, RESOURCE)
        for phase, ack in ((Phase.REPORT, "ACK"), (Phase.CONNECT, "ConnectACK"), (Phase.DISCONNECT, "DisconnectACK"))
    },
}
ONLY_READ = {"dimming_down_other_links.bin"}


def test_every_vector_is_used_and_every_file_is_in_the_index() -> None:
    files = {path.name for path in VECTORS.iterdir()} - {"index.tsv", "README.md"}
    assert set(INDEX) == files == set(MESSAGES) | ONLY_READ


@pytest.mark.parametrize("name", MESSAGES)
def test_message_to_the_byte(name: str) -> None:
    topic, message, encode, decode = MESSAGES[name]
    body = (VECTORS / name).read_bytes()
    assert topic == INDEX[name]
    assert encode() == body
    assert decode(body) == message


def test_one_down_of_the_labs_other_links_is_taken() -> None:
    assert not wire.Dimming.decode((VECTORS / "dimming_down_other_links.bin").read_bytes()).up


@pytest.mark.parametrize("name", [name for name in INDEX if INDEX[name].startswith("gw/") and name.endswith(".json")])
def test_unknown_keys_do_no_harm(name: str) -> None:
    _, message, _, decode = MESSAGES[name]
    body = (VECTORS / name).read_bytes()
    assert decode(body[:-1] + b',"unknown":[1,{"a":null}]}') == message


@pytest.mark.parametrize("name", [name for name in MESSAGES if name.endswith(".json")])
def test_every_key_that_is_missing_or_of_a_wrong_type_is_refused_by_name(name: str) -> None:
    """Keys that may be missing are listed; the others are named by the error."""
    _, _, _, decode = MESSAGES[name]
    keys = json.loads((VECTORS / name).read_bytes())
    ignored = {"Response", "OptType", "TransportName"} if "DistributeEvent" in name and "Service" in keys else set()
    ignored |= {"onoff", "dimming", "watt", "priority"} if "gw" in keys else set()
    for key in keys:
        if key in ignored:
            continue
        wrong = json.dumps({**keys, key: True}).encode()
        with pytest.raises(PeerError, match=rf"\b{key}\b.*True"):
            decode(wrong)
