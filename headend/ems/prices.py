"""What power costs, told to every EMA (budget messages, docs/price.md): kept in the database, said at each set-up
and when it changes."""

from __future__ import annotations

from gateway.links.mir2017.messages.budget import INCENTIVE, INITIAL, NEGOTIATION, Budget
from headend.ems.book import Book
from headend.ems.errors import Refused

# Their names in the API and the database, in the order of the wire.
SIGNALS = {"initial": INITIAL, "incentive": INCENTIVE, "negotiation": NEGOTIATION}
LARGEST_PRICE = 1_000_000_000


class PriceDesk:
    """Initial price, incentive and negotiation price, each in whole price units a kWh (None: not set)."""

    def __init__(self, book: Book) -> None:
        self._book = book
        self.prices: dict[str, int | None] = dict.fromkeys(SIGNALS)

    def load(self, meta: dict[str, str]) -> None:
        for name in SIGNALS:
            text = meta.get(f"price_{name}", "")
            self.prices[name] = int(text) if text.isdecimal() else None

    async def set(self, changes: dict[str, int | None]) -> None:
        """New prices, on disk, then told. Raise ``Refused``."""
        for name, price in changes.items():
            if name not in SIGNALS:
                raise Refused(name, f"is none of {', '.join(SIGNALS)}")
            if price is not None and not 0 <= price <= LARGEST_PRICE:
                raise Refused(name, f"{price} is not 0 to {LARGEST_PRICE}")
        for name, price in changes.items():
            await self._book.store.set_meta(f"price_{name}", "" if price is None else str(price))
            self.prices[name] = price
        for ema in self._book.emas.values():
            head = self._book.head(ema)
            if head is not None and head.prices:
                head.tell_prices(ema.name, self.budgets(ema.name, changes))
        self._book.changed("price", None, dict(self.prices))

    def budgets(self, name: str, only: dict[str, int | None] | None = None) -> tuple[Budget, ...]:
        """What that EMA is told: what is set, or what just changed."""
        ema = self._book.emas.get(name)
        current = threshold = None
        if ema is not None and ema.power_w is not None and ema.threshold_w is not None:
            current, threshold = round(ema.power_w), round(ema.threshold_w)
        return tuple(
            Budget(signal, self.prices[key], current_w=current, threshold_w=threshold)
            for key, signal in SIGNALS.items()
            if (only is None and self.prices[key] is not None) or (only is not None and key in only)
        )
