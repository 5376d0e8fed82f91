"""Who lends how much to one ask (docs/negotiation.md, "Who lends")."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Spare:
    """What a member could lend, at ``price`` a kWh or more."""

    lender: str
    mw: int
    price: int


def cheapest_first(
    need_mw: int, cap: int | None, spares: Sequence[Spare], going: int | None = None, smallest_mw: int = 1
) -> tuple[Spare, ...]:
    """Parts of ``need_mw`` in order of price, then the larger spare, then the name; together ``need_mw`` or less.

    Only those who ask no more than ``cap`` (None: any price). Each is paid what it asks; where a ``going`` price is
    given, that, and only those who ask no more take part. No spare below ``smallest_mw`` is used, unless it is all that
    is needed.
    """
    most = going if going is not None else cap
    if going is not None and cap is not None and going > cap:
        return ()
    willing = [s for s in spares if s.mw >= max(min(smallest_mw, need_mw), 1) and (most is None or s.price <= most)]
    parts: list[Spare] = []
    for spare in sorted(willing, key=lambda s: (s.price, -s.mw, s.lender)):
        if need_mw <= 0:
            break
        mw = min(spare.mw, need_mw)
        parts.append(Spare(spare.lender, mw, spare.price if going is None else going))
        need_mw -= mw
    return tuple(parts)


def equal_shares(
    need_mw: int, cap: int | None, spares: Sequence[Spare], others: int, going: int | None = None
) -> tuple[Spare, ...]:
    """The lab's rule (wire reference, 7): each of all ``others`` lends need ÷ (N − 1), or nobody lends anything.

    Shares are whole mW and differ by one at most, the first names bearing the more.
    """
    if need_mw <= 0 or others <= 0 or len(spares) < others or (going is not None and cap is not None and going > cap):
        return ()
    share, more = divmod(need_mw, others)
    parts = []
    for place, spare in enumerate(sorted(spares, key=lambda s: s.lender)):
        mw = share + (place < more)
        price = spare.price if going is None else going
        if spare.mw < mw or spare.price > price or (cap is not None and price > cap):
            return ()
        if mw > 0:
            parts.append(Spare(spare.lender, mw, price))
    return tuple(parts)
