"""decode(encode(x)) == x, and whatever comes in, a decoder raises nothing but PeerError."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from datetime import UTC

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import PeerError
from gateway.links.mir2017 import messages as wire
from gateway.links.mir2017.client import Client
from gateway.links.mir2017.messages import Module, modules
from gateway.links.mir2017.server import Server
from tests.gateway.links.test_mir2017_vectors import MESSAGES, VECTORS

ema = st.integers(1, 99_999)
device = st.integers(0, 99_999)
watts = st.integers(-1_000_000_000, 1_000_000_000)
text = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), max_size=256)
whole = st.integers(0, 2**53 - 1)
number = st.integers(-(10**15), 10**15) | st.floats(-1e15, 1e15)
scalar = text | number
response = st.integers(0, 999) | text
duration = st.integers(100, 86_400_000)
priority = st.integers(0, 1_000_000)
minutes = st.integers(0, 60_000_000).map(lambda minute: minute * 60.0)
entry = st.builds(wire.DeviceEntry, device, st.booleans(), st.integers(0, 9), st.none() | watts, priority)

ROUND_TRIPS = [
    *(st.builds(kind, ema, text) for kind in wire.EMA_MESSAGES.values()),
    st.builds(wire.CreatedPartyRegistration, text, text, text, duration, st.none() | response),
    st.builds(wire.EmsRegisteredReport, text, text, text, response),
    st.builds(wire.EmsRegisterReport, text, text, text, response, duration),
    st.builds(wire.Response, text, response, text),
    st.builds(wire.CreatedEvent, ema, text, whole, whole, st.booleans()),
    st.builds(
        wire.UpdateReport,
        *(ema, text, whole, st.none() | whole),
        *[st.none() | watts] * 5,
        st.none() | st.lists(entry, max_size=5).map(tuple),
    ),
    st.builds(wire.UpdatedReport, text, whole, response, text),
    st.builds(wire.PowerMargin, watts, watts),
    st.builds(wire.Presence, ema),
    st.builds(wire.EmaAck, ema),
    st.builds(wire.DeviceText, ema, device, st.booleans(), st.integers(0, 9), watts, priority),
    st.builds(wire.DeviceAck, ema, device),
    st.builds(wire.Control, st.booleans()),
    st.builds(wire.Dimming, st.booleans()),
    st.builds(wire.RdrRequest, ema, device, st.integers(0, 1_000_000_000)),
    st.builds(wire.RdrResponse, device, st.booleans(), text, text.filter(bool)),
    st.builds(modules.ActiveEnergy, ema, scalar, number, scalar),
    st.builds(modules.LoadProfile, ema, scalar, st.lists(number, max_size=5).map(tuple), scalar),
]


@given(st.one_of(ROUND_TRIPS))
def test_what_is_written_is_read(message: wire.Poll) -> None:
    assert type(message).decode(message.encode()) == message


@given(
    st.builds(
        wire.DistributeEvent, whole, st.integers(0, 2**31 - 1), minutes, minutes, st.integers(0, 10**9), whole, text,
        st.booleans(), text,
    )
)  # fmt: skip
def test_an_event_is_read_as_it_was_written(event: wire.DistributeEvent) -> None:
    read = wire.DistributeEvent.decode(event.encode(UTC), UTC)
    if event.cancelled:
        assert read.cancelled
        assert read.start == event.start
    else:
        assert read == event


@given(
    st.builds(
        modules.ModuleReport,
        st.just(Module.ESS),
        ema,
        scalar,
        st.none() | number,
        *[st.none() | scalar] * 2,
        *[st.none() | number] * 5,
        st.none() | priority,
    )
)
def test_a_battery_is_read_as_it_was_written(report: modules.ModuleReport) -> None:
    assert modules.ModuleReport.decode(Module.ESS, report.encode()) == report


@given(st.integers(1, 7 * 2**20 - 1), st.integers(0, 2**30 - 1))
def test_a_request_id_gives_boot_and_sequence_back(boot: int, seq: int) -> None:
    made = wire.request_id(boot, seq)
    assert wire.split_request_id(made) == (boot, seq)
    assert 1 < made < 2**53
    assert float(made) == made


@given(st.floats(0, 4e9), st.integers(0, 511), st.integers(1, 7 * 2**20 - 1), st.integers(0, 2**30 - 1))
def test_a_report_on_request_never_has_the_id_of_a_stored_one(wall: float, draw: int, boot: int, seq: int) -> None:
    made = wire.unstored_id(wall, draw)
    assert made != wire.request_id(boot, seq)
    assert made < 2**53
    assert wire.split_request_id(made) is None
    assert wire.unstored_id(wall + 0.002, draw) != made


@pytest.mark.parametrize(("boot", "seq"), [(0, 1), (-1, 0), (7 * 2**20, 0), (1, -1), (1, 2**30)])
def test_a_request_id_that_does_not_fit_is_said(boot: int, seq: int) -> None:
    with pytest.raises(ValueError, match="does not fit"):
        wire.request_id(boot, seq)


json_value = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
DECODERS: list[Callable[[bytes], object]] = [decode for _, _, _, decode in MESSAGES.values()]
BODIES = [(VECTORS / name).read_bytes() for name in MESSAGES]
TOPICS = sorted({topic for topic, _, _, _ in MESSAGES.values()})


@given(st.binary(max_size=200))
def test_no_decoder_falls_over_bytes(body: bytes) -> None:
    for decode in DECODERS:
        with contextlib.suppress(PeerError):
            decode(body)


@given(st.data())
def test_no_decoder_falls_over_a_wrong_value_in_a_right_message(data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(BODIES) - 1))
    body = BODIES[index]
    if not body.startswith(b"{"):
        body = body.replace(data.draw(st.sampled_from(list(body))).to_bytes(1, "big"), data.draw(st.binary(max_size=3)))
    else:
        keys = json.loads(body)
        keys[data.draw(st.sampled_from(sorted(keys)))] = data.draw(json_value)
        body = json.dumps(keys).encode()
    with contextlib.suppress(PeerError):
        DECODERS[index](body)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(TOPICS) | st.text(max_size=40),
            st.sampled_from(BODIES) | st.binary(max_size=60) | json_value.map(lambda v: json.dumps(v).encode()),
        ),
        max_size=20,
    )
)
def test_neither_end_falls_over_anything(messages: list[tuple[str, bytes]]) -> None:
    server, client = Server(UTC), Client(1, "MIR_VEN1", UTC)
    client.connected()
    for topic, body in messages:
        for output in server.received(topic, body) + client.received(topic, body):
            if isinstance(output, wire.Send):
                assert len(output.body) <= wire.LARGEST_BODY
