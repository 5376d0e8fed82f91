"""The site's power between two passes, kept by what changes rather than summed up at each reading.

What counts of a resource (``control.power``) changes with its state and at a few moments that its state names; here
stand its share in the sum and the first of those moments. A pass sums up in full.
"""

from __future__ import annotations

import heapq
import math
from typing import Any

from gateway.clock import Instant
from gateway.control.power import counted_power, holds_until
from gateway.control.rules import Rules
from gateway.site.picture import ResourceState

# Whole nano-watts: sums of integers do not drift, and a thousand roundings are less than control's EQUAL_W.
PER_W = 1_000_000_000


class States(dict[int, ResourceState]):
    """The resources by number. ``changed``: whose state was put or taken away since that was asked last.

    Only what is used of a dict notes its changes: ``[]=``, ``del``, ``pop``.
    """

    def __init__(self) -> None:
        super().__init__()
        self.changed: set[int] = set()

    def __setitem__(self, number: int, state: ResourceState) -> None:
        self.changed.add(number)
        super().__setitem__(number, state)

    def __delitem__(self, number: int) -> None:
        self.changed.add(number)
        super().__delitem__(number)

    def pop(self, number: int, *default: Any) -> Any:
        self.changed.add(number)
        return super().pop(number, *default)


class RunningPower:
    """The power that counts of the resources in ``states``, without a grid meter."""

    def __init__(self, states: States) -> None:
        self._states = states
        self._rules: Rules | None = None
        self._shares: dict[int, int] = {}
        self._total = 0
        self._until: dict[int, float] = {}
        self._moments: list[tuple[float, int]] = []

    def watts(self, now: Instant, rules: Rules) -> float:
        """As ``site_power`` would sum it up at this moment."""
        if rules is not self._rules:
            self._rules = rules
            self._states.changed.update(self._states)
        for number in self._states.changed:
            self._reckon(number, now, rules)
        self._states.changed.clear()
        due: list[int] = []
        while self._moments and self._moments[0][0] <= now.mono:
            moment, number = heapq.heappop(self._moments)
            if self._until.get(number) == moment:
                del self._until[number]
                due.append(number)
        for number in due:
            # Right at such a moment it is due again at once.
            self._reckon(number, now, rules)
        return self._total / PER_W

    def _reckon(self, number: int, now: Instant, rules: Rules) -> None:
        state = self._states.get(number)
        if state is None:
            self._total -= self._shares.pop(number, 0)
            self._until.pop(number, None)
            return
        share = round(counted_power(state, now, rules) * PER_W)
        self._total += share - self._shares.get(number, 0)
        self._shares[number] = share
        until = holds_until(state, now, rules)
        if until == self._until.get(number):
            return
        if until == math.inf:
            self._until.pop(number, None)
            return
        self._until[number] = until
        heapq.heappush(self._moments, (until, number))
        if len(self._moments) > 4 * len(self._until) + 64:
            # Most are of states that were replaced since.
            self._moments = [(moment, n) for n, moment in self._until.items()]
            heapq.heapify(self._moments)
