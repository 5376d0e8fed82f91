"""The device wire: byte vectors, what is taken beyond them, what is refused and how, and anything at random."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agents import protocol as wire
from tests.device_agents.vectors import ALSO, VECTORS, WRONG

DECODERS = [
    wire.Hello.decode,
    wire.Connected.decode,
    wire.Status.decode,
    wire.Rdr.decode,
    wire.RdrAnswer.decode,
    wire.Setpoint.decode,
    wire.Gone.decode,
    wire.Light.decode,
    wire.Console.decode,
    wire.LabHello.decode,
    wire.decode_connected,
    wire.decode_status,
    wire.decode_light,
    wire.decode_to_device,
]
INTEGERS = st.integers(-(2**70), 2**70)
JSON = st.recursive(
    st.none() | st.booleans() | INTEGERS | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
MESSAGES = (wire.Hello, wire.Connected, wire.Status, wire.Rdr, wire.RdrAnswer, wire.Setpoint, wire.Gone)
KEYS = st.sampled_from(sorted({name for kind in MESSAGES for name in kind.__slots__}))


@pytest.mark.parametrize(
    ("message", "body"), VECTORS, ids=lambda v: v.decode("latin-1")[:40] if type(v) is bytes else ""
)
def test_vectors(message: wire.Message, body: bytes) -> None:
    assert message.encode() == body  # type: ignore[attr-defined]
    assert type(message).decode(body) == message  # type: ignore[attr-defined]


@pytest.mark.parametrize(("message", "body"), ALSO)
def test_taken_though_we_write_it_otherwise(message: wire.Message, body: bytes) -> None:
    assert type(message).decode(body) == message  # type: ignore[attr-defined]


@pytest.mark.parametrize(("kind", "body", "part"), WRONG)
def test_refused_with_the_field_and_what_it_held(kind: type[wire.Status], body: bytes, part: str) -> None:
    with pytest.raises(wire.WireError) as err:
        kind.decode(body)
    assert part in str(err.value)
    assert len(str(err.value)) < 200


@given(body=st.binary(max_size=300) | st.text(max_size=60).map(str.encode))
def test_random_bytes_only_ever_raise_wire_error(body: bytes) -> None:
    for decode in DECODERS:
        with contextlib.suppress(wire.WireError):
            decode(body)


@given(body=st.dictionaries(KEYS, JSON, max_size=14))
def test_random_json_only_ever_raises_wire_error(body: dict[str, object]) -> None:
    text = json.dumps(body).encode()
    for decode in DECODERS:
        with contextlib.suppress(wire.WireError):
            decode(text)


COUNTER = st.integers(0, wire.MAX_COUNTER)
DEV = st.integers(0, wire.MAX_DEV)
MW = st.integers(-wire.MAX_MW, wire.MAX_MW)
MAYBE_FLAG = st.none() | st.booleans()
STATUS = st.builds(
    wire.Status,
    DEV,
    COUNTER,
    COUNTER,
    on=MAYBE_FLAG,
    dimming=st.none() | st.integers(0, 9),
    mw=st.none() | MW,
    mwh=st.none() | st.integers(-wire.MAX_MWH, wire.MAX_MWH),
    mv=st.none() | st.integers(0, wire.MAX_MV),
    mhz=st.none() | st.integers(0, wire.MAX_MHZ),
    soc=st.none() | st.integers(0, 1000),
    plugged=MAYBE_FLAG,
    done=st.none() | COUNTER,
    need_mwh=st.none() | st.integers(0, wire.MAX_MWH),
    depart_s=st.none() | st.integers(0, wire.MAX_SECONDS),
    safe=MAYBE_FLAG,
)
SETPOINT = st.builds(
    wire.Setpoint,
    st.integers(1, wire.MAX_COUNTER),
    st.integers(1, wire.MAX_SECONDS),
    on=MAYBE_FLAG,
    dimming=st.none() | st.integers(0, 9),
    mw=st.none() | MW,
)
ANSWER = st.builds(wire.RdrAnswer, st.sampled_from([wire.GRANTED, wire.PENDING, wire.DENIED]), st.text(max_size=150))


@given(message=STATUS | SETPOINT | ANSWER)
def test_what_is_written_is_read_back_and_is_ascii(message: wire.Status | wire.Setpoint | wire.RdrAnswer) -> None:
    body = message.encode()
    assert body.isascii()
    assert type(message).decode(body) == message
    json.loads(body)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"ack", wire.Ack),
        (b'{"id":1,"lease_s":60}', wire.Setpoint),
        (b'{"rdr":"pending"}', wire.RdrAnswer),
        (b"\x11\x1f", wire.Light),
        (b"\x31\x1a\x01", wire.Light),
        (b"11", wire.Console),  # 0x31 0x31, and no control byte
        (b"1", wire.Console),
        (b"4 15", wire.Console),
    ],
)
def test_what_comes_on_a_devices_topic(body: bytes, kind: type) -> None:
    assert type(wire.decode_to_device(body)) is kind


def test_null_and_absent_set_points_differ() -> None:
    free = wire.Setpoint.decode(b'{"id":1,"lease_s":60,"mw":null}')
    absent = wire.Setpoint.decode(b'{"id":1,"lease_s":60}')
    assert (free.free, absent.free, free.mw, absent.mw) == (True, False, None, None)


@pytest.mark.parametrize(
    "topic", ["status/", "status/x", "status/4/5", "dev/4", "status/-1", "status/123456", "status/４"]
)
def test_a_topic_without_a_number(topic: str) -> None:
    with pytest.raises(wire.WireError, match="topic"):
        wire.topic_number(topic, wire.PREFIX_STATUS)


def test_a_topics_number() -> None:
    assert wire.topic_number("status/17", wire.PREFIX_STATUS) == 17
