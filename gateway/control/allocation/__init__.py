"""One total limit, divided among EMAs: four algorithms behind one signature (docs/allocation.md)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gateway.control.allocation.base import Allocate, Party, Share
from gateway.control.allocation.game import nash_bargaining
from gateway.control.allocation.matching import maximal_matching
from gateway.control.allocation.negotiated import negotiation
from gateway.control.allocation.priority import priority

# By the name that configuration and API use, in the order of the lab's menu.
ALGORITHMS: Mapping[str, Allocate] = {
    "priority": priority,
    "matching": maximal_matching,
    "game": nash_bargaining,
    "negotiation": negotiation,
}


def allocate(algorithm: str, total_mw: int, parties: Sequence[Party]) -> tuple[Share, ...]:
    """Limits in the order of ``parties``. Raise ``ValueError`` that names what cannot be."""
    if algorithm not in ALGORITHMS:
        raise ValueError(f"{algorithm} is no algorithm: {', '.join(ALGORITHMS)}")
    return ALGORITHMS[algorithm](total_mw, parties)


__all__ = ["ALGORITHMS", "Allocate", "Party", "Share", "allocate"]
