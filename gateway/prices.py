"""What upper sides said of prices, and what the operator states (docs/price.md). Kept in the journal.

The rule itself is imported when a price is there or asked for: most sites have none.
"""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.config.model import NegotiationConfig
    from gateway.control.price import Prices, Stance
    from gateway.upstream.base import Notes

log = logging.getLogger("smartema.price")

_KEY = "prices"
# How budget messages call them → what they are here.
SIGNALS = {"initial": "initial", "incentive": "incentive", "negotiation": "negotiation"}


class PriceBook:
    """Prices by upper side; the newest word of each holds, restarts included."""

    def __init__(self, notes: Notes) -> None:
        self._notes = notes
        self._told: dict[str, Prices] = {}
        self.units: dict[str, str] = {}
        for upstream, said in json.loads(notes.value(_KEY) or "{}").items():
            self.units[upstream] = said.pop("unit", "")
            self._told[upstream] = _prices(**said)

    def told(self, upstream: str, signal: str, price: float | None, unit: str) -> bool:
        """A budget message; False where nothing changed, or it is none of the three."""
        name = SIGNALS.get(signal.lower())
        if name is None:
            return False
        before = self.of(upstream)
        now = replace(before, **{name: None if price is None else round(price)})
        self.units[upstream] = unit
        if now == before:
            return False
        self._told[upstream] = now
        self._save()
        log.info("%s price of %s: %s", name, upstream, "none" if price is None else f"{price:g} a {unit or 'kWh'}")
        return True

    def of(self, upstream: str) -> Prices:
        """What that upper side said."""
        return self._told.get(upstream) or _prices()

    def shown(self) -> list[dict[str, object]]:
        """For status and menu: one entry an upper side that said any."""
        return [
            {"upstream": name, **asdict(prices), "unit": self.units.get(name, "")}
            for name, prices in self._told.items()
            if prices != _prices()
        ]

    def _save(self) -> None:
        said = {name: {**asdict(prices), "unit": self.units.get(name, "")} for name, prices in self._told.items()}
        self._notes.save_value(_KEY, json.dumps(said))


def _prices(**said: int | None) -> Prices:
    from gateway.control.price import Prices

    return Prices(**said)


def stance_of(config: NegotiationConfig) -> Stance:
    """What the operator states; −1 in the configuration is not stated."""
    from gateway.control.price import Stance

    value, cap, ask = (None if number < 0 else number for number in (config.value, config.cap, config.ask))
    return Stance(value, cap, ask, config.enabled and config.lend)
