"""What a peer may not send: each is a PeerError that names the field and what it held, and nothing else."""

from __future__ import annotations

from datetime import UTC

import pytest

from gateway.errors import PeerError
from gateway.links.mir2017 import messages as wire

HELLO = b'{"GW":"gw/1","VENID":"MIR_VEN1"}'
REPORT = '{"GW":"gw/1","VENID":"v","RequestID":%s}'
EVENT = (
    '{"Service":"DistributeEvent","StartYMD":"20171017","StartTime":"1057","EndYMD":"20171017","EndTime":"1107",'
    '"Value":800,"Response":200,"RequestID":5,"EventID":17,"ModificationNumber":0}'
)


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (b"", "QueryRegistration"),
        (b"\xff\xfe{}", "QueryRegistration"),
        ('{"GW":"gw/1","VENID":"é"}'.encode("utf-16"), "QueryRegistration"),
        (b"[]", "not a JSON object"),
        (b"null", "not a JSON object"),
        (b"{} {}", "not JSON"),
        (b"{}", "GW: is missing"),
        (b'{"GW":1,"VENID":"v"}', "GW: 1 is not"),
        (b'{"GW":"gw/0","VENID":"v"}', "'gw/0' is not gw/1"),
        (b'{"GW":"gw/100000","VENID":"v"}', "gw/100000"),
        (b'{"GW":"gw/-1","VENID":"v"}', "gw/-1"),
        (b'{"GW":"gw/1/2","VENID":"v"}', "gw/1/2"),
        ('{"GW":"gw/١","VENID":"v"}'.encode(), "GW"),
        (b'{"GW":"gw/1","VENID":null}', "VENID: None is not"),
        (b'{"GW":"gw/1","VENID":"a\\nb"}', "VENID"),
        (b'{"GW":"gw/1","VENID":"\\ud800"}', "VENID"),
        (b'{"GW":"gw/1","VENID":"' + b"v" * 257 + b'"}', "VENID"),
        (b"[" * 100_000, "not JSON"),
        (b'{"a":' * 50_000, "not JSON"),
        (b" " * 262_145, "262145 bytes"),
    ],
)
def test_hello(body: bytes, named: str) -> None:
    with pytest.raises(PeerError) as caught:
        wire.QueryRegistration.decode(body)
    assert named in str(caught.value)
    assert len(str(caught.value)) < 300
    assert "\n" not in str(caught.value)


def test_hello_is_taken() -> None:
    assert wire.QueryRegistration.decode(HELLO) == wire.QueryRegistration(1, "MIR_VEN1")


@pytest.mark.parametrize(
    "number",
    ["true", '"1"', "1.5", "-1", "NaN", "-Infinity", "1e999", str(2**53), "9" * 5000, "[1]", "null"],
)
def test_request_id(number: str) -> None:
    with pytest.raises(PeerError, match="UpdateReport"):
        wire.UpdateReport.decode((REPORT % number).encode())


def test_a_whole_number_may_be_written_with_a_point() -> None:
    assert wire.UpdateReport.decode((REPORT % "7.0").encode()).request_id == 7


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("DistributeEvent", "oadrPoll", "Service: 'oadrPoll'"),
        ("800", "-1", "Value: -1"),
        ("800", "true", "Value: True"),
        ("800", "800.5", "Value: 800.5"),
        ("800", "1000000001", "Value: 1000000001"),
        ('"20171017","StartTime"', '"20171317","StartTime"', "20171317"),
        ('"20171017","StartTime"', '"2017101","StartTime"', "StartYMD: '2017101'"),
        ('"20171017","StartTime"', '"19691231","StartTime"', "StartYMD: '19691231'"),
        ('"20171017","StartTime"', '"99991231","StartTime"', "StartYMD: '99991231'"),
        ('"1057"', '"2460"', "2460"),
        ('"1057"', '"10:5"', "StartTime: '10:5'"),
        ('"1057"', '"2401"', "2401"),
        ('"1057"', "true", "StartTime: True"),
        ('"1107"', '"1056"', "is before the start"),
        ('"EventID":17', '"EventID":"17"', "EventID: '17'"),
        ('"ModificationNumber":0', '"ModificationNumber":-1', "ModificationNumber: -1"),
    ],
)
def test_event(old: str, new: str, named: str) -> None:
    with pytest.raises(PeerError) as caught:
        wire.DistributeEvent.decode(EVENT.replace(old, new, 1).encode(), UTC)
    assert named in str(caught.value)


def test_event_times_may_be_numbers() -> None:
    text = wire.DistributeEvent.decode(EVENT.replace("1057", "0057").encode(), UTC)
    numbers = EVENT.replace('"20171017","StartTime":"1057"', '20171017,"StartTime":57')
    assert wire.DistributeEvent.decode(numbers.encode(), UTC) == text


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"gw/1/dev/4/1/9/60",  # seven parts
        b"gw/1/dev/4/1/9/60/1/",  # nine
        b"gw/1/dev/x/1/9/60/1",
        b"gw/x/dev/4/1/9/60/1",
        b"gw/1/dev/4/on/9/60/1",  # whole numbers from the fifth on
        b"gw/1/dev/4/2/9/60/1",
        b"gw/1/dev/4/1/10/60/1",
        b"gw/1/dev/4/1/9/6.5/1",
        b"gw/1/dev/4/1/9/99999999999/1",
        b"gw/1/dev/4/1/9/60/-1",
        "gw/1/dev/4/1/9/６0/1".encode(),
        b'{"gw":"gw/1","dev":"dev/4","onoff":"null","dimming":"null","watt":"null","priority":"null"}',
    ],
)
def test_device_text(body: bytes) -> None:
    with pytest.raises(PeerError, match="DeviceText"):
        wire.DeviceText.decode(body)


def test_a_device_in_json_is_taken_too() -> None:
    body = b'{"gw":"gw/1","dev":"dev/4","onoff":1,"dimming":9,"watt":60,"priority":1}'
    assert wire.DeviceText.decode(body) == wire.DeviceText(1, 4, True, 9, 60, 1)


@pytest.mark.parametrize("body", [b"gw/1", b"gw/1x", b"gw/x/x", b'{"GW":"gw/1"}', b"", b"gw/1\n/x"])
def test_presence(body: bytes) -> None:
    with pytest.raises(PeerError, match="Presence"):
        wire.Presence.decode(body)


def test_presence_may_have_more_parts() -> None:
    assert wire.Presence.decode(b"gw/2/192.168.1.1/MQTT") == wire.Presence(2)


@pytest.mark.parametrize("body", [b"gw/1", b"gw/1##", b"#", b"gw/1#x"])
def test_ack(body: bytes) -> None:
    with pytest.raises(PeerError, match="EmaAck"):
        wire.EmaAck.decode(body)


@pytest.mark.parametrize("body", [b"", b"\x11", b"\x11\x1e", b"\x11\x1f\x00", b"on"])
def test_control(body: bytes) -> None:
    with pytest.raises(PeerError, match="control"):
        wire.Control.decode(body)


@pytest.mark.parametrize("body", [b"", b"\x31\x1a", b"\x31\x1a\x02", b"\x31\x1a\x01\x01"])
def test_dimming(body: bytes) -> None:
    with pytest.raises(PeerError, match="dimming"):
        wire.Dimming.decode(body)


@pytest.mark.parametrize(
    "topic",
    [
        "",
        "gw",
        "gw/1",
        "gw/0/connectACK",
        "gw/1/dev/4",
        "gw/1/dev/4/light",
        "gw/1/dev/x/control",
        "gw/1/dev/4/control/",
        "gw/pushall/Other",
        "EMS/UpdateReport",
        "gw/1/" + "x" * 60_000,
        "gw/1/ESSinitACK",
    ],
)
def test_topic(topic: str) -> None:
    with pytest.raises(PeerError, match="topic"):
        wire.parse_down(topic)


def test_report_with_too_many_devices() -> None:
    device = '{"dev":1,"state":1,"dimming":9,"watt":60,"priority":1}'
    body = (REPORT % "7")[:-1] + ',"Devices":[' + ",".join([device] * 2001) + "]}"
    with pytest.raises(PeerError, match="Devices"):
        wire.UpdateReport.decode(body.encode())


@pytest.mark.parametrize(
    "entry", ["1", "null", '{"dev":1}', '{"dev":1,"state":true,"dimming":9,"watt":60,"priority":1}']
)
def test_report_with_a_wrong_device(entry: str) -> None:
    with pytest.raises(PeerError, match=r"Devices\[0\]"):
        wire.UpdateReport.decode(((REPORT % "7")[:-1] + f',"Devices":[{entry}]}}').encode())
