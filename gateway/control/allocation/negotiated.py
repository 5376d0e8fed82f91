"""Negotiation: one after the other asks, and borrows from the cheapest (docs/negotiation.md, "Who lends")."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.control.allocation.base import Party, Share, check, entitled
from gateway.control.allocation.matching import borrowers, told
from gateway.control.negotiation.matching import Spare, cheapest_first


def negotiation(total_mw: int, parties: Sequence[Party]) -> tuple[Share, ...]:
    """What the ledger would come to, did all ask at once and take parts: the highest cap asks first.

    Cheap surplus goes to whoever asks first, though it would have paid more; so less may be moved than by matching.
    """
    check(total_mw, parties)
    limits = entitled(total_mw, parties)
    place = {party.name: n for n, party in enumerate(parties)}
    spare = {p.name: limits[n] - p.wants_mw for n, p in enumerate(parties) if limits[n] > p.wants_mw}
    gave, got = [0] * len(parties), [0] * len(parties)
    for n in borrowers(parties, limits):
        spares = [Spare(name, mw, parties[place[name]].ask) for name, mw in spare.items() if mw > 0]
        for part in cheapest_first(parties[n].wants_mw - limits[n], parties[n].cap, spares):
            spare[part.lender] -= part.mw
            gave[place[part.lender]] += part.mw
            got[n] += part.mw
    return told(parties, limits, gave, got)
