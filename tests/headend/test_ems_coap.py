"""The whole EMS and an EMA's whole session over CoAP, each in its own loop's part on an address of its own."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import socket
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from gateway.clock import SystemClock
from gateway.config.model import EmaConfig, ReportsConfig, UpstreamConfig
from gateway.errors import OperatorError
from gateway.site.report import NoticeKind
from gateway.transport.coap_shared import CoapHub
from gateway.upstream.carriers import Ways
from gateway.upstream.ems import EmsUpstream
from headend.ems.app import Ems
from headend.ems.settings import EmsSettings
from tests.gateway.upstream.peers import MemoryOutbox, SiteBelow, notice, site_report
from tests.support.mosquitto import free_port
from tests.support.wait import until


class Below(SiteBelow):
    """A site that takes thresholds."""

    def __init__(self) -> None:
        super().__init__()
        self.thresholds: list[float] = []

    def threshold(self, watts: float, upstream: str) -> None:
        self.thresholds.append(watts)


class Pair:
    """An EMS at 127.0.0.1 and EMAs at 127.0.0.2 and on."""

    def __init__(self, state: Path, **keys: object) -> None:
        self.port = free_port(socket.SOCK_DGRAM)
        self.settings = EmsSettings(
            broker="none",
            coap=f"127.0.0.1:{self.port}",
            state_dir=str(state),
            zone="UTC",
            duration_ms=100,
            resend_s=0.3,
            **keys,  # type: ignore[arg-type]
        )
        self.ems = self._ems()
        self.tasks: dict[object, asyncio.Task[None]] = {}
        self.hub = CoapHub()

    def _ems(self) -> Ems:
        return Ems(self.settings, SystemClock(), random.Random(1), http=False)

    async def start_ems(self) -> None:
        self.tasks["ems"] = asyncio.ensure_future(self.ems.run())
        await self.ems.ready()
        await until(lambda: self.ems.connected)

    async def restart_ems(self) -> None:
        await self.end("ems")
        self.ems = self._ems()
        await self.start_ems()

    def ema(self, mode: int, number: int = 1, **keys: object) -> tuple[EmsUpstream, Below, MemoryOutbox]:
        config = UpstreamConfig(
            host="127.0.0.1",
            port=self.port,
            protocol="coap",
            mode=mode,
            timezone="UTC",
            bind=f"127.0.0.{number + 1}",
            local_port=self.port,
            **keys,  # type: ignore[arg-type]
        )
        site, outbox, clock, rng = Below(), MemoryOutbox(), SystemClock(), random.Random(number)
        upstream = EmsUpstream(
            config,
            EmaConfig(number=number),
            ReportsConfig(),
            site,
            outbox,
            clock,
            rng,
            ways=Ways(clock, rng, logging.getLogger("test"), hub=self.hub),
        )
        self.tasks[upstream] = asyncio.ensure_future(upstream.run())
        return upstream, site, outbox

    async def end(self, part: object) -> None:
        task = self.tasks.pop(part)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    async def event(self, value: float = 800, targets: object = "all") -> int:
        now = time.time()
        return (await self.ems.create_event(value, now, now + 600, targets)).id  # type: ignore[arg-type]


@pytest_asyncio.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    made = Pair(tmp_path)
    await made.start_ems()
    yield made
    for part in list(made.tasks):
        await made.end(part)


def up(upstream: EmsUpstream) -> Callable[[], bool]:
    return lambda: upstream.status()["state"] == "up"


@pytest.mark.parametrize("confirmable", [True, False])
@pytest.mark.parametrize("mode", [0, 1, 2])
async def test_events_and_reports_in_every_mode(pair: Pair, mode: int, confirmable: bool) -> None:
    upstream, site, outbox = pair.ema(mode, confirmable=confirmable)
    await until(up(upstream))
    if mode == 2:
        await until(lambda: pair.ems.heads[0]._observers)  # type: ignore[union-attr]
    for power in (700, 710, 720):
        outbox.append(site_report(power, 90))
    outbox.append(notice(NoticeKind.CONNECTED))
    upstream.wake()
    await until(lambda: outbox.waiting() == 0)
    number = await pair.event()
    await until(lambda: site.events)
    assert (site.events[0].event_id, site.events[0].limit_w) == (number, 800)
    event = pair.ems.service.book.events[number]
    await until(lambda: event.deliveries["gw/1"].answered == 0)
    ema = pair.ems.service.book.emas["gw/1"]
    assert (ema.power_w, ema.reports, ema.duplicates, ema.protocol) == (720, 3, 0, "coap")
    assert ("gw/1", "dev/4") in pair.ems.service.book.devices
    assert len(site.events) == 1


async def test_in_mode_none_no_event_is_taken(pair: Pair) -> None:
    upstream, site, outbox = pair.ema(3)
    await until(up(upstream))
    await pair.event()
    outbox.append(site_report(700))
    upstream.wake()
    await until(lambda: outbox.waiting() == 0)
    await until(lambda: pair.ems.service.refused)
    assert site.events == []


async def test_a_device_is_switched_and_dimmed_and_asks_its_power_back(pair: Pair) -> None:
    upstream, site, outbox = pair.ema(0)
    await until(up(upstream))
    outbox.append(notice(NoticeKind.CONNECTED))
    outbox.append(site_report(100, 900))
    upstream.wake()
    await until(lambda: outbox.waiting() == 0)
    head = pair.ems.heads[0]
    head.control("gw/1", 4, True)
    head.dim("gw/1", 4, False)
    await until(lambda: site.settings and site.steps)
    assert (site.settings[0][0], site.settings[0][1].on, site.steps) == (4, True, [(4, -1)])
    await pair.ems.set_limit("gw/1", 1000)
    assert await upstream.ask_rdr(4, 50, 60) == (True, "OK")
    granted, why = await upstream.ask_rdr(4, 5000, 60)
    assert not granted
    assert why.startswith("Deny: ")


@pytest.mark.parametrize("mode", [0, 1, 2])
async def test_an_ems_that_restarts_goes_on_with_its_emas(pair: Pair, mode: int) -> None:
    upstream, site, outbox = pair.ema(mode)
    await until(up(upstream))
    await pair.end("ems")
    outbox.append(site_report(500))
    upstream.wake()
    pair.ems = pair._ems()
    await pair.start_ems()
    number = await pair.event()
    await until(lambda: outbox.waiting() == 0)
    await until(lambda: site.events)
    event = pair.ems.service.book.events[number]
    await until(lambda: event.deliveries["gw/1"].answered == 0)
    assert [e.event_id for e in site.events] == [number]
    assert pair.ems.counts()["gw/1"].stored == 1


async def test_an_ema_that_restarts_is_served_again(pair: Pair) -> None:
    upstream, _, _ = pair.ema(2)
    await until(up(upstream))
    await pair.end(upstream)
    number = await pair.event()
    again, site, _ = pair.ema(2)
    await until(up(again))
    await until(lambda: site.events)
    assert site.events[0].event_id == number


async def test_a_clean_end_is_known_at_once(pair: Pair) -> None:
    upstream, _, _ = pair.ema(1)
    await until(up(upstream))
    ema = pair.ems.service.book.emas["gw/1"]
    assert ema.connected
    await upstream.close()
    await until(lambda: not ema.connected)


async def test_many_emas_each_at_its_own_address(pair: Pair) -> None:
    emas = [pair.ema(mode=number % 3, number=number) for number in range(1, 10)]
    for upstream, _, _ in emas:
        await until(up(upstream))
    await pair.event()
    for _, site, _ in emas:
        await until(lambda site=site: site.events)  # type: ignore[misc]
    assert all(len(site.events) == 1 for _, site, _ in emas)


async def test_a_report_larger_than_a_datagram_goes_in_blocks(pair: Pair) -> None:
    upstream, _, outbox = pair.ema(0)
    await until(up(upstream))
    report = site_report(700)
    lamp = report.devices[0]
    outbox.append(replace(report, devices=tuple(replace(lamp, number=n) for n in range(1, 201))))
    upstream.wake()
    await until(lambda: outbox.waiting() == 0)
    await until(lambda: len(pair.ems.service.book.devices) == 200)


async def test_two_emas_on_one_port_are_told_apart(pair: Pair) -> None:
    first, _, _ = pair.ema(0)
    await until(up(first))
    second, _, _ = pair.ema(0)
    with pytest.raises(BaseException) as info:
        await pair.tasks.pop(second)
    errors = info.value.exceptions if isinstance(info.value, BaseExceptionGroup) else (info.value,)
    assert isinstance(errors[0], OperatorError)
    assert "two parts serve" in str(errors[0])


async def test_the_lists_of_sources_keep_strangers_out(tmp_path: Path) -> None:
    pair = Pair(tmp_path, coap_sources="127.0.0.3")
    await pair.start_ems()
    stranger, _, _ = pair.ema(1)
    known, _, _ = pair.ema(1, number=2)
    try:
        await until(up(known))
        assert stranger.status()["state"] == "setting up"
        assert list(pair.ems.service.book.emas) == ["gw/2"]
    finally:
        for part in list(pair.tasks):
            await pair.end(part)
