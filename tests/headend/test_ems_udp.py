"""The whole EMS over UDP: EMAs that tell and are told, VTNs that register, and datagrams of strangers and vandals."""

from __future__ import annotations

import asyncio
import logging
import random
import socket
import tracemalloc
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from gateway.clock import SystemClock
from gateway.errors import OperatorError
from gateway.links.mir2017.udp.ends import VtnEnd
from gateway.site.report import NoticeKind
from gateway.transport.coap import has_ipv6
from headend.ems import views
from headend.ems.status import status
from headend.ems.udp import AGAIN_S, parse_emas
from tests.gateway.upstream.peers import notice, site_report
from tests.headend.pair import Pair, up
from tests.support.wait import until


class Peer(asyncio.DatagramProtocol):
    """A socket of few lines, at an address of its own."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self.take: Callable[[bytes], object] = self.heard.append

    async def open(self, host: str, port: int) -> Peer:
        loop = asyncio.get_running_loop()
        self.transport: Any = None
        self.transport, _ = await loop.create_datagram_endpoint(
            lambda: self, local_addr=(host, 0), remote_addr=("127.0.0.1", port)
        )
        return self

    def datagram_received(self, data: bytes, addr: object) -> None:
        self.take(data)

    def say(self, body: bytes) -> None:
        self.transport.sendto(body)


@pytest_asyncio.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    made = Pair(tmp_path, udp=True, resend_most=3, udp_emas="7=127.0.0.70")
    await made.start_ems()
    yield made
    await made.close()


@pytest_asyncio.fixture
async def peer(pair: Pair) -> AsyncIterator[Callable[[str], Any]]:
    peers: list[Peer] = []

    async def opened(host: str) -> Peer:
        peers.append(await Peer().open(host, pair.port))
        return peers[-1]

    yield opened
    for one in peers:
        one.transport.close()


@pytest.mark.parametrize("explicit", [True, False])
async def test_an_ema_tells_and_is_told(pair: Pair, explicit: bool) -> None:
    upstream, site, outbox = pair.ema(1, explicit=explicit)
    await until(up(upstream))
    at = float(int(pair.ems.service.book.wall))
    outbox.append(notice(NoticeKind.CONNECTED))
    for power in (700, 710, 720):
        outbox.append(site_report(power, 90, at + (power - 720) / 10))
    upstream.wake()
    await until(lambda: outbox.waiting() == 0)
    ema = pair.ems.service.book.emas["gw/1"]
    await until(lambda: ema.power_w == 720)
    assert (ema.threshold_w, ema.margin_w, ema.protocol, ema.duplicates) == (810, 90, "udp", 0)
    devices = pair.ems.service.book.devices
    await until(lambda: [(d.id, d.watt, d.on) for d in devices.values()] == [("dev/4", 720, True)] * explicit)
    await until(lambda: ema.reports == (6 if explicit else 3))

    number = await pair.event()
    await until(lambda: site.events)
    await pair.ems.change_event(number, value_w=600)
    await until(lambda: len(site.events) == 2)
    await pair.ems.cancel_event(number)
    await until(lambda: len(site.events) == 3)
    assert [(event.modification, event.limit_w, event.cancelled) for event in site.events] == [
        (0, 800, False),
        (1, 600, False),
        (2, 600, True),
    ]
    assert {event.event_id for event in site.events} == {site.events[0].start // 60}
    shown = upstream.status()
    assert (shown["acknowledged"], shown["unacknowledged"], shown["waiting"]) == (0, 4, 0)
    assert await upstream.ask_rdr(4, 50, 60) == (False, "over UDP nothing can be asked")


async def test_a_line_is_sent_again_and_nobody_is_blamed(pair: Pair, peer: Callable[[str], Any]) -> None:
    ema = await peer("127.0.0.70")  # the lab's: it says no number
    ema.say(b"EiUpdate/Implicit/20261124/200000/MIR/640/")
    await until(lambda: "gw/7" in pair.ems.service.book.emas)
    number = await pair.event()
    delivery = pair.delivery(number, "gw/7")
    await until(lambda: delivery.attempts == 3, what="as often as resend_most")
    await until(lambda: len(ema.heard) >= 3 + len(AGAIN_S), what="the last one again too")
    assert len(set(ema.heard)) == 1
    book, desk = pair.ems.service.book, pair.ems.service.events
    assert {alarm.kind for alarm in views.alarms(book, desk)} == {"unknown"}  # its report is old; no more than that
    assert views.event_view(book, desk, book.events[number]).deliveries[0].state == "sent"


async def test_two_events_with_one_start_are_two_lines_and_a_new_start_cancels_the_old(
    pair: Pair, peer: Callable[[str], Any]
) -> None:
    ema = await peer("127.0.0.70")
    ema.say(b"EiUpdate/Implicit/20261124/200000/MIR/640/")
    await until(lambda: "gw/7" in pair.ems.service.book.emas)
    now = pair.ems.service.book.wall
    start = (now // 60 + 10) * 60
    first = await pair.ems.create_event(800, start, start + 600, ["gw/7"])
    second = await pair.ems.create_event(500, start, start + 900, ["gw/7"])

    def lines() -> set[bytes]:
        return set(ema.heard)

    line = pair.head.end.event
    await until(lambda: lines() == {line(start, start + 600, 800), line(start - 60, start + 900, 500)})
    await pair.ems.change_event(first.id, start=start + 120)
    await until(lambda: {line(start, start, 800), line(start + 120, start + 600, 800)} <= lines())
    assert second.modification == 0


async def test_a_restarted_ema_counts_the_modification_on(pair: Pair) -> None:
    upstream, site, outbox = pair.ema(1)
    await until(up(upstream))
    outbox.append(site_report(700))
    upstream.wake()
    number = await pair.event()
    await until(lambda: site.events)
    await pair.end(upstream)
    again, other, outbox = pair.ema(1)
    other.answered = dict(site.answered)  # its journal
    outbox.append(site_report(700))
    again.wake()
    await until(up(again))
    await pair.ems.change_event(number, value_w=300)
    await until(lambda: other.events and other.events[-1].limit_w == 300)
    assert [event.modification for event in other.events] == list(range(1, len(other.events) + 1))


async def test_a_vtn_registers_reports_and_goes(pair: Pair, peer: Callable[[str], Any]) -> None:
    vtn, clock = VtnEnd("VTN_1", "reg-1"), SystemClock()
    wire = await peer("127.0.0.80")
    wire.take = vtn.received
    known = pair.ems.service.vtns.known
    wire.say(vtn.report(3, 10.0, clock.monotonic()))
    await until(lambda: vtn.refused == 1, what="it is not registered")
    wire.say(vtn.register(3, clock.monotonic()))
    await until(lambda: vtn.registered)
    assert vtn.duration_ms == 100
    wire.say(vtn.report(3, 1234.5, clock.monotonic()))
    await until(lambda: known["VTN_1"].value_w == 1234.5)
    await until(lambda: vtn.wake is None)
    [shown] = status(pair.ems.service).vtns
    assert (shown.name, shown.vens, shown.value_w, shown.address[:10]) == ("VTN_1", 3, 1234.5, "127.0.0.80")
    wire.say(vtn.deregister(clock.monotonic()))
    await until(lambda: not vtn.registered)
    assert known == {}


async def test_a_restarted_ems_has_its_vtn_register_again(pair: Pair, peer: Callable[[str], Any]) -> None:
    vtn, clock = VtnEnd("VTN_1", "reg-1"), SystemClock()
    wire = await peer("127.0.0.80")
    wire.take = vtn.received
    wire.say(vtn.register(3, clock.monotonic()))
    await until(lambda: vtn.registered)
    await pair.restart_ems()
    wire.say(vtn.report(3, 10.0, clock.monotonic()))
    await until(lambda: vtn.refused == 1)
    assert not vtn.registered


async def test_an_ema_is_not_taken_away_from_its_session_nor_from_its_address(
    pair: Pair, peer: Callable[[str], Any]
) -> None:
    book = pair.ems.service.book
    forger = await peer("127.0.0.71")
    ema = pair.ems.service._ema("gw/3", "mqtt")
    assert ema is not None
    ema.connected = True
    for number in (3, 7):
        forger.say(f"EiUpdate/Implicit/20261124/200000/EMA{number}/640/-/-/EMA{number}".encode())
    forger.say(b"EiUpdate/Implicit/20261124/200000/MIR/640/")
    await until(lambda: pair.ems.service.refused == 3)
    assert (ema.protocol, list(book.emas)) == ("mqtt", ["gw/3"])
    assert [refusal.who for refusal in book.refusals.shown()] == ["udp 127.0.0.71"]


async def test_ten_thousand_hostile_datagrams_are_counted_and_forgotten(pair: Pair, peer: Callable[[str], Any]) -> None:
    vandal, rng = await peer("127.0.0.90"), random.Random(7)
    heads = (
        b"",
        b"{",
        b'{"msgType":"vtnReport","vtnID":',
        b"EiUpdate/",
        b"EiUpdate/Implicit/20261124/2000",
        b"[" * 900,
    )

    async def flood(count: int) -> None:
        before = pair.head.link()
        sent = 0
        while sent < count:
            for _ in range(50):  # what the socket's buffer holds
                vandal.say(rng.choice(heads) + rng.randbytes(rng.randrange(1, 2000)))
                sent += 1
            await until(lambda sent=sent: _counted(pair) - before.refused - before.oversized == sent)  # type: ignore[misc]

    await flood(1000)
    tracemalloc.start()
    try:
        start = tracemalloc.get_traced_memory()[0]
        await flood(10_000)
        grown = tracemalloc.get_traced_memory()[0] - start
    finally:
        tracemalloc.stop()
    assert grown < 200_000
    assert list(pair.ems.service.book.emas) == []
    assert len(pair.ems.service.book.refusals.shown()) == 1


def _counted(pair: Pair) -> int:
    link = pair.head.link()
    return int(link.refused + link.oversized)


async def test_strangers_are_not_heard(tmp_path: Path) -> None:
    pair = Pair(tmp_path, udp=True, udp_sources="127.0.0.3")
    await pair.start_ems()
    try:
        for host in ("127.0.0.2", "127.0.0.3"):
            one = await Peer().open(host, pair.port)
            one.say(f"EiUpdate/Implicit/20261124/200000/EMA{host[-1]}/640/-/-/EMA{host[-1]}".encode())
            one.transport.close()
        await until(lambda: "gw/3" in pair.ems.service.book.emas)
        await until(lambda: pair.head.link().refused == 1)
        assert list(pair.ems.service.book.emas) == ["gw/3"]
    finally:
        await pair.close()


@pytest.mark.skipif(not has_ipv6(), reason="no IPv6 on this machine")
async def test_over_ipv6(tmp_path: Path) -> None:
    pair = Pair(tmp_path, udp=True)
    pair.settings = replace(pair.settings, udp=f"[::1]:{pair.port}")
    pair.ems = pair._ems()
    await pair.start_ems()
    try:
        upstream, site, outbox = pair.ema(1, host="::1", bind="::1", local_port=0)
        outbox.append(site_report(700))
        await until(up(upstream))
        assert upstream.status()["address"] == f"[::1]:{pair.port}"
        await until(lambda: "gw/1" in pair.ems.service.book.emas)
        await pair.event()
        await until(lambda: site.events)
    finally:
        await pair.close()


async def test_what_cannot_leave_stays_in_the_outbox(pair: Pair, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "test")
    upstream, _, outbox = pair.ema(1, host="255.255.255.255")  # the kernel refuses to send there
    await until(up(upstream))
    outbox.append(site_report(700))
    upstream.wake()
    await until(lambda: "UDP 255.255.255.255" in caplog.text, what="it was tried")
    assert (outbox.waiting(), upstream.status()["unacknowledged"]) == (1, 0)


async def test_a_port_that_is_taken_is_named(pair: Pair) -> None:
    upstream, _, _ = pair.ema(1, bind="127.0.0.1")
    with pytest.raises(BaseException) as info:
        await pair.tasks.pop(upstream)
    errors = info.value.exceptions if isinstance(info.value, BaseExceptionGroup) else (info.value,)
    assert isinstance(errors[0], OperatorError)
    assert f"UDP 127.0.0.1:{pair.port}: Address already in use" in str(errors[0])


async def test_an_ema_hears_only_its_ems(pair: Pair) -> None:
    upstream, site, outbox = pair.ema(1, sources=("127.0.0.1",))
    await until(up(upstream))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.bind(("127.0.0.99", 0))
        stranger.sendto(b"20261124,2000,20991124,2000,0", ("127.0.0.2", pair.port))
    await until(lambda: upstream.status()["refused"] == 1)
    outbox.append(site_report(700))
    upstream.wake()
    await until(lambda: "gw/1" in pair.ems.service.book.emas)
    await pair.event(555)
    await until(lambda: site.events)
    assert [event.limit_w for event in site.events] == [555]


@pytest.mark.parametrize("text", ["1", "x=10.0.0.5", "1=", "1=house", "0=10.0.0.5", "1=10.0.0.5:x"])
def test_a_wrong_udp_emas_is_named(text: str) -> None:
    with pytest.raises(OperatorError, match=r"udp_emas|sources"):
        parse_emas(text)


def test_udp_emas() -> None:
    assert parse_emas("1=10.0.0.5, 2=10.0.0.6:9091 3=[fd00::1]:9 4=fd00::2") == {
        1: ("10.0.0.5", 0),
        2: ("10.0.0.6", 9091),
        3: ("fd00::1", 9),
        4: ("fd00::2", 0),
    }
