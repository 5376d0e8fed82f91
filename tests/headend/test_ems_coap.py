"""The whole EMS and an EMA's whole session over CoAP, each in its own loop's part on an address of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from gateway.errors import OperatorError
from gateway.site.report import NoticeKind
from tests.gateway.upstream.peers import notice, site_report
from tests.headend.pair import Pair, up
from tests.support.wait import until


@pytest_asyncio.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    made = Pair(tmp_path)
    await made.start_ems()
    yield made
    await made.close()


@pytest_asyncio.fixture(params=["mir2017", "emap1b"])
async def either(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Pair]:
    """The same in both profiles."""
    made = Pair(tmp_path, request.param)
    await made.start_ems()
    yield made
    await made.close()


@pytest.mark.parametrize("confirmable", [True, False])
@pytest.mark.parametrize("mode", [0, 1, 2])
async def test_events_and_reports_in_every_mode(either: Pair, mode: int, confirmable: bool) -> None:
    upstream, site, outbox = either.ema(mode, confirmable=confirmable)
    await until(up(upstream))
    if mode == 2:
        await until(lambda: either.head.emas.observers)
    for power in (700, 710, 720):
        outbox.append(site_report(power, 90))
    outbox.append(notice(NoticeKind.CONNECTED))
    upstream.wake()
    await until(lambda: outbox.waiting() == 0)
    number = await either.event()
    await until(lambda: site.events)
    assert (site.events[0].event_id, site.events[0].limit_w) == (number, 800)
    event = either.ems.service.book.events[number]
    await until(lambda: event.deliveries["gw/1"].answered == 0)
    ema = either.ems.service.book.emas["gw/1"]
    assert (ema.power_w, ema.reports, ema.duplicates, ema.protocol) == (720, 3, 0, either.name)
    assert ("gw/1", "dev/4") in either.ems.service.book.devices
    assert len(site.events) == 1


async def test_in_mode_none_no_event_is_taken(either: Pair) -> None:
    upstream, site, outbox = either.ema(3)
    await until(up(upstream))
    await either.event()
    outbox.append(site_report(700))
    upstream.wake()
    await until(lambda: outbox.waiting() == 0)
    await until(lambda: either.ems.service.refused)
    assert site.events == []


async def test_a_device_is_switched_and_dimmed(pair: Pair) -> None:
    upstream, site, outbox = pair.ema(0)
    await until(up(upstream))
    outbox.append(notice(NoticeKind.CONNECTED))
    outbox.append(site_report(100, 900))
    upstream.wake()
    await until(lambda: outbox.waiting() == 0)
    head = pair.head
    head.control("gw/1", 4, True)
    head.dim("gw/1", 4, False)
    await until(lambda: site.settings and site.steps)
    assert (site.settings[0][0], site.settings[0][1].on, site.steps) == (4, True, [(4, -1)])


async def test_a_device_asks_its_power_back(either: Pair) -> None:
    upstream, _, outbox = either.ema(0)
    await until(up(upstream))
    outbox.append(site_report(100, 900))
    upstream.wake()
    await until(lambda: outbox.waiting() == 0)
    await either.ems.set_limit("gw/1", 1000)
    assert await upstream.ask_rdr(4, 50, 60) == (True, "OK")
    granted, why = await upstream.ask_rdr(4, 5000, 60)
    assert not granted
    assert why.startswith("Deny: ")


@pytest.mark.parametrize("mode", [0, 1, 2])
async def test_an_ems_that_restarts_goes_on_with_its_emas(either: Pair, mode: int) -> None:
    upstream, site, outbox = either.ema(mode)
    await until(up(upstream))
    await either.end("ems")
    outbox.append(site_report(500))
    upstream.wake()
    either.ems = either._ems()
    await either.start_ems()
    number = await either.event()
    await until(lambda: outbox.waiting() == 0)
    await until(lambda: site.events)
    event = either.ems.service.book.events[number]
    await until(lambda: event.deliveries["gw/1"].answered == 0)
    assert [e.event_id for e in site.events] == [number]
    assert either.ems.counts()["gw/1"].stored == 1


async def test_an_ema_that_restarts_is_served_again(either: Pair) -> None:
    upstream, _, _ = either.ema(2)
    await until(up(upstream))
    await either.end(upstream)
    number = await either.event()
    again, site, _ = either.ema(2)
    await until(up(again))
    await until(lambda: site.events)
    assert site.events[0].event_id == number


async def test_both_profiles_side_by_side_at_one_address(pair: Pair) -> None:
    old, site_of_old, _ = pair.ema(0)
    new, site_of_new, _ = pair.ema(2, number=2, profile="emap1b", ven_id="HOUSE-2")
    await until(up(old))
    await until(up(new))
    number = await pair.event()
    for site in (site_of_old, site_of_new):
        await until(lambda site=site: site.events)  # type: ignore[misc]
    for ema in ("gw/1", "gw/2"):
        await until(lambda ema=ema: pair.delivery(number, ema).answered == 0)  # type: ignore[misc]
    assert {ema.name: ema.protocol for ema in pair.ems.service.book.emas.values()} == {
        "gw/1": "coap",
        "gw/2": "coap emap1b",
    }


async def test_a_clean_end_is_known_at_once(either: Pair) -> None:
    upstream, _, _ = either.ema(1)
    await until(up(upstream))
    ema = either.ems.service.book.emas["gw/1"]
    assert ema.connected
    await upstream.close()
    await until(lambda: not ema.connected)


@pytest.mark.parametrize("mode", [0, 1, 2])
async def test_prices_reach_an_ema_at_its_set_up_and_when_they_change(either: Pair, mode: int) -> None:
    await either.ems.service.prices.set({"initial": 1000, "incentive": 300})
    upstream, site, _ = either.ema(mode)
    await until(up(upstream))
    await until(lambda: dict(site.prices) == {"Initial": 1000, "Incentive": 300})
    await either.ems.service.prices.set({"incentive": None, "negotiation": 250})
    await until(lambda: dict(site.prices) == {"Initial": 1000, "Incentive": None, "Negotiation": 250})
    assert site.events == []


async def test_many_emas_each_at_its_own_address(either: Pair) -> None:
    emas = [either.ema(mode=number % 3, number=number) for number in range(1, 10)]
    for upstream, _, _ in emas:
        await until(up(upstream))
    await either.event()
    for _, site, _ in emas:
        await until(lambda site=site: site.events)  # type: ignore[misc]
    assert all(len(site.events) == 1 for _, site, _ in emas)


async def test_a_report_larger_than_a_datagram_goes_in_blocks(either: Pair) -> None:
    upstream, _, outbox = either.ema(0)
    await until(up(upstream))
    report = site_report(700)
    lamp = report.devices[0]
    outbox.append(replace(report, devices=tuple(replace(lamp, number=n) for n in range(1, 201))))
    upstream.wake()
    await until(lambda: outbox.waiting() == 0)
    await until(lambda: len(either.ems.service.book.devices) == 200)


async def test_reports_in_blocks_go_one_after_another(either: Pair) -> None:
    """Blocks of two at once would be put together as one report, and the other be acknowledged all the same."""
    upstream, _, outbox = either.ema(0)
    await until(up(upstream))
    lamp = site_report(700).devices[0]
    for power in range(700, 730):
        devices = tuple(replace(lamp, number=n, power_w=power) for n in range(1, 31))
        outbox.append(replace(site_report(power), devices=devices))
    upstream.wake()
    await until(lambda: outbox.waiting() == 0)
    ema = either.ems.service.book.emas["gw/1"]
    assert (ema.reports, ema.duplicates, ema.power_w) == (30, 0, 729)


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
