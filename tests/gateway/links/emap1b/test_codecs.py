"""decode(encode(x)) == x, and whatever comes in, a decoder raises nothing but PeerError; neither end falls over it."""

from __future__ import annotations

import contextlib
import json
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import PeerError
from gateway.links.emap1b import messages as emap
from gateway.links.emap1b.client import Client
from gateway.links.emap1b.coap import CoapClient
from gateway.links.emap1b.coap_server import CoapServer
from gateway.links.emap1b.messages import times
from gateway.links.emap1b.server import Server
from gateway.links.mir2017 import messages as neutral
from tests.gateway.links.emap1b.vectors import EMA, INDEX, MESSAGES, SEOUL, START, body

name = st.text("ABCdef019_.-", min_size=1, max_size=64)
text = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), max_size=256)
ms = st.none() | st.integers(0, times.LATEST_MS)
head = (name, name, text, ms)
answer = (*head, st.integers(0, 999), text)
watts = st.integers(-1_000_000_000, 1_000_000_000)
number = st.integers(-(10**15), 10**15) | st.floats(-1e15, 1e15)
modification = st.integers(0, 2**31 - 1)
duration = st.integers(0, 10**10).map(times.duration_text)
interval = st.builds(emap.Interval, duration, text, number)
signal = st.builds(
    emap.Signal, text, text, text, number, st.none() | number, number, number, text, st.lists(interval).map(tuple)
)
event = st.builds(emap.Event, text, modification, text, text, st.lists(signal, max_size=3).map(tuple), text)
entry = st.builds(
    emap.Entry,
    text,
    text.filter(lambda kind: kind.upper() != "EMA"),
    st.booleans(),
    st.none() | watts,
    st.integers(-1, 9),
    *[st.none() | watts] * 3,
    st.integers(0, 1_000_000),
    st.none(),
    text,
)
whole = st.builds(
    emap.Entry,
    text,
    st.just("EMA"),
    st.booleans(),
    *[st.none() | watts, st.integers(-1, 9), st.none() | watts, st.none() | watts, st.none() | watts],
    st.integers(0, 1_000_000),
    st.none() | watts,
    text,
)
day, clock = st.integers(0, 99_991_231), st.integers(0, 235_959)
available = st.builds(emap.Available, text, text, st.integers(0, 10**9), day, clock, day, clock)

ROUND_TRIPS = [
    st.builds(emap.ConnectRegistration, *head, text),
    *(
        st.builds(kind, *answer)
        for kind in (
            emap.ConnectedRegistration,
            emap.RegisteredReport,
            emap.Response,
            emap.CreateReport,
            emap.UpdatedReport,
        )
    ),
    *(
        st.builds(kind, *head)
        for kind in (emap.RegisterReport, emap.Poll, emap.RequestEvent, emap.CanceledPartyRegistration)
    ),
    st.builds(emap.CreatePartyRegistration, *head, text, text, *[st.booleans()] * 3),
    st.builds(emap.CreatedPartyRegistration, *answer, text, st.integers(100, 86_400_000)),
    st.builds(emap.CancelPartyRegistration, *head, text),
    st.builds(emap.DistributeEvent, *head, st.lists(event, max_size=3).map(tuple)),
    st.builds(emap.DistributeEvent, *head, st.lists(event, max_size=3).map(tuple), st.integers(0, 999), text),
    st.builds(emap.CreatedEvent, *answer, st.booleans(), text, modification),
    st.builds(
        emap.UpdateReport, *head, st.booleans(), st.lists(entry | whole, min_size=1, max_size=4).map(tuple)
    ),
    st.builds(emap.CreateOpt, *head, text, text, st.lists(available, min_size=1, max_size=3).map(tuple), ms),
    st.builds(emap.CreatedOpt, *head, st.just(200), text, text, st.booleans()),
    st.builds(emap.CreatedOpt, *head, st.integers(400, 599), text, text, st.just(False)),
]  # fmt: skip


def test_the_round_trips_go_through_every_message() -> None:
    made = {strategy.wrapped_strategy.target for strategy in ROUND_TRIPS}  # type: ignore[attr-defined]
    assert made == {*emap.TO_EMA.values(), *emap.TO_EMS.values()}


@given(st.one_of(ROUND_TRIPS))
def test_what_is_written_is_read(message: emap.Message) -> None:
    assert type(message).decode(message.encode()) == message


moment = st.integers(0, 4_000_000_000).map(float)


@given(
    st.integers(0, 2**53 - 1), modification, moment, moment, st.integers(0, 10**9), st.integers(0, 2**53 - 1)
)  # fmt: skip
def test_a_limit_is_read_as_it_was_written(
    event_id: int, modification: int, start: float, end: float, value: int, request: int
) -> None:
    limit = neutral.DistributeEvent(event_id, modification, start, end, value, request)
    written = emap.Event.of(limit)
    read = written.limit(written.signals[0], SEOUL, 0.0, request)
    assert read.cancelled == limit.cancelled
    assert read == limit or limit.cancelled
    assert (read.event_id, read.modification, read.start) == (event_id, modification, start)


@given(st.floats(0, 4e9), st.floats(0.001, 1e6))
def test_an_event_is_never_shorter_than_it_was_asked_for(start: float, lasts: float) -> None:
    written = emap.Event.of(neutral.DistributeEvent(1, 0, start, start + lasts, 100))
    read = written.limit(written.signals[0], UTC, 0.0, 1)
    assert start - 1 < read.start <= start
    assert start + lasts <= read.end < start + lasts + 1


device = st.builds(
    emap.TypedEntry,
    st.integers(0, 99_999),
    st.booleans(),
    st.integers(0, 9),
    st.none() | watts,
    st.integers(0, 1_000_000),
    st.sampled_from(["", "led", "pv", "ess", "ev"]),
)


@given(
    st.builds(
        neutral.UpdateReport,
        st.just(1),
        st.just(EMA),
        st.integers(0, 2**53 - 1),
        ms,
        *[st.none() | watts] * 5,
        st.none() | st.lists(device, max_size=5).map(tuple),
    )
)
def test_a_report_of_the_site_comes_back_whole(report: neutral.UpdateReport) -> None:
    [send] = Client(1, EMA, wall=lambda: START, run=1).report(report)
    assert emap.UpdateReport.decode(send.body).site(1) == report


def test_a_report_of_many_devices_is_written_short_and_says_the_same() -> None:
    devices = tuple(emap.TypedEntry(n, n % 2 == 0, n % 10, 10**6 + n, 10**5, "led") for n in range(2000))
    report = neutral.UpdateReport(1, EMA, 2**40, 1_508_205_420_000, 612, 800, 188, 0, 0, devices)
    [send] = Client(1, EMA, wall=lambda: START, run=1).report(report)
    assert len(send.body) <= 262_144
    assert emap.UpdateReport.decode(send.body).site(1) == report


json_value = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
KINDS = [*emap.TO_EMA.values(), *emap.TO_EMS.values()]
BODIES = [body(name) for name in MESSAGES]
KEYS = sorted({key for one in BODIES for key in json.loads(one)})


@given(st.binary(max_size=200))
def test_no_decoder_falls_over_bytes(raw: bytes) -> None:
    for kind in KINDS:
        with contextlib.suppress(PeerError):
            kind.decode(raw)


def _inside(value: object, path: list[int], new: object) -> object:
    """The value with one part of it, found by the path, exchanged."""
    if path and isinstance(value, dict) and value:
        key = list(value)[path[0] % len(value)]
        return {**value, key: _inside(value[key], path[1:], new)}
    if path and isinstance(value, list) and value:
        at = path[0] % len(value)
        return [*value[:at], _inside(value[at], path[1:], new), *value[at + 1 :]]
    return new


@given(st.sampled_from(sorted(MESSAGES)), st.lists(st.integers(0, 50), min_size=1, max_size=7), json_value)
def test_no_decoder_falls_over_any_value_anywhere(name: str, path: list[int], new: object) -> None:
    hostile = json.dumps(_inside(json.loads(body(name)), path, new)).encode()
    with contextlib.suppress(PeerError):
        message = type(MESSAGES[name]).decode(hostile)
        assert isinstance(message.encode(), bytes)
    for end in ends():
        end(INDEX[name], hostile)


def ends() -> list:
    """A function (topic, body) for each of the four ends."""
    clients = [kind(1, EMA, SEOUL, wall=lambda: START, run=1) for kind in (Client, CoapClient)]
    for client in clients:
        client.connected()
        client.waiting.report(2**30)
    server = Server(wall=lambda: START, run=1)
    coap_server = CoapServer(Server(wall=lambda: START, run=1))
    mqtt_client, coap_client = clients
    assert isinstance(coap_client, CoapClient)
    ask = coap_client.poll()[0]

    def over_coap(topic: str, raw: bytes) -> None:
        coap_client.requested(topic, raw)
        coap_client.notified(raw)
        coap_client.answered(ask, raw)

    return [mqtt_client.received, server.received, coap_server.requested, over_coap]


TOPICS = sorted(set(INDEX.values()))


@given(
    st.lists(
        st.tuples(
            st.sampled_from(TOPICS) | st.text(max_size=40),
            st.sampled_from(BODIES) | st.binary(max_size=60) | json_value.map(lambda v: json.dumps(v).encode()),
        ),
        max_size=12,
    )
)
def test_neither_end_falls_over_anything(messages: list[tuple[str, bytes]]) -> None:
    for end in ends():
        for topic, raw in messages:
            end(topic, raw)


@pytest.mark.parametrize("raw", [b"[" * 100_000, b'{"service":' * 50_000, b" " * 300_000, b'{"time":1e999}', b"\xff"])
def test_deep_large_and_wild_bodies_are_one_refusal(raw: bytes) -> None:
    client = Client(1, EMA, wall=lambda: START, run=1)
    server = Server(wall=lambda: START, run=1)
    assert len(client.received("/EMAP/MIR_VEN1/1.0b/Event", raw)) == 1
    assert len(server.received("/EMAP/MIR_EMS/1.0b/Report", raw)) == 1
    assert (client.refused, server.refused) == (1, 1)


@pytest.mark.parametrize(
    ("written", "milliseconds"),
    [
        ("PT2S", 2000),
        ("PT1.5S", 1500),
        ("PT10M", 600_000),
        ("PT1H", 3_600_000),
        ("P1DT1S", 86_401_000),
        ("P1W", 604_800_000),
        ("PT0S", 0),
        ("PT0.0019S", 1),
    ],
)
def test_durations(written: str, milliseconds: int) -> None:
    assert times.read_duration(written, "duration") == milliseconds


@pytest.mark.parametrize("written", ["", "P", "PT", "P1DT", "2", "PT-1S", "duration", "P1Y", "PT1.S", "pt1s"])
def test_what_is_no_duration(written: str) -> None:
    with pytest.raises(PeerError, match="duration"):
        times.read_duration(written, "duration")


@given(st.integers(0, 10**12))
def test_a_duration_is_read_as_it_was_written(milliseconds: int) -> None:
    assert times.read_duration(times.duration_text(milliseconds), "duration") == milliseconds


@given(st.integers(0, times.LATEST_MS))
def test_a_moment_is_read_as_it_was_written(milliseconds: int) -> None:
    assert times.read_time(times.time_text(milliseconds)) == milliseconds


@pytest.mark.parametrize(
    ("written", "at"),
    [
        ("2017-10-17T01:57:00Z", datetime(2017, 10, 17, 1, 57, tzinfo=UTC)),
        ("2017-10-17T10:57:00+09:00", datetime(2017, 10, 17, 10, 57, tzinfo=timezone(timedelta(hours=9)))),
        ("2017-10-17 10:57:00", datetime(2017, 10, 17, 10, 57, tzinfo=SEOUL)),  # a public EMS writes it so
        ("Tue Oct 17 10:57:00 KST 2017", None),  # another one does
        ("", None),
        ("1969-12-31T23:59:59Z", None),
        ("0001-01-01T00:00:00+14:00", None),
    ],
)
def test_moments(written: str, at: datetime | None) -> None:
    assert times.read_time(written, SEOUL) == (None if at is None else at.timestamp() * 1000)


@given(st.text(max_size=60), st.text(max_size=60))
def test_a_name_gives_always_the_same_number_that_fits(one: str, other: str) -> None:
    made = emap.number_of(one)
    assert made == emap.number_of(one)
    assert 0 <= made < 2**53
    assert (made == emap.number_of(other)) == (one == other)


NO_NAMES = ["MIR_EMS", "", "EMA0", "EMA100000", "gw/1", "a+1", "a#1", "é1", "x" * 64 + "1", "1\n"]


@pytest.mark.parametrize(
    ("called", "number"),
    [
        ("MIR_VEN1", 1),
        ("CLIENT_EMA12", 12),
        ("a-7.42", 42),
        ("99999", 99_999),
        ("EMA007", 7),
        *((wrong, None) for wrong in NO_NAMES),
    ],
)
def test_numbers_in_names(called: str, number: int | None) -> None:
    assert emap.number_in(called) == number
