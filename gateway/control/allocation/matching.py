"""Maximal matching: as much surplus as at all possible goes to a deficit."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.control.allocation.base import Party, Share, check, entitled, satisfied, watts


def maximal_matching(total_mw: int, parties: Sequence[Party]) -> tuple[Share, ...]:
    """From everybody's own part, surplus goes to deficits wherever the ask is no more than the cap.

    Who pays most chooses first, and takes from the dearest it accepts: what others accept too is left to them. Since
    who accepts a price accepts every lower one, no other matching moves more. What nobody takes stays where it is.
    """
    check(total_mw, parties)
    limits = entitled(total_mw, parties)
    spare = {n: limits[n] - p.wants_mw for n, p in enumerate(parties) if limits[n] > p.wants_mw}
    gave, got = [0] * len(parties), [0] * len(parties)
    for n in borrowers(parties, limits):
        cap = parties[n].cap
        lack = parties[n].wants_mw - limits[n]
        accepted = [m for m in spare if cap is None or parties[m].ask <= cap]
        for m in sorted(accepted, key=lambda m: (-parties[m].ask, -spare[m], m)):
            mw = min(lack - got[n], spare[m])
            spare[m] -= mw
            gave[m] += mw
            got[n] += mw
    return told(parties, limits, gave, got)


def borrowers(parties: Sequence[Party], limits: Sequence[int]) -> list[int]:
    """Who lacks something: the highest cap first, then the greater lack, then the order given."""
    lacks = {n: p.wants_mw - limits[n] for n, p in enumerate(parties) if p.wants_mw > limits[n]}

    def eagerness(n: int) -> tuple[bool, int, int, int]:
        cap = parties[n].cap
        return cap is not None, -(cap or 0), -lacks[n], n

    return sorted(lacks, key=eagerness)


def told(parties: Sequence[Party], limits: Sequence[int], gave: Sequence[int], got: Sequence[int]) -> tuple[Share, ...]:
    """What came of it, with the reasons."""
    shares = []
    for n, party in enumerate(parties):
        limit = limits[n] - gave[n] + got[n]
        moved = f" − {watts(gave[n])} lent" if gave[n] else f" + {watts(got[n])} borrowed" if got[n] else ""
        shares.append(Share(party.name, limit, f"{watts(limits[n])} of its own{moved}: {satisfied(party, limit)}"))
    return tuple(shares)
