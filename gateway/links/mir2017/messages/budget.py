"""Budget messages (wire reference, section 7): what power costs, and what is paid for not using it.

In the answer to RequestEvent (the lab's place for the initial price), and by themselves when a price changes (ours).
"""

from __future__ import annotations

from collections.abc import Sequence

from gateway.links.mir2017.messages.fields import LARGEST_NUMBER, Fields, read_json, write_json
from gateway.record import record

INITIAL, INCENTIVE, NEGOTIATION = "Initial", "Incentive", "Negotiation"
SIGNALS = (INITIAL, INCENTIVE, NEGOTIATION)
UNIT = "KW"
MOST_SIGNALS = 16
SERVICE = "oadrDistributeBudget"


@record
class Budget:
    """One price, in whole price units a ``unit`` (None: it is none any more), and in W what the EMS knows of the EMA
    (None: not said)."""

    signal: str
    price: int | None
    unit: str = UNIT
    current_w: int | None = None
    threshold_w: int | None = None

    @property
    def capacity_w(self) -> int | None:
        """What is left: threshold − current value."""
        known = self.threshold_w is not None and self.current_w is not None
        return self.threshold_w - self.current_w if known else None  # type: ignore[operator]


def budget_keys(budgets: Sequence[Budget]) -> dict[str, object]:
    """The two lists, entry by entry; none: no keys."""
    if not budgets:
        return {}
    events: list[dict[str, object]] = []
    for budget in budgets:
        event: dict[str, object] = {"signalName": budget.signal}
        said = {"currentValue": budget.current_w, "threshold": budget.threshold_w, "capacity": budget.capacity_w}
        events.append(event | {key: value for key, value in said.items() if value is not None})
    prices = [{"price": budget.price, "unit": budget.unit} for budget in budgets]
    return {"EMADREventInformation": events, "EMADRPriceInformation": prices}


def read_budgets(f: Fields) -> tuple[Budget, ...]:
    """What stands in an answer; a price without a signal of its own is the last one's. Raise ``PeerError``."""
    if not f.given("EMADRPriceInformation"):
        return ()
    prices = f.objects("EMADRPriceInformation", MOST_SIGNALS)
    events = f.objects("EMADREventInformation", MOST_SIGNALS) if f.given("EMADREventInformation") else []
    found = []
    for index, price in enumerate(prices):
        event = events[min(index, len(events) - 1)] if events else None
        signal = event.text_or("signalName", INITIAL) if event is not None else INITIAL
        if signal not in SIGNALS:
            continue
        found.append(
            Budget(
                signal,
                price.whole_or("price", None, 0, LARGEST_NUMBER),
                price.text_or("unit", UNIT),
                event.watts_or_none("currentValue") if event is not None else None,
                event.watts_or_none("threshold") if event is not None else None,
            )
        )
    return tuple(found)


@record
class BudgetMessage:
    """Prices that changed (ours): ``gw/<n>/oadr/Budget`` over MQTT, ``budget`` over CoAP."""

    ven_id: str
    budgets: tuple[Budget, ...]

    def encode(self) -> bytes:
        return write_json({"Service": SERVICE, "VENID": self.ven_id, "Response": 200, **budget_keys(self.budgets)})

    @classmethod
    def decode(cls, body: bytes) -> BudgetMessage:
        """Raise ``PeerError``."""
        f = read_json(body, cls.__name__)
        return cls(f.text_or("VENID", ""), read_budgets(f))
