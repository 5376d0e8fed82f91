"""HHMM: a start is rounded down, an end up; midnight, days that have an hour twice or not at all."""

from __future__ import annotations

import time
from datetime import UTC, datetime, tzinfo
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import OperatorError
from gateway.links.mir2017.messages.times import Span, read_span, write_span, zone_named

SEOUL, BERLIN, LORD_HOWE = ZoneInfo("Asia/Seoul"), ZoneInfo("Europe/Berlin"), ZoneInfo("Australia/Lord_Howe")


def at(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


@pytest.mark.parametrize(
    ("start", "end", "zone", "written"),
    [
        ("2017-10-17T10:57:00+09:00", "2017-10-17T11:07:00+09:00", SEOUL, "20171017 1057 20171017 1107"),
        ("2017-10-17T10:57:59+09:00", "2017-10-17T11:07:01+09:00", SEOUL, "20171017 1057 20171017 1108"),
        ("2017-10-17T23:00:00+09:00", "2017-10-17T23:59:01+09:00", SEOUL, "20171017 2300 20171018 0000"),
        ("2017-12-31T23:59:59+00:00", "2018-01-01T00:00:01+00:00", UTC, "20171231 2359 20180101 0001"),
        ("2017-10-17T01:57:00+00:00", "2017-10-17T02:07:00+00:00", SEOUL, "20171017 1057 20171017 1107"),
        # a cancel: End = Start
        ("2017-10-17T10:57:30+09:00", "2017-10-17T10:57:30+09:00", SEOUL, "20171017 1057 20171017 1057"),
        ("2017-10-17T10:57:00+09:00", "2017-10-17T09:00:00+09:00", SEOUL, "20171017 1057 20171017 1057"),
        # the hour that Berlin has twice: one hour from the first 02:30 to the second
        ("2017-10-29T02:30:00+02:00", "2017-10-29T02:30:00+01:00", BERLIN, "20171029 0230 20171029 0231"),
        ("2017-10-29T02:50:00+02:00", "2017-10-29T02:10:00+01:00", BERLIN, "20171029 0250 20171029 0251"),
    ],
)
def test_written(start: str, end: str, zone: tzinfo, written: str) -> None:
    assert write_span(at(start), at(end), zone) == Span(*written.split())


@pytest.mark.parametrize(
    ("written", "zone", "start", "end"),
    [
        ("20171017 1057 20171017 1107", SEOUL, "2017-10-17T10:57:00+09:00", "2017-10-17T11:07:00+09:00"),
        ("20171017 2300 20171017 2400", SEOUL, "2017-10-17T23:00:00+09:00", "2017-10-18T00:00:00+09:00"),
        ("20171231 2400 20180101 0001", UTC, "2018-01-01T00:00:00+00:00", "2018-01-01T00:01:00+00:00"),
        ("20171017 1057 20171017 1057", SEOUL, "2017-10-17T10:57:00+09:00", "2017-10-17T10:57:00+09:00"),
        # twice: the earlier for a start, the later for an end
        ("20171029 0230 20171029 0231", BERLIN, "2017-10-29T02:30:00+02:00", "2017-10-29T02:31:00+01:00"),
        # a cancel stays one
        ("20171029 0230 20171029 0230", BERLIN, "2017-10-29T02:30:00+02:00", "2017-10-29T02:30:00+02:00"),
        # not at all: likewise the wider reading
        ("20170326 0230 20170326 0300", BERLIN, "2017-03-26T01:30:00+01:00", "2017-03-26T03:00:00+02:00"),
        ("20170326 0100 20170326 0230", BERLIN, "2017-03-26T01:00:00+01:00", "2017-03-26T03:30:00+02:00"),
    ],
)
def test_read(written: str, zone: tzinfo, start: str, end: str) -> None:
    assert read_span(Span(*written.split()), zone) == (at(start), at(end))


def test_no_zone_is_this_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Seoul")
    time.tzset()
    try:
        span = Span("20171017", "1057", "20171017", "1107")
        assert read_span(span, None) == read_span(span, SEOUL)
        assert write_span(*read_span(span, None), None) == span
    finally:
        monkeypatch.undo()
        time.tzset()


@given(
    st.floats(1e8, 4e9),
    st.floats(0, 5 * 86_400),
    st.sampled_from([UTC, SEOUL, BERLIN, LORD_HOWE, ZoneInfo("America/St_Johns"), ZoneInfo("Asia/Kathmandu")]),
)
def test_an_event_is_never_shorter_than_it_was_asked_for(start: float, lasts: float, zone: tzinfo) -> None:
    end = start + lasts
    read_start, read_end = read_span(write_span(start, end, zone), zone)
    if end <= start:
        assert read_end == read_start
        return
    assert read_start <= start
    assert end <= read_end
    # at most rounding, and an hour at each end where the zone's clocks are set
    assert start - read_start < 60 + 3600
    assert read_end - end <= 60 + 2 * 3600


def test_zone_named() -> None:
    assert zone_named("") is None
    assert zone_named("Asia/Seoul") == SEOUL
    for name in ("Asia/Soul", "../etc/passwd", "/etc/localtime"):
        with pytest.raises(OperatorError, match="timezone"):
            zone_named(name)
