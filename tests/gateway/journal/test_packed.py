"""The outbox's packed form: pinned, for what is in a file must be read after an update."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from gateway.errors import PeerError
from gateway.journal import packed, rows
from gateway.site.report import DeviceLine, DeviceNotice, NoticeKind, SiteReport
from gateway.site.resource import Kind
from tests.gateway.journal.samples import notice, report

HEAD = "01 01 00000000de39da41 0000000000001440 0000000000008940 0000000000000000 0000000000000000 0000000000000000"
LINE = "00000000 00 03 09 0100 0000000000004e40"
NOTICE = "01 00 00000000de39da41 04000000 02 00 00 0500 0000000000000000"


@pytest.mark.parametrize(
    ("kind", "value", "form"),
    [
        ("report", report(5.0, 0), HEAD),
        ("report", report(5.0), HEAD + LINE),
        ("notice", notice(4), NOTICE),
    ],
)
def test_the_form_is_pinned(kind: str, value: Any, form: str) -> None:
    assert packed.dumps(value) == bytes.fromhex(form)
    assert packed.loads(kind, bytes.fromhex(form)) == value


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("what", NoticeKind)
def test_every_kind_is_packed(kind: Kind, what: NoticeKind) -> None:
    value = DeviceNotice(1.76e9, what, DeviceLine(1_000_000, kind.value, True, 9, -1500.5, -7))
    form = packed.dumps(value)
    assert isinstance(form, bytearray)
    assert packed.loads("notice", form) == value


# Also what does not fit: any text for a kind, numbers of any size.
lines = st.builds(
    DeviceLine,
    number=st.integers(0, 99) | st.integers(),
    kind=st.sampled_from(["led", "ess"]) | st.text(max_size=9),
    on=st.booleans(),
    level=st.integers(0, 9) | st.integers(),
    power_w=st.none() | st.floats(),
    priority=st.integers(-9, 9) | st.integers(),
)
known = st.floats()
bodies = st.builds(
    SiteReport, known, known, st.none() | known, st.none() | known, known, known, st.lists(lines, max_size=4).map(tuple)
) | st.builds(DeviceNotice, known, st.sampled_from(NoticeKind), lines)


@given(bodies)
def test_there_and_back(value: SiteReport | DeviceNotice) -> None:
    assert repr(packed.loads(packed.KINDS[type(value)], packed.dumps(value))) == repr(value)


@pytest.mark.parametrize(
    "line",
    [
        DeviceLine(1, "song", True, 0, 1.0, 1),
        DeviceLine(-1, "led", True, 0, 1.0, 1),
        DeviceLine(2**32, "led", True, 0, None, 1),
        DeviceLine(1, "led", True, 256, 1.0, 1),
        DeviceLine(1, "led", True, 0, 1.0, 40_000),
    ],
)
def test_what_does_not_fit_is_json(line: DeviceLine) -> None:
    value = SiteReport(1.76e9, 1.0, None, None, 0.0, 0.0, (line,))
    form = packed.dumps(value)
    assert form == rows.dumps(value)
    assert packed.loads("report", form) == value


@pytest.mark.parametrize(
    ("kind", "form", "said"),
    [
        ("song", HEAD, "'song' is no kind of record"),
        ("report", "", "SiteReport: its form is missing, only 01 is known"),
        ("report", "02" + HEAD[2:], "SiteReport: its form is 02, only 01 is known"),
        ("report", HEAD[:-2], "SiteReport: 49 bytes are not a whole one"),
        ("report", HEAD + LINE[:-2], "SiteReport: 66 bytes are not a whole one"),
        ("report", HEAD + LINE.replace("00 03", "07 03"), "SiteReport: 67 bytes are not a whole one"),
        ("notice", NOTICE[:-2], "DeviceNotice: 26 bytes are not a whole one"),
        ("notice", NOTICE + LINE, "DeviceNotice: 44 bytes are not a whole one"),
        ("notice", "01 03" + NOTICE[5:], "DeviceNotice: 27 bytes are not a whole one"),
    ],
)
def test_what_is_wrong_is_named(kind: str, form: str, said: str) -> None:
    with pytest.raises(PeerError, match=said):
        packed.loads(kind, bytes.fromhex(form))


def test_json_that_is_wrong_is_named_too() -> None:
    with pytest.raises(PeerError, match="SiteReport: no JSON"):
        packed.loads("report", "{")
