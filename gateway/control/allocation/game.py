"""Game theory: the Nash bargaining solution."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.control.allocation.base import Party, Share, add, check, fill, floors, rest_to_all, satisfied, watts


def nash_bargaining(total_mw: int, parties: Sequence[Party]) -> tuple[Share, ...]:
    """The limits that make the product of (limit − floor) ^ weight greatest, no limit above its demand.

    Without an agreement each has its floor. The greatest product has gains in proportion to the weights, for all who
    are not satisfied: water in vessels, which needs no search and no fractions.
    """
    check(total_mw, parties)
    least = floors(total_mw, parties)
    rooms = [party.wants_mw - limit for party, limit in zip(parties, least, strict=True)]
    limits = add(least, fill(total_mw - sum(least), rooms, [party.weight for party in parties]))
    limits = rest_to_all(total_mw, limits, parties)
    return tuple(
        Share(party.name, limit, f"gains {watts(limit - floor)} over its floor: {satisfied(party, limit)}")
        for party, limit, floor in zip(parties, limits, least, strict=True)
    )
