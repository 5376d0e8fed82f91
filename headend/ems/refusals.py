"""What peers said that could not be taken: counted, logged once a peer, and shown."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from gateway.clock import Clock

# Peers that are counted by name; what further ones say is counted together.
MOST_NAMES = 200
OTHERS = "others"


@dataclass(slots=True)
class Refusal:
    """One peer's. ``why``: of the last one, at ``at`` (wall seconds)."""

    who: str
    count: int
    why: str
    at: float


class Refusals:
    """Since the start. ``total``: of all peers."""

    def __init__(self, clock: Clock, log: logging.Logger) -> None:
        self.total = 0
        self._clock = clock
        self._log = log
        self._by: dict[str, Refusal] = {}

    def add(self, who: str, why: str) -> None:
        """``who``: an EMA, else the topic it came on."""
        self.total += 1
        at = self._clock.now().wall
        level = logging.DEBUG
        if who not in self._by:
            if len(self._by) < MOST_NAMES:
                level = logging.WARNING
            else:
                who = OTHERS
        self._log.log(level, "refused from %s: %s", who, why)
        known = self._by.setdefault(who, Refusal(who, 0, why, at))
        known.count += 1
        known.why, known.at = why, at

    def shown(self) -> list[Refusal]:
        """The latest first."""
        return sorted(self._by.values(), key=lambda refusal: -refusal.at)
