"""The whole EMS and an EMA's whole session in profile emap1b over a real mosquitto (over CoAP: test_ems_coap.py)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from gateway.site.report import NoticeKind
from headend.ems.errors import Conflict
from tests.gateway.upstream.peers import notice, site_report
from tests.headend.pair import Pair, up
from tests.support.mosquitto import Mosquitto
from tests.support.wait import until

MODES = [1, 2, 3, 4]


@pytest_asyncio.fixture
async def pair(tmp_path: Path, mosquitto: Mosquitto) -> AsyncIterator[Pair]:
    made = Pair(tmp_path, "emap1b", mosquitto.port, report_s=0.3)
    await made.start_ems()
    yield made
    await made.close()


@pytest.mark.parametrize("explicit", [True, False])
@pytest.mark.parametrize("mode", MODES)
async def test_events_and_reports_in_every_mode(pair: Pair, mode: int, explicit: bool) -> None:
    upstream, site, outbox = pair.ema(mode, explicit=explicit)
    await until(up(upstream))
    for power in (700, 710, 720):
        outbox.append(site_report(power, 90))
    upstream.wake()
    await until(lambda: outbox.waiting() == 0)
    number = await pair.event()
    await until(lambda: pair.delivery(number).answered == 0)
    assert [(event.event_id, event.limit_w) for event in site.events] == [(number, 800)]
    await pair.ems.change_event(number, value_w=600)
    await until(lambda: pair.delivery(number).answered == 1)
    await pair.ems.cancel_event(number)
    await until(lambda: pair.delivery(number).answered == 2)
    assert [(event.modification, event.limit_w, event.cancelled) for event in site.events] == [
        (0, 800, False),
        (1, 600, False),
        (2, 600, True),
    ]
    ema = pair.ems.service.book.emas["gw/1"]
    assert (ema.threshold_w, ema.protocol, ema.duplicates, ema.ven_id) == (810, "mqtt emap1b", 0, "MIR_VEN1")
    assert ema.reports == 3 if mode != 3 else ema.reports >= 3  # in mode 3 it is asked for more
    devices = pair.ems.service.book.devices
    assert [device.watt for device in devices.values()] == ([720] if explicit else []) or mode == 3


async def test_a_device_comes_goes_and_asks_its_power_back(pair: Pair) -> None:
    upstream, _, outbox = pair.ema(1)
    await until(up(upstream))
    outbox.append(notice(NoticeKind.CONNECTED))
    outbox.append(notice(NoticeKind.CHANGED))
    outbox.append(site_report(100, 900))
    upstream.wake()
    await until(lambda: outbox.waiting() == 0)
    device = pair.ems.service.book.devices["gw/1", "dev/4"]
    assert device.connected
    await pair.ems.set_limit("gw/1", 1000)
    assert await upstream.ask_rdr(4, 50, 60) == (True, "OK")
    granted, why = await upstream.ask_rdr(4, 5000, 60)
    assert (granted, why[:6]) == (False, "Deny: ")
    outbox.append(notice(NoticeKind.DISCONNECTED))
    upstream.wake()
    await until(lambda: not device.connected)
    with pytest.raises(Conflict, match="has no message for it"):
        pair.ems.service.commands.send("gw/1", 4, "off", "test")


@pytest.mark.parametrize("mode", [1, 2])
async def test_an_ems_that_restarts_goes_on_with_its_emas_by_their_names(pair: Pair, mode: int) -> None:
    upstream, site, outbox = pair.ema(mode, ven_id="HOUSE-1")
    await until(up(upstream))
    await pair.end("ems")
    outbox.append(site_report(500))
    upstream.wake()  # said while nobody listens: the broker keeps nothing for an EMS that is away
    await pair.restart_ems()
    number = await pair.event()
    await until(lambda: outbox.waiting() == 0)
    await until(lambda: pair.delivery(number).answered == 0)
    assert [event.event_id for event in site.events] == [number]
    assert pair.ems.counts()["gw/1"].stored == 1


async def test_an_ema_that_restarts_gets_what_runs_and_repeats_no_number(pair: Pair) -> None:
    upstream, _, outbox = pair.ema(1)
    await until(up(upstream))
    outbox.append(site_report(500))
    upstream.wake()
    await until(lambda: outbox.waiting() == 0)
    await upstream.close()
    await pair.end(upstream)
    ema = pair.ems.service.book.emas["gw/1"]
    await until(lambda: not ema.connected)
    number = await pair.event()
    again, site, outbox = pair.ema(1)
    outbox.boot = 2
    outbox.append(site_report(510))
    again.wake()
    await until(lambda: site.events)
    await until(lambda: outbox.waiting() == 0)
    assert site.events[0].event_id == number
    assert (ema.reports, ema.duplicates) == (2, 0)


async def test_a_broadcast_is_one_message_each_and_both_profiles_share_a_broker(pair: Pair) -> None:
    emas = [pair.ema(1, number=number) for number in (1, 2)] + [pair.ema(1, number=3, profile="mir2017")]
    for upstream, _, _ in emas:
        await until(up(upstream))
    number = await pair.event()
    for _, site, _ in emas:
        await until(lambda site=site: site.events)  # type: ignore[misc]
    assert [len(site.events) for _, site, _ in emas] == [1, 1, 1]
    await until(lambda: all(pair.delivery(number, f"gw/{n}").answered == 0 for n in (1, 2, 3)))
    assert sorted(head.name for head in pair.ems.heads) == ["mqtt", "mqtt emap1b"]


async def test_without_a_name_the_ems_serves_the_other_profile_only(tmp_path: Path, mosquitto: Mosquitto) -> None:
    pair = Pair(tmp_path, "mir2017", mosquitto.port, ems_name="")
    await pair.start_ems()
    try:
        assert [head.name for head in pair.ems.heads] == ["mqtt"]
    finally:
        await pair.close()


async def test_prices_come_at_the_set_up_and_when_they_change(pair: Pair) -> None:
    await pair.ems.service.prices.set({"initial": 1000, "incentive": 300})
    upstream, site, _ = pair.ema(2)
    await until(up(upstream))
    await until(lambda: site.prices == {"Initial": 1000, "Incentive": 300})
    await pair.ems.service.prices.set({"incentive": None, "negotiation": 250})
    await until(lambda: site.prices == {"Initial": 1000, "Incentive": None, "Negotiation": 250})
    assert site.events == []
