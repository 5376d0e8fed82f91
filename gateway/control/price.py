"""What power is worth to an EMA: whether it opts in to an event, what it bids, from where on it lends (docs/price.md).

A price is a whole number of price units a kWh; which unit (a thousandth of a euro, a won) is the operator's and the
headend's to agree on. Amounts are compared exactly, as mW · s · price, and shown in price units.
"""

from __future__ import annotations

from collections.abc import Sequence

from gateway.record import slim

# mW · s in a kWh.
KWH = 3_600_000_000


@slim(frozen=True, slots=True)
class Prices:
    """What the budget messages said (wire reference, 7); None: not said. All a kWh.

    ``initial``: what consumption costs. ``incentive``: what is paid for not consuming in an event. ``negotiation``:
    what a loan between EMAs costs.
    """

    initial: int | None = None
    incentive: int | None = None
    negotiation: int | None = None


@slim(frozen=True, slots=True)
class Stance:
    """What the operator states, a kWh. ``value``: of the load, beyond what its energy costs (None: not stated).

    ``cap``: it pays no more for a loan (None: ``value``). ``ask``: it lends from there on (None: the initial price).
    """

    value: int | None = None
    cap: int | None = None
    ask: int | None = None
    lends: bool = True


@slim(frozen=True, slots=True)
class AtStake:
    """A load that an event would shed: up to ``mw``, of that ``value`` a kWh (None: not stated, shed for nothing)."""

    name: str
    mw: int
    value: int | None = None


@slim(frozen=True, slots=True)
class Opt:
    """Does it opt in. ``pays`` and ``costs`` in mW · s · price."""

    opt_in: bool
    pays: int
    costs: int
    why: str


@slim(frozen=True, slots=True)
class Bid:
    """The price of a bid or an ask; None: it does not take part (but a bid ``at_any``: whatever the price)."""

    price: int | None
    why: str
    at_any: bool = False


def opt(prices: Prices, reduction_mw: int, seconds: int, loads: Sequence[AtStake]) -> Opt:
    """Opt in if reduction × incentive is no less than the value of what would be shed, in the order of ``loads``.

    Without an incentive there is nothing to weigh: it opts in. So it does where nothing needs to be shed.
    """
    if reduction_mw <= 0:
        return Opt(True, 0, 0, "nothing needs to be shed")
    if prices.incentive is None:
        return Opt(True, 0, 0, "no incentive is told, so there is nothing to weigh")
    pays, costs, left, lost = 0, 0, reduction_mw, []
    for load in loads:
        mw = min(load.mw, left)
        if mw > 0:
            left -= mw
            costs += mw * seconds * (load.value or 0)
            lost.append(f"{load.name} {_watts(mw)} at {load.value or 0}")
    pays = (reduction_mw - left) * seconds * prices.incentive
    sums = f"{_watts(reduction_mw - left)} for {seconds} s at {prices.incentive} pay {_money(pays)}"
    if left > 0:
        return Opt(False, pays, costs, f"{_watts(left)} of {_watts(reduction_mw)} cannot be shed")
    named = ", ".join(lost)
    if pays >= costs:
        return Opt(True, pays, costs, f"{sums}, no less than what is lost, {_money(costs)} ({named})")
    return Opt(False, pays, costs, f"{sums}, less than what is lost, {_money(costs)} ({named})")


def bid(prices: Prices, stance: Stance) -> Bid:
    """The most it pays for a loan."""
    cap, said = (stance.cap, "its cap") if stance.cap is not None else (stance.value, "the value of its load")
    if cap is None:
        return Bid(None, "no cap and no value are stated: it borrows at any price", at_any=True)
    going = prices.negotiation
    if going is not None and going > cap:
        return Bid(None, f"the negotiation price of {going} is above {said}, {cap}")
    return Bid(cap, f"up to {said}, {cap}")


def ask(prices: Prices, stance: Stance) -> Bid:
    """The least it lends for."""
    if not stance.lends:
        return Bid(None, "it is set not to lend")
    if stance.ask is not None:
        least, said = stance.ask, "its ask"
    else:
        least, said = prices.initial or 0, "the initial price" if prices.initial is not None else "nothing"
    going = prices.negotiation
    if going is not None and going < least:
        return Bid(None, f"the negotiation price of {going} is below {said}, {least}")
    return Bid(least, f"from {said}, {least}" if least else "for nothing")


def cost(mw: int, seconds: int, price: int) -> int:
    """What a loan or a reduction costs, in whole price units, rounded half up."""
    return (2 * mw * seconds * price + KWH) // (2 * KWH)


def _money(amount: int) -> str:
    """In price units with three places, cut off."""
    thousandths = amount * 1000 // KWH
    return f"{thousandths // 1000}.{thousandths % 1000:03d}"


def _watts(mw: int) -> str:
    return f"{mw // 1000} W" if mw % 1000 == 0 else f"{mw / 1000:.3f} W"
