"""What a site makes of prices: opts by the sum of docs/price.md, and keeps what it was told."""

from __future__ import annotations

import pytest

from gateway.config.model import Config, DeviceConfig, NegotiationConfig
from gateway.prices import PriceBook, stance_of
from tests.support.site import Site, replace


def priced(site: Site, value: int) -> None:
    """The example of docs/price.md: a lamp of 60 W worth 100, a load of 500 W worth 300."""
    devices = (DeviceConfig(number=1, value=100), DeviceConfig(number=2))
    config: Config = replace(site.config, device=devices, negotiation=NegotiationConfig(value=value))
    site.engine.reconfigure(config)


@pytest.mark.parametrize(
    ("incentive", "opt_in", "why"),
    [
        (268, True, "560 W for 3600 s at 268 pay 150.080, no less than what is lost, 150.000"),
        (267, False, "560 W for 3600 s at 267 pay 149.520, less than what is lost, 150.000"),
        (None, True, "no incentive is told"),
    ],
)
async def test_it_opts_in_where_the_incentive_pays(make, incentive: int | None, opt_in: bool, why: str) -> None:
    site = make(60.0, 500.0, opt="price")
    priced(site, 288)
    site.engine.priced("ems", "Incentive", incentive, "KW")
    # Both lamps go: 0.06 kWh at 100 and 0.5 kWh at 288 are lost.
    now = site.clock.now().wall
    event = replace(site.event(0.0), start=now, end=now + 3600)
    assert await site.engine.take_event(event) is opt_in
    said = next(d for d in reversed(site.decisions) if d.startswith("opt:"))
    assert why in said
    await site.turn(2)
    assert site.power_w == (0 if opt_in else 560)


async def test_it_opts_out_of_what_it_cannot_hold(make) -> None:
    site = make(60.0, 60.0, opt="price")
    devices = (DeviceConfig(number=1), DeviceConfig(number=2))
    site.engine.reconfigure(replace(site.config, device=devices))
    site.engine.appeared(site.field, replace(site.field.lamps[2].resource, never_shed=True))
    site.field.report(2)
    site.engine.priced("ems", "Incentive", 1000, "KW")
    assert not await site.engine.take_event(site.event(30.0))
    assert "30 W of 90 W cannot be shed" in next(d for d in reversed(site.decisions) if d.startswith("opt:"))


async def test_prices_outlive_a_kill(make) -> None:
    site = make(60.0)
    site.engine.priced("ems", "Initial", 200.0, "KW")
    site.engine.priced("ems", "Negotiation", 250.0, "KW")
    site.engine.priced("ems", "Nonsense", 9.0, "KW")
    await site.engine.journal.durable()
    await site.restart()
    told = {"upstream": "ems", "initial": 200, "incentive": None, "negotiation": 250, "unit": "KW"}
    assert site.engine.prices.shown() == [told]
    site.engine.priced("ems", "Negotiation", None, "KW")
    assert PriceBook(site.engine.journal).of("ems").negotiation is None


def test_what_is_not_stated_is_none() -> None:
    assert stance_of(NegotiationConfig()).ask is None
    stated = stance_of(NegotiationConfig(enabled=True, ask=0, cap=7, value=5))
    assert (stated.ask, stated.cap, stated.value, stated.lends) == (0, 7, 5, True)
