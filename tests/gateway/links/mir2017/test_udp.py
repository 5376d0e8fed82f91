"""The lab's datagrams: bytes of the wire reference (section 6), and the ends over a link that loses and doubles."""

from __future__ import annotations

import itertools
import random
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import PeerError
from gateway.links.mir2017.udp import messages as udp
from gateway.links.mir2017.udp.ends import Dropped, EmaEnd, EmsEnd, Updated, VtnEnd, VtnGone, VtnRegistered, VtnReported

REGISTRATION = (
    b'{"msgType":"CreatedVTNPartyRegistration","vtnID":"MIR_VTN","ProfileName":"2.0b","TransportName":"UDP/JSON",'
    b'"registrationID":"r1","venNum":3}'
)
REGISTRATION_ACK = (
    b'{"msgType":"CreatedVTNPartyRegistrationACK","VTNID":"MIR_VTN","EMSID":"MIR_EMS","TransportName":"UDP/JSON",'
    b'"Version":"MIR_EMS_Version_1.0","Response":200,"ResponseType":"OK","RegistrationID":"r1","Duration":2000}'
)
REPORT = (
    b'{"msgType":"vtnReport","vtnID":"MIR_VTN","venNum":3,"ProfileName":"2.0b","TransportName":"UDP/JSON",'
    b'"currentValue":1250}'
)
REPORT_ACK = b'{"msgType":"vtnReportACK","EMSID":"MIR_EMS","VTNID":"MIR_VTN","Response":200}'
GOODBYE = b'{"msgType":"DestroyVTNPartyRegistration","vtnID":"MIR_VTN"}'
GOODBYE_ACK = b'{"msgType":"DestroyVTNPartyRegistrationACK","EMSID":"MIR_EMS","VTNID":"MIR_VTN","Response":200}'
AT = datetime(2017, 10, 10, 10, 11, 12, tzinfo=UTC).timestamp()


def test_a_vtns_whole_life() -> None:
    ems, vtn = EmsEnd(UTC), VtnEnd("MIR_VTN", "r1")
    assert vtn.register(3, 0.0) == REGISTRATION
    assert ems.received(REGISTRATION) == (REGISTRATION_ACK, VtnRegistered("MIR_VTN", 3))
    assert vtn.received(REGISTRATION_ACK)
    assert (vtn.registered, vtn.duration_ms, vtn.wake) == (True, 2000, None)
    assert vtn.report(3, 1250, 1.0) == REPORT
    assert ems.received(REPORT) == (REPORT_ACK, VtnReported("MIR_VTN", 3, 1250))
    assert vtn.received(REPORT_ACK)
    assert vtn.deregister(2.0) == GOODBYE
    assert ems.received(GOODBYE) == (GOODBYE_ACK, VtnGone("MIR_VTN"))
    assert vtn.received(GOODBYE_ACK)
    assert not vtn.registered
    assert not ems.vtns


def test_who_wants_an_answer_sends_again_and_ever_more_seldom() -> None:
    vtn = VtnEnd("MIR_VTN", "r1")
    vtn.register(3, 0.0)
    assert vtn.due(0.9) is None
    times = []
    for _ in range(8):
        assert vtn.wake is not None
        times.append(vtn.wake)
        assert vtn.due(vtn.wake) == REGISTRATION
    assert [b - a for a, b in itertools.pairwise(times)] == [2, 4, 8, 16, 30, 30, 30]
    assert vtn.received(REGISTRATION_ACK)
    assert vtn.due(1e9) is None
    assert not vtn.received(REGISTRATION_ACK)
    assert vtn.stale == 1


def test_a_vtn_that_is_not_registered_is_told() -> None:
    ems, vtn = EmsEnd(), VtnEnd("MIR_VTN", "r1")
    vtn.registered = True  # the EMS was restarted
    answer, what = ems.received(vtn.report(3, 1, 0.0))
    assert isinstance(what, Dropped)
    assert answer is not None
    assert vtn.received(answer)
    assert (vtn.registered, vtn.refused) == (False, 1)


@pytest.mark.parametrize("seed", range(5))
def test_registration_over_a_bad_link(seed: int) -> None:
    rng = random.Random(seed)
    ems, vtn = EmsEnd(), VtnEnd("MIR_VTN", "r1")
    under_way, now = [vtn.register(3, 0.0)], 0.0
    for _ in range(100):
        for datagram in under_way:
            for _ in range(rng.choice((0, 1, 1, 2))):
                answer, _ = ems.received(datagram)
                if answer is not None and rng.random() < 0.5:
                    vtn.received(answer)
        if vtn.registered:
            break
        assert vtn.wake is not None
        now = vtn.wake
        again = vtn.due(now)
        under_way = [again] if again else []
    assert vtn.registered
    assert list(ems.vtns) == ["MIR_VTN"]


UPDATES = [
    (udp.EiUpdate(AT, 800, None, 1, 1000, 200), b"EiUpdate/Implicit/20171010/101112/EMA1/800/1000/200/EMA1"),
    (udp.EiUpdate(AT, 800, None, 1), b"EiUpdate/Implicit/20171010/101112/EMA1/800/-/-/EMA1"),
    (
        udp.EiUpdate(AT, 60, 4, 1, on=True, dimming=9, priority=2),
        b"EiUpdate/Explicit/20171010/101112/dev4/60/1/9/2/EMA1",
    ),
]


@pytest.mark.parametrize(("update", "text"), UPDATES)
def test_an_emas_report(update: udp.EiUpdate, text: bytes) -> None:
    assert update.encode(UTC) == text
    assert EmsEnd(UTC).received(text) == (None, Updated(update))


def test_the_labs_short_report_is_of_whoever_sent_it() -> None:
    answer, what = EmsEnd(UTC).received(b"EiUpdate/Explicit/20171010/101112/4/60/")
    assert answer is None
    assert what == Updated(udp.EiUpdate(AT, 60, 4, None))


def test_the_pushed_line() -> None:
    start = datetime(2017, 10, 10, 9, 5, tzinfo=UTC).timestamp()
    line = EmsEnd(UTC).event(start, start + 600, 800)
    assert line == b"20171010,0905,20171010,0915,800"
    assert EmaEnd(1, UTC).received(line) == udp.EventLine(start, start + 600, 800)


BAD = [
    b"",
    b"\xff",
    b"{",
    b"{}",
    b'{"msgType":"vtnReport"}',
    b'{"msgType":"vtnReport","vtnID":"a","venNum":-1,"currentValue":1}',
    b'{"msgType":"nothing","vtnID":"a"}',
    b"EiUpdate/Explicit/20171010/101112/dev4/",
    b"EiUpdate/Explicit/20171010/101112/dev4/x/",
    b"EiUpdate/Explicit/20171310/101112/dev4/1/",
    b"EiUpdate/Sometimes/20171010/101112/dev4/1/",
    b"EiUpdate/Implicit/20171010/101112/EMA1/1/2/3/EMA0",
    b'{"msgType":"vtnReport","vtnID":"' + b"a" * 2000 + b'","venNum":1,"currentValue":1}',
]


@pytest.mark.parametrize("body", BAD)
def test_hostile_datagrams_are_counted_and_dropped(body: bytes) -> None:
    ems = EmsEnd(UTC)
    answer, what = ems.received(body)
    assert answer is None
    assert isinstance(what, Dropped)
    assert ems.dropped == 1


@pytest.mark.parametrize(
    "body", [b"20171010,0905,20171010,0915", b"20171010,0905,20171010,0915,-1", b"\x00", b"a,b,c,d,e"]
)
def test_hostile_lines_are_counted_and_dropped(body: bytes) -> None:
    ema = EmaEnd(1, UTC)
    assert isinstance(ema.received(body), Dropped)
    assert ema.dropped == 1


@given(st.binary(max_size=300) | st.text().map(lambda text: ("EiUpdate/Explicit/" + text).encode()))
def test_no_bytes_raise(body: bytes) -> None:
    EmsEnd(UTC).received(body)
    EmaEnd(1, UTC).received(body)
    VtnEnd("a", "b").received(body)


def test_no_end_of_vtns() -> None:
    ems = EmsEnd()
    for number in range(70):
        ems.received(udp.VtnRegistration(f"v{number}", "r", 1).encode())
    assert len(ems.vtns) == 64
    assert ems.dropped == 6


def test_messages_name_what_is_wrong() -> None:
    with pytest.raises(PeerError, match="venNum"):
        udp.read_from_vtn(b'{"msgType":"vtnReport","vtnID":"a","venNum":"x","currentValue":1}')
