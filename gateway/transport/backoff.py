"""How long to wait before trying again."""

from __future__ import annotations

import random


class Backoff:
    """Doubling waits with full jitter above a floor, so that a thousand EMAs do not return at once.

    ``first_s`` and ``most_s`` bound the wait before jitter; the wait is drawn from its upper half.
    """

    def __init__(self, rng: random.Random, first_s: float = 0.5, most_s: float = 30.0) -> None:
        self._rng = rng
        self._first = first_s
        self._most = most_s
        self._next = first_s

    def reset(self) -> None:
        """It worked: the next failure starts from the bottom."""
        self._next = self._first

    def next(self) -> float:
        """Seconds to wait now."""
        wait = self._next * self._rng.uniform(0.5, 1.0)
        self._next = min(self._next * 2, self._most)
        return wait
