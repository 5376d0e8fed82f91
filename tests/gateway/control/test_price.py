"""What power is worth, as a table that can be checked by hand (docs/price.md)."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.control.price import KWH, AtStake, Bid, Prices, Stance, ask, bid, cost, opt

LAMP = AtStake("lamp-1", 60_000, 100)
HEATER = AtStake("heater-1", 500_000, 300)


@pytest.mark.parametrize(
    ("incentive", "reduction_w", "loads", "opt_in", "why"),
    [
        (None, 60, (LAMP,), True, "no incentive is told, so there is nothing to weigh"),
        (0, 0, (HEATER,), True, "nothing needs to be shed"),
        (
            100,
            60,
            (LAMP,),
            True,
            "60 W for 3600 s at 100 pay 6.000, no less than what is lost, 6.000 (lamp-1 60 W at 100)",
        ),
        (99, 60, (LAMP,), False, "60 W for 3600 s at 99 pay 5.940, less than what is lost, 6.000 (lamp-1 60 W at 100)"),
        (0, 60, (AtStake("lamp-1", 60_000),), True, "60 W for 3600 s at 0 pay 0.000, no less than what is lost, 0.000"),
        (9999, 70, (LAMP,), False, "10 W of 70 W cannot be shed"),
        # lamp-1 first, then a part of the heater: 60 · 100 + 240 · 300 = 78,000; 300 · 260 = 78,000
        (260, 300, (LAMP, HEATER), True, "300 W for 3600 s at 260 pay 78.000, no less than what is lost, 78.000"),
        (259, 300, (LAMP, HEATER), False, "300 W for 3600 s at 259 pay 77.700, less than what is lost, 78.000"),
    ],
)
def test_opt(incentive: int | None, reduction_w: int, loads: tuple[AtStake, ...], opt_in: bool, why: str) -> None:
    chosen = opt(Prices(incentive=incentive), reduction_w * 1000, 3600, loads)
    assert chosen.opt_in is opt_in
    assert chosen.why.startswith(why)


@pytest.mark.parametrize(
    ("prices", "stance", "expected"),
    [
        (Prices(), Stance(), Bid(None, "no cap and no value are stated: it borrows at any price", at_any=True)),
        (Prices(), Stance(cap=250), Bid(250, "up to its cap, 250")),
        (Prices(), Stance(value=300), Bid(300, "up to the value of its load, 300")),
        (Prices(), Stance(value=300, cap=250), Bid(250, "up to its cap, 250")),
        (Prices(negotiation=250), Stance(cap=250), Bid(250, "up to its cap, 250")),
        (Prices(negotiation=251), Stance(cap=250), Bid(None, "the negotiation price of 251 is above its cap, 250")),
    ],
)
def test_bid(prices: Prices, stance: Stance, expected: Bid) -> None:
    assert bid(prices, stance) == expected


@pytest.mark.parametrize(
    ("prices", "stance", "expected"),
    [
        (Prices(), Stance(), Bid(0, "for nothing")),
        (Prices(initial=200), Stance(), Bid(200, "from the initial price, 200")),
        (Prices(initial=200), Stance(ask=150), Bid(150, "from its ask, 150")),
        (Prices(initial=200), Stance(ask=150, lends=False), Bid(None, "it is set not to lend")),
        (Prices(negotiation=150), Stance(ask=150), Bid(150, "from its ask, 150")),
        (Prices(negotiation=149), Stance(ask=150), Bid(None, "the negotiation price of 149 is below its ask, 150")),
    ],
)
def test_ask(prices: Prices, stance: Stance, expected: Bid) -> None:
    assert ask(prices, stance) == expected


def test_cost_is_in_whole_price_units() -> None:
    assert [cost(500_000, 1800, price) for price in (0, 1, 2, 200, 201)] == [0, 0, 1, 50, 50]
    assert cost(1_000_000, 3600, 250) == 250


@given(
    st.integers(0, 10**9),
    st.integers(1, 10**6),
    st.integers(0, 10**6),
    st.lists(st.builds(AtStake, st.just("x"), st.integers(0, 10**8), st.integers(0, 10**6))),
)
@settings(deadline=None, derandomize=True)
def test_who_opts_in_never_loses(reduction: int, seconds: int, incentive: int, loads: list[AtStake]) -> None:
    chosen = opt(Prices(incentive=incentive), reduction, seconds, loads)
    more = opt(Prices(incentive=incentive + 1), reduction, seconds, loads)
    assert not chosen.opt_in or chosen.pays >= chosen.costs
    assert not chosen.opt_in or more.opt_in  # a greater incentive never turns anybody away
    assert chosen.opt_in or chosen.pays < chosen.costs or sum(load.mw for load in loads) < reduction


def test_the_example_of_the_page_is_what_the_code_says() -> None:
    page = (Path(__file__).parents[3] / "docs" / "price.md").read_text(encoding="utf-8")
    prices = Prices(initial=200, incentive=260)
    loads = (LAMP, HEATER)
    said = [
        opt(prices, 300_000, 3600, loads).why,
        bid(prices, Stance(value=300)).why,
        ask(prices, Stance()).why,
        f"{cost(500_000, 1800, 200)} price units",
    ]
    assert [line for line in said if line not in re.sub(r"\s+", " ", page)] == []
    assert KWH == 1000 * 1000 * 3600
