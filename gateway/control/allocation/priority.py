"""Priority: who has the greater number is served first, within one number everybody gets the same."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.control.allocation.base import Party, Share, add, check, fill, floors, rest_to_all, satisfied


def priority(total_mw: int, parties: Sequence[Party]) -> tuple[Share, ...]:
    """Floors, then the demands from the greatest priority down, then the rest to all."""
    check(total_mw, parties)
    limits = floors(total_mw, parties)
    for number in sorted({party.priority for party in parties}, reverse=True):
        chosen = [party.priority == number for party in parties]
        rooms = [p.wants_mw - limit if c else 0 for p, limit, c in zip(parties, limits, chosen, strict=True)]
        limits = add(limits, fill(total_mw - sum(limits), rooms, [1] * len(parties)))
    limits = rest_to_all(total_mw, limits, parties)
    return tuple(
        Share(party.name, limit, f"priority {party.priority}: {satisfied(party, limit)}")
        for party, limit in zip(parties, limits, strict=True)
    )
