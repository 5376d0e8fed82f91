"""The outbox's nameless form: pinned, for records of an older program must be read."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from gateway.errors import PeerError
from gateway.journal import rows
from gateway.site.report import DeviceNotice, SiteReport
from tests.gateway.journal.samples import notice, report


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (report(5.0), '[1760000000.0,5.0,800.0,null,0.0,0.0,[[0,"led",true,9,60.0,1]]]'),
        (report(5.0, 0), "[1760000000.0,5.0,800.0,null,0.0,0.0,[]]"),
        (notice(4), '[1760000000.0,"connected",[4,"ess",false,0,null,5]]'),
    ],
)
def test_the_form_is_pinned(value: Any, text: str) -> None:
    assert rows.dumps(value) == text
    assert rows.loads(type(value), text) == value


@pytest.mark.parametrize("cls", [SiteReport, DeviceNotice])
@given(data=st.data())
def test_there_and_back(cls: type, data: st.DataObject) -> None:
    value = data.draw(st.from_type(cls))
    assert repr(rows.loads(cls, rows.dumps(value))) == repr(value)


def test_versions() -> None:
    """More values than we know are passed over; missing ones at the end take their defaults."""
    assert rows.loads(SiteReport, '[1.0,5.0,800.0,null,0.0,0.0,[],"new"]') == SiteReport(
        1.0, 5.0, 800.0, None, 0.0, 0.0
    )
    assert rows.loads(SiteReport, "[1.0,5.0,800.0,null,0.0,0.0]") == SiteReport(1.0, 5.0, 800.0, None, 0.0, 0.0)


@pytest.mark.parametrize(
    ("cls", "text", "said"),
    [
        (SiteReport, "[1.0]", "SiteReport: no list of 6 values or more"),
        (SiteReport, "{}", "SiteReport: no list of 6 values or more"),
        (SiteReport, "{", "SiteReport: no JSON"),
        (SiteReport, "[1.0,5.0,800.0,null,0.0,0.0,3]", "SiteReport.devices: no list"),
        (SiteReport, '[1.0,"x",800.0,null,0.0,0.0,[]]', "SiteReport.power_w: 'x' is no number"),
        (DeviceNotice, '[1.0,"sung",[4,"ess",false,0,null,5]]', "DeviceNotice.kind: 'sung' is no NoticeKind"),
        (DeviceNotice, '[1.0,"connected",[4,"ess",0,0,null,5]]', "DeviceNotice.device: DeviceLine.on: 0 is no true"),
    ],
)
def test_what_is_wrong_is_named(cls: type, text: str, said: str) -> None:
    with pytest.raises(PeerError, match=said):
        rows.loads(cls, text)
